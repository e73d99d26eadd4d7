"""Conversations through a chat template: the text a model reads, and where in it each assistant turn stands.

The span of an assistant turn is what the template adds when the turn is appended to a generation prompt. Templates
with `{% generation %}` marks say it themselves; for all others the conversation is rendered once more up to each turn,
and the longer rendering must begin with the shorter one. A template for which that fails (it rewrites earlier turns
when later ones follow) can't be masked exactly, and is refused rather than masked approximately.
"""

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from pipeline_config.errors import ModelError
from tasks.kernels.chat_template import reason, require_template, tokenizer_name

Message = Mapping[str, Any]  # role, content, weight (null: 1)

_MARKS = re.compile(r"{%-?\s*generation\s*-?%}")
_TOOLS = re.compile(r"\btools\b")
_CURE = "give a template whose earlier turns stay as they are, in tokenize.chat_template (a Jinja file)"


@dataclass(frozen=True)
class Conversation:
    """One row as the template sees it.

    Attributes:
        row_id: for messages to the user.
        messages: role and content of each turn, in order.
        learned: positions in `messages` of the assistant turns to learn.
        tools: JSON schemas of the tools on offer, or None.
    """

    row_id: str
    messages: Sequence[Message]
    learned: Sequence[int]
    tools: Sequence[Mapping[str, Any]] | None = None


@dataclass(frozen=True)
class Rendered:
    """A rendered conversation.

    Attributes:
        text: the whole conversation.
        spans: for each learned turn, where in `text` (characters) its answer begins and ends, markup of the end of
            the turn included.
        refused: why the row can't be used (rule and detail), or None.
    """

    text: str = ""
    spans: list[tuple[int, int]] = field(default_factory=list)
    refused: tuple[str, str] | None = None


def render_prompt(tokenizer: Any, messages: Sequence[Message], tools: Sequence[Mapping[str, Any]] | None = None) -> str:
    """The text after which a model answers: the conversation so far and the generation prompt.

    Raises:
        ModelError: no template, or the template refuses the conversation.
    """
    template = require_template(tokenizer)
    try:
        return _render(tokenizer, template, [_visible(template, messages, tools)], tools, prompt=True)[0]
    except Exception as error:  # a template may raise what it likes
        raise ModelError(
            f"the chat template refuses a conversation ({reason(error)})",
            place="tokenize.chat_template",
            cure="give a template that takes these roles",
        ) from error


def render_conversations(tokenizer: Any, conversations: Sequence[Conversation]) -> list[Rendered]:
    """Render conversations and find the span of each learned turn.

    A conversation that the template refuses (roles it doesn't know, turns in an order it doesn't take) comes back
    as refused, with the template's own words.

    Raises:
        ModelError: no template, or one that can't be masked exactly.
    """
    template = require_template(tokenizer)
    try:
        return _render_all(tokenizer, template, conversations)
    except ModelError:
        raise
    except Exception:  # some conversation is refused: find out which
        return [_render_one(tokenizer, template, each) for each in conversations]


def _render_one(tokenizer: Any, template: str, conversation: Conversation) -> Rendered:
    try:
        return _render_all(tokenizer, template, [conversation])[0]
    except ModelError:
        raise
    except Exception as error:  # a template may raise what it likes
        return Rendered(refused=("template_error", reason(error)))


def _render_all(tokenizer: Any, template: str, conversations: Sequence[Conversation]) -> list[Rendered]:
    seen = [_visible(template, each.messages, each.tools) for each in conversations]
    shifts = [len(visible) - len(each.messages) for visible, each in zip(seen, conversations, strict=True)]
    if _MARKS.search(template):
        marked = [_marked(tokenizer, template, *pair) for pair in zip(conversations, seen, strict=True)]
        if all(each is not None for each in marked):
            return [each for each in marked if each is not None]
    fulls = _grouped(tokenizer, template, seen, conversations, prompt=False)
    turns = [(n, turn + shifts[n]) for n, each in enumerate(conversations) for turn in each.learned]
    inner = [(n, turn) for n, turn in turns if turn + 1 < len(seen[n])]
    owners = [conversations[n] for n, _ in turns]
    prompts = _grouped(tokenizer, template, [seen[n][:turn] for n, turn in turns], owners, prompt=True)
    through = dict(
        zip(
            inner,
            _grouped(
                tokenizer,
                template,
                [seen[n][: turn + 1] for n, turn in inner],
                [conversations[n] for n, _ in inner],
                prompt=False,
            ),
            strict=True,
        )
    )
    spans: list[list[tuple[int, int]]] = [[] for _ in conversations]
    refused: dict[int, tuple[str, str]] = {}
    for (n, turn), prompt in zip(turns, prompts, strict=True):
        full = fulls[n]
        upto = through.get((n, turn), full)
        before = prompt if turn > 0 else _opening(tokenizer, template, full, seen[n][0])
        if full.startswith(upto) and before is not None and upto.startswith(before):
            spans[n].append((len(before), len(upto)))
        elif turn == 0:
            refused[n] = ("template_error", "the template does not say where an opening assistant turn begins")
        else:
            raise _not_a_prefix(tokenizer, conversations[n], turn - shifts[n])
    return [Rendered(full, spans[n], refused.get(n)) for n, full in enumerate(fulls)]


def _marked(
    tokenizer: Any, template: str, conversation: Conversation, visible: list[dict[str, str]]
) -> Rendered | None:
    """Spans as `{% generation %}` marks give them; None if there is not one for each assistant turn."""
    from transformers.utils.chat_template_utils import render_jinja_template

    texts, marks = render_jinja_template(
        conversations=[visible],
        tools=list(conversation.tools) if conversation.tools else None,
        chat_template=template,
        return_assistant_tokens_mask=True,
        **tokenizer.special_tokens_map,
    )
    assistants = [n for n, message in enumerate(conversation.messages) if message["role"] == "assistant"]
    if len(marks[0]) != len(assistants):
        return None
    spans = {turn: (int(start), int(end)) for turn, (start, end) in zip(assistants, marks[0], strict=True)}
    return Rendered(texts[0], [spans[turn] for turn in conversation.learned])


def _opening(tokenizer: Any, template: str, full: str, first: Mapping[str, str]) -> str | None:
    """What stands before an assistant turn that opens a conversation: no prompt can be rendered for it."""
    probe = [{"role": "user", "content": "a"}]
    asked, plain = (_render(tokenizer, template, [probe], None, prompt=prompt)[0] for prompt in (True, False))
    header = asked[len(plain) :]
    start = full.find(header)
    if not header or not asked.startswith(plain) or start < 0:
        return None
    end = start + len(header)
    return full[:end] if full[end:].lstrip().startswith(first["content"].strip()) else None


def _grouped(
    tokenizer: Any,
    template: str,
    chats: Sequence[Sequence[Message]],
    owners: Sequence[Conversation],
    *,
    prompt: bool,
) -> list[str]:
    """Render chats in one call for all without tools, and one for each that has some; in the order given."""
    plain = [n for n, owner in enumerate(owners) if not owner.tools]
    texts = [""] * len(chats)
    rendered = _render(tokenizer, template, [chats[n] for n in plain], None, prompt=prompt)
    for n, text in zip(plain, rendered, strict=True):
        texts[n] = text
    for n, owner in enumerate(owners):
        if owner.tools:
            texts[n] = _render(tokenizer, template, [chats[n]], owner.tools, prompt=prompt)[0]
    return texts


def _render(
    tokenizer: Any,
    template: str,
    chats: Sequence[Sequence[Message]],
    tools: Sequence[Mapping[str, Any]] | None,
    *,
    prompt: bool,
) -> list[str]:
    """Templates fail on an empty conversation in many ways; its rendering is never used."""
    filled = [list(chat) or [{"role": "user", "content": ""}] for chat in chats]
    if not filled:
        return []
    texts = tokenizer.apply_chat_template(
        filled,
        tools=list(tools) if tools else None,
        chat_template=template,
        add_generation_prompt=prompt,
        tokenize=False,
    )
    return [str(text) for text in texts]


def _visible(
    template: str, messages: Sequence[Message], tools: Sequence[Mapping[str, Any]] | None
) -> list[dict[str, str]]:
    """The turns as the template gets them; tools that it would ignore are told in the system turn."""
    turns = [{"role": str(m["role"]), "content": str(m["content"] or "")} for m in messages]
    if not tools or _TOOLS.search(template):
        return turns
    told = "Tools:\n" + json.dumps(list(tools), ensure_ascii=False)
    if turns and turns[0]["role"] == "system":
        return [{"role": "system", "content": f"{turns[0]['content']}\n\n{told}"}, *turns[1:]]
    return [{"role": "system", "content": told}, *turns]


def _not_a_prefix(tokenizer: Any, conversation: Conversation, turn: int) -> ModelError:
    return ModelError(
        f"the chat template of {tokenizer_name(tokenizer)} renders the turns before an answer differently once the "
        "answer or later turns follow, so what is learned can't be told from what is read",
        place=f"row {conversation.row_id}, turn {turn}",
        cure=_CURE,
    )
