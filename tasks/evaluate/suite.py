"""The whole measurement of some models on some examples, whoever chose them: a run's stage, or one model on a file."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import polars as pl

from pipeline_config.model_schema import Evaluate
from tasks.evaluate.examples import Example
from tasks.evaluate.measure import context_length, measure_model
from tasks.evaluate.prompts import Prompt, make_prompts
from tasks.evaluate.scores import Scorer, summarise, without_timings
from tasks.kernels.models import model_folder
from tasks.kernels.precision import resolve_dtype


@dataclass(frozen=True)
class Evaluation:
    """What came of it.

    Attributes:
        metrics: `<model>.<test set>.<metric>` → value; `<metric>_low` and `_high` are a 95 % interval.
        predictions: a line for each example and model (`scores.py` has the columns).
        facts: counts, for gate and report.
    """

    metrics: dict[str, float]
    predictions: pl.DataFrame
    facts: dict[str, Any]

    @property
    def untimed(self) -> dict[str, float]:
        """The metrics that are the same in every run of the same inputs."""
        return without_timings(self.metrics)


def evaluate_examples(
    folders: Mapping[str, Path],
    tokenizer: Any,
    examples: Sequence[Example],
    config: Evaluate,
    data_dir: Path,
    seed: int,
) -> Evaluation:
    """Measure models on examples, one after the other.

    Args:
        folders: name → model folder; differences are to the one named `base`.
        tokenizer: shared by all of them; it made the examples' tokens.
        data_dir: where converted models are.
        seed: of the bootstrap.

    Raises:
        StageError: a loss is not finite.
        ModelError: a folder can't be loaded, or there is no chat template.
    """
    dtype = resolve_dtype(config.precision, place="evaluate.precision")
    prompts = make_prompts(tokenizer, examples, prompt_limit(list(folders.values()), config))
    measured = {
        name: measure_model(name, folder, tokenizer, examples, prompts, config, dtype)
        for name, folder in folders.items()
    }
    encoder = model_folder(config.encoder, data_dir) if _judges_meaning(config, prompts) else None
    metrics, predictions = summarise(examples, prompts, measured, Scorer(config, encoder), config, seed)
    return Evaluation(metrics, predictions, _facts(examples, prompts, predictions, dtype))


def prompt_limit(folders: Sequence[Path], config: Evaluate) -> int:
    """Tokens of a prompt at most: the configured ones, or what the shortest context leaves beside an answer."""
    contexts = [length for length in map(context_length, folders) if length is not None]
    room = min(contexts, default=config.max_prompt_tokens + config.max_new_tokens) - config.max_new_tokens
    return max(1, min(config.max_prompt_tokens, room))


def _judges_meaning(config: Evaluate, prompts: Sequence[Prompt | None]) -> bool:
    return "bertscore_f1" in config.metrics and any(prompt is not None for prompt in prompts)


def _facts(
    examples: Sequence[Example], prompts: Sequence[Prompt | None], predictions: pl.DataFrame, dtype: str
) -> dict[str, Any]:
    facts: dict[str, Any] = {"precision": dtype, "examples": {}, "answered": {}, "prompts_cut": {}, "empty_answers": {}}
    for test_set in sorted({example.test_set for example in examples}):
        here = [prompt for prompt, example in zip(prompts, examples, strict=True) if example.test_set == test_set]
        facts["examples"][test_set] = len(here)
        facts["answered"][test_set] = sum(prompt is not None for prompt in here)
        facts["prompts_cut"][test_set] = sum(prompt is not None and prompt.cut for prompt in here)
    empty = predictions.filter(pl.col("prediction") == "").group_by("model").len().sort("model")
    facts["empty_answers"] = dict(zip(empty["model"], empty["len"], strict=True))
    return facts
