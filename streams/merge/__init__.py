"""Merge: which real-world matter is a report about? One event per matter."""
