"""From losses and answers to metrics: a value and an interval for each model and test set, and differences to the base.

Intervals and differences draw the same examples for every model of a test set.
"""

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import polars as pl
import xxhash

from pipeline_config.model_schema import Evaluate
from tasks.evaluate.bootstrap import Array, Value, interval, paired_interval, ratio
from tasks.evaluate.examples import Example
from tasks.evaluate.measure import Measured
from tasks.evaluate.prompts import Prompt
from tasks.kernels.rows import digest

BASE = "base"
_COMPARED = ("loss", "rouge_l")
_LABELS = ("accuracy", "f1_macro")
_PER_EXAMPLE = ("rouge_l", "bertscore_f1")
_PREDICTIONS: dict[str, Any] = {
    "row_id": pl.String,
    "test_set": pl.String,
    "model": pl.String,
    "prompt_digest": pl.String,
    "prompt_cut": pl.Boolean,
    "label": pl.String,
    "reference": pl.String,
    "prediction": pl.String,
    "n_new_tokens": pl.Int32,
    "loss": pl.Float32,
    "n_tokens": pl.Int32,
    "rouge_l": pl.Float32,
    "bertscore_f1": pl.Float32,
}


class Scorer:
    """The text metrics that a configuration asks for; loads its libraries once.

    Args:
        encoder: folder of BERTScore's encoder.
    """

    def __init__(self, config: Evaluate, encoder: str | None) -> None:
        self._metrics = _text_metrics(config, encoder)

    def of_answers(self, answers: Sequence[str], examples: Sequence[Example]) -> dict[str, tuple[float, Array]]:
        """Each metric's value, and its per-example statistics.

        Args:
            answers: one text for each example, which all have a reference.

        Returns:
            metric → value and (n, k) statistics; of label metrics over the examples with a label, if there are any.
        """
        found = {}
        pairs = list(zip(answers, examples, strict=True))
        for name, metric in self._metrics.items():
            if name in _LABELS:
                chosen = [(answer, each.label) for answer, each in pairs if each.label is not None]
            else:
                chosen = [(answer, each.reference or "") for answer, each in pairs]
            if not chosen:
                continue
            result = metric.compute(predictions=[a for a, _ in chosen], references=[truth for _, truth in chosen])
            found[name] = (float(result[name]), np.asarray(result["statistics"], dtype=np.float64))
        return found

    def value(self, name: str) -> Value:
        """The function from sums of a metric's statistics to its values."""
        found: Value = ratio if name == "loss" else self._metrics[name].value
        return found


def summarise(
    examples: Sequence[Example],
    prompts: Sequence[Prompt | None],
    measured: Mapping[str, Measured],
    scorer: Scorer,
    config: Evaluate,
    seed: int,
) -> tuple[dict[str, float], pl.DataFrame]:
    """Metrics of every model on every test set, and a line for each example and model.

    Args:
        measured: model → what it did on the examples.

    Returns:
        `<model>.<test set>.<metric>` → value, and the predictions.
    """
    metrics: dict[str, float] = {}
    lines: list[dict[str, Any]] = []
    for test_set in sorted({example.test_set for example in examples}):
        places = [place for place, example in enumerate(examples) if example.test_set == test_set]
        set_seed = xxhash.xxh3_64_intdigest(f"{seed}\x1f{test_set}".encode())
        statistics: dict[str, dict[str, Array]] = {}
        for model, result in measured.items():
            scores = _scores(places, examples, result, scorer)
            statistics[model] = {name: found for name, (_, found) in scores.items()}
            key = f"{model}.{test_set}"
            for name, (value, found) in scores.items():
                low, high = interval(found, scorer.value(name), config.bootstrap, set_seed)
                metrics |= {f"{key}.{name}": value, f"{key}.{name}_low": low, f"{key}.{name}_high": high}
            metrics |= _differences(key, statistics[model], statistics.get(BASE), scorer, config.bootstrap, set_seed)
            metrics[f"{key}.size_mb"] = result.size_mb
            if result.tokens_per_second is not None:
                metrics[f"{key}.tokens_per_second"] = result.tokens_per_second
            lines += _lines(model, places, examples, prompts, result, statistics[model])
    frame = pl.DataFrame(lines, schema=_PREDICTIONS)
    return metrics, frame.sort("test_set", "row_id", maintain_order=True)


def without_timings(metrics: Mapping[str, float]) -> dict[str, float]:
    """The metrics that are the same in every run of the same inputs."""
    return {name: value for name, value in metrics.items() if not name.endswith(".tokens_per_second")}


def _scores(
    places: Sequence[int], examples: Sequence[Example], result: Measured, scorer: Scorer
) -> dict[str, tuple[float, Array]]:
    found: dict[str, tuple[float, Array]] = {}
    losses = result.losses[places]
    if not np.isnan(losses).any():
        found["loss"] = (float(ratio(losses.sum(axis=0, keepdims=True))[0]), losses)
    answered = [place for place in places if result.answers[place] is not None]
    if answered:
        texts = [result.answers[place] or "" for place in answered]
        found |= scorer.of_answers(texts, [examples[place] for place in answered])
    return found


def _differences(
    key: str,
    ours: Mapping[str, Array],
    base: Mapping[str, Array] | None,
    scorer: Scorer,
    resamples: int,
    seed: int,
) -> dict[str, float]:
    """How much a model's value lies above the base model's, with the paired interval."""
    if base is None or base is ours:
        return {}
    found: dict[str, float] = {}
    for name in _COMPARED:
        if name in ours and name in base:
            value = scorer.value(name)
            sums = (each.sum(axis=0, keepdims=True) for each in (ours[name], base[name]))
            mine, theirs = (float(value(each)[0]) for each in sums)
            low, high = paired_interval(ours[name], base[name], value, resamples, seed)
            found |= {f"{key}.{name}_diff": mine - theirs, f"{key}.{name}_diff_low": low}
            found[f"{key}.{name}_diff_high"] = high
    return found


def _lines(
    model: str,
    places: Sequence[int],
    examples: Sequence[Example],
    prompts: Sequence[Prompt | None],
    result: Measured,
    statistics: Mapping[str, Array],
) -> Iterable[dict[str, Any]]:
    rank = 0  # among the answered examples, whose statistics these are
    for place in places:
        example, prompt, answer = examples[place], prompts[place], result.answers[place]
        summed, tokens = result.losses[place].tolist()
        scores = {
            name: float(statistics[name][rank, 0]) for name in _PER_EXAMPLE if answer is not None and name in statistics
        }
        rank += answer is not None
        yield {
            "row_id": example.row_id,
            "test_set": example.test_set,
            "model": model,
            "prompt_digest": None if prompt is None else digest(json.dumps(prompt.ids)),
            "prompt_cut": None if prompt is None else prompt.cut,
            "label": example.label,
            "reference": example.reference,
            "prediction": answer,
            "n_new_tokens": None if answer is None else result.new_tokens[place],
            "loss": summed / tokens if tokens > 0 else None,
            "n_tokens": int(tokens) if tokens > 0 else None,
            **scores,
        }


def _text_metrics(config: Evaluate, encoder: str | None) -> dict[str, Any]:
    from tasks.evaluate.metrics.bertscore import BertScoreF1
    from tasks.evaluate.metrics.classification import Accuracy, F1Macro
    from tasks.evaluate.metrics.rouge_l import RougeL
    from tasks.evaluate.metrics.sacre import Bleu, Chrf

    found: dict[str, Any] = {
        metric.key: metric() for metric in (Bleu, Chrf, RougeL, Accuracy, F1Macro) if metric.key in config.metrics
    }
    if encoder is not None and BertScoreF1.key in config.metrics:
        found[BertScoreF1.key] = BertScoreF1(encoder, config.encoder)
    return found
