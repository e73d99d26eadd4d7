"""Record formats: which fields each has, and how a record of it becomes a conversation.

    alpaca             instruction, output; input, system, history, tools
    sharegpt           conversations [{from, value}]; system, tools
    messages           messages [{role, content, tool_calls, name, weight, …}]; system, tools
    prompt_completion  prompt, completion: strings or lists of turns; system, tools
    preference         chosen, rejected: strings, turns or lists of turns; prompt, or conversations, or instruction and
                       input; whole conversations in chosen and rejected share their first turns
    text               text
    labelled           text, label

alpaca's `input` follows the instruction after a line break, as other trainers join them; the seam is remembered.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from pipeline_config.errors import SourceError
from tasks.kernels.reading.draft import Draft
from tasks.kernels.reading.fields import FieldReader, Record, is_blank
from tasks.kernels.reading.pairs import preference, prompt_completion
from tasks.kernels.reading.records import NotReadable
from tasks.kernels.reading.turns import OPENAI, SHAREGPT

REQUIRED: dict[str, tuple[str, ...]] = {  # in the order in which `auto` tries them
    "preference": ("chosen", "rejected"),
    "sharegpt": ("conversations",),
    "messages": ("messages",),
    "alpaca": ("instruction", "output"),
    "prompt_completion": ("prompt", "completion"),
    "labelled": ("text", "label"),
    "text": ("text",),
}
_TURNS = ("role", "content")
_OPTIONAL: dict[str, tuple[str, ...]] = {
    "preference": ("prompt", "conversations", "instruction", "input", "system", "tools", *_TURNS),
    "sharegpt": ("system", "tools", *_TURNS),
    "messages": ("system", "tools", *_TURNS),
    "alpaca": ("input", "system", "history", "tools"),
    "prompt_completion": ("system", "tools", *_TURNS),
    "labelled": (),
    "text": (),
}
_OF_ALL = ("label", "task", "lang", "split", "weight", "id")
_NO_ANSWER = ("text", "labelled")
LOOKED_AT = 100  # records from which `auto` tells the format


def fields_of(record_format: str) -> list[str]:
    """Our names of everything that is read from a record of a format (`auto`: of any)."""
    chosen = list(REQUIRED) if record_format == "auto" else [record_format]
    named = (name for each in chosen for name in (*REQUIRED[each], *_OPTIONAL[each]))
    return list(dict.fromkeys((*named, *_OF_ALL)))


def format_of(record: Any, fields: Mapping[str, str]) -> str | None:
    """The first format whose required fields a record has; None if it is no record of a known format."""
    if not isinstance(record, dict):
        return None
    for name, required in REQUIRED.items():
        if all(fields.get(field, field) in record for field in required):
            return name
    return None


def likeliest(records: Sequence[Any], fields: Mapping[str, str]) -> str | None:
    """The format that most of these records have; of equals the one tried first."""
    found = [format_of(record, fields) for record in records]
    known = [name for name in REQUIRED if name in found]
    return max(known, key=found.count) if known else None


def is_record(record_format: str, fields: Mapping[str, str], value: Any) -> bool:
    """Whether a value has the fields that a format (`auto`: any format) must have."""
    if record_format == "auto":
        return format_of(value, fields) is not None
    return isinstance(value, dict) and all(fields.get(field, field) in value for field in REQUIRED[record_format])


def unknown_format(values: Sequence[Any], place: str) -> SourceError:
    """The error for records that have the fields of no format."""
    example = next((value for value in values if isinstance(value, dict)), None)
    shown = "are no objects" if example is None else f"have the fields {', '.join(list(example)[:12]) or 'none'}"
    return SourceError(
        f"the records {shown}, which is no format we know",
        place=place,
        cure="name the format and the fields, for instance "
        "`format: prompt_completion` and `fields: {prompt: question, completion: answer}`",
    )


def absent_names(values: Sequence[Any], fields: Mapping[str, str]) -> dict[str, str]:
    """Our field → the name that a source gives it, for names that stand in none of these records."""
    there = {key for value in values if isinstance(value, dict) for key in value}
    return {ours: theirs for ours, theirs in fields.items() if theirs not in there} if there else {}


class FormatReader:
    """Reads records of one format, with one source's field names.

    Args:
        record_format: a key of `REQUIRED`.
        fields: our field → the record's.
    """

    def __init__(self, record_format: str, fields: Mapping[str, str]) -> None:
        self.record_format = record_format
        self.fields = FieldReader(fields)
        self._read = _READERS[record_format]
        self._needs_answer = record_format not in _NO_ANSWER

    def read(self, record: Any) -> Draft:
        """A record as a draft of its row.

        Raises:
            NotReadable: it is not of this format, or holds no text where text is needed.
        """
        if not isinstance(record, dict):
            raise NotReadable("not_an_object", "the record is not an object with named fields")
        draft = Draft()
        self._read(self.fields, record, draft)
        if self._needs_answer and not any(role == "assistant" for role, _, _ in draft.messages):
            raise NotReadable("no_assistant", "no turn is the assistant's")
        return draft


def _text(reader: FieldReader, record: Record, draft: Draft) -> None:
    draft.messages.append(("text", reader.text(record, "text", draft), 1.0))
    draft.plain.append("text")


def _labelled(reader: FieldReader, record: Record, draft: Draft) -> None:
    _text(reader, record, draft)
    name = reader.name("label")
    if name not in record:
        raise NotReadable("missing_field", f"{name} is missing")
    if is_blank(record[name]):
        raise NotReadable("content_null", f"{name} is {'null' if record[name] is None else 'empty'}")
    if isinstance(record[name], (dict, list)):
        raise NotReadable("content_not_text", f"{name} is neither text nor a number")


def _alpaca(reader: FieldReader, record: Record, draft: Draft) -> None:
    has_system = reader.system(record, draft)
    reader.instruction(record, draft)
    has_history = len(draft.messages) > 1 + has_system
    draft.messages.append(("assistant", reader.text(record, "output", draft), 1.0))
    draft.plain += ["instruction", "input", "output"]
    if has_system:
        draft.plain.append("system")
    reader.tools(record, draft, as_text=True)
    if has_history:
        draft.plain.append("history")


def _sharegpt(reader: FieldReader, record: Record, draft: Draft) -> None:
    has_system = reader.system(record, draft)
    reader.turn_list(record, draft, "conversations", SHAREGPT, has_system=has_system)
    if draft.messages and draft.messages[0][0] == "system":
        draft.plain.append("system")
    reader.tools(record, draft, as_text=True)


def _messages(reader: FieldReader, record: Record, draft: Draft) -> None:
    has_system = reader.system(record, draft)
    if has_system:
        draft.templates["system"] = "$m0"
    reader.turn_list(record, draft, "messages", OPENAI, has_system=has_system)
    reader.tools(record, draft, as_text=False)


_READERS: dict[str, Callable[[FieldReader, Record, Draft], None]] = {
    "alpaca": _alpaca,
    "sharegpt": _sharegpt,
    "messages": _messages,
    "prompt_completion": prompt_completion,
    "preference": preference,
    "text": _text,
    "labelled": _labelled,
}
