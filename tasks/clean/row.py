"""One row in the making: the rules over every text it carries, and the ledger lines they leave.

Repairs go over messages and `rejected`; redaction also over the document: `meta`, `tools`, `label`, `task`, `lang`. A
line is written for each rule and pass that edited something, so that the lines of a row form a chain: each `after` is
the next line's `before`.
"""

from collections import Counter
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from typing import Literal

from pipeline_config.data_schema import Clean
from tasks.clean.characters import control, is_about_encoding, mojibake, unicode_form
from tasks.clean.edits import Edit, apply
from tasks.clean.markup import is_about_markup, markup
from tasks.clean.redact import Placeholders, Policy
from tasks.clean.verbatim import is_json
from tasks.clean.whitespace import whitespace
from tasks.kernels.rows import digest

# a span's message index for what is no message: the document's parts
DOCUMENT = {"meta": -1, "tools": -2, "label": -3, "task": -4, "lang": -5}
_JSON_PARTS = (-1, -2)


@dataclass
class Texts:
    """The texts of a row.

    Attributes:
        roles: role of each message, `rejected` after `messages`.
        messages: their contents.
        document: part (-1 …) → text, for the parts that are not null.
    """

    roles: list[str]
    messages: list[str]
    document: dict[int, str]

    def digest(self) -> str:
        """xxh3-64 over all texts: messages, rejected, then meta, tools, label, task, lang (null as empty)."""
        return digest(*self.messages, *(self.document.get(part, "") for part in DOCUMENT.values()))


Rule = Callable[[Texts], list[list[Edit]]]  # edits of each message


class Rules:
    """The rules that a configuration asks for, in the order they run."""

    def __init__(self, config: Clean) -> None:
        self.form: Literal["NFC", "NFKC"] = "NFKC" if config.unicode == "NFKC" else "NFC"
        wanted: dict[str, tuple[bool, Rule]] = {
            "mojibake": (config.mojibake, _mojibake),
            "control": (config.control, lambda texts: [control(text) for text in texts.messages]),
            "markup": (config.markup == "strip", _markup),
            "unicode": (
                config.unicode != "keep",
                lambda texts: [unicode_form(text, self.form) for text in texts.messages],
            ),
            "whitespace": (config.whitespace, lambda texts: [whitespace(text) for text in texts.messages]),
        }
        self.repairs = {name: rule for name, (on, rule) in wanted.items() if on}
        self.policy = Policy(config.pii)


class Row:
    """A row that is being cleaned.

    Attributes:
        texts: its texts now.
        lines: rule, digest before, digest after, spans `[message index, start, end]` in characters before the rule.
        removed_by: the kind of personal data that removes the row and how many values of it were found, or None.
        placeholders: kind → values replaced.
    """

    def __init__(self, texts: Texts, rules: Rules) -> None:
        self.texts = texts
        self.lines: list[tuple[str, str, str, list[list[int]]]] = []
        self.removed_by: tuple[str, int] | None = None
        self.placeholders: Counter[str] = Counter()
        self._rules = rules
        self._original = Texts(texts.roles, list(texts.messages), dict(texts.document))
        self._names: Placeholders | None = None

    def clean(self, suspected: Collection[str]) -> bool:
        """Run the suspected rules (repairs by name, `pii`) once; whether anything was edited."""
        before = len(self.lines)
        for name, rule in self._rules.repairs.items():
            if name in suspected:
                self._note(name, dict(enumerate(rule(self.texts))))
        if "pii" in suspected:
            self._redact()
        return len(self.lines) > before and self.removed_by is None

    def redact_only(self) -> None:
        """Give the repairs up and hide what matters in the original text."""
        self.texts, self.lines, self.placeholders, self._names = self._original, [], Counter(), None
        lines = -1
        while len(self.lines) > lines and self.removed_by is None:
            lines = len(self.lines)
            self._redact()

    def _note(self, rule: str, edits: dict[int, Sequence[Edit]]) -> None:
        """Apply one rule's edits, by message index or document part, and write its line; nothing if there are none."""
        edits = {index: found for index, found in edits.items() if found}
        if not edits:
            return
        before = self.lines[-1][2] if self.lines else self.texts.digest()
        for index, found in edits.items():
            if index < 0:
                self.texts.document[index] = apply(self.texts.document[index], found)
            else:
                self.texts.messages[index] = apply(self.texts.messages[index], found)
        spans = [[index, edit.start, edit.end] for index, found in edits.items() for edit in found]
        self.lines.append((rule, before, self.texts.digest(), spans))

    def _redact(self) -> None:
        """Hide what matters, kind by kind; or note the kind that removes the row."""
        policy, texts = self._rules.policy, self.texts
        spots = {index: policy.spots(text, is_json(text)) for index, text in enumerate(texts.messages)}
        spots |= {part: policy.spots(text, part in _JSON_PARTS) for part, text in texts.document.items()}
        kinds = Counter(spot.item.kind for found in spots.values() for spot in found)
        self.removed_by = next(((kind, kinds[kind]) for kind in policy.removing if kinds[kind]), None)
        if self.removed_by or not kinds:
            return
        if self._names is None:
            self._names = Placeholders((*texts.messages, *texts.document.values()))
        names = self._names
        edits = {index: [(spot.item.kind, names.edit(spot)) for spot in found] for index, found in spots.items()}
        for kind in policy.redacted:
            if kinds[kind]:
                self._note(f"pii_{kind}", {i: [edit for of, edit in found if of == kind] for i, found in edits.items()})
                edits = {index: _moved(found, kind) for index, found in edits.items()}
                self.placeholders[kind] += kinds[kind]


def _moved(edits: list[tuple[str, Edit]], done: str) -> list[tuple[str, Edit]]:
    """The other kinds' edits, where they stand once those of one kind are applied."""
    moved: list[tuple[str, Edit]] = []
    shift = 0
    for kind, edit in edits:
        if kind == done:
            shift += len(edit.replacement) - (edit.end - edit.start)
        else:
            moved.append((kind, Edit(edit.start + shift, edit.end + shift, edit.replacement)))
    return moved


def _mojibake(texts: Texts) -> list[list[Edit]]:
    if any(is_about_encoding(text) for text in texts.messages):
        return []
    return [mojibake(text) for text in texts.messages]


def _markup(texts: Texts) -> list[list[Edit]]:
    about = [is_about_markup(text) for text in texts.messages]
    pairs = zip(texts.messages, texts.roles, about, strict=True)
    return [markup(text, role, sum(about) > own) for text, role, own in pairs]
