"""Distributions: scores with the thresholds that decided, lengths, and the mixture of rows before and after."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from pipeline_config.schema import DATA_STAGES
from tasks.key import row_artifact
from tasks.report.charts import Bins, histogram
from tasks.report.drawing import Chart
from tasks.report.lines import shift
from tasks.report.text import fitted, number, words

if TYPE_CHECKING:
    from tasks.artifact import Artifact

N_BINS = 36
GROUPS = 12  # groups drawn; there may be hundreds
_UNEVEN = 0.02  # a layer lower than this share of the highest bar is drawn on a logarithmic scale
_NAME = 18  # letters of a group's name that fit beside its bar
_TRAIN = pl.col("split").fill_null("train") == "train"
Values = NDArray[np.float64]


@dataclass(frozen=True)
class Score:
    """How a score is drawn; `rules` measure their value on its axis, `config` holds its threshold."""

    title: str
    unit: str
    rules: tuple[str, ...] = ()
    config: tuple[str, ...] = ()
    log: bool = False


SCORES: Mapping[str, Score] = {
    "score_toxicity": Score("Toxicity, English", "probability of being harmful", ("toxic_english",),
                            ("english", "threshold")),
    "score_toxicity_zh": Score("Toxicity, Chinese", "listed words in a turn", ("toxic_chinese",),
                               ("chinese", "threshold")),
    "score_toxicity_prompt": Score("Toxicity of English prompts", "probability; no row goes for its prompt"),
    "score_answer_words": Score("Words of the answer", "words", ("min_answer_words",), log=True),
    "score_repetition": Score("Repetition", "repeated share of lines or word groups",
                              ("duplicate_lines", "duplicate_ngrams")),
    "score_language": Score("Certainty of the language", "score of the detector"),
    "score_perplexity": Score("Perplexity", "of the row's text", ("low_perplexity", "high_perplexity"), log=True),
    "score_difficulty": Score("Difficulty", "perplexity of the answer behind its prompt, by that of the answer alone",
                              ("low_difficulty", "high_difficulty")),
    "score_classifier": Score("The user's classifier", "probability", ("low_classifier", "high_classifier")),
    "score_similarity": Score("Similarity to the target domain", "cosine to the nearest examples",
                              ("below_similarity", "beyond_quota")),
}  # fmt: skip
LIKENESS: Mapping[str, tuple[str, str]] = {
    "dedupe": ("Likeness of near-duplicates to the row kept", "Jaccard of shingles"),
    "split": ("Likeness of contaminated rows to the test row", "Jaccard or containment"),
}


def score_charts(upstream: "Mapping[str, Artifact]") -> list[Chart]:
    """A histogram of each score that a stage assigned, and of the likeness of what repeats a kept row."""
    found: list[Chart] = []
    known: set[str] = set()
    for stage in DATA_STAGES[:-1]:
        if stage not in upstream:
            continue
        artifact = upstream[stage]
        columns = artifact.rows().collect_schema()
        fresh = [name for name, kind in columns.items() if name.startswith("score_") and kind.is_numeric()]
        for column in fresh:
            if column not in known and (chart := _score_chart(artifact, column)) is not None:
                found.append(chart)
        known |= set(fresh)
        if stage in LIKENESS and (chart := _likeness_chart(artifact)) is not None:
            found.append(chart)
    return found


def length_charts(upstream: "Mapping[str, Artifact]") -> list[Chart]:
    """Tokens a row where there are tokens, and characters of prompt and answer before and after."""
    tokens = _token_lengths(upstream["tokenize"]) if "tokenize" in upstream else []
    read, last = upstream.get("ingest"), row_artifact("tokenize", dict(upstream))
    return tokens if last is None else tokens + _text_lengths(read, last)


def mixture_charts(upstream: "Mapping[str, Artifact]") -> list[Chart]:
    """Shares of sources, tasks, languages and labels: of the rows read and of those trained on."""
    read, last = upstream.get("ingest"), row_artifact("tokenize", dict(upstream))
    if read is None or last is None or last is read:
        return []
    found = []
    for column, title in (("source", "Sources"), ("task", "Tasks"), ("lang", "Languages"), ("label", "Labels")):
        groups = shifted(_counted(read, column), _counted(last, column))
        if len(groups) > 1:
            note = "Grey: share of the rows read. Colour: share of the rows trained on."
            if len(groups) > GROUPS:
                note += f" The {GROUPS} largest of {number(len(groups))}."
            found.append(shift(f"mix-{column}", title, note, groups[:GROUPS]))
    return found


def shifted(before: Mapping[str, int], after: Mapping[str, int]) -> list[tuple[str, float, float]]:
    """Groups with their shares before and after, largest first."""
    sums = (sum(before.values()) or 1, sum(after.values()) or 1)
    names = sorted({*before, *after}, key=lambda name: (-before.get(name, 0), -after.get(name, 0), name))
    return [(name, before.get(name, 0) / sums[0], after.get(name, 0) / sums[1]) for name in names]


def bins(series: Mapping[str, Values], log: bool = False, low: float | None = None, high: float | None = None) -> Bins:
    """Counts in bins of equal width (on a logarithmic axis: equal ratio, values below 1 count as 1).

    Args:
        series: name → values; at least one value in all.
        low, high: the axis reaches at least to these.
    """
    clipped = {name: np.maximum(values, 1.0) if log else values for name, values in series.items()}
    every = np.concatenate([*clipped.values(), [v for v in (low, high) if v is not None]])
    first, last = float(every.min()), float(every.max())
    if log:
        edges = np.geomspace(max(first, 1.0), max(last, first * 2), N_BINS + 1)
    else:
        edges = np.linspace(first, last if last > first else first + 1, N_BINS + 1)
    counts = {name: np.histogram(values, edges)[0].tolist() for name, values in clipped.items()}
    return Bins([float(f"{edge:.6g}") for edge in edges], counts, log)


def _score_chart(artifact: "Artifact", column: str) -> Chart | None:
    score = SCORES.get(column, Score(words(column.removeprefix("score_")).capitalize(), "score"))
    kept = artifact.rows().select(pl.col(column).cast(pl.Float64)).drop_nulls().collect()[column].to_numpy()
    lines = artifact.ledger("removed").filter(pl.col("rule").is_in(score.rules)).collect()
    removed = lines["value"].drop_nulls().to_numpy()
    if kept.size + removed.size < 2:
        return None
    thresholds = {f"{at:.3g}": at for at in sorted(set(lines["threshold"].drop_nulls().to_list()))}
    if not thresholds:
        thresholds = _configured(artifact.manifest["config"], score.config)
    series = {"kept": kept, "removed": removed} if removed.size else {"kept": kept}
    drawn = bins(series, score.log, *_reach(thresholds))
    note = f"{number(kept.size)} rows" + (f" kept, {number(removed.size)} removed" if removed.size else "")
    note += f" by {artifact.stage}" if removed.size else f" behind {artifact.stage}"
    return histogram(f"score-{column}", score.title, note, drawn, score.unit, thresholds, _is_uneven(drawn))


def _likeness_chart(artifact: "Artifact") -> Chart | None:
    title, unit = LIKENESS[artifact.stage]
    near = pl.col("kept_row_id").is_not_null() & pl.col("value").is_not_null() & (pl.col("threshold") < 1)
    lines = artifact.ledger("removed").filter(near)
    frame = lines.select("value", "threshold").collect()
    if frame.height < 2:
        return None
    thresholds = {f"{at:.3g}": at for at in sorted(set(frame["threshold"].drop_nulls().to_list()))}
    drawn = bins({"removed": frame["value"].to_numpy()}, False, *_reach({**thresholds, "same": 1.0}))
    note = f"{number(frame.height)} rows, each compared exactly with the row that stays; 1 is the same text."
    return histogram(f"likeness-{artifact.stage}", title, note, drawn, unit, thresholds)


def _token_lengths(tokens: "Artifact") -> list[Chart]:
    frame = tokens.rows().filter(_TRAIN).select("n_tokens", "n_trained").collect()
    if frame.height < 2:
        return []
    limit = tokens.manifest["facts"].get("max_length")
    thresholds = {f"limit {limit}": float(limit)} if limit else {}
    found = []
    for column, title in (("n_tokens", "Tokens a row"), ("n_trained", "Learned tokens a row")):
        values = frame[column].cast(pl.Float64).to_numpy()
        marks = thresholds if column == "n_tokens" else {}
        note = f"{number(values.sum())} tokens in {number(values.size)} train rows; median {number(np.median(values))}."
        drawn = bins({"rows": values}, True, *_reach(marks))
        found.append(histogram(f"length-{column}", title, note, drawn, "tokens", marks))
    return found


def _text_lengths(read: "Artifact | None", last: "Artifact") -> list[Chart]:
    """Characters of prompt and answer: of the rows read, and of those that are learned from."""
    after = _characters(last.rows().filter(_TRAIN) if last.stage != "ingest" else last.rows())
    before = {} if read is None or last.stage == "ingest" else _characters(read.rows())
    found = []
    for column, values in after.items():
        if values.size < 2 or values.max() == 0:
            continue
        note = f"{number(values.size)} rows; median {number(np.median(values))} characters."
        series = {"kept": values}
        if column in before:
            old = before[column]
            series = {"read": old, "trained on": values}
            note = f"Median {number(np.median(old))} characters as read, {number(np.median(values))} as trained on."
        drawn = bins(series, True)
        title = f"Characters of the {column}"
        found.append(histogram(f"length-{column}", title, note, drawn, "characters", {}, _is_uneven(drawn)))
    return found


def _characters(rows: pl.LazyFrame) -> dict[str, Values]:
    content = pl.element().struct.field("content")
    answers = pl.element().struct.field("role").is_in(["assistant", "text"])
    frame = rows.select(
        pl.col("messages").list.eval(content.filter(~answers).str.len_chars()).list.sum().alias("prompt"),
        pl.col("messages").list.eval(content.filter(answers).str.len_chars()).list.sum().alias("answer"),
    )
    return {name: values.cast(pl.Float64).drop_nulls().to_numpy() for name, values in frame.collect().to_dict().items()}


def _counted(artifact: "Artifact", column: str) -> dict[str, int]:
    rows = artifact.rows()
    if artifact.stage != "ingest":
        rows = rows.filter(_TRAIN)
    counted = rows.select(column).collect()[column].drop_nulls().value_counts(name="rows").sort(column)
    found: dict[str, int] = {}
    for value, n in counted.iter_rows():
        name = fitted(value, _NAME)
        found[name] = found.get(name, 0) + n
    return found


def _configured(config: Any, path: Sequence[str]) -> dict[str, float]:
    for part in path:
        config = config.get(part) if isinstance(config, dict) else None
    return {f"{config:.3g}": float(config)} if path and isinstance(config, int | float) else {}


def _reach(thresholds: Mapping[str, float]) -> tuple[float | None, float | None]:
    return (min(thresholds.values()), max(thresholds.values())) if thresholds else (None, None)


def _is_uneven(drawn: Bins) -> bool:
    tops = [max(counts) for counts in drawn.counts.values()]
    lowest = min(top for top in tops if top) if any(tops) else 0
    return len(tops) > 1 and lowest < _UNEVEN * 5 * max(tops) and max(tops) > 50
