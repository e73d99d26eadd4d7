"""What goes wrong in training for reasons of the configuration, told with what to change.

Imported by the trainer, when it runs.
"""

import torch

from pipeline_config.errors import StageError
from pipeline_config.model_schema import EarlyStopping, Optimisation


def check_needs_no_validation(settings: Optimisation, early_stopping: EarlyStopping | None, label: str) -> None:
    """Raise where what is asked for goes by a validation loss, and there are no rows for one."""
    wanted = "early_stopping" if early_stopping else ""
    wanted = wanted or ("reduce_lr_on_plateau" if settings.lr_scheduler_type == "reduce_lr_on_plateau" else "")
    if wanted:
        raise StageError(
            f"{wanted} goes by the validation loss, and there are no validation rows",
            place=label,
            cure=f"hold some out (split.validation: 0.1), or take {wanted} out of the configuration",
        )


def is_out_of_memory(error: BaseException) -> bool:
    """Whether memory ran out: on a processor torch says so in words only."""
    said = str(error).lower()
    return isinstance(error, torch.OutOfMemoryError | MemoryError) or "can't allocate memory" in said


def smaller(settings: Optimisation) -> str:
    """What to lower, with the batch kept as large as it was where that can be."""
    rows, steps = settings.per_device_train_batch_size, settings.gradient_accumulation_steps
    if rows > 1:
        return (
            f"set per_device_train_batch_size: {rows // 2} and gradient_accumulation_steps: {steps * 2} (the same "
            "losses, in less memory), or lower packed_length"
        )
    return "lower packed_length or tokenize.max_length, use method: lora, or take a smaller model"
