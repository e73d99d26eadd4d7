"""What is to stay as it stands: code, fenced, indented, inline or bare.

Instruction data is full of code, often without a fence, and code is full of `<`, `&` and deliberate white space. So
code is found by its shape, generously: text wrongly taken for code keeps a tag or a blank line, code wrongly taken for
text would be broken.
"""

import re
from bisect import bisect_right
from collections.abc import Sequence

_FENCE = re.compile(r"[ \t>]*(`{3,}|~{3,})([^\n]*)")
_TICKS = re.compile(r"`+")
_LINE = re.compile(r"[^\n]*\n|[^\n]+\Z")
_CODE_LINE = re.compile(
    r"""[ \t]*(?:
      (?:async[ ]+)?def[ ]+\w+[ ]*[(\[] | class[ ]+\w+[ ]*[(:{<] | @\w[\w.]*(?:\(.*)?\s*$
    | (?:import|from)[ ]+[\w.]+(?:[ ]+(?:as|import)[ ].*)?;?\s*$ | \#include\b | \#! | \#define\b | >>>[ ]
    | \$[ ][a-z] | (?:if|elif|while|for|with|match|case)\b.*[()\[\]=<>._'"].*:\s*$ | except\b.*:\s*$
    | (?:try|else|finally|do)[ ]*[:{]\s*$
    | (?:public|private|protected|static|final|const|let|var|function|fn|func|package|using|namespace|struct|enum
        |template|typedef|extern|return|throw|new)\b.*[({;=<]
    | (?:int|void|char|bool|float|double|long|auto|string|String)[ ]+[\w*&]+[ ]*[=;(\[]
    | (?i:select\b.{1,400}\bfrom\b|insert[ ]+into\b|create[ ]+table\b|update\b.{1,400}\bset\b)
    | (?:print|printf|echo|console\.log|document\.write|System\.out\.print\w*)\b[ ]*[(.'"]
    | [\w.\[\]'"]+(?:[ ]*:[ ]*[\w.\[\], |]+)?[ ]*(?:[-+*/|&%:]|//|\*\*)?=(?!=)[ ]*\S
    | [\w.]+\(.*\)[;:]?\s*$
    | // | /\* | <\?(?:php|xml) | <%
    )""",
    re.VERBOSE,
)
_CODE_ENDS = ("{", "}", ");", "=>", "(")
_QUOTES = re.compile(r'"""|' + "'''")
_WORD = re.compile(r"[^\n]")
_PROBE = 200
_JSON = re.compile(r"\s*[\[{]")


class Regions:
    """Stretches of a text that no markup or white-space rule may touch, in order, without overlap."""

    def __init__(self, spans: Sequence[tuple[int, int]]) -> None:
        self._starts: list[int] = []
        self._ends: list[int] = []
        for start, end in sorted(spans):
            if self._ends and start <= self._ends[-1]:
                self._ends[-1] = max(self._ends[-1], end)
            else:
                self._starts.append(start)
                self._ends.append(end)

    def __bool__(self) -> bool:
        return bool(self._starts)

    def blanked(self, text: str) -> str:
        """The text with the regions' characters, line ends aside, made neutral; positions stay."""
        pieces: list[str] = []
        at = 0
        for start, end in zip(self._starts, self._ends, strict=True):
            pieces += (text[at:start], _WORD.sub("x", text[start:end]))
            at = end
        return "".join(pieces) + text[at:]

    def touch(self, start: int, end: int) -> bool:
        """Whether a stretch shares a character with a region (an empty one: lies inside)."""
        place = bisect_right(self._starts, max(start, end - 1)) - 1
        return place >= 0 and self._ends[place] > start


def regions(text: str, inline: bool = False, more: Sequence[tuple[int, int]] = ()) -> Regions:
    """The code in a text: fenced blocks, indented blocks, blocks of lines that read as code, JSON.

    Args:
        inline: whether what stands between backticks counts too.
        more: further stretches to leave alone.
    """
    if is_json(text) or text.lstrip().startswith(("<?", "<%")):
        return Regions([(0, len(text))])
    return Regions([*_blocks(text), *(_inline(text) if inline else ()), *more])


def is_json(text: str) -> bool:
    """Whether a text is a JSON object or list."""
    if not _JSON.match(text) or text.rstrip()[-1:] not in "]}":
        return False
    import json

    try:
        json.loads(text)
    except (ValueError, RecursionError):
        return False
    return True


def _blocks(text: str) -> list[tuple[int, int]]:
    """Blocks of code, line by line.

    A block opens at a fence, at a line that reads as code, or at an indented line behind a blank one, and goes on over
    blank, indented and further code lines; an open triple quote or fence holds it open.
    """
    document = text.lstrip().startswith("<")  # a page: its lines are markup, however they are indented
    spans: list[tuple[int, int]] = []
    fence = quote = ""
    start = end = -1  # of the open block; end: behind its last line that is not blank
    blank_before = True
    for match in _LINE.finditer(text):
        line = match.group()
        opening = _FENCE.match(line)
        if fence:
            end = match.end()
            if opening and opening.group(1).startswith(fence) and not opening.group(2).strip():
                spans.append((start, match.start() + len(line.rstrip())))
                fence, start = "", -1
            continue
        if quote:
            end = match.end()
            if line.count(quote) % 2:
                quote = ""
            continue
        if opening and not (opening.group(1)[0] == "`" and "`" in opening.group(2)):
            if start >= 0:
                spans.append((start, end))
            fence, start, end = opening.group(1), match.start(), match.end()
            continue
        blank = not line.strip()
        if not (blank or document):
            going_on = start >= 0
            indented = line.startswith(("\t", "    ")) or (going_on and line[0] == " ")
            reads = _reads_as_code(line) or (going_on and line[0] in ")]}")
            if reads or (indented and (going_on or blank_before)):
                start, end = (match.start() if start < 0 else start), match.end()
                quote = next((mark for mark in _QUOTES.findall(line) if line.count(mark) % 2), "")
                quote = quote or ("`" if reads and line.count("`") % 2 else "")
            elif start >= 0:
                spans.append((start, end))
                start = -1
        blank_before = blank
    if start >= 0:
        spans.append((start, end))
    return spans


def _reads_as_code(line: str) -> bool:
    """Whether one line has the shape of source code; of a very long one the two ends are judged (bounded work)."""
    probe = line if len(line) <= 2 * _PROBE else line[:_PROBE] + line[-_PROBE:]
    written = probe.rstrip()
    if written.endswith(_CODE_ENDS) and written[0] != "<" and written not in _CODE_ENDS:
        return True
    return _CODE_LINE.match(probe) is not None


def _inline(text: str) -> list[tuple[int, int]]:
    """Code between runs of as many backticks, on one line."""
    spans: list[tuple[int, int]] = []
    for line in _LINE.finditer(text):
        if "`" not in line.group():
            continue
        runs = [(run.start() + line.start(), run.end() + line.start()) for run in _TICKS.finditer(line.group())]
        following: dict[int, int] = {}
        closing = [-1] * len(runs)
        for place in range(len(runs) - 1, -1, -1):
            length = runs[place][1] - runs[place][0]
            closing[place] = following.get(length, -1)
            following[length] = place
        place = 0
        while place < len(runs):
            if closing[place] < 0:
                place += 1
                continue
            spans.append((runs[place][0], runs[closing[place]][1]))
            place = closing[place] + 1
    return spans
