"""Exact duplicates: rows that say the same, in the same roles, with the same label.

Two messages say the same if they are equal after Unicode NFC, case folding and collapsing white space, nothing more:
digits and punctuation stay. The other half of a preference pair, the tools and the label belong to what a row says: one
chosen answer beside two rejected ones makes two rows, and a text with two labels is kept with both.
"""

import numpy as np
import polars as pl

from tasks.kernels.candidates import Int64s
from tasks.kernels.text import Texts, digests

_POSITION = "__position"


def equal_to(columns: pl.DataFrame) -> Int64s:
    """For each row the position of the first row that is equal to it in all columns (null equals null)."""
    first = pl.col(_POSITION).first().over(columns.columns)
    return columns.with_row_index(_POSITION).select(first.cast(pl.Int64)).to_series().to_numpy()


def sayings(rows: pl.DataFrame, said: Texts, rejected: Texts) -> pl.DataFrame:
    """What makes two rows copies: `label`, `tools`, and digests of the messages and of the other half of a pair.

    Args:
        rows: `label`, `tools`, `rejected`, in the order of keeping.
        said: their messages.
        rejected: the messages of their other halves.
    """
    here, there = digests(said), digests(rejected)
    return rows.select(
        "label",
        "tools",
        pl.col("rejected").is_not_null().alias("preference"),
        *(pl.Series(f"said_{k}", here[:, k]) for k in range(2)),
        *(pl.Series(f"rejected_{k}", there[:, k]) for k in range(2)),
    )


def other_labels(says: pl.DataFrame) -> Int64s:
    """For each labelled row the position of the first that says the same with another label; -1 if there is none."""
    labelled = says["label"].is_not_null()
    first = equal_to(says.drop("label").with_columns(labelled.alias("labelled")))
    return np.where(labelled & (says["label"].gather(first) != says["label"]), first, -1)
