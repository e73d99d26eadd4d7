"""The time of a training run and its bar; imported by the trainer, when it runs."""

import time
from collections.abc import Mapping
from typing import Any

from transformers import TrainerCallback

from tasks.kernels.progress import Bar


class TrainingClock(TrainerCallback):  # type: ignore[misc]
    """Time spent in optimiser steps, and a bar on a terminal; no checkpoint of a run that is over."""

    def __init__(self, label: str) -> None:
        self._label = label
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
        if state.global_step >= state.max_steps and not args.load_best_model_at_end:
            control.should_save = False
        return control

    def on_log(self, args: Any, state: Any, control: Any, logs: Mapping[str, float] | None = None, **_: Any) -> None:
        if logs and "loss" in logs:
            self._bar.note(f"loss {logs['loss']:.3f}")

    def on_train_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        self._bar.close()
