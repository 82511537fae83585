"""Intake: decode, normalise, exact duplicates, first class, grid; one outcome for every raw record."""
