"""Rows that are too long: how long is too long, and what is cut.

The question and the system text are what an answer depends on, so they are never cut: what goes is the middle of the
longest turn of the context (earlier questions, tool output, earlier answers that are not learned). Raw text is cut
into pieces (and conversations, where that is asked for: `split_turns.py`). A row that can't be brought under the limit
so is removed, never shortened silently.
"""

import json
import math
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import polars as pl

from tasks.kernels.chat import Conversation, Message, render_conversations
from tasks.kernels.encoding import Encoded, encode_conversations

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

AUTO_QUANTILE = 0.995
CUT_MARK = " … "
_SLACK = 8  # tokens: the mark, and merges at the cut
_CONTEXT_KEYS = ("max_position_embeddings", "n_positions", "max_seq_len", "seq_length")


def model_context(folder: Path, tokenizer: Any) -> int | None:
    """The most tokens a model takes, by its configuration and its tokenizer; None if neither says."""
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    inner = config.get("text_config") or {}
    limits = [value for part in (config, inner) for key in _CONTEXT_KEYS if isinstance(value := part.get(key), int)]
    if tokenizer.model_max_length and tokenizer.model_max_length < 1 << 30:
        limits.append(int(tokenizer.model_max_length))
    return min(limits) if limits else None


def auto_length(lengths: pl.Series, context: int | None) -> int:
    """The smallest length that 99.5 % of the rows keep to, at most the model's context."""
    if lengths.is_empty():
        return context or 1
    value = lengths.quantile(AUTO_QUANTILE, interpolation="higher")
    longest = math.ceil(value) if value is not None else 1
    return min(longest, context) if context else longest


def shorten(
    tokenizer: Any, conversation: Conversation, limit: int
) -> tuple[Conversation, Encoded, list[list[int]]] | None:
    """Cut inside the longest context turn, then the next, until a conversation has at most `limit` tokens.

    Returns:
        the shorter conversation, its tokens (one row), and what was cut: [message index, start, end] in characters
        of the text before. None if the context has nothing left to cut.
    """
    open_turns = _context_turns(conversation)
    cuts: list[list[int]] = []
    shorter = conversation
    while True:
        encoded = encode_conversations(tokenizer, render_conversations(tokenizer, [shorter]))
        if encoded.refused:
            return None
        excess = len(encoded.ids) - limit
        if excess <= 0:
            return shorter, encoded, sorted(cuts)
        sizes = {turn: _count(tokenizer, str(shorter.messages[turn]["content"] or "")) for turn in open_turns}
        sizes = {turn: size for turn, size in sizes.items() if size > _SLACK}
        if not sizes:
            return None
        longest = max(sizes, key=lambda turn: (sizes[turn], -turn))
        open_turns.remove(longest)
        content, start, end = _without_middle(tokenizer, shorter.messages[longest]["content"], excess + _SLACK)
        cuts.append([longest, start, end])
        shorter = replace(shorter, messages=_with_content(shorter.messages, longest, content))


def pieces(n_tokens: int, limit: int) -> "NDArray[np.int64]":
    """Borders of the fewest parts of nearly equal size that are at most `limit` tokens each: (parts + 1,)."""
    import numpy as np

    parts = -(-n_tokens // limit)
    return np.round(np.linspace(0, n_tokens, parts + 1)).astype(np.int64)


def _context_turns(conversation: Conversation) -> list[int]:
    """Turns that may be cut: not the system text, not the last question, no answer that is learned or comes last."""
    roles = [str(message["role"]) for message in conversation.messages]
    questions = [n for n, role in enumerate(roles) if role == "user"]
    kept = {*questions[-1:], *conversation.learned, len(roles) - 1}
    return [n for n, role in enumerate(roles) if role != "system" and n not in kept]


def _without_middle(tokenizer: Any, content: str, excess: int) -> tuple[str, int, int]:
    """A text with about `excess` tokens out of its middle (all of it if there are not so many), and where."""
    offsets = tokenizer(content, add_special_tokens=False, return_offsets_mapping=True)["offset_mapping"]
    left = max(0, len(offsets) - excess)
    head, tail = (left + 1) // 2, left // 2
    start = offsets[head][0]
    end = offsets[len(offsets) - tail - 1][1]
    return content[:start].rstrip() + CUT_MARK + content[end:].lstrip(), start, end


def _with_content(messages: Sequence[Message], turn: int, content: str) -> list[Message]:
    return [{**message, "content": content} if n == turn else message for n, message in enumerate(messages)]


def _count(tokenizer: Any, text: str) -> int:
    return len(tokenizer(text, add_special_tokens=False)["input_ids"])
