"""The rows over the limit, one by one (they are few): shortened, cut into pieces, or out."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

import polars as pl

from pipeline_config.data_schema import Tokenize
from pipeline_config.errors import DataError
from tasks.kernels.rows import added_row_id, digest
from tasks.ledger import changed_frame, removed_frame
from tasks.tokenize.encode import TOKENS, conversation, tokens_frame
from tasks.tokenize.lengths import pieces, shorten

PIECE = "__piece"  # place of a row among those cut from one text


@dataclass
class Resolved:
    """What became of the rows over the limit.

    Attributes:
        frames: tokens of what is kept, with the columns of the long rows.
        removed, changed: ledgers.
        added: `row_id, parent_row_id, rule` of the second and later pieces of raw text.
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
    parts = [
        _split_text(line, texts[line["row_id"][0]])
        if line["is_text"][0]
        else _shortened(line, texts[line["row_id"][0]], tokenizer, config)
        for line in long.iter_slices(1)
    ]
    empty = Resolved()
    return Resolved(
        frames=[frame for part in parts for frame in part.frames],
        removed=pl.concat([empty.removed, *(part.removed for part in parts)]),
        changed=pl.concat([empty.changed, *(part.changed for part in parts)]),
        added=pl.concat([empty.added, *(part.added for part in parts)]),
    )


def _shortened(line: pl.DataFrame, row: Mapping[str, Any], tokenizer: Any, config: Tokenize) -> Resolved:
    whole = conversation(row["row_id"], row["messages"], row["tools"], config.train_on)
    found = shorten(tokenizer, whole, line["limit"][0])
    if found is None:
        why = "the system text, the last question and the learned answers alone are over the limit"
        return Resolved(removed=removed_frame([_removal(line.row(0, named=True), why)]))
    shorter, encoded, spans = found
    tokens = tokens_frame(line["row_id"], encoded)
    change = {
        "row_id": row["row_id"],
        "rule": "truncate_context",
        "before": _digest(row["messages"]),
        "after": _digest(shorter.messages),
        "spans": spans,
    }
    return Resolved(
        frames=[line.drop(TOKENS).join(tokens, on="row_id").select(line.columns)], changed=changed_frame([change])
    )


def _split_text(line: pl.DataFrame, row: Mapping[str, Any]) -> Resolved:
    """Pieces in order: the first keeps the row's id; the first token of each can't be learned, nothing is before it."""
    row_id, ids, mask = row["row_id"], line["input_ids"][0], line["loss_mask"][0]
    frames, added = [], []
    for n, (start, end) in enumerate(pairwise(pieces(line["n_tokens"][0], line["limit"][0]).tolist())):
        name = row_id if n == 0 else added_row_id(row_id, "tokenize", n - 1)
        if n > 0:
            added.append((name, row_id, "split_text"))
        learned = [False, *mask[start + 1 : end].to_list()]
        frames.append(
            line.with_columns(
                pl.lit(name).alias("row_id"),
                pl.Series("input_ids", [ids[start:end].to_list()], pl.List(pl.Int32)),
                pl.Series("loss_mask", [learned], pl.List(pl.Boolean)),
                pl.lit(end - start, pl.Int32).alias("n_tokens"),
                pl.lit(sum(learned), pl.Int32).alias("n_trained"),
                pl.lit(n, pl.Int32).alias(PIECE),
            )
        )
    text = _digest(row["messages"])
    return Resolved(
        frames=frames,
        changed=changed_frame([{"row_id": row_id, "rule": "split_text", "before": text, "after": text, "spans": []}]),
        added=pl.DataFrame(added, schema=Resolved().added.schema, orient="row"),
    )


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
        cure="raise tokenize.max_length, or set tokenize.on_too_long to truncate_context or drop",
    )


def _digest(messages: Any) -> str:
    return digest("\n".join(str(message["content"] or "") for message in messages))
