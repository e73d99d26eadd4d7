"""Draws that give each stratum its exact share of every split.

A group's own draw meets the shares on average. Here the groups of a stratum are put in the order of their draws and
spread evenly over [0, 1), from a start that is the stratum's own (systematic sampling, Cochran 1977, chapter 8): any
interval gets its share of the stratum's rows, to one group. The price is that a new row may move others of its stratum.
"""

import numpy as np
import polars as pl

from pipeline_config.sets_schema import Split
from tasks.kernels.draws import unit, value_bits
from tasks.split.groups import Groups


def stratified(draws: np.ndarray, rows: pl.Series, strata: pl.Series, seed: int, purpose: str) -> np.ndarray:
    """A place in [0, 1) for each group.

    Args:
        draws: (n_groups,) float64 in [0, 1), of each group.
        rows: how many rows a group has.
        strata: the stratum of a group, as text.
        seed: of the starts.
        purpose: what the places are for.

    Returns:
        (n_groups,) float64 in [0, 1).
    """
    if draws.size == 0:
        return draws
    names = strata.unique().sort()
    starts = dict(zip(names.to_list(), unit(value_bits(names, seed, f"stratum {purpose}")).tolist(), strict=True))
    placed = (
        pl.DataFrame({"draw": draws, "rows": rows, "stratum": strata})
        .with_row_index("group")
        .sort("stratum", "draw", "group")
        .with_columns(
            ((pl.col("rows").cum_sum() - pl.col("rows") / 2) / pl.col("rows").sum()).over("stratum").alias("middle"),
            pl.col("stratum").replace_strict(starts, return_dtype=pl.Float64).alias("start"),
        )
        .sort("group")
    )
    return ((placed["middle"] + placed["start"]) % 1.0).to_numpy().clip(0.0, np.nextafter(1.0, 0.0))


def stratified_groups(rows: pl.DataFrame, groups: Groups, config: Split, seed: int) -> Groups:
    """Groups whose draws give every stratum, that of their last member, its exact share."""
    of_group = (
        rows.select(
            pl.concat_str([pl.col(name).fill_null("") for name in config.stratify], separator="\x1f").alias("stratum"),
            pl.Series("group", groups.group_of, dtype=pl.Int64),
        )
        .group_by("group")
        .agg(pl.col("stratum").last(), pl.len().alias("rows"))
        .sort("group")
    )
    about = (of_group["rows"], of_group["stratum"], seed)
    return Groups(groups.group_of, stratified(groups.place, *about, "place"), stratified(groups.fold, *about, "fold"))
