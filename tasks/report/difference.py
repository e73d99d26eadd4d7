"""What differs between two short texts, word by word, for side-by-side views.

Words are runs of letters and digits, and placeholders such as `[EMAIL_1]`; Chinese, Japanese and Korean characters and
all other signs stand alone. Longest matching blocks (Ratcliff and Obershelp, as in `difflib`), not a minimal edit
script: it reads better. Of long texts only what surrounds the differences is kept.
"""

import re
from difflib import SequenceMatcher

Marked = list[tuple[bool, str]]  # (differs, text)

_WORD = re.compile(r"\[[A-Z][A-Z_]*\d*\]|[㐀-鿿぀-ヿ가-힯]|[^\W_㐀-鿿぀-ヿ가-힯]+|\s+|.", re.DOTALL)
_TOO_LONG = 2_000  # words; the comparison is quadratic at worst
_AROUND = 90  # characters kept on each side of a difference
_MARKED = 300  # characters of one difference that are shown
ELLIPSIS = " … "


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


def trimmed(pieces: Marked) -> Marked:
    """The same text, without marks on the white space around the words that differ."""
    found: Marked = []
    for differs, text in pieces:
        words = text.strip()
        if not differs or not words:
            found.append((differs, text))
            continue
        before, after = text[: text.index(words)], text[text.index(words) + len(words) :]
        found += [piece for piece in ((False, before), (True, words), (False, after)) if piece[1]]
    return found


def condensed(pieces: Marked, limit: int) -> Marked:
    """At most about `limit` characters: the beginning, or what surrounds the differences."""
    if sum(len(text) for _, text in pieces) <= limit:
        return pieces
    if not any(differs for differs, _ in pieces):
        return plain("".join(text for _, text in pieces)[:limit].rstrip() + ELLIPSIS.rstrip())
    found: Marked = []
    room = limit
    for place, (differs, text) in enumerate(pieces):
        if room <= 0:
            found.append((False, ELLIPSIS.rstrip()))
            break
        short = _cut_end(text, _MARKED) if differs else _context(text, place == 0, place == len(pieces) - 1)
        found.append((differs, short))
        room -= len(short)
    return found


def _context(text: str, first: bool, last: bool) -> str:
    """The ends of an unchanged stretch that are next to a difference, cut between words where there are spaces."""
    head, tail = ("" if first else text[:_AROUND]), ("" if last else text[-_AROUND:])
    if len(text) <= 2 * _AROUND + len(ELLIPSIS):
        return text
    head, tail = head.rsplit(" ", 1)[0], tail.split(" ", 1)[-1]
    return f"{head.rstrip()}{ELLIPSIS if head else ELLIPSIS.lstrip()}{tail.lstrip()}"


def _cut_end(text: str, limit: int) -> str:
    return text if len(text) <= limit else text[:limit].rstrip() + ELLIPSIS


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
