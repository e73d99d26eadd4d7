"""Which rows go, by which rule: the first of the rule set that fires and has no exception."""

import operator
from collections.abc import Sequence

import polars as pl

from pipeline_config.data_schema import Quality
from tasks.ledger import REMOVED_SCHEMA, Decision, removed_frame
from tasks.quality.exceptions import of_row
from tasks.quality.rules import LANGUAGE_RULE, MODEL_RULES, Rule
from tasks.quality.settings import active_rules

_SURE = 0.8  # score from which the text's language outweighs what its row says
_COMPARE = {"<": operator.lt, "<=": operator.le, ">": operator.gt, ">=": operator.ge}


def decide(rows: pl.DataFrame, scores: pl.DataFrame, config: Quality) -> Decision:
    """Apply the rules to what was measured.

    Args:
        rows: `row_id`, `source`, `task`, `label`, `lang`, and `score_toxicity_prompt` where that stage ran; in source
            order.
        scores: from `score_rows`, the same rows in the same order.
        config: rules, thresholds, languages.

    Returns:
        one removal line a row, with value and threshold; `lang` where the row had none and it could be told;
        `score_answer_words`, `score_repetition` (the larger share of repeated lines or 4-grams) and
        `score_language`; `score_perplexity`, `score_difficulty` and `score_classifier` where they are on. The facts
        say how often each rule fired, also behind an earlier one (`fired`), and how many rows an exception saved from
        it (`excused`).
    """
    rules = active_rules(config)
    by_models = [rule.statistic for rule in MODEL_RULES[::2] if rule.statistic in scores.columns]
    frame = _with_language(pl.concat([rows, scores.drop("row_id")], how="horizontal"), config)
    frame = frame.with_columns(of_row(frame.columns)).with_row_index("place")
    fired = frame.select("place", *(_fires(rule).alias(rule.name) for rule in rules))
    broken = frame.select((_breaks(rule) & _excused(rule)).sum().alias(rule.name) for rule in rules)
    removed = _first(frame, fired, rules)
    return Decision(
        removed=removed,
        assigned=frame.select(
            "row_id",
            "lang",
            pl.col("answer_words").alias("score_answer_words"),
            pl.max_horizontal("duplicate_lines", "duplicate_ngrams").alias("score_repetition"),
            pl.col("detected_score").alias("score_language"),
            *(pl.col(name).alias(f"score_{name}") for name in by_models),
        ),
        metrics={
            "mean_answer_words": _mean(frame["answer_words"]),
            "mean_repetition": _mean(frame["duplicate_ngrams"]),
            "unknown_language_rows": float(frame["lang"].null_count()),
        },
        facts={
            "fired": {rule.name: int(fired[rule.name].sum()) for rule in rules},
            "excused": {name: int(broken[name][0]) for name in broken.columns if broken[name][0]},
            "languages": _counts(frame["lang"]),
        },
    )


def _with_language(frame: pl.DataFrame, config: Quality) -> pl.DataFrame:
    """`lang` where it was null, `judged_lang`, and `unwanted_language`.

    The text decides; where it can't be told, or contradicts what the row says of itself without being sure, the row
    does (with certainty 1). Null: the language is wanted, or unknown. The column `lang` is never overwritten.
    """
    agrees = (pl.col("lang") == pl.col("detected")).fill_null(True)
    needed = pl.when(agrees).then(config.min_language_score).otherwise(max(config.min_language_score, _SURE))
    told = pl.col("detected").is_not_null() & (pl.col("detected_score") >= needed)
    judged = pl.when(told).then("detected").otherwise("lang")
    unwanted = ~judged.is_in(config.languages) if config.languages else pl.lit(False)
    certainty = pl.when(told).then("detected_score").otherwise(1.0)
    return frame.with_columns(
        judged.alias("judged_lang"),
        pl.coalesce("lang", pl.when(told).then("detected")).alias("lang"),
        pl.when(unwanted).then(certainty).cast(pl.Float32).alias("unwanted_language"),
    )


def _breaks(rule: Rule) -> pl.Expr:
    compared: pl.Expr = _COMPARE[rule.comparison](pl.col(rule.statistic), pl.lit(rule.threshold, pl.Float32))
    return compared.fill_null(False)


def _excused(rule: Rule) -> pl.Expr:
    return pl.any_horizontal(pl.lit(False), *rule.unless)


def _fires(rule: Rule) -> pl.Expr:
    return _breaks(rule) & ~_excused(rule)


def _first(frame: pl.DataFrame, fired: pl.DataFrame, rules: Sequence[Rule]) -> pl.DataFrame:
    """A removal line for each row by the first rule that fired, in the order of the rows."""
    lines = [_lines(frame, fired[rule.name], rule) for rule in rules]
    if not lines:
        return removed_frame()
    first = pl.concat(lines).sort("place", maintain_order=True).unique("place", keep="first", maintain_order=True)
    return first.select(pl.col(name).cast(kind) for name, kind in REMOVED_SCHEMA.items())


def _lines(frame: pl.DataFrame, fired: pl.Series, rule: Rule) -> pl.DataFrame:
    detail = pl.col("judged_lang") if rule.name == LANGUAGE_RULE else pl.lit(None, pl.String)
    return frame.filter(fired).select(
        "place",
        "row_id",
        pl.lit(rule.name).alias("rule"),
        pl.col(rule.statistic).cast(pl.Float64).alias("value"),
        pl.lit(rule.threshold).alias("threshold"),
        pl.lit(None, pl.String).alias("kept_row_id"),
        detail.alias("detail"),
    )


def _mean(values: pl.Series) -> float:
    mean = values.mean()
    return float(mean) if isinstance(mean, float) else 0.0


def _counts(values: pl.Series) -> dict[str, int]:
    counted = values.fill_null("und").value_counts(name="rows").sort(values.name)
    return dict(zip(counted[values.name].to_list(), counted["rows"].to_list(), strict=True))
