"""The split stage's decision: groups first, then a place for each group, then what still gives a test row away."""

import numpy as np
import polars as pl

from pipeline_config.errors import DataError
from pipeline_config.sets_schema import Split
from tasks.kernels.likeness import Likeness, among, likenesses
from tasks.ledger import REMOVED_SCHEMA, Decision, removed_frame
from tasks.split.benchmarks import as_rows, with_items
from tasks.split.contamination import leaks
from tasks.split.given import CONTAMINATED, near_placed
from tasks.split.groups import Groups, grouped
from tasks.split.measure import leakage, leaked_rows, sizes, task_drift
from tasks.split.place import TEST, TRAIN, VALIDATION, is_test, placed, test_sets
from tasks.split.sizing import late_rows, sized
from tasks.split.strata import stratified_groups

_NAMED = 20  # row ids of a list in the facts


def decide(
    rows: pl.DataFrame,
    config: Split,
    seed: int,
    filled: frozenset[str] = frozenset(),
    benchmarks: pl.DataFrame | None = None,
) -> Decision:
    """Give every row its split and fold, and remove what would give a test row away.

    Args:
        rows: `row_id`, `source`, `task`, `split` (null: not placed by the user), `key` (value of `group_by`, null:
            none), and the texts `whole`, `prompt`, `answer`; in source order. `label` where it stratifies; `time`
            (seconds, or any number) with `time_by`.
        config: shares, test sets, folds, thresholds.
        seed: of the draws.
        filled: splits that a source fills by itself.
        benchmarks: `name`, `whole`, `prompt`, `answer` of items that are no rows, and may not be given away either.

    Returns:
        columns `split` and `fold` for every row that stays. Rule `contaminated`: a row that resembles one which the
        user placed in a test or validation set (value: Jaccard), or that holds one, perhaps lightly edited (value:
        share of its tokens); `kept_row_id` is the row it would give away, null for an item of a benchmark. Rule
        `after_cutoff`: a row later than the cut-off that hangs together with what is learnt (value: its time).

    Raises:
        DataError: no row has the field `group_by`.
    """
    if config.group_by is not None and rows.height and rows["key"].null_count() == rows.height:
        raise DataError(
            f"no row has the field {config.group_by!r} in its meta",
            place="split.group_by",
            cure="name a field that your records have, as they spell it",
        )
    items = as_rows(benchmarks) if config.decontaminate else as_rows(None)
    texts = pl.concat([rows.select(items.columns), items])
    links = likenesses(texts, config.near_threshold)
    resembling = near_placed(texts, links, config.near_threshold) if config.decontaminate else removed_frame()
    stays = ~rows["row_id"].is_in(resembling["row_id"].implode())
    of_rows = pl.concat([stays, pl.repeat(False, items.height, dtype=pl.Boolean, eager=True)])
    left, links_left = rows.filter(stays), [among(link, of_rows) for link in links]
    groups = grouped(left["row_id"], links_left, left["key"] if config.group_by else None, seed)
    if config.stratify:
        groups = stratified_groups(left, groups, config, seed)
    sized_config, cutoff = sized(left, config, filled)
    splits = _splits(left, groups, sized_config, filled, cutoff)
    if cutoff is not None:
        late = late_rows(left, splits, cutoff)
        resembling = pl.concat([resembling, late])
        keeps = ~left["row_id"].is_in(late["row_id"].implode())
        left, splits = left.filter(keeps), splits.filter(keeps)
        links_left = [among(link, keeps) for link in links_left]
        groups = groups.among(keeps.to_numpy())
    folds = _folds(groups, splits, config.folds)
    if config.held_fold is not None:
        splits = _held_out(splits, folds, config.held_fold)
    placed_rows = left.with_columns(
        pl.col("split").alias("given"), splits, pl.Series("group", groups.group_of, dtype=pl.Int64)
    ).with_columns(folds)
    contaminated = _holding_tests(placed_rows, items, config)
    holding = contaminated if config.decontaminate else removed_frame()
    final = ~left["row_id"].is_in(holding["row_id"].implode())
    out, links_out = placed_rows.filter(final), [among(link, final) for link in links_left]
    gone = with_items(pl.concat([resembling, holding]), items)
    removed = rows.select("row_id").join(gone, on="row_id", maintain_order="left")
    straddling, by_user = leakage(out["split"], links_out), leakage(out["given"], links_out)
    facts = sizes(out) | {
        "placed_by_user": out["given"].count(),
        "leakage" if config.decontaminate else "leakage_let_be": straddling - by_user,
        "leakage_placed_by_user": by_user,
        "contamination_let_be": contaminated.height - holding.height,
        "leaked_rows": _leaked(out, links_out, contaminated, straddling)
        if not config.decontaminate or straddling
        else [],
        "task_drift": task_drift(out),
        "groups": int(groups.place.size),
        "largest_group": int(np.bincount(groups.group_of).max(initial=0)),
        "near_pairs": sum(link.pairs.height for link in links),
        "benchmark_items": items.height,
        "test_share_drawn": {name: each.size for name, each in test_sets(sized_config, filled).items()},
        "cutoff": cutoff,
        "learnt_after_cutoff": 0
        if cutoff is None
        else out.filter(~is_test(pl.col("split")) & (pl.col("time") > cutoff)).height,
    }
    return Decision(
        removed=removed.select(*REMOVED_SCHEMA),
        assigned=out.select("row_id", "split", "fold"),
        metrics=_metrics(out) | {"leakage": straddling} | {name: facts[name] for name in ("groups", "largest_group")},
        facts=facts,
    )


def _leaked(out: pl.DataFrame, links: list[Likeness], contaminated: pl.DataFrame, straddling: int) -> list[str]:
    """Ids of a few rows that give a test row away and stay."""
    ids = leaked_rows(out["row_id"], out["split"], links, _NAMED) if straddling else []
    held = contaminated.filter(pl.col("row_id").is_in(out["row_id"].implode()))["row_id"].to_list()
    return list(dict.fromkeys([*ids, *held]))[:_NAMED]


def _metrics(out: pl.DataFrame) -> dict[str, float]:
    counted = out.select(
        *(pl.col("split").eq(name).sum().alias(name) for name in (TRAIN, VALIDATION)),
        is_test(pl.col("split")).sum().alias(TEST),
    )
    return {name: float(count) for name, count in counted.row(0, named=True).items()}


def _splits(
    rows: pl.DataFrame, groups: Groups, config: Split, filled: frozenset[str], cutoff: float | None
) -> pl.Series:
    described = (
        rows.select(
            "source",
            "split",
            pl.lit(None, dtype=pl.Float64).alias("time") if cutoff is None else "time",
            pl.Series("group", groups.group_of, dtype=pl.Int64),
        )
        .group_by("group")
        .agg(
            pl.col("source").unique().alias("sources"),
            pl.col("split").drop_nulls().unique().alias("given"),
            pl.col("time").max(),
        )
        .sort("group")
        .with_columns(pl.Series("draw", groups.place, dtype=pl.Float64))
    )
    of_group = placed(described, config, filled, cutoff)
    return pl.select(pl.coalesce(rows["split"], of_group.gather(groups.group_of)).alias("split")).to_series()


def _folds(groups: Groups, splits: pl.Series, folds: int | None) -> pl.Series:
    if folds is None:
        return pl.Series("fold", [None] * splits.len(), dtype=pl.Int32)
    number = pl.Series((groups.fold[groups.group_of] * folds).astype(np.int32))
    learnt = splits.is_in([TRAIN, VALIDATION])
    return pl.select(pl.when(learnt).then(number).cast(pl.Int32).alias("fold")).to_series()


def _held_out(splits: pl.Series, folds: pl.Series, held: int) -> pl.Series:
    """One fold for validation, the others to learn from; a test row is in no fold and stays where it is."""
    of_fold = pl.when(folds == held).then(pl.lit(VALIDATION)).otherwise(pl.lit(TRAIN))
    return pl.select(pl.when(folds.is_null()).then(splits).otherwise(of_fold).alias("split")).to_series()


def _holding_tests(rows: pl.DataFrame, items: pl.DataFrame, config: Split) -> pl.DataFrame:
    """Rows of train and validation that hold a test row, lightly edited at most."""
    columns = ["row_id", "split", "prompt", "answer"]
    tests = rows.filter(is_test(pl.col("split"))).select(*columns, "group")
    behind = pl.int_range(pl.len(), dtype=pl.Int64) + rows["group"].len()  # each item is a group of its own
    tests = pl.concat([tests, items.select(*columns, behind.alias("group"))])
    others = rows.filter(~is_test(pl.col("split")))
    if tests.is_empty() or others.is_empty():
        return removed_frame()
    found = leaks(tests, others, config.max_overlap)
    named = found.join(
        tests.select(pl.col("row_id").alias("kept_row_id"), "split"),
        on="kept_row_id",
        how="left",
        maintain_order="left",
    )
    return named.select(
        "row_id",
        pl.lit(CONTAMINATED).alias("rule"),
        "value",
        pl.lit(config.max_overlap).alias("threshold"),
        "kept_row_id",
        pl.format("holds a row of {}", "split").alias("detail"),
    )
