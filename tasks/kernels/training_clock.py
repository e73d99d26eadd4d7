"""The time of a training run and its bar; imported by the trainer, when it runs."""

import math
import time
from collections.abc import Mapping
from typing import Any

from transformers import TrainerCallback

from tasks.kernels.progress import Bar


class TrainingClock(TrainerCallback):  # type: ignore[misc]
    """Time spent in optimiser steps, its limit, and a bar on a terminal; no checkpoint of a run that is over.

    Args:
        label: of the bar.
        max_minutes: ends training at the step after which this time is used up.

    Attributes:
        is_up: whether the limit ended training.
    """

    def __init__(self, label: str, max_minutes: float | None) -> None:
        self._label = label
        self._limit = math.inf if max_minutes is None else max_minutes * 60
        self.is_up = False
        self._bar: Any = None
        self._started = self._seconds = 0.0
        self._from = 0

    def tokens_per_second(self, steps: list[dict[str, float]]) -> float:
        """Real tokens per second of this session, evaluations and checkpoints not counted; 0 without a step."""
        if not self._seconds:
            return 0.0
        before = [line["tokens"] for line in steps if line["step"] <= self._from]
        return (steps[-1]["tokens"] - (before[-1] if before else 0)) / self._seconds

    def on_train_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        self._from = state.global_step
        self._bar = Bar(self._label, state.max_steps, self._from)

    def on_step_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        self._started = time.perf_counter()

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> Any:
        self._seconds += time.perf_counter() - self._started
        self._bar.advance()
        is_over = state.global_step >= state.max_steps
        if self._seconds >= self._limit and not is_over:
            self.is_up = is_over = control.should_training_stop = control.should_log = True
            control.should_evaluate = args.eval_strategy != "no"
            control.should_save = args.load_best_model_at_end
        if is_over and not args.load_best_model_at_end:
            control.should_save = False
        return control

    def on_log(self, args: Any, state: Any, control: Any, logs: Mapping[str, float] | None = None, **_: Any) -> None:
        if logs and "loss" in logs:
            self._bar.note(f"loss {logs['loss']:.3f}")

    def on_train_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        self._bar.close()
