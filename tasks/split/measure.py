"""What the gate and the report are told of a split: sizes, what still straddles, how far the tasks drift."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from tasks.kernels.likeness import Likeness
from tasks.split.place import TRAIN, is_test


def sizes(rows: pl.DataFrame) -> dict[str, Any]:
    """Rows of each split, of each split by source, and of each fold; `rows` has `split`, `source`, `fold`."""
    by_source: dict[str, dict[str, int]] = {}
    for split, source, count in rows.group_by("split", "source").len().sort("split", "source").iter_rows():
        by_source.setdefault(split, {})[source] = count
    folds = rows.drop_nulls("fold").group_by("fold").len().sort("fold")
    return {
        "rows_by_split": {split: sum(counts.values()) for split, counts in by_source.items()},
        "rows_by_split_and_source": by_source,
        "rows_by_fold": {str(fold): count for fold, count in folds.iter_rows()},
    }


def leakage(splits: pl.Series, links: Sequence[Likeness]) -> int:
    """How many texts, and pairs of texts that resemble each other, stand on two sides of train, validation and test.

    Args:
        splits: split of each row; null: leave it out.
        links: likenesses over exactly these rows.
    """
    sides = _sides(splits)
    found = 0
    for link in links:
        of_text = _sides_of_texts(link, sides)
        left, right = of_text[link.pairs["left"].to_numpy()], of_text[link.pairs["right"].to_numpy()]
        found += int(np.isin(of_text, _ONE_SIDE, invert=True).sum())
        found += int(((left != 0) & (right != 0) & np.isin(left | right, _ONE_SIDE, invert=True)).sum())
    return found


def _sides(splits: pl.Series) -> NDArray[np.uint8]:
    """The side of each row: 1 train, 2 validation, 4 any test set, 0 left out."""
    side = pl.select(
        pl.when(splits.is_null())
        .then(0)
        .when(is_test(pl.lit(splits)))
        .then(4)
        .when(splits == TRAIN)
        .then(1)
        .otherwise(2)
        .cast(pl.UInt8)
    ).to_series()
    return side.to_numpy()


def _sides_of_texts(link: Likeness, sides: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """All sides that each text stands on, added up."""
    has_text = link.text_of.is_not_null().to_numpy()
    of_text = np.zeros(link.texts, dtype=np.uint8)
    np.bitwise_or.at(of_text, link.text_of.drop_nulls().to_numpy(), sides[has_text])
    return of_text


def leaked_rows(row_ids: pl.Series, splits: pl.Series, links: Sequence[Likeness], most: int) -> list[str]:
    """Ids of the first rows that `leakage` counts, each with its like on another side."""
    side = _sides(splits)
    found: list[int] = []
    for link in links:
        texts = link.text_of.to_numpy()
        of_row = np.where(side == 0, -1, np.nan_to_num(texts.astype(np.float64), nan=-1)).astype(np.int64)
        of_text = _sides_of_texts(link, side)
        straddles = np.isin(of_text, _ONE_SIDE, invert=True)
        left, right = link.pairs["left"].to_numpy(), link.pairs["right"].to_numpy()
        both = of_text[left] | of_text[right]
        apart = (of_text[left] != 0) & (of_text[right] != 0) & np.isin(both, _ONE_SIDE, invert=True)
        straddles[left[apart]] = True
        straddles[right[apart]] = True
        found += np.flatnonzero((of_row >= 0) & straddles[of_row]).tolist() if straddles.any() else []
    return [str(row_ids[place]) for place in sorted(set(found))[:most]]


def task_drift(rows: pl.DataFrame) -> dict[str, float]:
    """How far the tasks of each split are from those of the train rows of the same sources.

    Total variation distance, 0 (the same shares) to 1 (nothing in common); small splits drift by chance alone.

    Args:
        rows: `split`, `source`, `task`.
    """
    train = rows.filter(pl.col("split") == TRAIN)
    drift = {}
    for (split,), part in rows.group_by("split", maintain_order=True):
        if split == TRAIN:
            continue
        alike = train.filter(pl.col("source").is_in(part["source"].unique().implode()))
        if alike.height:
            drift[str(split)] = round(_distance(_shares(part), _shares(alike)), 4)
    return dict(sorted(drift.items()))


_ONE_SIDE = np.array([0, 1, 2, 4], dtype=np.uint8)


def _shares(rows: pl.DataFrame) -> dict[str | None, float]:
    counted = rows.group_by("task").len()
    return {task: count / rows.height for task, count in counted.iter_rows()}


def _distance(one: dict[str | None, float], other: dict[str | None, float]) -> float:
    tasks = sorted({*one, *other}, key=lambda task: (task is None, task or ""))
    return sum(abs(one.get(task, 0.0) - other.get(task, 0.0)) for task in tasks) / 2
