"""Which rows resemble each other, in their whole text or in their questions alone.

Two conversations with one question and two answers are no duplicates, but a model that learnt one has seen the other's
question; so likeness has two views. System prompts are in neither: they are shared by rows that have nothing else
in common. Empty questions (raw text has none) resemble nothing.

Equal texts are one *text*; pairs are looked for between distinct texts only, so a text that stands a thousand times
costs no more than once.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import polars as pl

from tasks.kernels.compiled import compiled
from tasks.kernels.rows import joined

Numbers = npt.NDArray[np.int64]

VIEWS = ("whole", "prompt")
_NO_EDGES: Numbers = np.empty(0, dtype=np.int64)


@dataclass(frozen=True)
class Likeness:
    """One view of the rows.

    Attributes:
        text_of: row → number of its text, UInt32; null where the row has no such text.
        texts: how many distinct texts there are.
        pairs: `left`, `right` (text numbers, left < right) and `jaccard` of the texts that resemble each other.
    """

    text_of: pl.Series
    texts: int
    pairs: pl.DataFrame


def views() -> list[pl.Expr]:
    """The columns `whole` and `prompt` from `messages`; empty strings where there is nothing to compare."""
    return [
        joined("messages", ("user", "assistant", "tool", "text")).alias("whole"),
        joined("messages", ("user",)).alias("prompt"),
    ]


def likenesses(rows: pl.DataFrame, threshold: float) -> list[Likeness]:
    """Look for rows that resemble each other, in both views.

    Args:
        rows: `whole` and `prompt`.
        threshold: exact Jaccard, of runs of five tokens, from which two texts resemble each other. Of the pairs right
            at the threshold 99.9 % are found, of those above it more (`minhash.similar_pairs`).
    """
    return [_likeness(rows[view], threshold) for view in VIEWS]


def components(rows: int, links: Sequence[Likeness]) -> Numbers:
    """Groups of rows that hang together through texts they share or texts that resemble each other.

    Returns:
        (rows,) int64, a number for each group, from 0 in the order of their first rows.
    """
    left, right, nodes = [_NO_EDGES], [_NO_EDGES], rows  # rows first, then the texts of each view
    for link in links:
        has_text = link.text_of.is_not_null().arg_true().to_numpy()
        left += [has_text, link.pairs["left"].to_numpy() + np.int64(nodes)]
        right += [
            link.text_of.drop_nulls().to_numpy() + np.int64(nodes),
            link.pairs["right"].to_numpy() + np.int64(nodes),
        ]
        nodes += link.texts
    first = _first_connected(nodes, np.concatenate(left).astype(np.int64), np.concatenate(right).astype(np.int64))
    return np.unique(first[:rows], return_inverse=True)[1].astype(np.int64)


def among(link: Likeness, stays: pl.Series) -> Likeness:
    """A likeness over the rows that stay; texts that only the others had connect nothing any more."""
    text_of = link.text_of.filter(stays)
    used = np.zeros(link.texts, dtype=bool)
    used[text_of.drop_nulls().to_numpy()] = True
    both = used[link.pairs["left"].to_numpy()] & used[link.pairs["right"].to_numpy()]
    return Likeness(text_of, link.texts, link.pairs.filter(pl.Series(both, dtype=pl.Boolean)))


def nearest(link: Likeness, to: pl.Series) -> pl.DataFrame:
    """For each row, the row of a set that it resembles most.

    Args:
        link: over all rows.
        to: row → whether it is of the set, Boolean.

    Returns:
        `row`, `other` (row numbers, the other in the set) and `jaccard`, one line for each row outside the set that
        resembles a row in it, in row order; of equals the first.
    """
    texts = pl.DataFrame({"text": link.text_of, "in_set": to}).with_row_index("row").drop_nulls("text")
    others = texts.filter("in_set").group_by("text").agg(pl.col("row").min().alias("other"))
    same = others.select(pl.col("text").alias("left"), pl.col("text").alias("right"), pl.lit(1.0).alias("jaccard"))
    turned = link.pairs.select(pl.col("right").alias("left"), pl.col("left").alias("right"), "jaccard")
    return (
        pl.concat([link.pairs, turned, same])
        .join(others, left_on="right", right_on="text")
        .join(texts.filter(~pl.col("in_set")), left_on="left", right_on="text")
        .sort("row", "jaccard", "other", descending=[False, True, False])
        .unique("row", keep="first", maintain_order=True)
        .select("row", "other", "jaccard")
    )


def by_value(values: pl.Series) -> Likeness:
    """Rows that share a value (null: none), as a likeness without pairs."""
    return Likeness(*_numbered(values), pairs=_no_pairs())


def _likeness(texts: pl.Series, threshold: float) -> Likeness:
    from tasks.kernels.minhash import similar_pairs

    comparable = pl.select(pl.when(texts.str.strip_chars() != "").then(texts)).to_series()
    text_of, count = _numbered(comparable)
    distinct = comparable.drop_nulls().unique(maintain_order=True)
    pairs = similar_pairs(distinct, threshold) if count > 1 else _no_pairs()
    return Likeness(text_of, count, pairs)


def _numbered(values: pl.Series) -> tuple[pl.Series, int]:
    """Number the distinct values in order of appearance; nulls have no number."""
    frame = pl.DataFrame({"value": values})
    distinct = frame.drop_nulls().unique(maintain_order=True).with_row_index("number")
    numbered = frame.join(distinct, on="value", how="left", maintain_order="left")
    return numbered["number"].cast(pl.UInt32), distinct.height


def _no_pairs() -> pl.DataFrame:
    return pl.DataFrame(schema={"left": pl.UInt32, "right": pl.UInt32, "jaccard": pl.Float64})


@compiled
def _first_connected(nodes: int, left: Numbers, right: Numbers) -> Numbers:
    """For each node the smallest one that it hangs together with, by union-find with path halving."""
    parent = np.arange(nodes)
    for edge in range(left.size):
        one, other = left[edge], right[edge]
        while parent[one] != one:
            parent[one] = parent[parent[one]]
            one = parent[one]
        while parent[other] != other:
            parent[other] = parent[parent[other]]
            other = parent[other]
        parent[max(one, other)] = min(one, other)
    for node in range(nodes):
        parent[node] = parent[parent[node]]  # a parent is smaller than its child, so it is final already
    return parent
