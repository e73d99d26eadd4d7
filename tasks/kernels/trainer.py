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

import logging
import math
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from transformers import Trainer, TrainerCallback, TrainingArguments
from transformers.trainer_callback import PrinterCallback, ProgressCallback, TrainerState

from pipeline_config.errors import StageError
from pipeline_config.model_schema import EarlyStopping, Optimisation
from tasks.kernels.checkpoints import drop_older, last_checkpoint, whole_checkpoint
from tasks.kernels.diagnosis import Diagnosis, curve_metrics, diagnose
from tasks.kernels.early_stopping import is_over
from tasks.kernels.like_lengths import LikeLengths
from tasks.kernels.noise import Noise
from tasks.kernels.objective import Batch, Objective
from tasks.kernels.optimisers import make_optimiser
from tasks.kernels.packing import IGNORED, NO_EXAMPLE, PackedRows, collate
from tasks.kernels.quiet import quiet
from tasks.kernels.rates import groups_by_rate
from tasks.kernels.schedule import count_steps, finds_its_step, plateau_factor, rate_factor
from tasks.kernels.training_arguments import training_arguments
from tasks.kernels.training_clock import TrainingClock
from tasks.kernels.training_trouble import check_needs_no_validation, is_out_of_memory, smaller

LOG = logging.getLogger("winnow")


@dataclass(frozen=True)
class Fit:
    """What a training run left beside the weights.

    Attributes:
        history: one line a log: `step`, `loss` and its parts (`cross_entropy`, `kl`), `learning_rate`, `grad_norm`,
            `tokens` and `examples` (seen so far); or `step`, `eval_loss`. Losses are nats per learned token.
        metrics: numbers for the run record.
        diagnosis: what the curves say.
    """

    history: list[dict[str, float]]
    metrics: dict[str, float]
    diagnosis: Diagnosis


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
        StageError: a loss is not a number, memory runs out, or validation rows are needed and there are none.
    """
    steps = count_steps(len(rows), settings)
    if validation is not None and not len(validation):
        validation = None
    if validation is None:
        check_needs_no_validation(settings, early_stopping, label)
    arguments = training_arguments(settings, learning_rate, seed, work, steps, validation is not None, early_stopping)
    resumed = last_checkpoint(work)
    with quiet():
        trainer = CompletionTrainer(model, objective, arguments, rows, validation, pad, settings, label)
        if early_stopping is not None and validation is not None:
            trainer.add_callback(_EarlyStop(early_stopping))
        try:
            if resumed is None or not trainer.was_over(resumed):
                with trainer.noise.on():
                    trainer.train(resume_from_checkpoint=str(resumed) if resumed else None)
        except (RuntimeError, MemoryError) as error:
            if not is_out_of_memory(error):
                raise
            raise StageError("out of memory", place=label, cure=smaller(settings)) from error
    if left := trainer.measured().get("steps_left_out"):
        LOG.warning("%s: max_minutes is up, %d of %d steps are left out", label, left, trainer.state.max_steps)
    history = trainer.history()
    found = diagnose(history, restored=trainer.args.load_best_model_at_end)
    LOG.info("%s: %s. %s %s", label, found.verdict, found.seen, found.advice)
    return Fit(history, {**trainer.measured(), **curve_metrics(history, found)}, found)


class _EarlyStop(TrainerCallback):  # type: ignore[misc]
    """Ends training by the validation losses so far, which are in the state that a checkpoint keeps."""

    def __init__(self, rule: EarlyStopping) -> None:
        self._rule = rule

    def on_evaluate(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        if is_over(validation_losses(state), self._rule):
            control.should_training_stop = True


def validation_losses(state: Any) -> list[float]:
    """The validation losses of a run so far, in order."""
    return [line["eval_loss"] for line in state.log_history if "eval_loss" in line]


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
        self._seen, self._clock = _Seen(), TrainingClock(label, settings.max_minutes)
        self.noise = Noise(model, settings, label)
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
        """As `optimisers` makes it; norms and biases never decay."""
        if self.optimizer is None:
            decaying = set(self.get_decay_parameter_names(self.model))
            named = [(name, p) for name, p in self.model.named_parameters() if p.requires_grad]
            groups = [
                {"params": [p for name, p in named if name in decaying], "weight_decay": self.args.weight_decay},
                {"params": [p for name, p in named if name not in decaying], "weight_decay": 0.0},
            ]
            groups = groups_by_rate(groups, self.args.learning_rate)
            self.optimizer = make_optimiser(groups, self._settings, self.args.learning_rate)
        return self.optimizer

    def create_scheduler(self, num_training_steps: int, optimizer: Any = None) -> torch.optim.lr_scheduler.LRScheduler:
        """The schedule of `rate_factor` or `plateau_factor`; none where the optimiser finds its own step."""
        if self.lr_scheduler is None:
            settings, optimizer = self._settings, optimizer or self.optimizer
            name, warm = settings.lr_scheduler_type, round(settings.warmup_ratio * num_training_steps)
            if finds_its_step(settings):
                from transformers.optimization import AdafactorSchedule

                self.lr_scheduler = AdafactorSchedule(getattr(optimizer, "optimizer", optimizer))  # out of accelerate
            elif name == "reduce_lr_on_plateau":
                self.lr_scheduler = torch.optim.lr_scheduler.LambdaLR(
                    optimizer, lambda step: plateau_factor(settings, step, warm, validation_losses(self.state))
                )
            else:
                self.lr_scheduler = torch.optim.lr_scheduler.LambdaLR(
                    optimizer, lambda step: rate_factor(name, step, warm, num_training_steps)
                )
            self._created_lr_scheduler = True
        return self.lr_scheduler

    def _get_learning_rate(self) -> float:
        """The rate of the step just made; one found from the gradients is known only now."""
        if finds_its_step(self._settings):
            scheduler = getattr(self.lr_scheduler, "scheduler", self.lr_scheduler)
            return float(scheduler.get_lr()[0])
        return float(super()._get_learning_rate())

    def _get_train_sampler(self, train_dataset: Any = None) -> Any:
        """Rows that are not packed go by like length."""
        if self._settings.packing or not self._settings.group_by_length:
            return super()._get_train_sampler(train_dataset)
        step = self.args.train_batch_size * self.args.gradient_accumulation_steps * self.args.world_size
        return LikeLengths((train_dataset or self.train_dataset).lengths, step, self.args.seed)

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
        self.noise.see(inputs)
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
        objective = self._objective.plain()
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

    def _save_checkpoint(self, model: Any, trial: Any) -> None:
        """Sealed when whole; those before it go after that (the Trainer would drop them first, by their times)."""
        folder = Path(self.args.output_dir) / f"checkpoint-{self.state.global_step}"
        with whole_checkpoint(folder, self._label):
            super()._save_checkpoint(model, trial)
        drop_older(folder, self.state.best_model_checkpoint)

    def was_over(self, checkpoint: Path) -> bool:
        """Whether training came to its end at a checkpoint; if so the model and its history are as they were then."""
        state = TrainerState.load_from_json(str(checkpoint / "trainer_state.json"))
        over: bool = state.stateful_callbacks["TrainerControl"]["args"]["should_training_stop"]
        if over:
            self.state = state
            if self.args.load_best_model_at_end:
                self._load_best_model()
            else:
                self._load_from_checkpoint(str(checkpoint))
        return over

    def _load_best_model(self) -> None:
        """From the work folder of now: a run may go on after its data folder was moved."""
        self.state.best_model_checkpoint = str(Path(self.args.output_dir) / Path(self.state.best_model_checkpoint).name)
        super()._load_best_model()

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
        if self._clock.is_up:
            metrics["steps_left_out"] = float(self.state.max_steps - self.state.global_step)
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


def learned_weight(batch: Batch) -> torch.Tensor:
    """The weight of a batch's learned tokens, summed."""
    return (batch["weights"] * (batch["labels"] != IGNORED)).sum()
