"""Exports: cast and saved."""
