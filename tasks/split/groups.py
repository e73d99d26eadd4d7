"""Rows that must not be torn apart, and the draw each group of them has.

A group is what hangs together through near-duplicates, equal questions, or equal values of a meta field. It has one
draw, that of its last member in source order. Members are hashed by row id (or by their value of `group_by`), never by
position, so rows put in front of others move none of them, resembling ones neither; only a row that joins two groups
into one can move one of the two.
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

    def among(self, stays: np.ndarray) -> "Groups":
        """The groups of the rows that stay; a group may be left without any."""
        return Groups(self.group_of[stays], self.place, self.fold)


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
    last = np.zeros(group_of.max(initial=-1) + 1, dtype=np.int64)
    np.maximum.at(last, group_of, np.arange(group_of.size))
    return Groups(group_of, unit(mixed(bits[last], seed, "place")), unit(mixed(bits[last], seed, "fold")))
