"""The `losses` of a stage made ready: what is summed at each position, and what is computed from a whole batch.

Losses of a batch (contrastive ones and the user's own) are means; each counts as its mean times the learned weight of
the batch, so that it stands beside the others per learned token, and a step's value is the mean over its batches.
Contrastive losses compare within a batch: with accumulation there are fewer negatives than in one large batch.

Imported by the trainers only.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import polars as pl
import torch
from numpy.typing import NDArray

from pipeline_config.errors import DataError
from pipeline_config.loss_schema import DIVERGENCES, Loss
from pipeline_config.model_schema import Optimisation
from tasks.kernels.contrastive import pooled, simcse, supervised
from tasks.kernels.losses import Divergence, Mix
from tasks.kernels.own_loss import Learned, load_own
from tasks.kernels.packing import Examples
from tasks.kernels.training_rows import TrainingRows

TEACHER_HEAT, SIMILARITY_HEAT = 2.0, 0.05
Again = Callable[[], torch.Tensor]  # the states of a second pass
BatchLoss = Callable[[Learned, Again], torch.Tensor]


@dataclass(frozen=True)
class Losses:
    """What an `Objective` minimises.

    Attributes:
        mix: summed over positions.
        batchwise: name → weight and loss of a whole batch.
        emphasis: (n_examples,) float32 by which the cross-entropy of an example is multiplied, or None.
    """

    mix: Mix
    batchwise: Mapping[str, tuple[float, BatchLoss]]
    emphasis: torch.Tensor | None = None


def plain_losses(settings: Optimisation) -> Losses:
    """The cross-entropy alone."""
    return Losses(Mix(smoothing=settings.label_smoothing_factor), {})


def taught_losses(settings: Optimisation, alpha: float, temperature: float) -> Losses:
    """(1 - alpha) of the cross-entropy and alpha of KL(teacher ‖ student)."""
    divergence = Divergence("kl", alpha, temperature)
    return Losses(Mix(1 - alpha, (divergence,), settings.label_smoothing_factor), {})


def listed_losses(settings: Optimisation, rows: TrainingRows, place: str) -> Losses:
    """The losses of a configuration that lists some.

    Args:
        place: stage, and student if it is one, for errors.

    Raises:
        ConfigError: a function that can't be imported.
        DataError: classes are needed, and no train row has one; or one is named that no train row has.
    """
    share, emphasis = 0.0, None
    divergences: list[Divergence] = []
    batchwise: dict[str, tuple[float, BatchLoss]] = {}
    for number, loss in enumerate(settings.losses):
        where = f"{place}.losses.{number}"
        if loss.name == "cross_entropy":
            share = loss.weight
            if loss.class_weights is not None:
                emphasis = torch.from_numpy(class_emphasis(loss, rows.train.examples, rows.classes[loss.by], where))
        elif loss.name in DIVERGENCES:
            divergences.append(Divergence(loss.name, loss.weight, loss.temperature or TEACHER_HEAT))
        else:
            batchwise[loss.shown] = (loss.weight, _batchwise(loss, rows, where))
    return Losses(Mix(share, tuple(divergences), settings.label_smoothing_factor), batchwise, emphasis)


def class_emphasis(loss: Loss, examples: Examples, classes: pl.Series, place: str) -> NDArray[np.float32]:
    """By what the cross-entropy of each example is multiplied: (n,), its mean over the learned weight is 1.

    `balanced` is n / (k · n_c) for a class of n_c of the n examples that have one of the k classes; those without a
    class have the mean's weight, 1, before scaling.
    """
    numbers, names = _numbered(classes, loss.by, place)
    if isinstance(loss.class_weights, dict):
        if unknown := [name for name in loss.class_weights if name not in names]:
            there = ", ".join(names[:8])
            raise DataError(
                f"no train row is of {loss.by} {unknown[0]!r}",
                place=f"{place}.class_weights",
                cure=f"there are: {there}",
            )
        by_class = np.array([loss.class_weights.get(name, 1.0) for name in names])
    else:
        counts = np.bincount(numbers[numbers >= 0], minlength=len(names))
        by_class = counts.sum() / (len(names) * counts)
    found = np.where(numbers >= 0, by_class[numbers], 1.0)
    learned = np.add.reduceat(examples.mask.astype(np.float64), examples.offsets[:-1]) * examples.weights
    total = float((learned * found).sum())
    if total <= 0:
        raise DataError(
            "every learned token has weight 0", place=f"{place}.class_weights", cure="give some class more than 0"
        )
    scaled: NDArray[np.float32] = (found * learned.sum() / total).astype(np.float32)
    return scaled


def example_of(batch: Mapping[str, Any], learned: torch.Tensor) -> torch.Tensor:
    """Which example of the data set each learned token belongs to, (n,) int64.

    Args:
        batch: as `packing.collate` makes it: positions start at 0 with each example of a row.
        learned: (B, T - 1) bool, of the tokens from the second on.
    """
    nth = (batch["position_ids"] == 0).cumsum(1) - 1
    members: torch.Tensor = batch["members"]
    return members.gather(1, nth.clamp(max=members.shape[1] - 1))[:, 1:][learned]


def _batchwise(loss: Loss, rows: TrainingRows, place: str) -> BatchLoss:
    if loss.is_own:
        own = load_own(loss, f"{place}.name")
        return lambda learned, _: own(learned)
    heat = loss.temperature or SIMILARITY_HEAT
    if loss.positives == "dropout":

        def to_itself(learned: Learned, again: Again) -> torch.Tensor:
            one, _ = pooled(learned.states, learned.example)
            two, _ = pooled(again(), learned.example)
            return simcse(one, two, heat)

        return to_itself
    classes = torch.from_numpy(_numbered(rows.classes[loss.by], loss.by, place)[0])

    def to_its_class(learned: Learned, _: Again) -> torch.Tensor:
        states, examples = pooled(learned.states, learned.example)
        return supervised(states, classes.to(examples.device)[examples], heat)

    return to_its_class


def _numbered(classes: pl.Series, by: str, place: str) -> tuple[NDArray[np.int64], Sequence[str]]:
    """The class of each example as a number, -1 for none, and the names by number."""
    names = sorted(str(name) for name in classes.drop_nulls().unique().to_list())
    if not names:
        raise DataError(
            f"no train row has a {by}", place=place, cure="map one in ingest.sources.fields, or go by another"
        )
    number = {name: n for n, name in enumerate(names)}
    return np.array([-1 if name is None else number[str(name)] for name in classes.to_list()], dtype=np.int64), names
