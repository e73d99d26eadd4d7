"""Rows to tokens: conversations through the chat template, raw text as it is."""

import json
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal

import polars as pl

from tasks.kernels.chat import Conversation, Message, Rendered, render_conversations
from tasks.kernels.encoding import Encoded, encode_conversations, encode_texts
from tasks.kernels.progress import track

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

TrainOn = Literal["all", "last"]
TOKENS = ("input_ids", "loss_mask", "n_tokens", "n_trained")
_ROWS_AT_ONCE = 2048


def is_text() -> pl.Expr:
    """Whether every turn of a row is raw text."""
    return pl.col("messages").list.eval(pl.element().struct.field("role") == "text").list.all()


def encode_rows(rows: pl.DataFrame, tokenizer: Any, train_on: TrainOn) -> tuple[pl.DataFrame, pl.DataFrame, int]:
    """Tokenise rows in the order given.

    Args:
        rows: `row_id`, `messages`, `tools`.
        train_on: learn every assistant turn of a conversation, or its last.

    Returns:
        tokens: `row_id` and `TOKENS` of the rows that can be used, in order;
        refused: `row_id, reason, detail`;
        parted: rows tokenised in parts, because the tokenizer merges across the border of prompt and answer.

    Raises:
        ModelError: there is a conversation and no chat template, or one that can't be masked exactly.
    """
    chunks, refused, parted = [_no_tokens()], [_no_refusals()], 0
    slices = rows.iter_slices(_ROWS_AT_ONCE)
    total = -(-rows.height // _ROWS_AT_ONCE)
    for chunk in track(slices, "tokenize", total):
        for part, text in ((chunk.filter(is_text()), True), (chunk.filter(~is_text()), False)):
            if part.is_empty():
                continue
            encoded = _encode_text(part, tokenizer) if text else _encode_chat(part, tokenizer, train_on)
            parted += encoded.parted
            usable = pl.Series([n not in encoded.refused for n in range(part.height)], dtype=pl.Boolean)
            chunks.append(tokens_frame(part["row_id"], encoded).filter(usable))
            lines = [(part["row_id"][n], *why) for n, why in sorted(encoded.refused.items())]
            refused.append(pl.DataFrame(lines, schema=_no_refusals().schema, orient="row"))
    tokens = rows.select("row_id").join(pl.concat(chunks), on="row_id", how="inner", maintain_order="left")
    return tokens, pl.concat(refused), parted


def tokens_frame(row_ids: pl.Series, encoded: Encoded) -> pl.DataFrame:
    """Encoded rows as a frame: `row_id` and `TOKENS`."""
    import numpy as np

    n_trained = np.add.reduceat(np.append(encoded.mask, False).astype(np.int32), encoded.offsets[:-1])
    lengths = np.diff(encoded.offsets)
    return pl.DataFrame(
        {
            "row_id": row_ids,
            "input_ids": _lists(encoded.ids, encoded.offsets),
            "loss_mask": _lists(encoded.mask, encoded.offsets),
            "n_tokens": lengths.astype(np.int32),
            "n_trained": np.where(lengths == 0, 0, n_trained).astype(np.int32),
        }
    )


def conversation(row_id: str, messages: Sequence[Message], tools: str | None, train_on: TrainOn) -> Conversation:
    """A row as the template sees it, with the assistant turns that are learned; weight 0 takes a turn out.

    Raises:
        ValueError: `tools` is no JSON list of objects.
    """
    turns = [n for n, message in enumerate(messages) if message["role"] == "assistant"]
    wanted = turns[-1:] if train_on == "last" else turns
    learned = [n for n in wanted if messages[n].get("weight") != 0]
    return Conversation(row_id, messages, learned, _tools(tools))


def _encode_chat(rows: pl.DataFrame, tokenizer: Any, train_on: TrainOn) -> Encoded:
    good: list[Conversation] = []
    bad: dict[int, Rendered] = {}
    columns = (rows["row_id"].to_list(), rows["messages"].to_list(), rows["tools"].to_list())
    for n, (row_id, messages, tools) in enumerate(zip(*columns, strict=True)):
        try:
            good.append(conversation(row_id, messages, tools, train_on))
        except ValueError as error:
            bad[n] = Rendered(refused=("bad_tools", str(error)[:200]))
    rendered = iter(render_conversations(tokenizer, good))
    return encode_conversations(tokenizer, [bad[n] if n in bad else next(rendered) for n in range(rows.height)])


def _encode_text(rows: pl.DataFrame, tokenizer: Any) -> Encoded:
    contents = pl.col("messages").list.eval(pl.element().struct.field("content")).list.join("\n\n")
    return encode_texts(tokenizer, rows.select(contents)["messages"].to_list())


def _tools(text: str | None) -> list[Mapping[str, Any]] | None:
    if not text:
        return None
    found = json.loads(text)
    tools = found if isinstance(found, list) else [found]
    if not all(isinstance(tool, dict) for tool in tools):
        raise ValueError("tools is no JSON list of objects")
    return tools or None


def _lists(values: "NDArray[Any]", offsets: "NDArray[np.int64]") -> pl.Series:
    """A List column over flat values, without copying them."""
    import pyarrow as pa

    array = pa.LargeListArray.from_arrays(pa.array(offsets, pa.int64()), pa.array(values))
    return pl.Series(pl.from_arrow(array))


def _no_tokens() -> pl.DataFrame:
    return pl.DataFrame(
        schema={
            "row_id": pl.String,
            "input_ids": pl.List(pl.Int32),
            "loss_mask": pl.List(pl.Boolean),
            "n_tokens": pl.Int32,
            "n_trained": pl.Int32,
        }
    )


def _no_refusals() -> pl.DataFrame:
    return pl.DataFrame(schema={"row_id": pl.String, "reason": pl.String, "detail": pl.String})
