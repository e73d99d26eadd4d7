"""Which method fits the data and the machine, and why.

The rule: virtual tokens for a handful of rows; the whole model where its memory is there and the data hold more than
a LoRA can take in; a LoRA otherwise. How much that is: a trained parameter stores about two bits (Allen-Zhu and Li,
2024), a learned token brings about one (Schulman, LoRA without regret, 2025), so that a LoRA of N numbers is full at
2 N learned tokens. A rule of thumb, and said to be one.
"""

from dataclasses import dataclass

from pipeline_config.model_schema import Train
from tasks.train.adds import learning
from tasks.train.needs import Dtype, Workload, memory
from tasks.train.shape import ModelShape

FEW_ROWS = 64
_USABLE = 0.8  # of the machine's memory
_BITS_A_PARAMETER = 2


@dataclass(frozen=True)
class Advice:
    """A method, and why; `fits` says whether the configured one has the memory it needs."""

    method: str
    why: str
    fits: bool


def recommend(config: Train, shape: ModelShape, load: Workload, dtype: Dtype, room: int) -> Advice:
    """The method to take.

    Args:
        room: memory of the machine, bytes.
    """

    def needed(method: str) -> float:
        return memory(config.model_copy(update={"method": method}), shape, load, dtype)

    usable = room * _USABLE
    fits = needed(config.method) <= usable
    learned = round(load.tokens * load.trained_share * config.num_train_epochs)
    holds = _BITS_A_PARAMETER * learning(config.model_copy(update={"method": "lora"}), shape).trained
    if load.examples < FEW_ROWS and needed("prompt") <= usable:
        return Advice("prompt", f"{load.examples} rows are few: more parameters would learn them by heart", fits)
    if learned <= holds:
        why = f"{learned:,} learned tokens are within what a LoRA of this rank can take in (about {holds:,})"
        return Advice("lora", why, fits)
    if needed("full") <= usable:
        return Advice("full", f"{learned:,} learned tokens are more than a LoRA of this rank can take in", fits)
    gigabytes = needed("full") / 1e9
    return Advice("lora", f"full would suit the data, but needs {gigabytes:.1f} GB of {room / 1e9:.1f}", fits)
