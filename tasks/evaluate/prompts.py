"""Prompts of the test rows as token ids, the same for every model, cut where they are too long.

A prompt that is too long loses the middle of its longest user turn, since instructions tend to stand at its ends; if
that does not do, the next longest turn is cut, and at last the rendered ids themselves. Every cut is counted.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from tasks.evaluate.examples import Example, Message
from tasks.kernels.chat import render_prompt
from tasks.kernels.quiet import quiet

_GAP = "\n…\n"
_TRIES = 6  # a character is no token: each try cuts a little more


@dataclass(frozen=True)
class Prompt:
    """What a model reads before it answers: token ids, and whether something was cut out."""

    ids: list[int]
    cut: bool = False


def make_prompts(tokenizer: Any, examples: Sequence[Example], limit: int) -> list[Prompt | None]:
    """Render the prompt of each example that is to be answered; None for the others.

    Args:
        limit: tokens of a prompt at most.

    Raises:
        ModelError: no chat template, or it refuses a conversation.
    """
    return [
        None if each.reference is None else fitted_prompt(tokenizer, each.messages, each.tools, limit)
        for each in examples
    ]


def fitted_prompt(tokenizer: Any, messages: list[Message], tools: list[Any] | None, limit: int) -> Prompt:
    """One prompt of at most `limit` tokens."""
    ids = _ids(tokenizer, render_prompt(tokenizer, messages, tools))
    if len(ids) <= limit:
        return Prompt(ids)
    turns = [dict(message) for message in messages]
    for place in _longest_first(turns):
        whole = str(turns[place]["content"])
        size = max(1, len(_ids(tokenizer, whole)))
        keep = size
        for attempt in range(_TRIES):
            keep = max(0, keep - (len(ids) - limit) - 4 * (attempt + 1))
            turns[place]["content"] = without_middle(whole, int(len(whole) * keep / size))
            ids = _ids(tokenizer, render_prompt(tokenizer, turns, tools))
            if len(ids) <= limit:
                return Prompt(ids, cut=True)
            if keep == 0:
                break
    head = limit // 2
    return Prompt(ids[:head] + ids[len(ids) - (limit - head) :], cut=True)


def without_middle(text: str, keep: int) -> str:
    """The text with its middle left out; `keep` characters stay, half at each end."""
    if keep >= len(text):
        return text
    head = (keep + 1) // 2
    return text[:head].rstrip() + _GAP + text[len(text) - (keep - head) :].lstrip()


def end_ids(tokenizer: Any, model_ends: int | list[int] | None) -> list[int]:
    """Tokens that end an answer: eos of tokenizer and model, and the template's end of turn; sorted."""
    ends = {tokenizer.eos_token_id, *(model_ends if isinstance(model_ends, list) else [model_ends])}
    ask = [{"role": "user", "content": "a"}]
    before = render_prompt(tokenizer, ask)
    with quiet():
        turn = tokenizer.apply_chat_template([*ask, {"role": "assistant", "content": "b"}], tokenize=False)
    special = {number for number, token in tokenizer.added_tokens_decoder.items() if token.special}
    if turn.startswith(before):
        ends.update([token for token in _ids(tokenizer, turn[len(before) :]) if token in special][:1])
    return sorted(int(each) for each in ends if each is not None)


def _longest_first(turns: list[Message]) -> list[int]:
    """Positions of the turns in the order in which they are cut: user and tool turns before all others."""
    return sorted(
        range(len(turns)), key=lambda n: (turns[n]["role"] not in ("user", "tool"), -len(str(turns[n]["content"])), n)
    )


def _ids(tokenizer: Any, text: str) -> list[int]:
    with quiet():
        found: list[int] = tokenizer(text, add_special_tokens=False)["input_ids"]
    return found
