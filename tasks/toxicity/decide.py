"""Which rows are harmful enough to act upon, and how: removed, quarantined, or only flagged.

A row that two judges find harmful gets the harder of their actions. A flagged row stays: its score stands beside it, so
that `explain` can show it next to the threshold, and it is counted in metrics and facts.
"""

import polars as pl

from pipeline_config.data_schema import Toxicity
from tasks.ledger import QUARANTINE_SCHEMA, REMOVED_SCHEMA, Decision

RULES = {
    "english": ("toxic_english", "score_toxicity", "toxicity_turn"),
    "chinese": ("toxic_chinese", "score_toxicity_zh", "toxicity_zh_turn"),
}
_HARDEST_FIRST = ("remove", "quarantine", "flag")


def decide(rows: pl.DataFrame, scores: pl.DataFrame, config: Toxicity) -> Decision:
    """Act on the rows whose score reaches its judge's threshold.

    Args:
        rows: `row_id`, `source`, in source order.
        scores: from `score_rows`, the same rows in the same order.
        config: thresholds and actions.

    Returns:
        removal and quarantine lines (rules `toxic_english`, `toxic_chinese`; the detail says which turn); the
        scores as assigned columns; rows judged and flagged in metrics and facts.
    """
    frame = scores.with_columns(rows["source"]).with_row_index("place")
    hits = pl.concat([_hits(frame, judge, config) for judge in RULES]).sort("place", "hardness", maintain_order=True)
    hardest = hits.unique("row_id", keep="first", maintain_order=True)
    removed, held, flagged = (hardest.filter(pl.col("hardness") == level) for level in range(len(_HARDEST_FIRST)))
    flags = hits.join(flagged, on="row_id", how="semi")["rule"]
    counts = {rule: flags.eq(rule).sum() for rule, _, _ in RULES.values()}
    judged = {judge: frame[score].is_not_null().sum() for judge, (_, score, _) in RULES.items()}
    return Decision(
        removed=removed.select(pl.col(name).cast(kind) for name, kind in REMOVED_SCHEMA.items()),
        quarantined=_quarantine(held),
        assigned=scores.select("row_id", pl.col("^score_.*$")),
        metrics={
            **{f"judged_{judge}": float(count) for judge, count in judged.items()},
            **{f"flagged_{judge}": float(counts[rule]) for judge, (rule, _, _) in RULES.items()},
        },
        facts={"judged": judged, "flagged": {rule: count for rule, count in counts.items() if count}},
    )


def _hits(frame: pl.DataFrame, judge: str, config: Toxicity) -> pl.DataFrame:
    """The rows that one judge finds harmful, as removal lines with `place`, `source` and `hardness`."""
    rule, score, turn = RULES[judge]
    settings = getattr(config, judge)
    threshold = 0.0 if settings is None else float(settings.threshold)
    reached = pl.lit(False) if settings is None else pl.col(score) >= pl.lit(threshold, pl.Float32)
    hits = frame.filter(reached).rechunk()  # Polars 2.1 panics where `format` meets an empty chunk
    return hits.select(
        "place",
        "source",
        "row_id",
        pl.lit(0 if settings is None else _HARDEST_FIRST.index(settings.action)).alias("hardness"),
        pl.lit(rule).alias("rule"),
        pl.col(score).cast(pl.Float64).alias("value"),
        pl.lit(threshold).alias("threshold"),
        pl.lit(None, pl.String).alias("kept_row_id"),
        pl.format("message {}", turn).alias("detail"),
    )


def _quarantine(held: pl.DataFrame) -> pl.DataFrame:
    """Quarantine lines; the excerpt stays empty, since the text stands in the artifact above."""
    return held.select(
        "row_id",
        "source",
        pl.lit(None).alias("line"),
        pl.col("rule").alias("reason"),
        pl.format("{}: {} reaches {}", "detail", pl.col("value").round(4), "threshold").alias("detail"),
        pl.lit(None).alias("excerpt"),
    ).select(pl.col(name).cast(kind) for name, kind in QUARANTINE_SCHEMA.items())
