"""Rows as plain records of a format: the form that other trainers document, with nothing of the source's own habits.

What a format has no place for is either left out and counted under a name (`lost`), or, where the record would say
something else than the row, refused with `Inexpressible`. Preference pairs take the form that each format's users know:
`chosen` and `rejected` in place of the answer.
"""

import json
from collections import Counter
from collections.abc import Callable
from typing import Any

from tasks.kernels.records.calls import loose_calls
from tasks.kernels.records.shape import Conversation, Message

SHAREGPT_ROLE = {"system": "system", "user": "human", "assistant": "gpt", "tool": "observation"}


class Inexpressible(ValueError):  # noqa: N818
    """A row that a format can't say; the argument names why (`tool_turns`)."""


Fields = dict[str, Any]
Lost = Counter[str]


def plain(record_format: str, row: Conversation, lost: Lost) -> Fields:
    """The fields of a plain record, in the format's order, the row's other fields not among them.

    Raises:
        Inexpressible: the format can't say this row.
    """
    return _PLAIN[record_format](row, lost)


def _only_conversations(row: Conversation) -> None:
    if any(role == "text" for role, _, _ in row.messages):
        raise Inexpressible("raw_text")


def _note_weights(row: Conversation, lost: Lost) -> None:
    if any(weight != 1.0 for _, _, weight in row.messages):
        lost["message_weights"] += 1


def _split_system(row: Conversation) -> tuple[str | None, int]:
    """The system text that opens a conversation, and the index of the first turn after it."""
    if row.messages and row.messages[0][0] == "system":
        return row.messages[0][1], 1
    return None, 0


def _alpaca(row: Conversation, lost: Lost) -> Fields:
    _only_conversations(row)
    _note_weights(row, lost)
    system, start = _split_system(row)
    roles = [role for role, _, _ in row.messages[start:]]
    if "tool" in roles or row.shape.get("calls"):
        raise Inexpressible("tool_turns")
    if not roles or roles != ["user", "assistant"] * (len(roles) // 2):
        raise Inexpressible("turns_not_in_pairs")
    last = len(row.messages) - 2
    instruction, *rest = row.parts(f"m{last}")
    answer = row.messages[-1][1]
    fields: Fields = {"instruction": instruction, "input": "\n".join(rest)}
    if row.rejected is None:
        fields["output"] = answer
    else:
        fields |= {"chosen": answer, "rejected": _single(row.rejected)}
    if system is not None:
        fields["system"] = system
    if row.tools is not None:
        fields["tools"] = row.tools
    if last > start:
        fields["history"] = [[row.messages[i][1], row.messages[i + 1][1]] for i in range(start, last, 2)]
    return fields


def _single(turns: list[Message]) -> str:
    if [role for role, _, _ in turns] != ["assistant"]:
        raise Inexpressible("rejected_turns")
    return turns[0][1]


def _sharegpt(row: Conversation, lost: Lost) -> Fields:
    _only_conversations(row)
    _note_weights(row, lost)
    system, start = _split_system(row)
    calls = set(row.shape.get("calls", ()))
    turns = [
        {"from": "function_call" if index in calls else SHAREGPT_ROLE[role], "value": content}
        for index, (role, content, _) in enumerate(row.messages)
    ][start:]
    fields: Fields = {"conversations": turns}
    if row.rejected is not None:
        answer = turns[-1]
        fields["conversations"] = turns[:-1]
        fields |= {"chosen": answer, "rejected": {"from": "gpt", "value": _single(row.rejected)}}
    if system is not None:
        fields["system"] = system
    if row.tools is not None:
        fields["tools"] = row.tools
    return fields


def _turn(row: Conversation, index: int, lost: Lost) -> Fields:
    role, content, weight = row.messages[index]
    turn: Fields = {"role": role, "content": content}
    if index in row.shape.get("calls", ()):
        *said, written = row.parts(f"m{index}")
        calls = loose_calls(written)
        if calls is None:
            lost["tool_calls_as_text"] += 1
        else:
            turn["content"] = "\n".join(said) if said else None
            turn["tool_calls"] = [
                {"type": "function", "function": {"name": name, "arguments": arguments}} for name, arguments in calls
            ]
    if weight != 1.0:
        turn["weight"] = weight
    return turn


def _rejected_turns(turns: list[Message]) -> list[Fields]:
    return [{"role": role, "content": content} for role, content, _ in turns]


def _with_tools(fields: Fields, row: Conversation, lost: Lost) -> Fields:
    if row.tools is not None:
        tools = tools_value(row.tools)
        if tools is None:
            lost["tools_not_json"] += 1
        else:
            fields["tools"] = tools
    return fields


def tools_value(text: str) -> Any | None:
    """Tools as a JSON value; None if the text is no JSON."""
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return None


def _messages(row: Conversation, lost: Lost) -> Fields:
    _only_conversations(row)
    if row.rejected is not None:
        return _preference_lists(row, lost)
    return _with_tools({"messages": [_turn(row, i, lost) for i in range(len(row.messages))]}, row, lost)


def _preference_lists(row: Conversation, lost: Lost) -> Fields:
    turns = [_turn(row, i, lost) for i in range(len(row.messages))]
    start = _answer_start(row)
    fields = {"prompt": turns[:start], "chosen": turns[start:], "rejected": _rejected_turns(row.rejected or [])}
    return _with_tools(fields, row, lost)


def _answer_start(row: Conversation) -> int:
    """The index of the first of the assistant turns that end the conversation."""
    start = len(row.messages)
    while start and row.messages[start - 1][0] == "assistant":
        start -= 1
    if start == len(row.messages):
        raise Inexpressible("no_answer_at_the_end")
    return start


def _is_one_pair(row: Conversation) -> bool:
    return [role for role, _, _ in row.messages] == ["user", "assistant"] and not row.shape.get("calls")


def _prompt_completion(row: Conversation, lost: Lost) -> Fields:
    _only_conversations(row)
    if _is_one_pair(row):
        _note_weights(row, lost)
        fields: Fields = {"prompt": row.messages[0][1], "completion": row.messages[1][1]}
    else:
        turns = [_turn(row, i, lost) for i in range(len(row.messages))]
        start = _answer_start(row)
        fields = {"prompt": turns[:start], "completion": turns[start:]}
    return _with_tools(fields, row, lost)


def _preference(row: Conversation, lost: Lost) -> Fields:
    _only_conversations(row)
    if row.rejected is None:
        raise Inexpressible("no_rejected_answer")
    if _is_one_pair(row) and [role for role, _, _ in row.rejected] == ["assistant"]:
        _note_weights(row, lost)
        fields: Fields = {"prompt": row.messages[0][1], "chosen": row.messages[1][1], "rejected": row.rejected[0][1]}
        return _with_tools(fields, row, lost)
    return _preference_lists(row, lost)


def _text(row: Conversation, lost: Lost) -> Fields:
    if any(role != "text" for role, _, _ in row.messages):
        lost["roles"] += 1
    if row.tools is not None:
        lost["tools"] += 1
    if row.rejected is not None:
        lost["rejected_answers"] += 1
    _note_weights(row, lost)
    return {"text": "\n\n".join(content for _, content, _ in row.messages)}


_PLAIN: dict[str, Callable[[Conversation, Lost], Fields]] = {
    "alpaca": _alpaca,
    "sharegpt": _sharegpt,
    "messages": _messages,
    "prompt_completion": _prompt_completion,
    "preference": _preference,
    "text": _text,
    "labelled": _text,
}
