"""Which rows are harmful enough to act upon, and how: removed, quarantined, or only flagged.

A row that two judges, or two categories of one, find harmful gets the harder of their actions. A flagged row stays: its
score stands beside it, so that `explain` can show it next to the threshold, and it is counted in metrics and facts.
"""

import polars as pl

from pipeline_config.data_schema import Toxicity
from pipeline_config.errors import ConfigError
from tasks.ledger import QUARANTINE_SCHEMA, REMOVED_SCHEMA, Decision
from tasks.toxicity.labels import score_column, turn_column

RULES = {
    "english": ("toxic_english", "score_toxicity", "toxicity_turn"),
    "chinese": ("toxic_chinese", "score_toxicity_zh", "toxicity_zh_turn"),
}
CATEGORY_RULE = "toxic_category"
_HARDEST_FIRST = ("remove", "quarantine", "flag")


def decide(rows: pl.DataFrame, scores: pl.DataFrame, config: Toxicity) -> Decision:
    """Act on the rows whose score reaches its judge's threshold.

    Args:
        rows: `row_id`, `source`, in source order.
        scores: from `score_rows`, the same rows in the same order.
        config: thresholds and actions.

    Returns:
        removal and quarantine lines (rules `toxic_english`, `toxic_chinese`, `toxic_category`; the detail says which
        turn, and which category); the scores as assigned columns; rows judged and flagged in metrics and facts.

    Raises:
        ConfigError: a category that is no label of the model.
    """
    frame = scores.with_columns(rows["source"]).with_row_index("place")
    reached = [_hits(frame, judge, config) for judge in RULES] + _category_hits(frame, config)
    hits = pl.concat(reached).sort("place", "hardness", maintain_order=True)
    hardest = hits.unique("row_id", keep="first", maintain_order=True)
    removed, held, flagged = (hardest.filter(pl.col("hardness") == level) for level in range(len(_HARDEST_FIRST)))
    flags = hits.join(flagged, on="row_id", how="semi").unique(["row_id", "rule"])["rule"]
    by_judge = {judge: (rule, score) for judge, (rule, score, _) in RULES.items()}
    if config.model is not None:
        by_judge["model"] = (CATEGORY_RULE, score_column(next(iter(config.model.categories))))
    counts = {rule: flags.eq(rule).sum() for rule, _ in by_judge.values()}
    judged = {judge: frame[score].is_not_null().sum() for judge, (_, score) in by_judge.items()}
    return Decision(
        removed=removed.select(pl.col(name).cast(kind) for name, kind in REMOVED_SCHEMA.items()),
        quarantined=_quarantine(held),
        assigned=scores.select("row_id", pl.col("^score_.*$")),
        metrics={
            **{f"judged_{judge}": float(count) for judge, count in judged.items()},
            **{f"flagged_{judge}": float(counts[rule]) for judge, (rule, _) in by_judge.items()},
        },
        facts={"judged": judged, "flagged": {rule: count for rule, count in counts.items() if count}},
    )


def _hits(frame: pl.DataFrame, judge: str, config: Toxicity) -> pl.DataFrame:
    """The rows that one judge finds harmful."""
    rule, score, turn = RULES[judge]
    settings = getattr(config, judge)
    if settings is None:
        return _lines(frame.clear(), score, 0.0, "flag", rule, pl.format("message {}", turn))
    return _lines(frame, score, float(settings.threshold), settings.action, rule, pl.format("message {}", turn))


def _category_hits(frame: pl.DataFrame, config: Toxicity) -> list[pl.DataFrame]:
    """The rows that each category of the model finds harmful."""
    found = []
    for label, settings in ({} if config.model is None else config.model.categories).items():
        score, turn = score_column(label), turn_column(label)
        if score not in frame.columns:
            columns = [name.removeprefix("score_toxic_") for name in frame.columns if name.startswith("score_toxic_")]
            raise ConfigError(
                f"the model has no label {label!r}",
                place=f"toxicity.model.categories.{label}",
                cure=f"its labels are: {', '.join(columns)}",
            )
        detail = pl.format("{}: message {}", pl.lit(label), turn)
        found.append(_lines(frame, score, settings.threshold, settings.action, CATEGORY_RULE, detail))
    return found


def _lines(frame: pl.DataFrame, score: str, threshold: float, action: str, rule: str, detail: pl.Expr) -> pl.DataFrame:
    """Rows whose score reaches the threshold, as removal lines with `place`, `source` and `hardness`."""
    hits = frame.filter(pl.col(score) >= pl.lit(threshold, pl.Float32))
    return hits.rechunk().select(  # Polars 2.1 panics where `format` meets an empty chunk
        "place",
        "source",
        "row_id",
        pl.lit(_HARDEST_FIRST.index(action)).alias("hardness"),
        pl.lit(rule).alias("rule"),
        pl.col(score).cast(pl.Float64).alias("value"),
        pl.lit(threshold).alias("threshold"),
        pl.lit(None, pl.String).alias("kept_row_id"),
        detail.alias("detail"),
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
