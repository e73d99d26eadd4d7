"""The shape of a record: how to write it again from its row, whatever its text has become meanwhile.

A row holds messages; a record had field names, an order of keys, role names of its own, optional fields that were
empty or missing, and fields inside its turns. All of that is the *shape*, kept under the reserved key `_winnow` of
`meta` beside the record's other fields. It holds no conversation text: where text was, a *hole* names the message that
holds it now, so a redacted address does not come back on export. What equals the plain writer's form is left out; for
most records only `format` remains.

    format   alpaca, sharegpt, messages, prompt_completion, preference, text or labelled
    names    {our field: the record's}, where the source's `fields` renamed one
    keys     the record's keys in order, if not the format's fields followed by the others
    fields   {our field: template}, where the plain writer would give something else
    parts    {"m0": [length, [characters, lines], …]}: message 0 was joined from several strings
    calls    indices of the messages that are tool calls
    turns    how many messages there were, where a template lists them
    odd      [[path in meta, kind], …]: values that JSON can't say (`odd.py`)
    own      the value of a record's own field named `_winnow`

Holes in a template are strings: `$m0` the content of message 0, `$m0.1` its second part, `$r0` of a rejected turn, `$t`
the tools as text, `$j` as JSON, `$cm0.1.name` (and `.raw`, `.json` for the arguments) a piece of message 0's second
tool call. Any other string that starts with `$` has a second one in front.
"""

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from tasks.kernels.records.calls import Call, split_calls
from tasks.kernels.records.odd import put_back

SHAPE = "_winnow"

Message = tuple[str, str, float]  # role, content, weight


@dataclass(slots=True)
class Conversation:
    """A row as records are written from it.

    Attributes:
        messages: role, content and weight of each turn.
        rejected: the turns that a preference pair rejects, in place of the answer that ends `messages`.
        tools: JSON text.
        extra: the record's other fields.
        shape: see the module.
    """

    messages: list[Message]
    rejected: list[Message] | None = None
    tools: str | None = None
    extra: dict[str, Any] = field(default_factory=dict)
    shape: dict[str, Any] = field(default_factory=dict)

    @classmethod
    def of_row(cls, row: dict[str, Any]) -> "Conversation":
        """The conversation of a row (`messages`, `rejected`, `tools`, `meta`) given as Python values."""
        meta = json.loads(row["meta"]) if row.get("meta") else {}
        shape = meta.get(SHAPE) or {}
        put_back(meta, shape.get("odd", []))
        meta.pop(SHAPE, None)
        if "own" in shape:
            meta = {SHAPE: shape["own"]} | meta
        rejected = row.get("rejected")
        return cls(
            [_message(turn) for turn in row["messages"] or []],
            None if rejected is None else [_message(turn) for turn in rejected],
            row.get("tools"),
            meta,
            shape,
        )

    def parts(self, address: str) -> list[str]:
        """The strings that a message (`m0`) or a rejected turn (`r0`) was joined from; itself if it was not joined."""
        turns = self.messages if address[0] == "m" else self.rejected or []
        return split_parts(turns[int(address[1:])][1], self.shape.get("parts", {}).get(address))


def _message(turn: dict[str, Any]) -> Message:
    weight = turn.get("weight")
    return turn["role"], turn["content"] or "", 1.0 if weight is None else weight


def join_parts(parts: Sequence[str]) -> tuple[str, list[Any]]:
    """Several strings as one, and where they meet: total length, then characters and filled lines before each seam."""
    content = "\n".join(parts)
    seams: list[Any] = [len(content)]
    characters = lines = 0
    for number, part in enumerate(parts[:-1]):
        characters += len(part) + (number > 0)
        lines += _filled_lines(part)
        seams.append([characters, lines])
    return content, seams


def split_parts(content: str, seams: Sequence[Any] | None) -> list[str]:
    """The inverse of `join_parts`; of an edited text, cut after as many filled lines as there were before each seam."""
    if not seams:
        return [content]
    places = [characters for characters, _ in seams[1:]]
    if len(content) != seams[0] or any(content[place] != "\n" for place in places):
        places = [_after_lines(content, lines) for _, lines in seams[1:]]
    starts = [0, *(place + 1 for place in places)]
    return [content[start:end] for start, end in zip(starts, [*places, len(content)], strict=True)]


def _filled_lines(text: str) -> int:
    return sum(1 for line in text.split("\n") if line.strip())


def _after_lines(content: str, wanted: int) -> int:
    position = seen = 0
    for line in content.split("\n"):
        seen += bool(line.strip())
        position += len(line) + 1
        if seen == wanted:
            break
    return min(position - 1, len(content))


def literal(value: Any) -> Any:
    """A value of the record as a template that fills to itself."""
    if isinstance(value, str):
        return "$" + value if value[:1] == "$" else value
    if isinstance(value, dict):
        return {key: literal(item) for key, item in value.items()}
    if isinstance(value, list):
        return [literal(item) for item in value]
    return value


def fill(template: Any, conversation: Conversation) -> Any:
    """A template with the conversation's present text in its holes.

    Raises:
        LookupError: it names a message, part or call that is no longer there.
    """
    if isinstance(template, str):
        return _hole(template, conversation) if template[:1] == "$" else template
    if isinstance(template, dict):
        return {key: fill(item, conversation) for key, item in template.items()}
    if isinstance(template, list):
        return [fill(item, conversation) for item in template]
    return template


def _hole(hole: str, conversation: Conversation) -> Any:
    kind, address = hole[1], hole[1:].split(".")
    if kind == "$":
        return hole[1:]
    if kind == "t":
        return conversation.tools
    if kind == "j":
        return None if conversation.tools is None else json.loads(conversation.tools)
    if kind == "c":
        return _call_piece(conversation, address[0][1:], int(address[1]), address[2])
    if len(address) > 1:
        return conversation.parts(address[0])[int(address[1])]
    turns = conversation.messages if kind == "m" else conversation.rejected or []
    return turns[int(address[0][1:])][1]


_PIECES: dict[str, Callable[[Call], Any]] = {
    "name": lambda call: call[0],
    "raw": lambda call: call[1],
    "json": lambda call: json.loads(call[1]),
}


def _call_piece(conversation: Conversation, address: str, call: int, piece: str) -> Any:
    calls = split_calls(conversation.parts(address)[-1])
    if calls is None:
        raise LookupError(f"{address} is no tool call any more")
    return _PIECES[piece](calls[call])
