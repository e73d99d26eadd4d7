"""Models side by side: what the evaluation measured, in words, in a table, in charts, and in the answers themselves."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import polars as pl

from tasks.kernels.comparison import PREFIX, comparison_table
from tasks.report.drawing import Chart
from tasks.report.lines import differences, intervals
from tasks.report.text import fitted, number, shown, turns

if TYPE_CHECKING:
    from tasks.artifact import Artifact

BASE = "base"
LOWER_IS_BETTER = ("loss",)
_DRAWN = (("loss", "Loss", 3), ("rouge_l", "ROUGE-L", 3), ("bleu", "BLEU", 1), ("bertscore_f1", "BERTScore F1", 3),
          ("f1_macro", "Macro F1", 3), ("accuracy", "Accuracy", 3))  # fmt: skip
_TABLE = (("loss", 3), ("bleu", 1), ("rouge_l", 3), ("bertscore_f1", 3), ("size_mb", 0), ("tokens_per_second", 0))


@dataclass(frozen=True)
class Finding:
    """One comparison with the base model; `verdict`: better, worse, or unclear (the interval holds 0)."""

    test_set: str
    model: str
    metric: str
    value: float
    base: float
    difference: float
    low: float | None
    high: float | None
    verdict: str


@dataclass(frozen=True)
class Answer:
    """What one model answered; `score`: ROUGE-L in [0, 1] or None."""

    model: str
    text: str
    score: float | None


@dataclass(frozen=True)
class Question:
    """A test row with the reference and every model's answer; `why` it was chosen."""

    row_id: str
    why: str
    prompt: list[tuple[str, str]]
    reference: str
    answers: list[Answer]


def lines_of(upstream: "Mapping[str, Artifact]") -> list[dict[str, Any]]:
    """The comparison table; empty where nothing was evaluated."""
    if "evaluate" not in upstream:
        return []
    metrics = upstream["evaluate"].manifest["metrics"]
    lines = comparison_table({f"{PREFIX}{name}": value for name, value in metrics.items()})
    return [{**line, "test_set": shown(line["test_set"], 40), "model": shown(line["model"], 40)} for line in lines]


def measured_on(upstream: "Mapping[str, Artifact]") -> dict[str, str]:
    """Test set → on how many rows it was measured, in words."""
    facts = upstream["evaluate"].manifest["facts"] if "evaluate" in upstream else {}
    examples, answered = facts.get("examples", {}), facts.get("answered", {})
    return {
        shown(name, 40): f"loss on {number(examples[name])} rows, answers to {number(answered.get(name, 0))}"
        for name in examples
    }


def table(lines: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The table's cells as text; `best` names the metrics in which a model is ahead in its test set."""
    best: dict[tuple[str, str], float] = {}
    for line in lines:
        for metric, _ in _TABLE:
            value = line.get(metric)
            if value is not None and metric != "size_mb":
                better = min if metric in LOWER_IS_BETTER else max
                key = (line["test_set"], metric)
                best[key] = better(best.get(key, value), value)
    return [
        {
            "test_set": line["test_set"],
            "model": line["model"],
            "cells": [
                (number(line.get(metric), digits), line.get(metric) is not None
                 and best.get((line["test_set"], metric)) == line.get(metric))
                for metric, digits in _TABLE
            ],
        }
        for line in lines
    ]  # fmt: skip


def findings(lines: list[dict[str, Any]]) -> list[Finding]:
    """Loss and ROUGE-L of every model against the base, with the paired interval."""
    base = {line["test_set"]: line for line in lines if line["model"] == BASE}
    found = []
    for line in lines:
        for metric in ("loss", "rouge_l"):
            difference = line.get(f"{metric}_diff")
            if difference is None or line["test_set"] not in base:
                continue
            low, high = line.get(f"{metric}_diff_low"), line.get(f"{metric}_diff_high")
            found.append(
                Finding(line["test_set"], line["model"], metric, line[metric], base[line["test_set"]][metric],
                        difference, low, high, _verdict(metric, difference, low, high))
            )  # fmt: skip
    return found


def metric_charts(lines: list[dict[str, Any]]) -> dict[str, list[Chart]]:
    """Test set → a chart of each metric that was measured, every model with its interval."""
    charts: dict[str, list[Chart]] = {}
    for place, test_set in enumerate(dict.fromkeys(line["test_set"] for line in lines)):
        here = [line for line in lines if line["test_set"] == test_set]
        for metric, title, digits in _DRAWN:
            marks = [
                {"model": fitted(line["model"], 11), "value": line[metric], "low": line.get(f"{metric}_low"),
                 "high": line.get(f"{metric}_high")}
                for line in here
                if line.get(metric) is not None
            ]  # fmt: skip
            if marks:
                way = "lower" if metric in LOWER_IS_BETTER else "higher"
                about = f"{title} of each model on {test_set}"
                chart = intervals(f"m{place}-{metric}", title, f"{way} is better", marks, digits, about)
                charts.setdefault(test_set, []).append(chart)
    return charts


def difference_charts(found: Sequence[Finding]) -> dict[str, list[Chart]]:
    """Test set → a chart of each metric: every model's paired difference to the base, with its interval."""
    charts: dict[str, list[Chart]] = {}
    for place, test_set in enumerate(dict.fromkeys(finding.test_set for finding in found)):
        for metric, title, digits in _DRAWN:
            lines = [
                {"model": fitted(each.model, 11), "value": each.difference, "low": each.low, "high": each.high,
                 "verdict": each.verdict}
                for each in found
                if (each.test_set, each.metric) == (test_set, metric)
            ]  # fmt: skip
            if lines:
                way = "left of zero is better" if metric in LOWER_IS_BETTER else "right of zero is better"
                about = f"{title} on {test_set}, difference to the base"
                chart = differences(f"d{place}-{metric}", f"{title}, difference to the base", way, lines, digits, about)
                charts.setdefault(test_set, []).append(chart)
    return charts


def sample_answers(upstream: "Mapping[str, Artifact]", rows: "Artifact | None", n: int) -> dict[str, list[Question]]:
    """Test set → n questions, spread evenly from the largest gain over the base to the largest loss.

    Without scores of two models, the rows with the smallest ids.
    """
    path = upstream["evaluate"].path / "predictions.parquet" if "evaluate" in upstream else None
    if path is None or not path.exists() or n == 0:
        return {}
    predictions = pl.read_parquet(path, glob=False).filter(pl.col("prediction").is_not_null())
    chosen = {
        test_set[0]: _spread(frame, n)
        for test_set, frame in predictions.sort("test_set").group_by("test_set", maintain_order=True)
    }
    ids = [row_id for places in chosen.values() for row_id, _ in places]
    texts: dict[str, list[dict[str, Any]]] = {}
    if rows is not None and ids:
        frame = rows.rows().filter(pl.col("row_id").is_in(ids)).select("row_id", "messages").collect()
        texts = dict(frame.iter_rows())
    return {
        shown(test_set, 40): [_question(row_id, why, predictions, texts.get(row_id)) for row_id, why in places]
        for test_set, places in chosen.items()
    }


def _spread(predictions: pl.DataFrame, n: int) -> list[tuple[str, str]]:
    models = predictions["model"].unique(maintain_order=True).to_list()
    other = "tuned" if "tuned" in models else next((model for model in models if model != BASE), None)
    scores = predictions.filter(pl.col("rouge_l").is_not_null()).select("row_id", "model", "rouge_l")
    base, ours = (scores.filter(pl.col("model") == model).drop("model") for model in (BASE, other))
    gains = (
        ours.join(base, on="row_id", suffix="_base")
        .select("row_id", (pl.col("rouge_l") - pl.col("rouge_l_base")).alias("gain"))
        .sort("gain", "row_id", descending=[True, False])
    )
    if gains.is_empty():
        return [(row_id, "") for row_id in predictions["row_id"].unique().sort().head(n)]
    places = sorted({round(k * (gains.height - 1) / max(n - 1, 1)) for k in range(n)})
    return [(gains["row_id"][place], _why(place, gains["gain"][place], gains.height)) for place in places]


def _why(place: int, gain: float, n: int) -> str:
    rank = (
        "largest gain" if place == 0 else "largest loss" if place == n - 1 and gain < 0 else f"rank {place + 1} of {n}"
    )
    return f"{rank}: ROUGE-L {number(gain, 2, signed=True)} against the base"


def _question(row_id: str, why: str, predictions: pl.DataFrame, messages: Any) -> Question:
    here = predictions.filter(pl.col("row_id") == row_id)
    answers = [
        Answer(shown(line["model"], 40), shown(line["prediction"]), line["rouge_l"])
        for line in here.iter_rows(named=True)
    ]
    last = max((n for n, message in enumerate(messages or []) if message["role"] == "assistant"), default=0)
    return Question(row_id, why, turns((messages or [])[:last]), shown(here["reference"][0]), answers)


def _verdict(metric: str, difference: float, low: float | None, high: float | None) -> str:
    if low is None or high is None or low <= 0 <= high:
        return "unclear"
    return "better" if (difference < 0) == (metric in LOWER_IS_BETTER) else "worse"
