"""Which rows stay: a bound, then a quota over the competing rows, of which the most different may be chosen."""

import numpy as np
import polars as pl

from pipeline_config.sets_schema import Select
from tasks.ledger import Decision

_QUANTILES = (0.05, 0.25, 0.5, 0.75, 0.95)


def competing(sources: list[str]) -> pl.Expr:
    """Whether a row competes: of the named sources (none named: all), and not placed in a test or validation set.

    What a user placed there is the measure, not the material; selecting it by similarity would flatter the result.
    """
    material = pl.col("split").fill_null("train") == "train"
    return material & pl.col("source").is_in(sources) if sources else material


def decide(scores: pl.DataFrame, config: Select) -> Decision:
    """Remove what is too far from the target.

    Args:
        scores: `row_id` and a score, `score_<name>`, of the competing rows, in source order; `order` (Float64), where
            another number than the score decides; `group`, where each group has its own quota; `text`, where what
            stays should be diverse.
        config: `min_similarity`, `keep` and `diversity`.

    Returns:
        rules `below_similarity` (threshold: the bound) and `beyond_quota` (threshold: what the last kept row of the
        group has, not said where diversity decided); the value is what the row has. Of equals those with the smaller
        row id stay; rows without a score come last.
    """
    column = next(name for name in scores.columns if name.startswith("score_"))
    name = column.removeprefix("score_")
    bound = pl.lit(config.min_similarity, dtype=pl.Float64)
    value = pl.col("order" if "order" in scores.columns else column).cast(pl.Float64)
    group = pl.col("group") if "group" in scores.columns else pl.lit("")
    judged = (
        scores.with_row_index("place")
        .with_columns(value.alias("value"), group.fill_null("").alias("group"))
        .with_columns((pl.col("value") < bound).fill_null(value=False).alias("below"))
        .sort("below", "value", "row_id", descending=[False, True, False], nulls_last=True)
        .with_columns(
            pl.int_range(pl.len()).over("group").alias("rank"),
            _quota(pl.len().over("group"), config.keep).alias("quota"),
        )
    )
    within = (pl.col("rank") < pl.col("quota") * (config.diversity or 1)).fill_null(value=True)
    judged = judged.with_columns((within & ~pl.col("below")).alias("kept"))
    if config.diversity is not None:
        judged = judged.with_columns(_far_apart(judged))
    judged = judged.sort("place")
    last = pl.col("value").filter("kept").min().over("group")
    judged = judged.with_columns((last if config.diversity is None else pl.lit(None, dtype=pl.Float64)).alias("last"))
    removed = judged.filter(~pl.col("kept")).select(
        "row_id",
        pl.when("below").then(pl.lit("below_similarity")).otherwise(pl.lit("beyond_quota")).alias("rule"),
        "value",
        pl.when("below").then(bound).otherwise("last").alias("threshold"),
        pl.lit(None, dtype=pl.String).alias("kept_row_id"),
        pl.lit(None, dtype=pl.String).alias("detail"),
    )
    kept = judged.filter("kept")
    quotas = judged.select("group", "quota").unique()["quota"].drop_nulls()
    facts = {
        "competing": scores.height,
        "kept": kept.height,
        "quota": int(quotas.sum()) if config.keep is not None and quotas.len() else kept_rows(0, config.keep),
        f"last_kept_{name}": kept["value"].min(),
        f"{name}_quantiles": {f"{q:g}": judged["value"].quantile(q) for q in _QUANTILES},
    }
    means = {f"{name}_kept": kept["value"].mean(), f"{name}_removed": removed["value"].mean()}
    metrics = {name: float(mean) for name, mean in means.items() if isinstance(mean, float)}
    return Decision(removed=removed, assigned=kept.select("row_id", column), metrics=metrics, facts=facts)


def _quota(rows: pl.Expr, keep: int | float | None) -> pl.Expr:
    """`kept_rows` of each group."""
    if keep is None or isinstance(keep, int):
        return pl.lit(keep, dtype=pl.Int64)
    return pl.max_horizontal(pl.lit(1, dtype=pl.Int64), (rows * keep + 0.5).floor().cast(pl.Int64))


def _far_apart(judged: pl.DataFrame) -> pl.Series:
    """`kept` of each row: in every group the quota of candidates, farthest first; the best rows stand first."""
    from tasks.select.importance import farthest_first, vectors

    kept = np.zeros(judged.height, dtype=bool)
    candidates = judged.with_row_index("at").filter("kept")
    for part in candidates.partition_by("group", maintain_order=True):
        chosen = farthest_first(vectors(part["text"]), int(part["quota"][0]))
        kept[part["at"].to_numpy()[chosen]] = True
    return pl.Series("kept", kept, dtype=pl.Boolean)


def kept_rows(competing_rows: int, keep: int | float | None) -> int | None:
    """The quota in rows: a whole number is that many, a share is rounded, but to one row at least; None: no quota."""
    if keep is None or isinstance(keep, int):
        return keep
    return max(1, int(competing_rows * keep + 0.5))
