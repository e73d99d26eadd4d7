"""What `transformers.Trainer` is told: settings of a stage in its words.

Imported by the trainer, when it runs.
"""

import math
from pathlib import Path

import torch
from transformers import TrainingArguments

from pipeline_config.model_schema import EarlyStopping, Optimisation

_EVALUATIONS = 4  # in a run, where eval_steps says nothing
_LEAST_SAVE_STEPS = 10


def training_arguments(
    settings: Optimisation,
    learning_rate: float,
    seed: int,
    work: Path,
    steps: int,
    validates: bool,
    early_stopping: EarlyStopping | None,
) -> TrainingArguments:
    """Arguments of one training run.

    Args:
        work: folder of the checkpoints; which of them stay is not the Trainer's to decide.
        steps: optimiser steps in all.
        validates: whether there are rows for a validation loss.
    """
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
        restore_callback_states_from_checkpoint=True,  # how long early stopping has been waiting
        load_best_model_at_end=best,
        metric_for_best_model="eval_loss" if best else None,
        greater_is_better=False if best else None,
        remove_unused_columns=False,
        dataloader_pin_memory=torch.cuda.is_available(),
        disable_tqdm=True,
        report_to="none",
    )
