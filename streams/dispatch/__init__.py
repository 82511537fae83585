"""Dispatch: who handles an event, and until when. One order per event."""
