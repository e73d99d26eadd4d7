"""Personal data in text: where it is, of which kind, and how to mask it.

`find` is the one definition of what counts; the clean stage numbers what it finds, `mask` blanks it in the excerpts
that quarantine and reports show. `suspects` is a compiled filter that passes every row in which `find` could find
anything, so that clean rows never meet Python. Phone numbers, addresses and numbers with check digits stand in
`pii_numbers.py`, credentials in `pii_secrets.py`, mail addresses in `pii_email.py`.

Detection reads the text *folded*, character by character: full-width forms become ASCII, dashes and spaces of every
width one dash and one space, and the escapes of JSON and source text (`\\n`, `\\u4f60`) spaces, so that a number behind
an escaped line end is seen and the escape is not torn. Positions are those of the text itself.
"""

import re
from bisect import bisect_left
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import polars as pl

from tasks.kernels.pii_email import emails
from tasks.kernels.pii_numbers import addresses, cards, identity_numbers, phones
from tasks.kernels.pii_secrets import secrets, url_credentials

Span = tuple[int, int, str]


@dataclass(frozen=True, slots=True)
class Found:
    """One piece of personal data: `text[start:end]`, and its value in the normal form that makes spellings equal."""

    kind: str
    start: int
    end: int
    value: str


def find(text: str) -> list[Found]:
    """Everything in a text that counts as personal data, by position; no two overlap."""
    folded = fold(text)
    starts: list[int] = []
    found: list[Found] = []
    for kind, detector in _DETECTORS.items():
        for start, end, value in detector(folded):
            place = bisect_left(starts, start)
            free = (place == 0 or found[place - 1].end <= start) and (place == len(found) or end <= starts[place])
            if free:
                starts.insert(place, start)
                found.insert(place, Found(kind, start, end, value))
    return found


def mask(text: str) -> str:
    """The text with every piece of personal data replaced by its kind in brackets.

    For excerpts: mask first and cut to length afterwards, since half an address is no longer recognised.
    """
    while found := find(text):  # a mask can free what was glued to the masked; each round hides more
        pieces: list[str] = []
        at = 0
        for item in found:
            pieces += (text[at : item.start], f"[{item.kind.upper()}]")
            at = item.end
        text = "".join(pieces) + text[at:]
    return text


def suspects(text: pl.Expr) -> pl.Expr:
    """Rows that may hold personal data: true wherever `find` finds something, false for nearly all other text."""
    return text.str.contains(SUSPECT)


def fold(text: str) -> str:
    """The text as detectors read it, of the same length: one width of digit, sign, dash and space, no escapes."""
    if not text.isascii():
        text = _WIDE.sub(lambda match: match.group().translate(_FOLDED), text)
    if "\\" in text:
        text = _ESCAPE.sub(lambda match: '""' if match.group() == '\\"' else "\n" * len(match.group()), text)
    return text


def normal_form(text: str) -> set[str]:
    """The normal forms under which a value given by a person (an allow-list entry) may be found."""
    return {text, text.strip()} | {item.value for item in find(text)}


_FOLDED = {
    **{code: code - 0xFEE0 for code in range(0xFF01, 0xFF5F)},
    **dict.fromkeys((*range(0x2010, 0x2016), 0x2212), ord("-")),
    **dict.fromkeys((0xA0, 0x1680, *range(0x2000, 0x200B), 0x202F, 0x205F, 0x3000), ord(" ")),
    0xFFE5: ord("¥"),
}
_WIDE = re.compile("[" + "".join(map(chr, _FOLDED)) + "]++")  # translating nothing else is ten times as fast
_ESCAPE = re.compile(r"\\(?:[nrtbf\"]|u[0-9A-Fa-f]{4})")

# where two kinds claim the same characters, the earlier one has them
_DETECTORS: dict[str, Callable[[str], Iterator[Span]]] = {
    "url_credentials": url_credentials,
    "secret": secrets,
    "email": emails,
    "identity_number": identity_numbers,
    "bank_card": cards,
    "ip": addresses,
    "phone": phones,
}
KINDS = tuple(_DETECTORS)

_DASH = r"[\-‐-―−－]"
_HEX = r"[0-9A-Fa-f]"
# for the compiled filter, over text that is not folded; each alternative is wider than the detector it stands for
_SUSPECTS = (
    r"(?i)[\w.+'．＋＇‐-―−－\-][@＠][\w‐-―−－\-]+[.．]"
    r"|[\w.+'\-](?:%40|&(?:#0{0,4}64|#x40|commat);)[\w\-]|[\[({（［｛] ?(?:at|@|＠) ?[\])}）］｝]",
    r"\d(?:[ \u00a0\u1680\u2000-\u200a\u202f\u205f\u3000.．()（）/／\-‐-―−－]{0,2}\d){6}",
    r"\d[.．]\d{1,3}[.．]\d{1,3}[.．]\d",
    rf"{_HEX}{{3,4}}[:：]{_HEX}{{0,4}}[:：]|(?:{_HEX}{{1,4}}[:：]{{1,2}}){{3}}{_HEX}",
    r"[:：][/／]{2}[^\s/]*[:：][^\s/]*[@＠]",
    rf"(?:\A|[^A-Za-z0-9_-])(?:sk{_DASH}|[srp]k_(?:live|test)_|gh[pousr]_|github_pat_|glpat{_DASH}|AKIA|ASIA[A-Z0-9]|AIza"
    rf"|ya29[.．]|LTAI|AKID|xox[abeprs]{_DASH}|hf_|npm_|pypi{_DASH}|SG[.．]|eyJ)[A-Za-z0-9]|\d[:：]AA"
    r"|PRIVATE KEY|hooks.slack",
    r"(?i)(?:password|passwd|passphrase|pwd|token|secret|密码|口令|密钥|令牌"
    rf"|(?:api|access|secret|private|auth|account|encryption|signing)(?:[\s_]|{_DASH})?key)"
    r"['\"＇＂\\]{0,2}[\]］]?\s{0,4}(?:[:=：＝]|是|为|is\s)|bearer\s|authorization",
    r"[０-９Ａ-Ｚａ-ｚ]",
)
SUSPECT = "|".join(f"(?:{pattern})" for pattern in _SUSPECTS)  # one automaton, one pass
