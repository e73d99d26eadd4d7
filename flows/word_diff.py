"""Two texts as one, word by word, with what only one of them has marked: `[-only the first-]{+only the second+}`.

The matching is that of the report (`tasks.report.difference`), so both show the same words as different. Of long
stretches that are the same only the ends are kept.
"""

from tasks.report.difference import difference

_AROUND = 60  # characters of what is the same that are kept on each side of a difference
_LONGEST = 400  # characters of one difference
_COLOURS = {"-": "\x1b[31m", "+": "\x1b[32m"}
_PLAIN = "\x1b[0m"


def word_diff(old: str, new: str, colour: bool = False) -> str:
    """What differs between two texts, in one line of text; `the same text` if nothing does.

    Args:
        colour: red and green for a terminal, around the marks.
    """
    pieces = _pieces(old, new)
    if not any(mark for mark, _ in pieces):
        return "the same text"
    shown = []
    for place, (mark, text) in enumerate(pieces):
        if mark:
            marked = f"{'[' if mark == '-' else '{'}{mark}{_cut(text)}{mark}{']' if mark == '-' else '}'}"
            shown.append(f"{_COLOURS[mark]}{marked}{_PLAIN}" if colour else marked)
        else:
            shown.append(_ends(text, first=place == 0, last=place == len(pieces) - 1))
    return "".join(shown)


def _pieces(old: str, new: str) -> list[tuple[str, str]]:
    """`(mark, text)` in order; mark `-`, `+`, or empty for what both have."""
    ours, theirs = (list(reversed(side)) for side in difference(old, new))
    found: list[tuple[str, str]] = []
    while ours or theirs:
        if ours and ours[-1][0]:
            found.append(("-", ours.pop()[1]))
        elif theirs and theirs[-1][0]:
            found.append(("+", theirs.pop()[1]))
        else:
            found.append(("", ours.pop()[1]))
            theirs.pop()
    return found


def _cut(text: str) -> str:
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST]} …"


def _ends(text: str, *, first: bool, last: bool) -> str:
    head = "" if first else text[:_AROUND]
    tail = "" if last else text[-_AROUND:]
    return text if len(text) <= 2 * _AROUND + 5 else f"{head} … {tail}"
