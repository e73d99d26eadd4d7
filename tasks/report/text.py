"""Text as the page may show it: personal data masked, cut to length, without characters that draw nothing.

Everything that comes from rows, ledgers or the configuration goes through `shown`; HTML escaping is the template's.
"""

import re
from collections.abc import Sequence
from typing import Any
from unicodedata import east_asian_width

from tasks.kernels.pii import mask

LIMIT = 420
_WINDOW = 20_000  # characters that are looked at for personal data
_EDGE = 256  # dropped at the window's end, where half an address could stand
_CODE = re.compile(
    r"^(?:def|class|import|from \S+ import|async def|@\w+|function|#include)\b|\n(?: {2,}|\t)\S.*\n?", re.ASCII
)
_CONTROLS = {code: 0x2400 + code for code in range(32) if code not in (9, 10)} | {13: None, 127: 0x2421}
_DIRECTIONS = dict.fromkeys((*range(0x202A, 0x202F), *range(0x2066, 0x206A)))  # would turn the page's own text around


def shown(value: Any, limit: int = LIMIT) -> str:
    """A value as text: personal data masked first, then at most `limit` characters."""
    text = "" if value is None else str(value)
    window = mask(text[:_WINDOW])
    if len(text) > _WINDOW:
        window = window[: max(0, len(window) - _EDGE)]
    window = window.translate(_CONTROLS).translate(_DIRECTIONS).strip("\n")
    if len(window) > limit or len(text) > _WINDOW:
        return window[:limit].rstrip() + " …"
    return window


def turns(messages: Sequence[dict[str, Any]] | None, limit: int = LIMIT) -> list[tuple[str, str]]:
    """Role and shown content of each turn; many turns are cut down to the first three and the last."""
    found = [(str(message["role"]), shown(message["content"], limit)) for message in messages or []]
    if len(found) <= 4:
        return found
    return [*found[:3], ("", f"{len(found) - 4} more turns"), found[-1]]


def number(value: float | None, digits: int = 0, signed: bool = False) -> str:
    """A number with thousands separated and a real minus sign; an en dash for none."""
    if value is None:
        return "–"
    return f"{value:{'+' if signed else ''},.{digits}f}".replace("-", "−")


def share(part: float, whole: float) -> str:
    """A part of a whole in per cent."""
    if not whole:
        return "–"
    percent = 100 * part / whole
    digits = 0 if percent >= 10 or percent == 0 else 1 if percent >= 1 else 2
    return f"{percent:.{digits}f} %"


def codelike(text: str) -> bool:
    """Whether a text reads better in a typewriter's letters: indented lines, or a definition at its beginning."""
    return bool(_CODE.search(text))


def fitted(value: Any, width: int) -> str:
    """A name cut to a width in letters; Chinese, Japanese and Korean characters are two letters wide."""
    text = " ".join(shown(value, 4 * width).split())
    used = 0
    for place, character in enumerate(text):
        used += 2 if east_asian_width(character) in "WF" else 1
        if used > width:
            return text[: place - 1].rstrip() + "…"
    return text


def words(name: str) -> str:
    """A snake_case name in words."""
    return shown(name, 80).replace("_", " ")
