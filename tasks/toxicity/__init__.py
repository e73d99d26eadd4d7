"""Harmful rows flagged or out, English and Chinese."""
