"""The fields that formats share: a system text, tool definitions, turns; read with one source's own names."""

from collections.abc import Mapping
from typing import Any

from tasks.kernels.reading.draft import Draft
from tasks.kernels.reading.records import NotReadable
from tasks.kernels.reading.turns import SHAREGPT, TurnReader, text_of
from tasks.kernels.records.calls import dump_text
from tasks.kernels.records.shape import join_parts, literal

Record = dict[str, Any]


class FieldReader:
    """Takes fields out of records, under the names that a source gives them.

    Args:
        fields: our field → the record's.
    """

    def __init__(self, fields: Mapping[str, str]) -> None:
        self._fields = dict(fields)
        self.turns = TurnReader(self._fields)

    def name(self, field: str) -> str:
        """What the record calls one of our fields."""
        return self._fields.get(field, field)

    def has(self, record: Record, field: str) -> bool:
        """Whether a record has one of our fields."""
        return self._fields.get(field, field) in record

    def take(self, record: Record, field: str, draft: Draft) -> Any:
        """The value of a field that must be there."""
        key = self._fields.get(field, field)
        if key not in record:
            raise NotReadable("missing_field", f"{key} is missing")
        draft.used.append(key)
        return record[key]

    def text(self, record: Record, field: str, draft: Draft) -> str:
        """A field that must hold text."""
        return text_of(self.take(record, field, draft), self.name(field))

    def system(self, record: Record, draft: Draft) -> bool:
        """The system text as a first message, where there is one; whether there is."""
        if not self.has(record, "system"):
            return False
        system = self.take(record, "system", draft)
        if is_blank(system):
            draft.templates["system"] = literal(system)
            return False
        draft.messages.append(("system", text_of(system, self.name("system")), 1.0))
        return True

    def tools(self, record: Record, draft: Draft, *, as_text: bool) -> None:
        """Tool definitions; the format's plain form is JSON text (`as_text`, sharegpt) or a value."""
        if not self.has(record, "tools"):
            return
        tools = self.take(record, "tools", draft)
        if not tools or not isinstance(tools, (str, list, dict)):
            draft.templates["tools"] = literal(tools)
            return
        is_text = isinstance(tools, str)
        draft.tools = str(tools) if is_text else dump_text(tools)
        draft.plain.append("tools")
        if is_text != as_text:
            draft.templates["tools"] = "$t" if is_text else "$j"

    def turn_list(self, record: Record, draft: Draft, field: str, style: tuple[str, str], *, has_system: bool) -> None:
        """The turns that are the record's conversation."""
        turns = self.take(record, field, draft)
        draft.plain.append(field)
        may_be_plain = isinstance(turns, list) and (style is SHAREGPT or not has_system)
        if not (may_be_plain and self.turns.read_plain(turns, style, draft)):
            draft.templates[field] = self.turns.read(turns, self.name(field), draft)

    def said(self, record: Record, field: str, role: str, draft: Draft, *, rejected: bool = False) -> None:
        """A field that holds a string, one turn or a list of turns; leaves its template."""
        value, name = self.take(record, field, draft), self.name(field)
        if rejected and draft.rejected is None:
            draft.rejected = []
        if isinstance(value, list):
            draft.templates[field] = self.turns.read(value, name, draft, rejected=rejected)
            return
        target = draft.rejected if rejected and draft.rejected is not None else draft.messages
        index = len(target)
        template: Any = f"${'r' if rejected else 'm'}{index}"
        if isinstance(value, dict):
            message, template = self.turns.turn(value, name, draft, index, rejected=rejected)
        else:
            message = (role, text_of(value, name), 1.0)
        target.append(message)
        draft.templates[field] = template

    def instruction(self, record: Record, draft: Draft) -> None:
        """alpaca's prompt: history, then instruction and input as one user turn."""
        self._history(record, draft)
        index = len(draft.messages)
        instruction = self.take(record, "instruction", draft)
        more = self.take(record, "input", draft) if self.has(record, "input") else ""
        if is_blank(more):
            text = text_of(instruction, self.name("instruction"))
            if more != "":
                draft.templates["input"] = literal(more)
        elif isinstance(instruction, str) and is_blank(instruction):
            text = text_of(more, self.name("input"))
            draft.templates |= {"instruction": literal(instruction), "input": f"$m{index}"}
        else:
            parts = [text_of(instruction, self.name("instruction")), text_of(more, self.name("input"))]
            text, draft.parts[f"m{index}"] = join_parts(parts)
        draft.messages.append(("user", text, 1.0))

    def _history(self, record: Record, draft: Draft) -> None:
        if not self.has(record, "history"):
            return
        history, name = self.take(record, "history", draft), self.name("history")
        if not history:
            draft.templates["history"] = literal(history)
            return
        if not isinstance(history, list) or not all(isinstance(pair, list) and len(pair) == 2 for pair in history):
            raise NotReadable("content_not_text", f"{name} is not a list of [question, answer]")
        for number, (question, answer) in enumerate(history):
            draft.messages.append(("user", text_of(question, f"{name}[{number}][0]"), 1.0))
            draft.messages.append(("assistant", text_of(answer, f"{name}[{number}][1]"), 1.0))


def is_blank(value: Any) -> bool:
    """Null, or text without a visible character."""
    return value is None or (isinstance(value, str) and (not value or value.isspace()))
