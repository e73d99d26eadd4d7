"""Fine-tuning through `transformers.Trainer`: its loop, checkpoints and schedules, our data path and loss.

What differs from the Trainer's own ways, and why:
- The loss of an optimiser step is the weighted mean over all its learned tokens, however they fall into rows and
  accumulated batches, so that accumulation and packing change nothing but speed.
- The validation loss is a mean over tokens too (the Trainer averages batches), and keeps no logits. It is the plain
  cross-entropy whatever is trained for, so that stages compare.
- A loss that is not a number stops the run and names the rows; the Trainer would log an average and go on.
- Progress goes to a terminal's standard error or nowhere; nothing is printed on standard output.

Imported by the stages that train, when they run.
"""

import json
import math
import shutil
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from transformers import EarlyStoppingCallback, Trainer, TrainerCallback, TrainingArguments
from transformers.trainer_callback import PrinterCallback, ProgressCallback

from pipeline_config.errors import StageError
from pipeline_config.model_schema import EarlyStopping, Optimisation, Schedule
from tasks.kernels.objective import Batch, Objective
from tasks.kernels.packing import IGNORED, NO_EXAMPLE, PackedRows, collate
from tasks.kernels.quiet import quiet

_EVALUATIONS = 4  # in a run, where eval_steps says nothing
_LEAST_SAVE_STEPS = 10
_STATE = "trainer_state.json"  # written last into a checkpoint: one without it is half a checkpoint


@dataclass(frozen=True)
class Fit:
    """What a training run left beside the weights.

    Attributes:
        history: one line a log: `step`, `loss` and its parts (`cross_entropy`, `kl`), `learning_rate`, `grad_norm`,
            `tokens` and `examples` (seen so far); or `step`, `eval_loss`. Losses are nats per learned token.
        metrics: numbers for the run record.
    """

    history: list[dict[str, float]]
    metrics: dict[str, float]


@dataclass
class _Seen:
    """Sums since the last log."""

    tokens: int = 0
    examples: int = 0
    weight: float = 0.0
    parts: dict[str, float] = field(default_factory=dict)


def fit(
    model: Any,
    objective: Objective,
    rows: PackedRows,
    validation: PackedRows | None,
    settings: Optimisation,
    *,
    learning_rate: float,
    seed: int,
    pad: int,
    work: Path,
    label: str,
    early_stopping: EarlyStopping | None = None,
) -> Fit:
    """Train a model in place.

    Args:
        model: what is trained; parameters that need no gradient stay as they are.
        validation: rows for the validation loss; None: none is measured.
        pad: id to pad with; its value is never learned or attended to.
        work: folder of the checkpoints; training goes on from the last whole one in it.
        label: stage and model, for the progress bar and errors.
        early_stopping: stop by the validation loss, and go back to the best checkpoint.

    Raises:
        StageError: a loss is not a number, or memory runs out.
    """
    steps = count_steps(len(rows), settings)
    if validation is not None and not len(validation):
        validation = None
    arguments = _arguments(settings, learning_rate, seed, work, steps, validation is not None, early_stopping)
    resumed = last_checkpoint(work)
    with quiet():
        trainer = CompletionTrainer(model, objective, arguments, rows, validation, pad, settings, label)
        if early_stopping is not None and validation is not None:
            trainer.add_callback(EarlyStoppingCallback(early_stopping.patience, early_stopping.min_delta))
        try:
            trainer.train(resume_from_checkpoint=str(resumed) if resumed else None)
        except torch.OutOfMemoryError as error:
            raise StageError(
                "out of memory",
                place=label,
                cure="lower per_device_train_batch_size or packed_length, and raise gradient_accumulation_steps",
            ) from error
    return Fit(trainer.history(), trainer.measured())


def count_steps(n_rows: int, settings: Optimisation) -> int:
    """Optimiser steps of a run on one device; `max_steps` goes before `num_train_epochs`, as everywhere."""
    if settings.max_steps:
        return settings.max_steps
    batches = math.ceil(n_rows / settings.per_device_train_batch_size)
    per_epoch = math.ceil(batches / settings.gradient_accumulation_steps)
    return max(1, math.ceil(per_epoch * settings.num_train_epochs))


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


def last_checkpoint(work: Path) -> Path | None:
    """The newest whole checkpoint of a folder; halves left by a kill are removed."""
    whole: dict[int, Path] = {}
    for folder in work.glob("checkpoint-*"):
        try:
            whole[int(json.loads((folder / _STATE).read_text())["global_step"])] = folder
        except (OSError, ValueError, KeyError):
            shutil.rmtree(folder, ignore_errors=True)
    return whole[max(whole)] if whole else None


def clear_checkpoints(work: Path) -> None:
    """Remove the checkpoints of a run that is over: a forced run of the same settings starts from the beginning."""
    for folder in work.glob("checkpoint-*"):
        shutil.rmtree(folder, ignore_errors=True)


class CompletionTrainer(Trainer):  # type: ignore[misc]
    """A Trainer over packed rows and an `Objective`."""

    loss_is_scaled_for_ga = True  # normalised over the whole accumulated batch below
    optimizer: Any
    lr_scheduler: Any
    control: Any
    state: Any

    def __init__(
        self,
        model: Any,
        objective: Objective,
        arguments: TrainingArguments,
        rows: PackedRows,
        validation: PackedRows | None,
        pad: int,
        settings: Optimisation,
        label: str,
    ) -> None:
        self._objective, self._settings, self._label = objective, settings, label
        self._seen, self._clock = _Seen(), _Clock(label)
        super().__init__(
            model=model,
            args=arguments,
            train_dataset=rows,
            eval_dataset=validation,
            data_collator=lambda chosen: collate(chosen, pad),
        )
        objective.to(self.args.device)
        for callback in (PrinterCallback, ProgressCallback):
            self.remove_callback(callback)
        self.add_callback(self._clock)

    def create_optimizer(self, model: Any = None) -> torch.optim.Optimizer:
        """Adam with L2 in the gradient, or AdamW with decoupled decay; norms and biases never decay."""
        if self.optimizer is None:
            decaying = set(self.get_decay_parameter_names(self.model))
            named = [(name, p) for name, p in self.model.named_parameters() if p.requires_grad]
            groups = [
                {"params": [p for name, p in named if name in decaying], "weight_decay": self.args.weight_decay},
                {"params": [p for name, p in named if name not in decaying], "weight_decay": 0.0},
            ]
            kind = torch.optim.Adam if self._settings.optim == "adam" else torch.optim.AdamW
            self.optimizer = kind([g for g in groups if g["params"]], lr=self.args.learning_rate, fused=True)
        return self.optimizer

    def create_scheduler(self, num_training_steps: int, optimizer: Any = None) -> torch.optim.lr_scheduler.LRScheduler:
        """The schedule of `rate_factor`."""
        if self.lr_scheduler is None:
            name, warm = self._settings.lr_scheduler_type, round(self._settings.warmup_ratio * num_training_steps)
            self.lr_scheduler = torch.optim.lr_scheduler.LambdaLR(
                optimizer or self.optimizer, lambda step: rate_factor(name, step, warm, num_training_steps)
            )
            self._created_lr_scheduler = True
        return self.lr_scheduler

    def get_batch_samples(self, epoch_iterator: Any, num_batches: int, device: torch.device) -> tuple[list[Any], Any]:
        """The batches of one optimiser step, and the weight of all their learned tokens."""
        batches, _ = super().get_batch_samples(epoch_iterator, num_batches, device)
        weight = sum(learned_weight(batch) for batch in batches) if batches else torch.zeros(())
        weight = torch.as_tensor(weight, device=device)
        if self.args.world_size > 1:
            weight = self.accelerator.gather(weight).sum()
        return batches, weight

    def compute_loss(
        self, model: Any, inputs: Batch, return_outputs: bool = False, num_items_in_batch: Any = None
    ) -> torch.Tensor:
        """A batch's share of the step's mean loss."""
        loss, parts = self._objective(model, inputs)
        weight = float(learned_weight(inputs))
        total = weight if num_items_in_batch is None else float(num_items_in_batch)
        if not math.isfinite(float(loss.detach())):
            raise self._not_finite(inputs, float(loss.detach()))
        self._seen.tokens += int(inputs["n_tokens"].sum())
        self._seen.examples += int((inputs["members"] != NO_EXAMPLE).sum())
        self._seen.weight += weight
        for name, part in parts.items():
            self._seen.parts[name] = self._seen.parts.get(name, 0.0) + float(part)
        return loss * (self.accelerator.num_processes / max(total, 1e-9))

    def evaluate(
        self, eval_dataset: Any = None, ignore_keys: Any = None, metric_key_prefix: str = "eval"
    ) -> dict[str, float]:
        """The validation loss: cross-entropy, nats per learned token, by weight; memory is flat in the rows."""
        objective = self._objective.without_teacher()
        self.model.eval()
        summed = total = 0.0
        for batch in self.get_eval_dataloader(eval_dataset):
            with torch.no_grad():
                loss, _ = objective(self.model, self._prepare_inputs(batch))
            summed += float(loss)
            total += float(learned_weight(batch))
        metrics = {f"{metric_key_prefix}_loss": summed / max(total, 1e-9)}
        self.log(dict(metrics))
        self.control = self.callback_handler.on_evaluate(self.args, self.state, self.control, metrics)
        return metrics

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        """Add what was seen since the last log; losses of a step come with their parts."""
        if "loss" in logs:
            logged = [line for line in self.state.log_history if "tokens" in line]
            before = logged[-1] if logged else {}
            logs["tokens"] = before.get("tokens", 0) + self._seen.tokens
            logs["examples"] = before.get("examples", 0) + self._seen.examples
            for name, part in self._seen.parts.items():
                logs[name] = part / max(self._seen.weight, 1e-9)
            self._seen = _Seen()
        super().log(logs, start_time)

    def history(self) -> list[dict[str, float]]:
        """The losses, without times: the same run gives the same lines."""
        lines = [line for line in self.state.log_history if "loss" in line or "eval_loss" in line]
        return [{name: value for name, value in line.items() if name != "epoch"} for line in lines]

    def measured(self) -> dict[str, float]:
        """Numbers for the run record."""
        lines = self.history()
        steps = [line for line in lines if "loss" in line]
        found = [line["eval_loss"] for line in lines if "eval_loss" in line]
        metrics = {
            "steps": float(self.state.global_step),
            "loss_first": steps[0]["loss"],
            "loss_last": steps[-1]["loss"],
            "tokens_seen": float(steps[-1]["tokens"]),
            "rows_seen": float(steps[-1]["examples"]),
            "tokens_per_second": self._clock.tokens_per_second(steps),
        }
        if found:
            kept = self.state.best_metric if self.args.load_best_model_at_end else None
            metrics |= {"eval_loss": found[-1] if kept is None else float(kept), "eval_loss_first": found[0]}
        return metrics

    def _not_finite(self, batch: Batch, value: float) -> StageError:
        numbers = sorted({int(n) for n in batch["members"].flatten().tolist() if n != NO_EXAMPLE})
        names = [str(self.train_dataset.examples.row_ids[n]) for n in numbers]
        return StageError(
            f"the loss is {value} at step {self.state.global_step + 1}, in a batch of rows {', '.join(names)}",
            place=self._label,
            cure="lower learning_rate, set max_grad_norm: 1, or use precision: fp32; look at these rows with "
            "`winnow explain`",
        )


class _Clock(TrainerCallback):  # type: ignore[misc]
    """Time spent in optimiser steps, and a bar on a terminal; no checkpoint of a run that is over."""

    def __init__(self, label: str) -> None:
        self._label = label
        self._bar: Any = None
        self._started = self._seconds = 0.0
        self._from = 0

    def tokens_per_second(self, steps: list[dict[str, float]]) -> float:
        """Real tokens per second of this session, evaluations and checkpoints not counted."""
        before = [line["tokens"] for line in steps if line["step"] <= self._from]
        return (steps[-1]["tokens"] - (before[-1] if before else 0)) / max(self._seconds, 1e-9)

    def on_train_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        from tqdm import tqdm

        self._from = state.global_step
        quiet_here = not sys.stderr.isatty()
        self._bar = tqdm(
            total=state.max_steps,
            initial=self._from,
            desc=self._label,
            file=sys.stderr,
            disable=quiet_here,
            leave=False,
        )

    def on_step_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        self._started = time.perf_counter()

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> Any:
        self._seconds += time.perf_counter() - self._started
        self._bar.update(1)
        if state.global_step >= state.max_steps and not args.load_best_model_at_end:
            control.should_save = False
        return control

    def on_log(self, args: Any, state: Any, control: Any, logs: Mapping[str, float] | None = None, **_: Any) -> None:
        if logs and "loss" in logs:
            self._bar.set_postfix_str(f"loss {logs['loss']:.3f}", refresh=False)

    def on_train_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        self._bar.close()


def learned_weight(batch: Batch) -> torch.Tensor:
    """The weight of a batch's learned tokens, summed."""
    return (batch["weights"] * (batch["labels"] != IGNORED)).sum()


def _arguments(
    settings: Optimisation,
    learning_rate: float,
    seed: int,
    work: Path,
    steps: int,
    validates: bool,
    early_stopping: EarlyStopping | None,
) -> TrainingArguments:
    evaluate = settings.eval_steps or math.ceil(steps / _EVALUATIONS)
    best = early_stopping is not None and validates
    save = evaluate if best else settings.save_steps or max(_LEAST_SAVE_STEPS, evaluate)
    return TrainingArguments(
        output_dir=str(work),
        per_device_train_batch_size=settings.per_device_train_batch_size,
        per_device_eval_batch_size=settings.per_device_train_batch_size,
        gradient_accumulation_steps=settings.gradient_accumulation_steps,
        learning_rate=learning_rate,
        max_steps=steps,
        max_grad_norm=settings.max_grad_norm,
        weight_decay=settings.weight_decay,
        fp16=settings.precision == "fp16",  # for its loss scaling; the casting itself is the objective's
        seed=seed,
        data_seed=seed,
        logging_steps=1,
        logging_nan_inf_filter=False,
        eval_strategy="steps" if validates else "no",
        eval_steps=evaluate if validates else None,
        save_strategy="steps",
        save_steps=save,
        save_total_limit=1,
        load_best_model_at_end=best,
        metric_for_best_model="eval_loss" if best else None,
        greater_is_better=False if best else None,
        remove_unused_columns=False,
        dataloader_pin_memory=torch.cuda.is_available(),
        disable_tqdm=True,
        report_to="none",
    )
