"""Group sizes of the train rows: counted, capped, and drawn towards each other.

Temperature sampling as in multilingual training (Devlin et al. 2019, mBERT; Arivazhagan et al. 2019): a group of n rows
gets a share proportional to n^(1/T), the total staying what it was. T = 1 leaves the sizes alone, a large T makes them
equal. Small groups grow by repeats, at most `max_repeats` standings of a row in all (Muennighoff et al. 2023 find that
repeating data up to about four times costs little), so a very small group may stay below its share.

Explicit shares set the proportions instead, for the groups that they name. Where no row may go or be repeated,
`weights` lets each row of a group count in the loss as often as it would have stood on average.

Which rows go and which are repeated follows a draw that belongs to the row, not its place in the file: a row added to
one group leaves nearly every other decision as it was. The default mode only counts: imbalance that is really
repetition should be deduplicated, not balanced.
"""

import numpy as np
import polars as pl
from numpy.typing import NDArray

from pipeline_config.sets_schema import Balance
from tasks.kernels.draws import draw_bits
from tasks.kernels.rows import added_row_id
from tasks.ledger import Decision

NO_GROUP = "(none)"  # rows whose group is null
LISTED = 200  # groups that the facts name one by one; the largest


def decide(rows: pl.DataFrame, config: Balance, seed: int) -> Decision:
    """Bring the train rows to the wanted proportions, or only say what they are.

    Args:
        rows: `row_id`, `split`, `weight` (null: 1) and `config.columns`, in source order; rows without a split count as
            train.
        config: mode, group columns, shares, cap, floor, temperature and repeats.
        seed: of the draws.

    Returns:
        rules `over_cap` (value: rows of the group, threshold: its cap) and `down_sampled` (value: rows of the group
        after capping, threshold: its wanted rows), added rows of rule `repeat`; in mode `weights` the `weight` of the
        rows that count more or less than before; nothing at all in mode `report`.
    """
    train = (
        rows.with_row_index("place")
        .filter(pl.col("split").fill_null("train") == "train")
        .select("place", "row_id", "weight", _group(config.columns))
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
        "by": "/".join(config.columns),
        "mode": config.mode,
        "groups": sizes.height,
        "train_rows": int(before.sum()),
        "sizes": _named(sizes, "rows"),
        "wanted": _named(sizes, "wanted"),
        "unknown_groups": _unknown(config, sizes["group"]),
    }
    after = before if config.mode == "report" else wanted
    metrics = {
        "groups": float(sizes.height),
        "entropy": evenness(after),
        "entropy_before": evenness(before),
        "largest_share": largest_share(after),
        "largest_share_before": largest_share(before),
    }
    if config.mode == "report":
        return Decision(metrics=metrics, facts=facts)
    if config.mode == "weights":
        return Decision(assigned=_weights(ranked), metrics=metrics, facts=facts)
    removed = _removed(ranked, "/".join(config.columns))
    return Decision(removed=removed, added=_repeats(ranked), metrics=metrics, facts=facts)


def wanted_sizes(groups: pl.DataFrame, config: Balance) -> pl.DataFrame:
    """How many rows each group should have.

    Args:
        groups: `group` and `rows` (at least 1), one line a group.
        config: shares, temperature, cap, floor and repeats.

    Returns:
        the groups with `cap` (null: none), `capped` (rows left by the cap) and `wanted` (never above the cap, nor above
        `max_repeats` standings of each row left, so that a share or floor may not be reached).
    """
    capped = groups.with_columns(
        pl.col("rows").cast(pl.Int64), _limit(config.cap).alias("cap"), _limit(config.floor).alias("floor")
    ).with_columns(pl.min_horizontal("rows", "cap").alias("capped"))
    most = pl.min_horizontal(pl.col("capped") * config.max_repeats, "cap")
    return capped.with_columns(pl.Series("target", _targets(capped, config), dtype=pl.Int64)).with_columns(
        pl.min_horizontal(pl.max_horizontal("target", "floor", 1), most).alias("wanted")
    )


def _targets(groups: pl.DataFrame, config: Balance) -> NDArray[np.int64]:
    """Rows that each group has by its share, before floor and bounds."""
    rows: NDArray[np.int64] = groups["capped"].to_numpy()
    if not rows.size or (config.temperature == 1.0 and not config.shares):
        return rows
    named = np.array([config.shares.get(group, 0.0) for group in groups["group"]])
    free = np.where(named > 0, 0.0, rows.astype(np.float64) ** (1.0 / config.temperature))
    left = 1.0 - named.sum()
    share = named + (left * free / free.sum() if free.any() else 0.0)
    share = np.maximum(share, 1e-12) / share.sum()  # named groups that are not there leave their share to the others
    if config.resample == "down":
        return _whole(np.floor((rows / share).min() * share + 1e-9))
    if config.resample == "up":
        total = (rows / share)[share > 1e-9].max()  # a group whose share is nothing can't be outgrown
        return np.maximum(_whole(np.ceil(total * share - 1e-9)), rows)
    return _whole(np.floor(rows.sum() * share + 0.5))


def _whole(rows: NDArray[np.float64]) -> NDArray[np.int64]:
    return rows.astype(np.int64)


def _limit(rows: int | dict[str, int] | None) -> pl.Expr:
    if isinstance(rows, dict):
        return pl.col("group").replace_strict(rows, default=None, return_dtype=pl.Int64)
    return pl.lit(rows, dtype=pl.Int64)


def _group(columns: list[str]) -> pl.Expr:
    parts = [pl.col(name).cast(pl.String).fill_null(NO_GROUP) for name in columns]
    return pl.concat_str(parts, separator="/").alias("group")


def _unknown(config: Balance, groups: pl.Series) -> list[str]:
    """Groups that the configuration names and no train row belongs to."""
    bounds = [each for each in (config.cap, config.floor) if isinstance(each, dict)]
    return sorted({*config.shares, *(name for each in bounds for name in each)} - set(groups))


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


def _weights(ranked: pl.DataFrame) -> pl.DataFrame:
    """Each row's weight times how often it would have stood, where that is not once."""
    often = pl.col("wanted") / pl.col("rows")
    counts = ranked.filter(pl.col("wanted") != pl.col("rows"))
    return counts.select(
        "row_id", (pl.col("weight").cast(pl.Float64).fill_null(1.0) * often).cast(pl.Float32).alias("weight")
    )


def _named(sizes: pl.DataFrame, column: str) -> dict[str, int]:
    largest = sizes.sort(["rows", "group"], descending=[True, False]).head(LISTED)
    return dict(zip(largest["group"].to_list(), largest[column].to_list(), strict=True))
