"""Limits on the memory of an agent."""

MOST_BYTES = 16_000_000_000  # of tables or weights, of all seeds together
