"""The order of keeping: of two rows that resemble each other the earlier one stays.

First those that the user put into a validation or test split (what leaks must leave train, never the test set), then by
the configured priority, then as they came.
"""

from collections.abc import Sequence

import polars as pl

from pipeline_config.data_schema import Dedupe
from pipeline_config.errors import ConfigError

_LENGTH, _FIELD = "__length", "__field"


def is_own(rows: pl.LazyFrame, config: Dedupe) -> bool:
    """Whether the rows are kept in their own order."""
    if config.priority != "source_order":
        return False
    return not rows.select(_held_out().any()).collect().item()


def order_columns(config: Dedupe) -> list[str]:
    """The columns that the priority reads, beside source and split."""
    return ["meta"] if config.priority.startswith("meta.") else []


def order_keys(rows: pl.DataFrame, config: Dedupe) -> pl.DataFrame:
    """What the priority needs of each row, in few bytes.

    Args:
        rows: source, split, messages, and `order_columns`.
    """
    keys = [pl.col("source"), pl.col("split")]
    if config.priority == "longest":
        lengths = pl.col("messages").list.eval(pl.element().struct.field("content").str.len_chars())
        keys.append(lengths.list.sum().cast(pl.Int64).alias(_LENGTH))
    elif config.priority.startswith("meta."):
        keys.append(_number(config.priority).alias(_FIELD))
    return rows.select(keys)


def in_order(keys: pl.DataFrame, config: Dedupe, sources: Sequence[str]) -> pl.Series:
    """The places of all rows, the one to keep first in front.

    Args:
        keys: as `order_keys` gives them, of all rows.
        sources: names, the most trusted first (for `priority: source_priority`).

    Raises:
        ConfigError: the field of `meta` that is to decide is a number in no row.
    """
    by = [~_held_out()]
    if config.priority == "longest":
        by.append(-pl.col(_LENGTH))
    elif config.priority == "source_priority":
        rank = {name: place for place, name in enumerate(sources)}
        by.append(pl.col("source").replace_strict(rank, default=len(rank), return_dtype=pl.Int64))
    elif config.priority.startswith("meta."):
        if keys.height and keys[_FIELD].null_count() == keys.height:
            raise ConfigError(
                f"no row has a number in {config.priority}",
                place="dedupe.priority",
                cure="name a field of the records that no other column took, such as meta.score or meta.scores.quality",
            )
        by.append(-pl.col(_FIELD))
    placed = keys.with_row_index("place")
    return placed.sort([*by, "place"], nulls_last=True)["place"]


def _held_out() -> pl.Expr:
    return pl.col("split").fill_null("train") != "train"


def _number(priority: str) -> pl.Expr:
    """The number that a field of `meta` holds; null for none, for other values and for what is not finite."""
    path = "$" + "".join(f"['{name}']" for name in priority.split(".")[1:])
    value = pl.col("meta").str.json_path_match(path).cast(pl.Float64, strict=False)
    return pl.when(value.is_finite()).then(value)
