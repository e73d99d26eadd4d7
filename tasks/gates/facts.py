"""What every data stage tells its gate of the rows it leaves: how many of what, what is missing, how long.

Aggregates over narrow columns, written into the manifest beside the counts, so that a gate (and the next run's, which
asks for drift) is judged without reading a row. They stand in no digest. Lengths are counted in bins that double,
so that two artifacts can be compared whatever their lengths are.
"""

from typing import Any

import numpy as np
import polars as pl

MIX_COLUMNS = ("source", "task", "label", "lang", "split")
NULL_COLUMNS = ("task", "label", "lang", "split", "weight", "rejected", "tools")
QUANTILES = {
    "min": 0.0, "p1": 0.01, "p5": 0.05, "p25": 0.25, "p50": 0.5, "p75": 0.75, "p90": 0.9, "p95": 0.95, "p99": 0.99,
    "max": 1.0,
}  # fmt: skip
OTHERS = "(others)"
_MOST_NAMED = 200  # values of a column that are counted one by one, the commonest


def narrow_columns(rows: pl.LazyFrame) -> pl.DataFrame:
    """What the facts need of whole rows: the columns that are counted, which of the wide ones are null, characters."""
    known = rows.collect_schema().names()
    wide = ("rejected", "tools")
    columns = [pl.col(name) for name in known if name in (*MIX_COLUMNS, "weight")]
    columns += [pl.when(pl.col(name).is_not_null()).then(True).alias(name) for name in known if name in wide]
    if "messages" in known:
        columns.append(characters().alias("characters"))
    return rows.select(columns).collect()


def characters() -> pl.Expr:
    """Characters of a row: all its messages, roles and markup apart."""
    contents = pl.element().struct.field("content").str.len_chars()
    return pl.col("messages").list.eval(contents).list.sum().cast(pl.UInt32)


def population(columns: pl.DataFrame) -> dict[str, Any]:
    """Count the rows that a stage leaves.

    Args:
        columns: of the rows, any of `source, task, label, lang, split, weight, rejected, tools` (of the last two only
            null or not), `characters` and `n_tokens`.

    Returns:
        `rows`; `mix`: column → value → rows, nulls left out; `nulls`: column → rows without a value; `characters` and
        `tokens`: `quantiles` (nearest rank) and `bins` (k → rows with 2^(k-1) to 2^k - 1; 0 → empty rows).
    """
    found: dict[str, Any] = {
        "rows": columns.height,
        "mix": {name: _counts(columns[name]) for name in MIX_COLUMNS if name in columns.columns},
        "nulls": {name: columns[name].null_count() for name in NULL_COLUMNS if name in columns.columns},
    }
    for name, column in (("characters", "characters"), ("tokens", "n_tokens")):
        if column in columns.columns:
            found[name] = _lengths(columns[column].fill_null(0))
    return found


def _counts(values: pl.Series) -> dict[str, int]:
    """Value → rows, the commonest by name, what is beyond them together."""
    counted = values.drop_nulls().value_counts(name="rows").sort(["rows", values.name], descending=[True, False])
    shown, others = counted.head(_MOST_NAMED), int(counted.slice(_MOST_NAMED)["rows"].sum())
    named = {str(name): int(n) for name, n in zip(shown[values.name].to_list(), shown["rows"].to_list(), strict=True)}
    return named | ({OTHERS: others} if others else {})


def _lengths(values: pl.Series) -> dict[str, Any]:
    if values.is_empty():
        return {"quantiles": {}, "bins": {}}
    ordered = values.sort()
    bins = length_bins(values).value_counts(name="rows").sort("bin")
    return {
        "quantiles": {name: int(ordered.quantile(share, "nearest") or 0) for name, share in QUANTILES.items()},
        "bins": {str(k): int(n) for k, n in zip(bins["bin"].to_list(), bins["rows"].to_list(), strict=True)},
    }


def length_bins(lengths: pl.Series) -> pl.Series:
    """Binary digits of each length (below 2^53): 0, 1, 2-3, 4-7, 8-15, … have bins 0, 1, 2, 3, 4, …"""
    return pl.Series("bin", np.frexp(lengths.to_numpy().astype(np.float64))[1], dtype=pl.Int32)
