"""The rows over the limit, one by one (they are few): shortened, cut into pieces, or out."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

import polars as pl

from pipeline_config.errors import DataError
from pipeline_config.sets_schema import Tokenize
from tasks.kernels.chat import Conversation
from tasks.kernels.rows import added_row_id, digest
from tasks.ledger import changed_frame, removed_frame
from tasks.tokenize.encode import TOKENS, conversation, tokens_frame
from tasks.tokenize.lengths import pieces, shorten
from tasks.tokenize.split_turns import split_turns

PIECE = "__piece"  # place of a row among those cut from one text


@dataclass
class Resolved:
    """What became of the rows over the limit.

    Attributes:
        frames: tokens of what is kept, with the columns of the long rows.
        removed, changed: ledgers.
        added: `row_id, parent_row_id, rule` of the second and later pieces of a row.
    """

    frames: list[pl.DataFrame] = field(default_factory=list)
    removed: pl.DataFrame = field(default_factory=removed_frame)
    changed: pl.DataFrame = field(default_factory=changed_frame)
    added: pl.DataFrame = field(
        default_factory=lambda: pl.DataFrame(
            schema={"row_id": pl.String, "parent_row_id": pl.String, "rule": pl.String}
        )
    )

    def count(self, rule: str) -> int:
        """Rows that a rule changed."""
        return int((self.changed["rule"] == rule).sum())


def resolve(long: pl.DataFrame, rows: pl.DataFrame, tokenizer: Any, config: Tokenize) -> Resolved:
    """Bring rows under the limit, or remove them.

    Args:
        long: tokens of the rows over the limit, with `limit`, `is_text` and the column `PIECE`.
        rows: `row_id, messages, tools` of (at least) those.

    Raises:
        DataError: there are any, and `on_too_long` is `stop`.
    """
    if long.is_empty():
        return Resolved()
    if config.on_too_long == "stop":
        raise _stop(long)
    if config.on_too_long == "drop":
        return Resolved(removed=removed_frame([_removal(line, "") for line in long.iter_rows(named=True)]))
    sources = rows.join(long.select("row_id"), on="row_id", how="semi", maintain_order="left")
    texts = {row["row_id"]: row for row in sources.select("row_id", "messages", "tools").iter_rows(named=True)}
    parts = [_resolved(line, texts[line["row_id"][0]], tokenizer, config) for line in long.iter_slices(1)]
    empty = Resolved()
    return Resolved(
        frames=[frame for part in parts for frame in part.frames],
        removed=pl.concat([empty.removed, *(part.removed for part in parts)]),
        changed=pl.concat([empty.changed, *(part.changed for part in parts)]),
        added=pl.concat([empty.added, *(part.added for part in parts)]),
    )


def _resolved(line: pl.DataFrame, row: Mapping[str, Any], tokenizer: Any, config: Tokenize) -> Resolved:
    """One row over its limit."""
    if line["is_text"][0]:
        return _split_text(line, row)
    whole = conversation(row["row_id"], row["messages"], row["tools"], config.train_on)
    limit = line["limit"][0]
    if config.on_too_long == "split" and (found := split_turns(tokenizer, whole, limit)) is not None:
        rule = "split_turns"
        return _in_pieces(line, row, [tokens_frame(line["row_id"], each) for each in found], rule)
    return _shortened(line, row, whole, tokenizer)


def _shortened(line: pl.DataFrame, row: Mapping[str, Any], whole: Conversation, tokenizer: Any) -> Resolved:
    found = shorten(tokenizer, whole, line["limit"][0])
    if found is None:
        why = "the system text, the last question and the learned answers alone are over the limit"
        return Resolved(removed=removed_frame([_removal(line.row(0, named=True), why)]))
    shorter, encoded, spans = found
    change = {
        "row_id": row["row_id"],
        "rule": "truncate_context",
        "before": _digest(row["messages"]),
        "after": _digest(shorter.messages),
        "spans": spans,
    }
    tokens = tokens_frame(line["row_id"], encoded)
    return Resolved(frames=[_with_tokens(line, tokens)], changed=changed_frame([change]))


def _split_text(line: pl.DataFrame, row: Mapping[str, Any]) -> Resolved:
    """Pieces in order; the first token of each can't be learned, nothing is before it."""
    ids, mask = line["input_ids"][0], line["loss_mask"][0]
    parts = []
    rule = "split_text"
    for start, end in pairwise(pieces(line["n_tokens"][0], line["limit"][0]).tolist()):
        learned = [False, *mask[start + 1 : end].to_list()]
        parts.append(
            line.select(
                "row_id",
                pl.Series("input_ids", [ids[start:end].to_list()], pl.List(pl.Int32)),
                pl.Series("loss_mask", [learned], pl.List(pl.Boolean)),
                pl.lit(end - start, pl.Int32).alias("n_tokens"),
                pl.lit(sum(learned), pl.Int32).alias("n_trained"),
            )
        )
    return _in_pieces(line, row, parts, rule)


def _in_pieces(line: pl.DataFrame, row: Mapping[str, Any], parts: list[pl.DataFrame], rule: str) -> Resolved:
    """A row cut into several: the first piece keeps its id, the others are added behind it."""
    row_id = row["row_id"]
    names = [row_id, *(added_row_id(row_id, "tokenize", n) for n in range(len(parts) - 1))]
    text = _digest(row["messages"])
    return Resolved(
        frames=[
            _with_tokens(line, part).with_columns(pl.lit(name).alias("row_id"), pl.lit(n, pl.Int32).alias(PIECE))
            for n, (name, part) in enumerate(zip(names, parts, strict=True))
        ],
        changed=changed_frame([{"row_id": row_id, "rule": rule, "before": text, "after": text, "spans": []}]),
        added=pl.DataFrame([(name, row_id, rule) for name in names[1:]], schema=Resolved().added.schema, orient="row"),
    )


def _with_tokens(line: pl.DataFrame, tokens: pl.DataFrame) -> pl.DataFrame:
    return line.drop(TOKENS).join(tokens, on="row_id").select(line.columns)


def _removal(line: Mapping[str, Any], detail: str) -> dict[str, Any]:
    return {
        "row_id": line["row_id"],
        "rule": "too_long",
        "value": line["n_tokens"],
        "threshold": line["limit"],
        "detail": detail or None,
    }


def _stop(long: pl.DataFrame) -> DataError:
    worst = long.sort("n_tokens", descending=True, maintain_order=True)
    return DataError(
        f"{long.height} rows are longer than {worst['limit'][0]} tokens (row {worst['row_id'][0]} has "
        f"{worst['n_tokens'][0]})",
        place="tokenize.on_too_long",
        cure="raise tokenize.max_length, or set tokenize.on_too_long to truncate_context, split or drop",
    )


def _digest(messages: Any) -> str:
    return digest("\n".join(str(message["content"] or "") for message in messages))
