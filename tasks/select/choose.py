"""Which rows stay, by similarity: a bound, then a quota over the competing rows."""

import polars as pl

from pipeline_config.data_schema import Select
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
        scores: `row_id` and `score_similarity` of the competing rows, in source order.
        config: `min_similarity` and `keep`.

    Returns:
        rules `below_similarity` (threshold: the bound) and `beyond_quota` (threshold: the last kept similarity); the
        value is the row's similarity. Of equally near rows those with the smaller row id stay.
    """
    bound = pl.lit(config.min_similarity, dtype=pl.Float64)
    similarity = pl.col("score_similarity").cast(pl.Float64)
    quota = kept_rows(scores.height, config.keep)
    judged = (
        scores.with_row_index("place")
        .with_columns(similarity.alias("value"), (similarity < bound).fill_null(value=False).alias("below"))
        .sort("below", "value", "row_id", descending=[False, True, False])
        .with_row_index("rank")
        .sort("place")
    )
    stays = pl.lit(True) if quota is None else pl.col("rank") < quota
    judged = judged.with_columns((stays & ~pl.col("below")).alias("kept"))
    last = judged.filter("kept")["value"].min()
    removed = judged.filter(~pl.col("kept")).select(
        "row_id",
        pl.when("below").then(pl.lit("below_similarity")).otherwise(pl.lit("beyond_quota")).alias("rule"),
        "value",
        pl.when("below").then(bound).otherwise(pl.lit(last, dtype=pl.Float64)).alias("threshold"),
        pl.lit(None, dtype=pl.String).alias("kept_row_id"),
        pl.lit(None, dtype=pl.String).alias("detail"),
    )
    kept = judged.filter("kept")
    facts = {
        "competing": scores.height,
        "kept": kept.height,
        "quota": quota,
        "last_kept_similarity": last,
        "similarity_quantiles": {f"{q:g}": judged["value"].quantile(q) for q in _QUANTILES},
    }
    means = {"similarity_kept": kept["value"].mean(), "similarity_removed": removed["value"].mean()}
    metrics = {name: float(mean) for name, mean in means.items() if isinstance(mean, float)}
    assigned = kept.select("row_id", "score_similarity")
    return Decision(removed=removed, assigned=assigned, metrics=metrics, facts=facts)


def kept_rows(competing_rows: int, keep: int | float | None) -> int | None:
    """The quota in rows: a whole number is that many, a share is rounded, but to one row at least; None: no quota."""
    if keep is None or isinstance(keep, int):
        return keep
    return max(1, int(competing_rows * keep + 0.5))
