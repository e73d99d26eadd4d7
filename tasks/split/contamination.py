"""Rows that give a test row away: runs of tokens that both have.

Near-duplicates are kept together before anything is drawn (`groups.py`); what is left are rows that hold a test row,
or half of it, among other text. The measure is containment: which share of a test row's n-grams stands in the other
row. It is taken of question and answer apart, and both must be reached, so a shared instruction or a shared passage
alone gives nothing away as long as the answers differ. A part of at most n tokens is not judged; it says too little.

Boilerplate is left out of both sides: an n-gram that more than `_BOILERPLATE` groups of rows share is a template, not a
leak (Brown et al. 2020, appendix C, also pass over n-grams that are frequent in the training text). Groups are counted,
not rows, so a leaked item does not become boilerplate by standing in train many times. Where boilerplate meets what
is a row's own, a few n-grams are half of each; so a handful of shared n-grams counts only if it is the whole part.
"""

import numpy as np
import polars as pl

from tasks.kernels.text import shingle_hashes

_BOILERPLATE = 10  # groups of rows that may share an n-gram
_MIN_GRAMS = 4  # n-grams of a part, boilerplate apart, from which it is judged
_BLOCK = 20_000  # rows whose n-grams are in memory at once
_MANY, _WHOLE = 12, 0.9  # shared n-grams that are no chance; with fewer, the share from which a part counts as whole
_PARTS = ("prompt", "answer")


def leaks(tests: pl.DataFrame, rows: pl.DataFrame, ngram: int, max_overlap: float) -> pl.DataFrame:
    """Find rows that hold too much of a test row.

    Args:
        tests: `row_id`, `group`, `prompt` (questions alone) and `answer` of the test rows.
        rows: `row_id`, `group` and `whole` of the rows to be judged.
        ngram: tokens in a run.
        max_overlap: containment from which a part counts as given away; where fewer than 12 n-grams are shared, 0.9.

    Returns:
        `row_id`, `kept_row_id` (the test row it holds most of; of several the one with the smallest id) and `value`
        (the smaller containment of the judged parts, in [max_overlap, 1]), in the order of the rows.
    """
    grams = _test_grams(tests, ngram)
    found = _occurrences(rows["whole"], grams["gram"].unique(), ngram)
    grams, found = _without_boilerplate(grams, found, tests["group"], rows["group"])
    sizes = grams.group_by("test", "part").agg(pl.len().alias("size")).filter(pl.col("size") >= _MIN_GRAMS)
    judged = sizes.group_by("test").agg(pl.len().alias("parts"))
    return (
        found.join(grams, on="gram")
        .group_by("row", "test", "part")
        .agg(pl.len().alias("shared"))
        .join(sizes, on=["test", "part"])
        .with_columns((pl.col("shared") / pl.col("size")).alias("overlap"))
        .filter((pl.col("overlap") >= max_overlap) & ((pl.col("shared") >= _MANY) | (pl.col("overlap") >= _WHOLE)))
        .group_by("row", "test")
        .agg(pl.len().alias("reached"), pl.col("overlap").min().alias("value"))
        .join(judged, on="test")
        .filter(pl.col("reached") == pl.col("parts"))
        .with_columns(pl.lit(tests["row_id"]).gather("test").alias("kept_row_id"))
        .sort("row", "value", "kept_row_id", descending=[False, True, False])
        .unique("row", keep="first", maintain_order=True)
        .select(pl.lit(rows["row_id"]).gather("row").alias("row_id"), "kept_row_id", "value")
    )


def _test_grams(tests: pl.DataFrame, ngram: int) -> pl.DataFrame:
    """`gram`, `test` (row number) and `part`, each once; of parts longer than one n-gram."""
    frames = []
    for number, part in enumerate(_PARTS):
        values, offsets = shingle_hashes(tests[part], ngram)
        counts = np.diff(offsets)
        owner = np.repeat(np.arange(tests.height, dtype=np.uint32), counts)
        long = np.repeat(counts > 1, counts)
        frames.append(
            pl.DataFrame({"gram": values[long], "test": owner[long]}).with_columns(
                pl.lit(number, dtype=pl.UInt8).alias("part")
            )
        )
    return pl.concat(frames)


def _occurrences(texts: pl.Series, wanted: pl.Series, ngram: int) -> pl.DataFrame:
    """`gram` and `row` (number): where the wanted n-grams stand in the texts."""
    sought = np.sort(wanted.to_numpy())
    frames = [pl.DataFrame(schema={"gram": pl.UInt64, "row": pl.UInt32})]
    for start in range(0, len(texts) if sought.size else 0, _BLOCK):
        values, offsets = shingle_hashes(texts.slice(start, _BLOCK), ngram)
        owner = np.repeat(np.arange(start, start + offsets.size - 1, dtype=np.uint32), np.diff(offsets))
        hit = sought[np.minimum(np.searchsorted(sought, values), sought.size - 1)] == values
        frames.append(pl.DataFrame({"gram": values[hit], "row": owner[hit]}))
    return pl.concat(frames)


def _without_boilerplate(
    grams: pl.DataFrame, found: pl.DataFrame, test_groups: pl.Series, row_groups: pl.Series
) -> tuple[pl.DataFrame, pl.DataFrame]:
    groups = pl.concat(
        [
            grams.select("gram", pl.lit(test_groups).gather("test").alias("group")),
            found.select("gram", pl.lit(row_groups).gather("row").alias("group")),
        ]
    )
    shared = groups.group_by("gram").agg(pl.col("group").n_unique().alias("groups"))
    boilerplate = shared.filter(pl.col("groups") > _BOILERPLATE)
    return grams.join(boilerplate, on="gram", how="anti"), found.join(boilerplate, on="gram", how="anti")
