"""What training will need, memory and time, before anything is loaded; and which method fits data and machine.

Memory is counted from shapes: weights, gradients, Adam's two moments, what the layers keep for the backward pass, and
the logits of a chunk. Time is floating-point operations over a speed, which past runs on the machine tell. The numbers
per token, width and layer were measured on small Llamas with hooks on saved tensors; `docs/experiments.md` has them,
and how far the estimates were off on SmolLM2-135M. No torch, no weights, no clock.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from math import prod
from typing import Literal

from pipeline_config.model_schema import Train
from tasks.kernels.schedule import count_steps
from tasks.train.adds import learning
from tasks.train.shape import ModelShape

Dtype = Literal["float32", "bfloat16"]
MB = 1 << 20

_PROCESS = 640 * MB  # interpreter, torch, transformers, what a run holds beside the model
_SAVED: Mapping[tuple[str, Dtype], tuple[float, float, float]] = {  # bytes a token and layer keeps, by d, f, kv
    ("full", "bfloat16"): (40.0, 9.7, 7.3),
    ("full", "float32"): (49.9, 19.7, 15.9),
    ("lora", "bfloat16"): (33.4, 9.9, 8.2),
    ("lora", "float32"): (42.4, 19.9, 16.4),
    ("frozen", "bfloat16"): (23.2, 7.9, 8.0),
    ("frozen", "float32"): (38.2, 15.7, 15.9),
}
_CHUNK = 64 * MB  # float32 logits at a time, see `losses.py`
_PACKED_SHARE = 0.96  # of a packed row that is tokens
_EVALUATIONS = 4
_GFLOPS_A_CORE: Mapping[Dtype, float] = {"bfloat16": 100.0, "float32": 60.0}
_RELATIVE_SPEED = {"full": 1.0, "lora": 1.0, "partial": 1.2, "adapter": 1.2, "prefix": 1.25, "prompt": 1.25}
_FORWARD_SPEED = 1.3  # without a backward pass
_UPDATE = 7e-9  # seconds that clipping and an optimiser's step take for each trained parameter


@dataclass(frozen=True)
class Workload:
    """What is learned from.

    Attributes:
        examples: train rows.
        tokens: of all of them.
        quantiles: share of the rows → tokens that they have at most, for shares 0.5, 0.9, 0.99, 1.
        trained_share: of the tokens.
        validation: validation rows.
    """

    examples: int
    tokens: int
    quantiles: Mapping[float, int]
    trained_share: float
    validation: int

    @property
    def longest(self) -> int:
        """Tokens of the longest row."""
        return self.quantiles[1.0]

    def longest_of(self, n: int) -> float:
        """Expected tokens of the longest of n rows drawn by chance: the mean of Q(v^(1/n)) over v in [0, 1]."""
        points = [0.0, *sorted(self.quantiles)]
        values = [0.0, *(float(self.quantiles[at]) for at in points[1:])]
        slices = 200
        total = 0.0
        for k in range(slices):
            u = ((k + 0.5) / slices) ** (1 / n)
            right = next(i for i, at in enumerate(points) if at >= u)
            low, high = points[right - 1], points[right]
            value = values[right - 1] + (values[right] - values[right - 1]) * (u - low) / (high - low)
            total += value / slices
        return total


@dataclass(frozen=True)
class Needs:
    """What a training run will need.

    Attributes:
        memory: bytes of the process at its peak.
        seconds: of the whole stage.
        steps: optimiser steps.
        tokens: real tokens that are passed through, all epochs.
        tokens_per_second: real tokens, evaluations left out.
        trained: parameters that learn.
    """

    memory: int
    seconds: float
    steps: int
    tokens: int
    tokens_per_second: float
    trained: int


def needs(config: Train, shape: ModelShape, load: Workload, dtype: Dtype, gflops: float) -> Needs:
    """What a configuration will need.

    Args:
        load: what it learns from.
        dtype: products are made in it.
        gflops: the machine's useful 10^9 operations a second in training.
    """
    what = learning(config, shape)
    steps, cost, speed = _steps(config, load), _cost(config, shape, load), gflops * 1e9
    seconds_a_step = cost.operations / speed + cost.update
    spent = steps * seconds_a_step
    if config.max_minutes is not None:
        spent = min(spent, config.max_minutes * 60)
    checks = math.ceil(steps / (config.eval_steps or math.ceil(steps / _EVALUATIONS)))
    checked = min(load.validation, config.max_eval_examples or load.validation) * load.tokens / max(1, load.examples)
    spent += checks * checked * _forward(shape, config.packed_length, load.trained_share) / (speed * _FORWARD_SPEED)
    return Needs(
        memory=round(memory(config, shape, load, dtype)),
        seconds=overhead(config, shape) + spent,
        steps=steps,
        tokens=round(steps * cost.tokens),
        tokens_per_second=cost.tokens / seconds_a_step,
        trained=what.trained,
    )


def measured_gflops(config: Train, shape: ModelShape, load: Workload, tokens_per_second: float) -> float:
    """The speed of a machine, 10^9 operations a second, that has trained a configuration at so many tokens a second."""
    cost = _cost(config, shape, load)
    seconds = cost.tokens / tokens_per_second
    return cost.operations / max(seconds - cost.update, seconds / 10) / 1e9


def memory(config: Train, shape: ModelShape, load: Workload, dtype: Dtype) -> float:
    """Bytes of the process at its peak."""
    what = learning(config, shape)
    is_frozen = config.method in ("lora", "adapter", "prefix", "prompt")
    is_half = dtype == "bfloat16"
    stored = 2 if is_half and is_frozen and not config.lora.use_pissa else 4
    weights = stored * shape.parameters + 4 * what.added
    states = (4 if config.optim == "adafactor" else 12) * what.trained  # gradient and two moments, float32
    casts = 2 * what.active_linear if is_half and stored == 4 else 0  # autocast keeps them until the step's end
    batch = config.per_device_train_batch_size
    seen = _steps(config, load) * batch * config.gradient_accumulation_steps * load.examples / _rows(config, load)
    longest = load.longest_of(max(1, min(round(seen), load.examples)))
    if config.packing and not what.is_prompted:
        widest = max(config.packed_length, longest)
    else:
        widest = longest + what.virtual_tokens
    tokens = batch * widest
    kind = config.method if config.method == "lora" else "frozen" if is_frozen else "full"
    by_width, by_inner, by_keys = _SAVED[kind, dtype]
    kept = by_width * shape.width + by_inner * shape.inner + by_keys * shape.kv_width
    head = shape.vocabulary * shape.width
    logits: float = (
        (3 * _CHUNK if is_half else 2 * _CHUNK) + (2 * head if is_half else 0) + 4 * head * what.trains_embedding
    )
    if what.is_prompted:
        logits = tokens * load.trained_share * shape.vocabulary * (14 if is_half else 12)
    merged = 8 * shape.parameters if config.method == "lora" else 0  # base and merged model, beside what malloc keeps
    return _PROCESS + weights + states + casts + tokens * what.active_layers * kept + logits + merged


def flop_per_token(config: Train, shape: ModelShape, width: float, trained_share: float) -> float:
    """Floating-point operations of one token, forward and backward; two for each number it is multiplied by.

    Args:
        width: tokens of a row: attention is computed over all of it, then masked.
        trained_share: of the tokens, whose logits are made.
    """
    what = learning(config, shape)
    linear = _linear(shape)
    share = what.active_layers / shape.layers
    head = shape.vocabulary * shape.width
    backward = share * (2 * linear + 2 * _attention(shape, width)) + 2 * what.trained_linear
    backward += trained_share * 2 * head * (1 + what.trains_embedding)
    return _forward(shape, width, trained_share) + backward + 4 * what.added * (not what.is_prompted)


def overhead(config: Train, shape: ModelShape) -> float:
    """Seconds beside the steps: import, loading, merging, writing."""
    writes = {"lora": 2, "full": 1, "partial": 1}.get(config.method, 0)  # what is attached is linked to its base
    return 2.0 + writes * shape.parameters / 50e6


def default_gflops(cores: int, dtype: Dtype) -> float:
    """The useful speed of a machine that has not trained yet, 10^9 operations a second."""
    return cores * _GFLOPS_A_CORE[dtype]


@dataclass(frozen=True)
class _Cost:
    """Of an optimiser step: real tokens, operations, and seconds that depend on no token."""

    tokens: float
    operations: float
    update: float


def _cost(config: Train, shape: ModelShape, load: Workload) -> _Cost:
    what = learning(config, shape)
    batch = config.per_device_train_batch_size
    is_packed = config.packing and not what.is_prompted
    real = load.tokens / _rows(config, load) * batch  # tokens of a batch
    width = float(config.packed_length) if is_packed else load.longest_of(batch)
    passed = real / _PACKED_SHARE if is_packed else batch * (width + what.virtual_tokens)  # with padding
    each = flop_per_token(config, shape, width, load.trained_share * real / passed) / _RELATIVE_SPEED[config.method]
    times = config.gradient_accumulation_steps
    return _Cost(times * real, times * passed * each, _UPDATE * what.trained)


def _rows(config: Train, load: Workload) -> int:
    """Rows of the loader: packed, or one for each example."""
    is_packed = config.packing and config.method not in ("prefix", "prompt")
    return max(1, math.ceil(load.tokens / (config.packed_length * _PACKED_SHARE)) if is_packed else load.examples)


def _steps(config: Train, load: Workload) -> int:
    return count_steps(_rows(config, load), config)


def _linear(shape: ModelShape) -> int:
    return sum(map(prod, shape.linear.values()))


def _attention(shape: ModelShape, width: float) -> float:
    return 4 * width * shape.width * shape.layers


def _forward(shape: ModelShape, width: float, trained_share: float) -> float:
    return 2 * _linear(shape) + _attention(shape, width) + trained_share * 2 * shape.vocabulary * shape.width
