"""What every part must agree on: records and codec, topics, tables, the city pack, metrics, settings."""
