"""Faults: whole stacks of their own, killed on purpose and audited afterwards."""
