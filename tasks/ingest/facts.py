"""What the gate and the report hear of the rows that came in: how many of what, what is missing, how long."""

from typing import Any

import polars as pl

_MAY_BE_NULL = ("task", "label", "lang", "split", "rejected", "tools")
_MOST_NAMED = 200
_QUANTILES = (0.0, 0.5, 0.95, 0.99, 1.0)


def facts_of(rows: pl.DataFrame, quarantined: pl.DataFrame) -> dict[str, Any]:
    """Counts, shares and quantiles.

    Args:
        rows: the rows, in `reading.columns.READ_SCHEMA`.
        quarantined: the quarantine ledger.
    """
    total = rows.height + quarantined.height
    lengths = _lengths(rows)
    return {
        "rows_by_source": _counts(rows, "source"),
        "rows_by_task": _counts(rows, "task"),
        "rows_by_lang": _counts(rows, "lang"),
        "quarantined_by_source": _counts(quarantined, "source"),
        "null_share": {name: rows[name].null_count() / max(rows.height, 1) for name in _MAY_BE_NULL},
        "row_id_duplicates": rows.height - rows["row_id"].n_unique(),
        "quarantined_share": quarantined.height / max(total, 1),
        "conversations": int(lengths["is_conversation"].sum()),
        "conversations_of_several_turns": int((lengths["answers"] > 1).sum()),
        "preference_pairs": rows["rejected"].len() - rows["rejected"].null_count(),
        "turns": _quantiles(lengths["turns"]),
        "characters": _quantiles(lengths["characters"]),
        "longest_message_characters": _quantiles(lengths["longest"]),
    }


def metrics_of(rows: pl.DataFrame, quarantined: pl.DataFrame) -> dict[str, float]:
    """Numbers for the run record.

    Args:
        rows: the rows, in `reading.columns.READ_SCHEMA`.
        quarantined: the quarantine ledger.
    """
    own_ids = rows.filter(pl.col("own_id").is_not_null()).select("source", "own_id")
    unknown_splits = rows.filter(pl.col("own_split").is_not_null() & pl.col("split").is_null())
    return {
        "rows": rows.height,
        "quarantined": quarantined.height,
        "duplicate_ids": own_ids.height - own_ids.n_unique(),
        "unknown_splits": unknown_splits.height,
    }


def _counts(rows: pl.DataFrame, column: str) -> dict[str, int]:
    """Value → rows, the commonest by name (null as ""); what is beyond them together as `(others)`."""
    counted = rows.group_by(pl.col(column).fill_null("")).len().sort(["len", column], descending=[True, False])
    shown, others = counted.head(_MOST_NAMED).sort(column), counted.slice(_MOST_NAMED)["len"].sum()
    named = dict(zip(shown[column].to_list(), shown["len"].to_list(), strict=True))
    return named | ({"(others)": int(others)} if others else {})


def _lengths(rows: pl.DataFrame) -> pl.DataFrame:
    turns = pl.col("messages").list
    characters = turns.eval(pl.element().struct.field("content").str.len_chars())
    roles = turns.eval(pl.element().struct.field("role") == "assistant")
    return rows.select(
        turns=turns.len(),
        answers=roles.list.sum(),
        characters=characters.list.sum(),
        longest=characters.list.max(),
        is_conversation=roles.list.any(),
    )


def _quantiles(values: pl.Series) -> dict[str, float]:
    if values.is_empty():
        return {}
    values = values.sort()
    return {f"p{round(100 * q)}": float(values.quantile(q, "nearest") or 0.0) for q in _QUANTILES}
