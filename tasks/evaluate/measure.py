"""One model on the chosen examples: its losses, its answers, its size and its speed."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from pipeline_config.errors import StageError
from pipeline_config.model_schema import Evaluate
from tasks.evaluate.bootstrap import Array
from tasks.evaluate.examples import Example
from tasks.evaluate.generate import answers, tokens_per_second
from tasks.evaluate.prompts import Prompt, end_ids
from tasks.kernels.likelihood import example_losses
from tasks.kernels.models import load_causal

OF_ANSWERS = frozenset({"bleu", "chrf", "rouge_l", "bertscore_f1", "f1_macro", "accuracy"})


@dataclass(frozen=True)
class Measured:
    """What one model did; all in the order of the examples.

    Attributes:
        losses: (n, 2) float64, summed negative log-likelihood and trained tokens; NaN where not measured.
        answers: text answered, or None for an example that is not to be answered.
        new_tokens: tokens of each answer.
        size_mb: weight files, in 10^6 bytes.
        tokens_per_second: of new tokens in a batch; None where nothing is to be answered.
    """

    losses: Array
    answers: list[str | None]
    new_tokens: list[int]
    size_mb: float
    tokens_per_second: float | None


def measure_model(
    name: str,
    folder: Path,
    tokenizer: Any,
    examples: Sequence[Example],
    prompts: Sequence[Prompt | None],
    config: Evaluate,
    dtype: str,
) -> Measured:
    """Load a model, measure it, and let it go.

    Args:
        name: of the model, for progress bars and errors.
        tokenizer: the one that made `examples` and `prompts`.
        dtype: `float32`, `bfloat16` or `float16`, of the weights and of the arithmetic.

    Raises:
        StageError: a loss is not finite, or the model's vocabulary is not the tokenizer's.
        ModelError: the folder can't be loaded.
    """
    model = _load(str(folder), dtype)
    _check_vocabulary(name, model, examples, prompts)
    losses = np.full((len(examples), 2), np.nan)
    if "loss" in config.metrics:
        ids, masks = [each.input_ids for each in examples], [each.loss_mask for each in examples]
        losses = example_losses(model, ids, masks, batch_size=config.batch_size, label=f"{name}: loss")
        _check_losses(name, losses, examples)
    asked = [place for place, prompt in enumerate(prompts) if prompt is not None]
    new, speed = _answer(name, model, tokenizer, [prompt.ids for prompt in prompts if prompt is not None], config)
    by_place = dict(zip(asked, new, strict=False))  # no answers where no metric wants them
    return Measured(
        losses,
        [_text(tokenizer, by_place.get(place)) for place in range(len(examples))],
        [len(by_place.get(place, [])) for place in range(len(examples))],
        weights_mb(folder),
        speed,
    )


def _answer(
    name: str, model: Any, tokenizer: Any, prompts: list[list[int]], config: Evaluate
) -> tuple[list[list[int]], float | None]:
    """New tokens for each prompt, and tokens a second."""
    if not prompts:
        return [], None
    ends = end_ids(tokenizer, model.generation_config.eos_token_id)
    new: list[list[int]] = []
    if OF_ANSWERS & set(config.metrics):
        most, size = config.max_new_tokens, config.batch_size
        new = answers(model, prompts, ends=ends, max_new_tokens=most, batch_size=size, label=f"{name}: answers")
    return new, tokens_per_second(model, prompts, ends=ends)


def weights_mb(folder: Path) -> float:
    """Size of a model's weight files in 10^6 bytes."""
    return sum(path.stat().st_size for path in sorted(folder.rglob("*.safetensors"))) / 1e6


def context_length(folder: Path) -> int | None:
    """Tokens that a model can read at once; None if its configuration does not say."""
    import json

    config = json.loads((folder / "config.json").read_text("utf-8"))
    length = config.get("max_position_embeddings") or config.get("text_config", {}).get("max_position_embeddings")
    return int(length) if length else None


def _load(folder: str, dtype: str) -> Any:
    import torch

    model = load_causal(folder, dtype)
    return model.to("cuda") if torch.cuda.is_available() else model


def _text(tokenizer: Any, ids: list[int] | None) -> str | None:
    return None if ids is None else str(tokenizer.decode(ids, skip_special_tokens=True)).strip()


def _check_vocabulary(name: str, model: Any, examples: Sequence[Example], prompts: Sequence[Prompt | None]) -> None:
    size = int(model.get_input_embeddings().weight.shape[0])
    rows = [example.input_ids for example in examples] + [prompt.ids for prompt in prompts if prompt is not None]
    highest = max((max(ids) for ids in rows if len(ids)), default=0)
    if highest >= size:
        raise StageError(
            f"the rows hold token {highest}, but {name} knows tokens up to {size - 1} only",
            place="evaluate",
            cure="models of one run share one vocabulary; set tokenize.model to the model that is trained",
        )


def _check_losses(name: str, losses: Array, examples: Sequence[Example]) -> None:
    bad = np.flatnonzero(~np.isfinite(losses[:, 0]))
    if bad.size:
        first = examples[int(bad[0])]
        raise StageError(
            f"the loss of {name} is not finite on {bad.size} of {len(examples)} rows, such as {first.row_id}",
            place=f"evaluate, test set {first.test_set}",
            cure="its training diverged: lower the learning rate, or evaluate with precision: fp32",
        )
