"""Rows that resemble what the user placed in a test or validation set.

Such a set is the user's: it does not grow by rows that look like its own, and those rows may not be learnt either, so
they go. Between validation and train the user has the last word: near-duplicates placed on both sides stay.
"""

import polars as pl

from tasks.kernels.likeness import VIEWS, Likeness, nearest
from tasks.ledger import removed_frame
from tasks.split.place import VALIDATION, is_test

CONTAMINATED = "contaminated"


def near_placed(rows: pl.DataFrame, links: list[Likeness], threshold: float) -> pl.DataFrame:
    """Find rows that would make a placed set leak.

    Args:
        rows: `row_id` and `split` (null: not placed), in source order.
        links: likenesses over these rows, one for each of `likeness.VIEWS`.
        threshold: their Jaccard.

    Returns:
        a removal ledger: rows outside the test sets that resemble a placed test row, and rows not placed at all that
        resemble a placed validation row; the value is the Jaccard.
    """
    given = rows["split"]
    in_test = pl.select(is_test(pl.lit(given)).fill_null(value=False)).to_series()
    in_validation = (given == VALIDATION).fill_null(value=False)
    near_test = _nearest_in(links, in_test)
    near_validation = _nearest_in(links, in_validation)
    unplaced = near_validation.filter(pl.lit(given.is_null()).gather("row"))
    best = (
        pl.concat([near_test, unplaced])
        .sort("row", "jaccard", descending=[False, True], maintain_order=True)
        .unique("row", keep="first", maintain_order=True)
    )
    if best.is_empty():
        return removed_frame()
    ids = pl.lit(rows["row_id"])
    return best.select(
        ids.gather("row").alias("row_id"),
        pl.lit(CONTAMINATED).alias("rule"),
        pl.col("jaccard").alias("value"),
        pl.lit(threshold).alias("threshold"),
        ids.gather("other").alias("kept_row_id"),
        pl.format("{} resembles a row of {}", "view", pl.lit(given).gather("other")).alias("detail"),
    )


def _nearest_in(links: list[Likeness], to: pl.Series) -> pl.DataFrame:
    """`row`, `other`, `jaccard` and `view` over all views."""
    found = [
        nearest(link, to).with_columns(pl.lit(view).alias("view")) for view, link in zip(VIEWS, links, strict=True)
    ]
    return pl.concat(found)
