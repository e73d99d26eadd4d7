"""Prompt and completion, and preference pairs: the formats whose fields may be strings, turns, or lists of turns.

A preference pair's `messages` are the prompt and the chosen answer; `rejected` is the other answer to the same prompt.
Where `chosen` and `rejected` are whole conversations, the turns that they share are the prompt.
"""

from typing import Any

from tasks.kernels.reading.draft import Draft
from tasks.kernels.reading.fields import FieldReader, Record
from tasks.kernels.reading.records import NotReadable
from tasks.kernels.reading.turns import ROLES

_ONE_PAIR = {"prompt": "$m0", "chosen": "$m1", "rejected": "$r0"}


def prompt_completion(reader: FieldReader, record: Record, draft: Draft) -> None:
    """A prompt and the completion to learn."""
    if reader.system(record, draft):
        draft.templates["system"] = "$m0"
    reader.said(record, "prompt", "user", draft)
    reader.said(record, "completion", "assistant", draft)
    draft.plain += ["prompt", "completion"]
    if draft.templates.get("prompt") == "$m0" and draft.templates["completion"] == "$m1":
        del draft.templates["prompt"], draft.templates["completion"]
    reader.tools(record, draft, as_text=False)


def preference(reader: FieldReader, record: Record, draft: Draft) -> None:
    """A prompt with a chosen and a rejected answer."""
    if reader.system(record, draft):
        draft.templates["system"] = "$m0"
    shared = _shared_turns(reader, record)
    if shared:
        _whole_conversations(reader, record, draft, shared)
    else:
        _prompt(reader, record, draft)
        reader.said(record, "chosen", "assistant", draft)
        reader.said(record, "rejected", "assistant", draft, rejected=True)
    draft.plain += ["prompt", "chosen", "rejected"]
    if _ONE_PAIR.items() <= draft.templates.items():
        for field in _ONE_PAIR:
            del draft.templates[field]
    reader.tools(record, draft, as_text=False)


def _prompt(reader: FieldReader, record: Record, draft: Draft) -> None:
    if reader.has(record, "prompt"):
        reader.said(record, "prompt", "user", draft)
    elif reader.has(record, "conversations"):
        turns = reader.take(record, "conversations", draft)
        draft.templates["conversations"] = reader.turns.read(turns, reader.name("conversations"), draft)
    elif reader.has(record, "instruction"):
        _instruction(reader, record, draft)
    else:
        raise NotReadable("missing_field", f"{reader.name('prompt')} is missing")


def _instruction(reader: FieldReader, record: Record, draft: Draft) -> None:
    start = len(draft.messages)
    reader.instruction(record, draft)
    last = len(draft.messages) - 1
    hole = f"$m{last}"
    is_joined = f"m{last}" in draft.parts
    own: dict[str, Any] = {"instruction": f"{hole}.0", "input": f"{hole}.1"} if is_joined else {"instruction": hole}
    own.setdefault("input", "")
    if last > start:
        own["history"] = [[f"$m{i}", f"$m{i + 1}"] for i in range(start, last, 2)]
    draft.templates = own | draft.templates


def _shared_turns(reader: FieldReader, record: Record) -> int:
    """How many turns two whole conversations have in common; 0 where the fields hold answers only."""
    chosen, rejected = record.get(reader.name("chosen")), record.get(reader.name("rejected"))
    if not (isinstance(chosen, list) and isinstance(rejected, list)):
        return 0
    most = min(len(chosen), len(rejected)) - 1
    shared = next((i for i in range(most) if chosen[i] != rejected[i]), most)
    if shared < 1:
        return 0
    if not any(reader.has(record, field) for field in ("prompt", "conversations", "instruction")):
        return shared
    if _role(chosen[0]) == "assistant" or not reader.has(record, "prompt"):
        return 0
    prompt = record[reader.name("prompt")]
    is_inside = prompt == chosen[:shared] if isinstance(prompt, list) else prompt in _contents(chosen[:shared])
    return shared if is_inside else 0


def _role(turn: Any) -> str | None:
    name = turn.get("role", turn.get("from")) if isinstance(turn, dict) else None
    return ROLES.get(name.lower()) if isinstance(name, str) else None


def _contents(turns: list[Any]) -> list[Any]:
    return [turn.get("content", turn.get("value")) for turn in turns if isinstance(turn, dict)]


def _whole_conversations(reader: FieldReader, record: Record, draft: Draft, shared: int) -> None:
    start = len(draft.messages)
    chosen, rejected = reader.take(record, "chosen", draft), reader.take(record, "rejected", draft)
    turns = reader.turns.read(chosen, reader.name("chosen"), draft)
    rest = reader.turns.read(rejected[shared:], reader.name("rejected"), draft, rejected=True)
    draft.templates |= {"chosen": turns, "rejected": turns[:shared] + rest}
    if reader.has(record, "prompt"):
        prompt = reader.take(record, "prompt", draft)
        if isinstance(prompt, list):
            draft.templates["prompt"] = turns[:shared]
        else:
            contents = [content for _, content, _ in draft.messages[start : start + shared]]
            draft.templates["prompt"] = f"$m{start + contents.index(prompt)}"
