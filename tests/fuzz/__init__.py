"""Generated inputs for everything that reads what strangers write."""
