"""The columns of a model's labels; apart from `categories.py`, so that deciding loads no model."""

import re


def score_column(label: str) -> str:
    """The column of a label's score."""
    return f"score_toxic_{re.sub(r'[^0-9a-z]+', '_', label.lower()).strip('_')}"


def turn_column(label: str) -> str:
    """The column that tells in which turn a label has its largest score."""
    return score_column(label).removeprefix("score_") + "_turn"
