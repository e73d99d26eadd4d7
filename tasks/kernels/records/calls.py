"""Tool calls as text, and back.

A row's messages hold text, so an assistant's tool calls stand in its content the way most chat models write them:
`{"name": "weather", "arguments": {"city": "Paris"}}`, several as a JSON list. The arguments keep the record's own
spelling, byte for byte, where they came as a JSON string (OpenAI's form), so that they can be handed back as they came.
"""

import json
import re
from collections.abc import Sequence
from typing import Any

from tasks.kernels.records.odd import real

_NAME = re.compile(r'\s*\{\s*"name"\s*:\s*')
_ARGUMENTS = re.compile(r'\s*,\s*"arguments"\s*:\s*')
_END = re.compile(r"\s*\}\s*")
_DECODER = json.JSONDecoder()

Call = tuple[str, str]  # name, arguments as JSON text


def dump_text(value: Any) -> str:
    """JSON text of any value of a record, long integers and non-finite numbers included."""
    return json.dumps(real(value), ensure_ascii=False, default=str)


def join_calls(calls: Sequence[Call]) -> str:
    """One call as an object, several as a list of objects."""
    written = [f'{{"name": {json.dumps(name, ensure_ascii=False)}, "arguments": {raw}}}' for name, raw in calls]
    return written[0] if len(written) == 1 else f"[{', '.join(written)}]"


def split_calls(text: str) -> list[Call] | None:
    """Name and spelling of the arguments of each call; None if the text is not what `join_calls` writes."""
    listed = text.startswith("[")
    position, calls = int(listed), []
    try:
        while True:
            name, position = _value(_NAME, text, position)
            start = _skip(_ARGUMENTS, text, position)
            _, position = _DECODER.raw_decode(text, start)
            calls.append((name, text[start:position]))
            position = _skip(_END, text, position)
            if position == len(text) or text[position] != ",":
                break
            position += 1
    except (ValueError, RecursionError):
        return None
    rest = text[position:].strip()
    return calls if rest == ("]" if listed else "") and all(isinstance(name, str) for name, _ in calls) else None


def loose_calls(text: str) -> list[tuple[str, Any]] | None:
    """Name and arguments of each call in any JSON spelling (sharegpt's `function_call`); None if it is no call."""
    try:
        found = json.loads(text)
    except (ValueError, RecursionError):
        return None
    calls = found if isinstance(found, list) else [found]
    if not calls or not all(isinstance(call, dict) and isinstance(call.get("name"), str) for call in calls):
        return None
    return [(call["name"], call.get("arguments", call.get("parameters", {}))) for call in calls]


def _skip(pattern: re.Pattern[str], text: str, position: int) -> int:
    match = pattern.match(text, position)
    if match is None:
        raise ValueError(position)
    return match.end()


def _value(pattern: re.Pattern[str], text: str, position: int) -> tuple[Any, int]:
    return _DECODER.raw_decode(text, _skip(pattern, text, position))
