"""How many optimiser steps a run has, and the learning rate at each."""

import math
from collections.abc import Sequence

from pipeline_config.model_schema import Optimisation, Schedule
from tasks.kernels.early_stopping import reductions


def count_steps(n_rows: int, settings: Optimisation) -> int:
    """Optimiser steps of a run on one device; `max_steps` goes before `num_train_epochs`, as everywhere."""
    if settings.max_steps:
        return settings.max_steps
    batches = math.ceil(n_rows / settings.per_device_train_batch_size)
    per_epoch = math.ceil(batches / settings.gradient_accumulation_steps)
    return max(1, math.ceil(per_epoch * settings.num_train_epochs))


def finds_its_step(settings: Optimisation) -> bool:
    """Whether the optimiser takes its step from the gradients, and no rate or schedule is given to it."""
    return settings.optim == "adafactor" and settings.learning_rate == "auto"


def shown_rate(settings: Optimisation, rate: float) -> float | str:
    """The learning rate as a manifest has it."""
    return "found from the gradients" if finds_its_step(settings) else rate


def plateau_factor(settings: Optimisation, step: int, warm: int, losses: Sequence[float]) -> float:
    """The share of the learning rate where it is lowered whenever the validation loss stops falling.

    Args:
        losses: validation losses so far; a rate is a function of them, so that a resumed run has the same.
    """
    if step < warm:
        return (step + 1) / warm
    return float(settings.plateau_factor ** reductions(losses, settings.plateau_patience))


def rate_factor(name: Schedule, step: int, warm: int, steps: int) -> float:
    """The share of the learning rate at a step: rising to 1 over `warm` steps, then falling towards 0 or staying.

    No step is spent at a rate of 0: neither the first, where libraries begin the rise, nor the last.

    Args:
        step: from 0.
    """
    if step < warm and name != "constant":
        return (step + 1) / warm
    if name in ("constant", "constant_with_warmup"):
        return 1.0
    left = 1 - (step - warm) / max(1, steps - warm)
    return left if name == "linear" else 0.5 * (1 - math.cos(math.pi * left))
