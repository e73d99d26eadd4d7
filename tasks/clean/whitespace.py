"""White space: one kind of line end, no trailing space, at most one blank line, no blank lines at either end.

Indentation, spaces between words (a table may be aligned by them) and the inside of code stay as they are, except that
line ends become `\\n` everywhere.
"""

import re

from tasks.clean.edits import Edit, replaced
from tasks.clean.verbatim import Regions, regions

_SPACE = r" \t\xa0\u1680\u2000-\u200a\u202f\u205f\u3000"
_START = re.compile(rf"[{_SPACE}]*+[\r\n][{_SPACE}\r\n]*+")
# whole runs of white space that may need a change: space before a line end, `\r`, a blank line, the end of the text.
# A class stands first (and what precedes it is looked at afterwards), for only so does `re` skip quickly to candidates
_RUN = re.compile(
    rf"[{_SPACE}\r\n](?<![{_SPACE}\r\n].)"
    rf"(?:(?<=[{_SPACE}])[{_SPACE}]*+(?=[\r\n]|\Z)|(?<=\r)|(?<=\n)(?=[{_SPACE}]*+(?:[\r\n]|\Z)))[{_SPACE}\r\n]*+",
    re.DOTALL,
)
_LINE_END = re.compile(r"\r\n?")
# for the compiled filter, over messages that are joined by SEPARATOR
SEPARATOR = "\x1e"
SUSPECT = rf"\r|[{_SPACE}]+(?:\n|{SEPARATOR}|\z)|\n{{3}}|(?:\A|{SEPARATOR})[{_SPACE}]*\n|\n(?:{SEPARATOR}|\z)"


def whitespace(text: str) -> list[Edit]:
    """Edits that tidy the white space of one message."""
    start = _START.match(text)
    runs = [start] if start else []
    edits: list[Edit] = []
    code: Regions | None = None
    for run in (*runs, *_RUN.finditer(text, start.end() if start else 0)):
        old = run.group()
        lines = _LINE_END.sub("\n", old)
        new = _tidy(lines, at_start=run.start() == 0, at_end=run.end() == len(text))
        if new == old:
            continue
        code = regions(text) if code is None else code
        tidied = replaced(run.start(), old, new)
        if code.touch(tidied[0].start, tidied[0].end):
            tidied = replaced(run.start(), old, lines)
        edits += tidied
    return edits


def _tidy(run: str, at_start: bool, at_end: bool) -> str:
    """A run of white space with one kind of line end, tidied."""
    if at_end:
        return ""
    breaks = run.count("\n")
    if not breaks:
        return run
    indentation = run[run.rindex("\n") + 1 :]
    return indentation if at_start else "\n" * min(breaks, 2) + indentation
