"""Group sizes of the train rows: counted, capped, and drawn towards each other.

Temperature sampling as in multilingual training (Devlin et al. 2019, mBERT; Arivazhagan et al. 2019): a group of n rows
gets a share proportional to n^(1/T), the total staying what it was. T = 1 leaves the sizes alone, a large T makes them
equal. Small groups grow by repeats, at most `max_repeats` standings of a row in all (Muennighoff et al. 2023 find that
repeating data up to about four times costs little), so a very small group may stay below its share.

Which rows go and which are repeated follows a draw that belongs to the row, not its place in the file: a row added to
one group leaves nearly every other decision as it was. The default mode only counts: imbalance that is really
repetition should be deduplicated, not balanced.
"""

import numpy as np
import polars as pl

from pipeline_config.data_schema import Balance
from tasks.kernels.draws import draw_bits
from tasks.kernels.rows import added_row_id
from tasks.ledger import Decision

NO_GROUP = "(none)"  # rows whose group is null
LISTED = 200  # groups that the facts name one by one; the largest


def decide(rows: pl.DataFrame, config: Balance, seed: int) -> Decision:
    """Bring the train rows to the wanted proportions, or only say what they are.

    Args:
        rows: `row_id`, `split` and the column `config.by`, in source order; rows without a split count as train.
        config: mode, group column, cap, temperature and repeats.
        seed: of the draws.

    Returns:
        rules `over_cap` (value: rows of the group, threshold: its cap) and `down_sampled` (value: rows of the group
        after capping, threshold: its wanted rows), added rows of rule `repeat`; nothing at all in mode `report`.
    """
    train = (
        rows.with_row_index("place")
        .filter(pl.col("split").fill_null("train") == "train")
        .select("place", "row_id", pl.col(config.by).cast(pl.String).fill_null(NO_GROUP).alias("group"))
    )
    sizes = wanted_sizes(train.group_by("group").len("rows").sort("group"), config)
    ranked = (
        train.with_columns(pl.Series("bits", draw_bits(train["row_id"], seed, "balance"), dtype=pl.UInt64))
        .sort("group", "bits", "row_id")
        .with_columns(pl.int_range(pl.len(), dtype=pl.Int64).over("group").alias("rank"))
        .join(sizes, on="group", how="left", maintain_order="left")
        .sort("place")
    )
    before, wanted = sizes["rows"].to_numpy(), sizes["wanted"].to_numpy()
    facts = {
        "by": config.by,
        "mode": config.mode,
        "groups": sizes.height,
        "train_rows": int(before.sum()),
        "sizes": _named(sizes, "rows"),
        "wanted": _named(sizes, "wanted"),
        "unknown_caps": sorted(set(config.cap) - set(sizes["group"])) if isinstance(config.cap, dict) else [],
    }
    after = wanted if config.mode == "apply" else before
    metrics = {
        "groups": float(sizes.height),
        "entropy": evenness(after),
        "entropy_before": evenness(before),
        "largest_share": largest_share(after),
        "largest_share_before": largest_share(before),
    }
    if config.mode == "report":
        return Decision(metrics=metrics, facts=facts)
    return Decision(removed=_removed(ranked, config.by), added=_repeats(ranked), metrics=metrics, facts=facts)


def wanted_sizes(groups: pl.DataFrame, config: Balance) -> pl.DataFrame:
    """How many rows each group should have.

    Args:
        groups: `group` and `rows` (at least 1), one line a group.
        config: cap, temperature and repeats.

    Returns:
        the groups with `cap` (null: none), `capped` (rows left by the cap) and `wanted` (never above the cap, nor above
        `max_repeats` standings of each row left).
    """
    cap = config.cap
    if isinstance(cap, dict):
        limit = pl.col("group").replace_strict(cap, default=None, return_dtype=pl.Int64)
    else:
        limit = pl.lit(cap, dtype=pl.Int64)
    capped = groups.with_columns(pl.col("rows").cast(pl.Int64), limit.alias("cap")).with_columns(
        pl.min_horizontal("rows", "cap").alias("capped")
    )
    weight = pl.col("capped").cast(pl.Float64).pow(1.0 / config.temperature)
    share = (pl.col("capped").sum() * weight / weight.sum() + 0.5).floor().cast(pl.Int64)
    target = pl.col("capped") if config.temperature == 1.0 else share
    most = pl.min_horizontal(pl.col("capped") * config.max_repeats, "cap")
    return capped.with_columns(pl.min_horizontal(pl.max_horizontal(target, 1), most).alias("wanted"))


def evenness(sizes: np.ndarray) -> float:
    """Shannon entropy of the group sizes over its maximum: 1 when all are equal, 0 when one has everything."""
    if sizes.size < 2:
        return 1.0
    share = sizes[sizes > 0] / sizes.sum()
    return float(-(share * np.log(share)).sum() / np.log(sizes.size))


def largest_share(sizes: np.ndarray) -> float:
    """Share of the rows that the largest group has; 0 without rows."""
    return float(sizes.max() / sizes.sum()) if sizes.size else 0.0


def _removed(ranked: pl.DataFrame, by: str) -> pl.DataFrame:
    over = pl.col("rank") >= pl.col("capped")
    return ranked.filter(pl.col("rank") >= pl.min_horizontal("capped", "wanted")).select(
        "row_id",
        pl.when(over).then(pl.lit("over_cap")).otherwise(pl.lit("down_sampled")).alias("rule"),
        pl.when(over).then("rows").otherwise("capped").cast(pl.Float64).alias("value"),
        pl.when(over).then("cap").otherwise("wanted").cast(pl.Float64).alias("threshold"),
        pl.lit(None, dtype=pl.String).alias("kept_row_id"),
        pl.concat_str(pl.lit(f"{by} "), "group").alias("detail"),
    )


def _repeats(ranked: pl.DataFrame) -> pl.DataFrame:
    """Added rows: every row of a group that should grow stands whole times more, the first in rank once more."""
    once_more = (pl.col("rank") < pl.col("wanted") % pl.col("capped")).cast(pl.Int64)
    extra = pl.col("wanted") // pl.col("capped") - 1 + once_more
    growing = ranked.filter((pl.col("wanted") > pl.col("capped")) & (pl.col("rank") < pl.col("capped")))
    copies = (
        growing.select("row_id", pl.int_ranges(0, extra).alias("n"))
        .explode("n", empty_as_null=False)
        .select(pl.col("row_id").alias("parent_row_id"), "n")
    )
    ids = [added_row_id(parent, "balance", n) for parent, n in copies.iter_rows()]
    return copies.select(
        pl.Series("row_id", ids, dtype=pl.String), "parent_row_id", pl.lit("repeat", dtype=pl.String).alias("rule")
    )


def _named(sizes: pl.DataFrame, column: str) -> dict[str, int]:
    largest = sizes.sort(["rows", "group"], descending=[True, False]).head(LISTED)
    return dict(zip(largest["group"].to_list(), largest[column].to_list(), strict=True))
