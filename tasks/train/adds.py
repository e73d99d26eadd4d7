"""How many numbers a method lets learn, and how far back through the layers their gradients go; from shapes alone."""

import re
from dataclasses import dataclass
from math import prod

from pipeline_config.model_schema import Lora, Train
from tasks.train.shape import ModelShape
from tasks.train.targets import chosen_parameters, layer_of


@dataclass(frozen=True)
class Learning:
    """What learns.

    Attributes:
        trained: parameters that learn.
        added: parameters beside the model's own, whether they learn or not.
        trained_linear: of the trained ones, those in the model's own matrices inside the layers.
        active_layers: layers that gradients go back through.
        active_linear: numbers in the matrices of those layers.
        trains_embedding: whether the embedding, or a head of its own, learns.
        virtual_tokens: stand before every example.
    """

    trained: int
    added: int
    trained_linear: int
    active_layers: int
    active_linear: int
    trains_embedding: bool
    virtual_tokens: int = 0

    @property
    def is_prompted(self) -> bool:
        """Whether virtual tokens stand before every example; nothing is packed then."""
        return self.virtual_tokens > 0


def learning(config: Train, shape: ModelShape) -> Learning:
    """What a configuration lets learn; the counts are those that a run reports as `trained_parameters`."""
    linear = {name: prod(each) for name, each in shape.linear.items()}
    if config.method in ("full", "partial"):
        names = set(shape.shapes) if config.method == "full" else chosen_parameters(list(shape.shapes), config.partial)
        own = [name for name in names if layer_of(name) is None and len(shape.shapes[name]) == 2]
        layers = [number for name in names if (number := layer_of(name)) is not None]
        reads = any("embed" in name or "wte" in name for name in own)
        lowest = 0 if reads else min(layers, default=shape.layers)
        active = [name for name in linear if (layer_of(name) or 0) >= lowest]
        return Learning(
            trained=sum(prod(shape.shapes[name]) for name in names),
            added=0,
            trained_linear=sum(linear[name] for name in names if name in linear),
            active_layers=shape.layers - lowest,
            active_linear=sum(linear[name] for name in active),
            trains_embedding=bool(own),
        )
    trained, frozen = _added(config, shape)
    virtual = config.prompt.num_virtual_tokens if config.method in ("prefix", "prompt") else 0
    return Learning(trained, trained + frozen, 0, shape.layers, sum(linear.values()), False, virtual)


def _added(config: Train, shape: ModelShape) -> tuple[int, int]:
    """Numbers that are added and learn, and that are added and do not."""
    if config.method == "lora":
        chosen = [each for name, each in shape.linear.items() if _is_target(name.removesuffix(".weight"), config.lora)]
        rank = config.lora.lora_r
        if config.lora.use_vera:
            widest = max((each[1] for each in chosen), default=0) + max((each[0] for each in chosen), default=0)
            return sum(rank + each[0] for each in chosen), rank * widest
        return sum(rank * sum(each) + each[0] * config.lora.use_dora for each in chosen), 0
    if config.method == "adapter":
        inner = max(1, shape.width // config.adapter.reduction_factor)
        behind = 2 if config.adapter.placement == "houlsby" else 1
        return shape.layers * behind * (2 * shape.width * inner + inner + shape.width), 0
    if config.method == "prefix":
        return config.prompt.num_virtual_tokens * shape.layers * 2 * shape.kv_width, 0
    return (config.prompt.num_virtual_tokens * shape.width, 0) if config.method == "prompt" else (0, 0)


def _is_target(module: str, config: Lora) -> bool:
    if isinstance(config.lora_target, str):
        return config.lora_target == "all-linear" or re.fullmatch(config.lora_target, module) is not None
    return any(f".{module}".endswith(f".{target}") for target in config.lora_target)
