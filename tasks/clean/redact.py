"""Personal data of one row: placeholders that keep identity, in plain text and inside JSON.

Within a row the same value always becomes the same placeholder (`[EMAIL_1]`), whatever its spelling, and another value
another one, so that a conversation stays consistent. JSON is redacted inside its literals, keys and numbers included,
each value read with its key as context; all the rest of it, order and number formats too, stays byte for byte.
"""

import json
import re
from collections.abc import Iterable
from typing import NamedTuple

from pipeline_config.data_schema import Pii
from tasks.clean.edits import Edit
from tasks.kernels.pii import KINDS, Found, find, normal_form

_PLACEHOLDER = re.compile(rf"\[({'|'.join(kind.upper() for kind in KINDS)})_(\d{{1,9}})\]")
_LITERAL = re.compile(r'("(?:[^"\\]++|\\.)*+")(\s*+:)?|(-?\d[\d.eE+-]*+)', re.DOTALL)
_CHARACTER = re.compile(r"\\u[dD][89abAB]..\\u[dD][c-fC-F]..|\\u....|\\.|[^\\]", re.DOTALL)
_VALUE_BEFORE = re.compile(r'"\s{0,4}:\s{0,4}$')
_VALUE_AFTER = re.compile(r"\s{0,40}[,}\]]")
_WORD_BREAK = re.compile(r"[_-]+|(?<=[a-z])(?=[A-Z])")


class Spot(NamedTuple):
    """Something to hide; `number`: a bare JSON number, which becomes a string."""

    item: Found
    number: bool


class Policy:
    """Which kinds are redacted, which remove the row, and which values are allowed."""

    def __init__(self, config: Pii) -> None:
        actions = {kind: getattr(config, kind) for kind in KINDS}
        self.redacted = tuple(kind for kind in KINDS if actions[kind] == "redact")
        self.removing = tuple(kind for kind in KINDS if actions[kind] == "remove")
        self._active = frozenset((*self.redacted, *self.removing))
        self._allowed = frozenset(form for value in config.allow for form in normal_form(value))

    def active(self) -> bool:
        """Whether any kind is looked for."""
        return bool(self._active)

    def matter(self, text: str) -> list[Found]:
        """What is found in a plain text and neither kept nor allowed, by position."""
        return [
            item
            for item in find(text)
            if item.kind in self._active and not {item.value, text[item.start : item.end]} & self._allowed
        ]

    def spots(self, text: str, as_json: bool) -> list[Spot]:
        """What is to be hidden in a text; of JSON only inside its literals."""
        if not as_json:
            return [Spot(item, _is_json_number(text, item.start, item.end)) for item in self.matter(text)]
        spots: list[Spot] = []
        key = ""
        for match in _LITERAL.finditer(text):
            string, colon, number = match.groups()
            if number is not None:
                items = self._behind_key(key, number.removesuffix(".0"))
                spots += [Spot(Found(item.kind, *match.span(), item.value), True) for item in items[:1]]
                continue
            content = json.loads(string, strict=False)
            items = self.matter(content) if colon else self._behind_key(key, content)
            spots += [Spot(item, False) for item in _in_document(items, string, match.start())]
            key = _WORD_BREAK.sub(" ", content) if colon else key
        return spots

    def _behind_key(self, key: str, value: str) -> list[Found]:
        """What matters in a value when its key is read too: `tel: 62345678` is a phone number, `62345678` is not."""
        context = f"{key}: " if key else ""
        return [
            Found(item.kind, item.start - len(context), item.end - len(context), item.value)
            for item in self.matter(context + value)
            if item.start >= len(context)
        ]


def _is_json_number(text: str, start: int, end: int) -> bool:
    """Whether digits in a text that only holds some JSON (a tool call) are a bare value there."""
    bare = text[start:end].isdigit() and _VALUE_BEFORE.search(text[max(0, start - 8) : start])
    return bool(bare and _VALUE_AFTER.match(text, end))


def _in_document(items: list[Found], literal: str, start: int) -> list[Found]:
    """Positions in a string's value, as positions in the document that the string's literal stands in."""
    if not items:
        return []
    if "\\" not in literal:
        return [Found(item.kind, start + 1 + item.start, start + 1 + item.end, item.value) for item in items]
    edges = [match.start() for match in _CHARACTER.finditer(literal, 1, len(literal) - 1)]
    edges.append(len(literal) - 1)
    return [Found(item.kind, start + edges[item.start], start + edges[item.end], item.value) for item in items]


class Placeholders:
    """The placeholders of one row, numbered from 1 by kind in the order of first sight.

    Numbers that already stand in the row's text (an earlier redaction, or the author's own) are not given again.
    """

    def __init__(self, texts: Iterable[str]) -> None:
        self._given: dict[tuple[str, str], str] = {}
        self._last: dict[str, int] = {}
        for text in texts:
            for name, number in _PLACEHOLDER.findall(text):
                self._last[name] = max(self._last.get(name, 0), int(number))

    def edit(self, spot: Spot) -> Edit:
        """The edit that hides a spot; in place of a JSON number stands a JSON string."""
        item = spot.item
        key = (item.kind, item.value)
        if key not in self._given:
            name = item.kind.upper()
            self._last[name] = self._last.get(name, 0) + 1
            self._given[key] = f"[{name}_{self._last[name]}]"
        return Edit(item.start, item.end, f'"{self._given[key]}"' if spot.number else self._given[key])
