"""Which words of a prompt may change: runs of plain words, outside everything that must stay as it is.

Protected are code (fenced, in backticks, or on lines that look like code), addresses, placeholders, quoted text,
everything with a digit in it, names and acronyms (any word with a capital letter), and the words a sentence hangs on:
a prompt without its "not" asks something else. What is left are runs: plain words side by side, with nothing between
them but one space each, or Chinese characters side by side.
"""

import re
from typing import Literal, NamedTuple

Script = Literal["spaced", "chinese"]

_PROTECTED = re.compile(
    r"""
    (?s:```.*?(?:```|\Z)|~~~.*?(?:~~~|\Z))          # fenced code
    | `[^`\n]+`                                     # code in a sentence
    | (?:https?://|www\.)\S+ | [^\s@]{1,64}@\S+     # addresses
    | [\[<{][^\s\[\]<>{}]{1,64}[\]>}]               # [EMAIL_1], <tag>, {name}
    | "[^"\n]{1,200}" | “[^”\n]{1,200}” | 「[^」\n]{1,200}」 | 《[^》\n]{1,200}》
    | ^(?:[ ]{4,}|\t).*$                            # indented, as code is
    | ^[ ]*(?:def|class|import|from|return|@|\#|//|>>>|\$)[ \w].*$
    | ^.*(?:[=;{}]|\w\(|\)[ ]?:$).*$                # a line with an assignment, a block or a call
    """,
    re.VERBOSE | re.MULTILINE,
)
_MEANT = (
    "not no never none neither nor nothing without except unless only all any every each less more least most before "
    "after first last must if but or than yes true false please like"
)
_APART = r"\w/\\@#$%&*+<>|~^'’"  # beside one of these, a hyphen or an inner dot a word is part of something larger
_SPACED = re.compile(rf"(?<![{_APART}.-])[^\W\d_]+(?:['’][^\W\d_]+)?(?![{_APART}(-]|\.\w)")
_CHINESE = re.compile(r"[\u3400-\u4dbf\u4e00-\u9fff]+")
_LONGEST = 500  # characters of a run; nlpaug's time grows with the square
_FIXED_WORDS = frozenset(_MEANT.split())


class Run(NamedTuple):
    """A stretch of words that may change: `text[start:end]`."""

    start: int
    end: int


def runs(text: str, script: Script) -> list[Run]:
    """The stretches of a prompt whose words may change, in order.

    Args:
        text: a prompt.
        script: `spaced`: words of small letters; `chinese`: Chinese characters.
    """
    if script == "chinese":
        return [Run(*match.span()) for start, end in _open(text) for match in _CHINESE.finditer(text, start, end)]
    found: list[Run] = []
    for start, end in _open(text):
        for match in _SPACED.finditer(text, start, end):
            if not _plain(match.group()):
                continue
            begins_at, ends_at = match.span()
            beside = found and found[-1].end == begins_at - 1 and text[begins_at - 1] == " "
            if beside and ends_at - found[-1].start <= _LONGEST:
                begins_at = found.pop().start
            found.append(Run(begins_at, ends_at))
    return found


def _open(text: str) -> list[tuple[int, int]]:
    """What lies between the protected places."""
    places = [match.span() for match in _PROTECTED.finditer(text)]
    starts = [0, *(end for _, end in places)]
    ends = [*(start for start, _ in places), len(text)]
    return [(start, end) for start, end in zip(starts, ends, strict=True) if start < end]


def _plain(word: str) -> bool:
    """Whether a word may change: no capitals, a script that has them, and nothing the sentence hangs on."""
    return word.islower() and word not in _FIXED_WORDS and not word.endswith(("n't", "n’t"))
