"""An edit: what a rule puts in place of a stretch of text.

Every rule of this stage is a function from a text to its edits, so that the ledger's spans and the new text come from
one thing and cannot disagree.
"""

from collections.abc import Sequence
from typing import NamedTuple


class Edit(NamedTuple):
    """`replacement` goes where `text[start:end]` was; positions are characters."""

    start: int
    end: int
    replacement: str


def apply(text: str, edits: Sequence[Edit]) -> str:
    """The edited text; edits are in order and do not overlap."""
    pieces: list[str] = []
    at = 0
    for start, end, replacement in edits:
        pieces += (text[at:start], replacement)
        at = end
    return "".join(pieces) + text[at:]


def replaced(start: int, old: str, new: str) -> list[Edit]:
    """The edit that turns `old`, which stands at `start`, into `new`, without the ends both share; none if equal."""
    if old == new:
        return []
    head = 0
    shortest = min(len(old), len(new))
    while head < shortest and old[head] == new[head]:
        head += 1
    tail = 0
    while tail < shortest - head and old[-1 - tail] == new[-1 - tail]:
        tail += 1
    return [Edit(start + head, start + len(old) - tail, new[head : len(new) - tail])]
