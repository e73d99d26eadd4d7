"""What differs between two short texts, word by word, for side-by-side views.

Words are runs of letters and digits; Chinese, Japanese and Korean characters and all other signs stand alone. Longest
matching blocks (Ratcliff and Obershelp, as in `difflib`), not a minimal edit script: it reads better.
"""

import re
from difflib import SequenceMatcher

Marked = list[tuple[bool, str]]  # (differs, text)

_WORD = re.compile(r"[㐀-鿿぀-ヿ가-힯]|[^\W_㐀-鿿぀-ヿ가-힯]+|\s+|.", re.DOTALL)
_TOO_LONG = 4_000  # words; the comparison is quadratic at worst


def difference(left: str, right: str) -> tuple[Marked, Marked]:
    """Both texts in pieces, those that only one of them has marked."""
    mine, theirs = _WORD.findall(left), _WORD.findall(right)
    if max(len(mine), len(theirs)) > _TOO_LONG:
        return [(True, left)], [(True, right)]
    blocks = SequenceMatcher(None, mine, theirs, autojunk=False).get_matching_blocks()
    return _marked(mine, [(b.a, b.size) for b in blocks]), _marked(theirs, [(b.b, b.size) for b in blocks])


def plain(text: str) -> Marked:
    """A text with nothing marked."""
    return [(False, text)]


def _marked(words: list[str], same: list[tuple[int, int]]) -> Marked:
    pieces: Marked = []
    at = 0
    for start, size in same:
        if start > at:
            pieces.append((True, "".join(words[at:start])))
        if size:
            pieces.append((False, "".join(words[start : start + size])))
        at = start + size
    return pieces
