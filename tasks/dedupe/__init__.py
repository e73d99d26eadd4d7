"""Exact, then near-duplicates, each removal verified against a row that is kept."""
