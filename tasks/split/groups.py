"""Rows that must not be torn apart, and the draw each group of them has.

A group is what hangs together through near-duplicates, equal questions, or equal values of a meta field. It has one
draw, that of the member with the smallest hash, mixed once more: the smallest of many draws is small, so without the
second mixing large groups would all fall to the same split. Members are hashed by row id (or by their value of
`group_by`), never by position, so the draw of a group is the same in any order of rows, and a row that joins no group
of others moves none of them.
"""

from dataclasses import dataclass

import numpy as np
import polars as pl

from tasks.kernels.draws import draw_bits, mixed, unit, value_bits
from tasks.kernels.likeness import Likeness, by_value, components


@dataclass(frozen=True)
class Groups:
    """The groups of some rows.

    Attributes:
        group_of: (n_rows,) int64, numbers from 0.
        place: (n_groups,) float64 in [0, 1): decides the split.
        fold: (n_groups,) float64 in [0, 1): decides the fold.
    """

    group_of: np.ndarray
    place: np.ndarray
    fold: np.ndarray


def grouped(row_ids: pl.Series, links: list[Likeness], keys: pl.Series | None, seed: int) -> Groups:
    """Join rows into groups.

    Args:
        row_ids: of the rows, in source order.
        links: likenesses over exactly these rows.
        keys: the rows' values of `group_by`, or None; null: the row has none.
        seed: of the draws.
    """
    bits = draw_bits(row_ids, seed, "split")
    if keys is not None:
        links = [*links, by_value(keys)]
        has_key = keys.is_not_null().to_numpy()
        bits[has_key] = value_bits(keys.drop_nulls(), seed, "split")
    group_of = components(row_ids.len(), links)
    smallest = np.full(group_of.max(initial=-1) + 1, np.iinfo(np.uint64).max, dtype=np.uint64)
    np.minimum.at(smallest, group_of, bits)
    return Groups(group_of, unit(mixed(smallest, seed, "place")), unit(mixed(smallest, seed, "fold")))
