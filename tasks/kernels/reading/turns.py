"""Lists of turns: OpenAI's `{role, content}` and sharegpt's `{from, value}`, in the many spellings that data sets have.

A list as the plain writer would write it is read in one short loop. Any other (role names of its own, a name or an id
inside a turn, content in parts, tool calls) is read again turn by turn, and gives a template beside its messages.
"""

import json
from typing import Any

from tasks.kernels.reading.draft import Draft
from tasks.kernels.reading.records import NotReadable
from tasks.kernels.records.calls import Call, dump_text, join_calls
from tasks.kernels.records.odd import Odd
from tasks.kernels.records.shape import Message, join_parts, literal

ROLES = {
    "system": "system",
    "developer": "system",
    "user": "user",
    "human": "user",
    "prompter": "user",
    "assistant": "assistant",
    "gpt": "assistant",
    "chatgpt": "assistant",
    "bot": "assistant",
    "ai": "assistant",
    "model": "assistant",
    "function_call": "assistant",
    "tool_call": "assistant",
    "tool": "tool",
    "function": "tool",
    "observation": "tool",
    "tool_response": "tool",
    "ipython": "tool",
}
_CALL_ROLES = ("function_call", "tool_call")
_PLAIN_OPENAI = {role: role for role in ("system", "user", "assistant", "tool")}
_PLAIN_SHAREGPT = {"human": "user", "gpt": "assistant", "observation": "tool", "function_call": "assistant"}
OPENAI = ("role", "content")
SHAREGPT = ("from", "value")


def text_of(value: Any, where: str) -> str:
    """A value that must be text and not blank."""
    if type(value) is str and not value.isspace() and value:
        return value
    if value is None:
        raise NotReadable("content_null", f"{where} is null")
    if type(value) is str:
        raise NotReadable("content_empty", f"{where} is empty")
    raise NotReadable("content_not_text", f"{where} is {_kind(value)} where text is expected")


def _kind(value: Any) -> str:
    if isinstance(value, Odd):
        return f"a value of type {value.kind}"
    if isinstance(value, bool):
        return "true or false"
    if isinstance(value, (int, float)):
        return "a number"
    return "an object" if isinstance(value, dict) else "a list" if isinstance(value, list) else "something else"


class TurnReader:
    """Reads turn lists with one source's names for a turn's role and content.

    Args:
        fields: the source's `fields`; `role` and `content` may be among them.
    """

    def __init__(self, fields: dict[str, str]) -> None:
        self._named = (fields.get("role"), fields.get("content"))
        self._is_plain = not any(self._named)

    def read_plain(self, turns: list[Any], style: tuple[str, str], draft: Draft) -> bool:
        """Read a list that the plain writer of this style would write just so; False, and nothing read, if it isn't."""
        if not self._is_plain:
            return False
        messages: list[Message] = []
        calls: list[int] = []
        base = len(draft.messages)
        roles = _PLAIN_OPENAI if style is OPENAI else _PLAIN_SHAREGPT
        for turn in turns:
            if type(turn) is not dict or tuple(turn) != style:
                return False
            role, content = turn.values()
            known = roles.get(role) if type(role) is str else None
            if known is None or type(content) is not str or not content or content.isspace():
                return False
            if role == "function_call":
                calls.append(base + len(messages))
            messages.append((known, content, 1.0))
        draft.messages += messages
        draft.calls += calls
        return True

    def read(self, turns: Any, field: str, draft: Draft, *, rejected: bool = False) -> list[Any]:
        """Read any list of turns, onto the messages or the rejected turns; gives its template."""
        if not isinstance(turns, list):
            raise _not_turns(turns, field)
        if rejected and draft.rejected is None:
            draft.rejected = []
        target = draft.rejected if rejected and draft.rejected is not None else draft.messages
        template = []
        for number, turn in enumerate(turns):
            message, written = self.turn(turn, f"{field}[{number}]", draft, len(target), rejected=rejected)
            target.append(message)
            template.append(written)
        return template

    def turn(self, turn: Any, where: str, draft: Draft, index: int, *, rejected: bool) -> tuple[Message, Any]:
        """One turn as a message and a template, its text to stand at `index`."""
        if not isinstance(turn, dict):
            raise NotReadable("turn_not_object", f"{where} is {_kind(turn) if turn is not None else 'null'}")
        address = f"{'r' if rejected else 'm'}{index}"
        role_key = self._key(turn, 0, where)
        role = self._role(turn[role_key], f"{where}.{role_key}")
        is_openai = "content" in turn or ("value" not in turn and role_key != SHAREGPT[0])
        content_key = self._named[1] or ("content" if is_openai else "value")
        template = {key: literal(value) for key, value in turn.items() if key != content_key}
        said, said_template = _content(turn.get(content_key), f"{where}.{content_key}", address)
        calls, call_templates = _calls(turn, where, address) if role == "assistant" else ([], {})
        template |= call_templates
        if calls:
            said = [*said, join_calls(calls)]
        if not said or (not calls and all(part.isspace() or not part for part in said)):
            said_template = self._blank(turn, content_key, role, f"{where}.{content_key}")
            said = [turn[content_key] if type(turn.get(content_key)) is str else ""]
        elif len(said) > 1:
            said = [self._join(said, draft, address)]
        elif calls:
            said_template = literal(turn.get(content_key))
        else:
            said_template = _one_part(said_template, address)
        if not rejected and (calls or str(turn[role_key]).lower() in _CALL_ROLES):
            draft.calls.append(index)
        if content_key in turn:
            template[content_key] = said_template
        return (role, said[0], _weight(turn.get("weight"))), {key: template[key] for key in turn}

    @staticmethod
    def _join(parts: list[str], draft: Draft, address: str) -> str:
        content, draft.parts[address] = join_parts(parts)
        return content

    @staticmethod
    def _blank(turn: dict[str, Any], key: str, role: str, where: str) -> Any:
        """System and tool turns may be empty; a user's or an assistant's may not."""
        if role in ("user", "assistant"):
            if key not in turn:
                raise NotReadable("missing_field", f"{where} is missing")
            if turn[key] is None:
                raise NotReadable("content_null", f"{where} is null")
            raise NotReadable("content_empty", f"{where} is empty")
        return literal(turn.get(key))

    def _key(self, turn: dict[str, Any], which: int, where: str) -> str:
        names = [self._named[which]] if self._named[which] else [OPENAI[which], SHAREGPT[which]]
        for name in names:
            if name in turn:
                return str(name)
        is_sharegpt = SHAREGPT[1 - which] in turn and OPENAI[1 - which] not in turn
        raise NotReadable("missing_field", f"{where}.{names[-1 if is_sharegpt else 0]} is missing")

    @staticmethod
    def _role(value: Any, where: str) -> str:
        role = ROLES.get(value.strip().lower()) if type(value) is str else None
        if role is None:
            raise NotReadable("unknown_role", f"{where} is {json.dumps(value, default=str)[:60]}")
        return role


def _not_turns(value: Any, field: str) -> NotReadable:
    if value is None:
        return NotReadable("content_null", f"{field} is null")
    return NotReadable("content_not_text", f"{field} is {_kind(value)} where a list of turns is expected")


def _content(value: Any, where: str, address: str) -> tuple[list[str], Any]:
    """The strings of a turn's content, and a template that addresses them as parts."""
    if type(value) is str:
        return ([] if not value or value.isspace() else [value]), f"${address}.0"
    if value is None:
        return [], None
    if not isinstance(value, list):
        raise NotReadable("content_not_text", f"{where} is {_kind(value)} where text is expected")
    parts: list[str] = []
    template = []
    for number, part in enumerate(value):
        text = part.get("text") if isinstance(part, dict) and part.get("type", "text") == "text" else None
        if type(text) is not str:
            raise NotReadable("content_not_text", f"{where}[{number}] is no text part")
        template.append({key: literal(item) for key, item in part.items()} | {"text": f"${address}.{len(parts)}"})
        parts.append(text)
    return parts, template


def _one_part(template: Any, address: str) -> Any:
    """The template of a content that was not joined after all: it is the message itself."""
    if isinstance(template, str):
        return f"${address}"
    return [{**part, "text": f"${address}"} for part in template]


def _calls(turn: dict[str, Any], where: str, address: str) -> tuple[list[Call], dict[str, Any]]:
    calls: list[Call] = []
    templates: dict[str, Any] = {}
    listed = turn.get("tool_calls")
    if listed:
        if not isinstance(listed, list):
            raise NotReadable("unknown_tool_call", f"{where}.tool_calls is {_kind(listed)}")
        templates["tool_calls"] = [_call(call, f"{where}.tool_calls", address, calls) for call in listed]
    legacy = turn.get("function_call")
    if legacy:
        templates["function_call"] = _call(legacy, f"{where}.function_call", address, calls)
    return calls, templates


def _call(call: Any, where: str, address: str, calls: list[Call]) -> Any:
    """Append one call to `calls`; gives its template."""
    function = call.get("function", call) if isinstance(call, dict) else None
    if not isinstance(function, dict) or type(function.get("name")) is not str:
        raise NotReadable("unknown_tool_call", f"{where} names no function")
    hole = f"$c{address}.{len(calls)}"
    template = {key: literal(value) for key, value in function.items()} | {"name": f"{hole}.name"}
    raw = "{}"
    if "arguments" in function:
        arguments = function["arguments"]
        raw, piece = _spelling(arguments)
        template["arguments"] = f"{hole}.{piece}"
    calls.append((function["name"], raw))
    if function is call:
        return template
    return {key: template if key == "function" else literal(value) for key, value in call.items()}


def _spelling(arguments: Any) -> tuple[str, str]:
    """Arguments as JSON text, and how they come back: as the text itself, or as the value it stands for."""
    if type(arguments) is str and arguments == arguments.strip():
        try:
            json.loads(arguments)
        except (ValueError, RecursionError):
            return dump_text(arguments), "json"
        return arguments, "raw"
    return dump_text(arguments), "json"


def _weight(value: Any) -> float:
    return float(value) if isinstance(value, (int, float)) else 1.0
