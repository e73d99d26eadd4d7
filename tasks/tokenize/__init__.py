"""Chat template, loss mask, length report."""
