"""What a batch costs: a causal model's loss at learned positions, alone or beside a teacher's distribution.

A model is taken apart into decoder and vocabulary projection, so that the projection is made for learned positions
only (`losses.py`). That is exact where logits are the projection and nothing else, which is tried out once; a model
that scales or caps its logits afterwards goes through its own forward, handed the learned positions alone.
"""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from copy import copy
from dataclasses import dataclass
from typing import Any

import torch
from torch.nn import functional

from pipeline_config.errors import ModelError
from tasks.kernels.attached import is_prompted
from tasks.kernels.losses import Head, Teaching, completion_loss
from tasks.kernels.packing import IGNORED
from tasks.kernels.segments import attend_by_segment

Batch = Mapping[str, torch.Tensor]
_PROBE_TOKENS = 16


@dataclass(frozen=True)
class Teacher:
    """A teacher and how much it counts: see `losses.Teaching`."""

    model: Any
    alpha: float
    temperature: float


class Objective:
    """The loss of a batch, summed over learned tokens by their weight.

    Args:
        model: the model that learns; wrapped by peft or not.
        teacher: a model with the same vocabulary, or None.
        dtype: products are made in it (autocast); None: in the weights' own.
        smoothing: share of the target that is spread evenly over the vocabulary (Szegedy et al., 2016).

    Raises:
        ModelError: the model can't take packed rows, or the teacher has another vocabulary.
    """

    def __init__(
        self, model: Any, teacher: Teacher | None = None, dtype: torch.dtype | None = None, smoothing: float = 0.0
    ) -> None:
        self._dtype, self._smoothing = dtype, smoothing
        self._teacher = teacher
        for each in (model, *([teacher.model] if teacher else [])):
            if not is_prompted(each):
                attend_by_segment(causal(each))
        self._is_linear = logits_are_linear(model) and (teacher is None or logits_are_linear(teacher.model))
        if teacher is not None:
            sizes = [int(causal(each).get_output_embeddings().weight.shape[0]) for each in (model, teacher.model)]
            if sizes[0] != sizes[1]:
                raise ModelError(
                    f"the student has a vocabulary of {sizes[0]} and the teacher of {sizes[1]}",
                    place="distill",
                    cure="a student needs its teacher's tokenizer",
                )

    def to(self, device: torch.device) -> None:
        """Move the teacher, if there is one, to where the model that learns is."""
        if self._teacher is not None:
            self._teacher.model.to(device)

    def __call__(self, model: Any, batch: Batch) -> tuple[torch.Tensor, Mapping[str, torch.Tensor]]:
        """Loss (differentiable) and its parts, as sums.

        Args:
            batch: as `packing.collate` makes it.
        """
        learned = batch["labels"][:, 1:] != IGNORED
        targets, weights = batch["labels"][:, 1:][learned], batch["weights"][:, 1:][learned]
        kind = batch["input_ids"].device.type
        with torch.autocast(kind, dtype=self._dtype, enabled=self._dtype is not None):
            if not self._is_linear:
                return self._through_logits(model, batch, learned, targets, weights)
            states = hidden_states(model, batch)[:, :-1][learned]
            teaching = None
            if self._teacher is not None:
                with torch.no_grad():
                    seen = hidden_states(self._teacher.model, batch)[:, :-1][learned]
                head = head_of(self._teacher.model)
                teaching = Teaching(seen, head, self._teacher.alpha, self._teacher.temperature)
            return completion_loss(states, head_of(model), targets, weights, teaching, self._smoothing)

    def plain(self) -> "Objective":
        """The cross-entropy alone, not smoothed: what validation losses of different stages can be compared by."""
        plain = copy(self)
        plain._teacher, plain._smoothing = None, 0.0
        return plain

    def _through_logits(
        self, model: Any, batch: Batch, learned: torch.Tensor, targets: torch.Tensor, weights: torch.Tensor
    ) -> tuple[torch.Tensor, Mapping[str, torch.Tensor]]:
        logits = learned_logits(model, batch, learned).float()
        smoothing = self._smoothing
        cross_entropy = functional.cross_entropy(logits, targets, reduction="none", label_smoothing=smoothing)
        cross_entropy = (weights * cross_entropy).sum()
        if self._teacher is None:
            return cross_entropy, {"cross_entropy": cross_entropy.detach()}
        heat, share = self._teacher.temperature, self._teacher.alpha
        with torch.no_grad():
            seen = functional.log_softmax(learned_logits(self._teacher.model, batch, learned).float() / heat, dim=-1)
        own = functional.log_softmax(logits / heat, dim=-1)
        kl = (weights * functional.kl_div(own, seen, reduction="none", log_target=True).sum(-1)).sum()
        parts = {"cross_entropy": cross_entropy.detach(), "kl": kl.detach()}
        return (1 - share) * cross_entropy + share * heat**2 * kl, parts


def causal(model: Any) -> Any:
    """The causal language model itself, out of peft's wrapping."""
    return model.get_base_model() if hasattr(model, "get_base_model") else model


def decoder_of(model: Any) -> Any:
    """The part of a causal model that gives hidden states."""
    inner = causal(model)
    return getattr(inner, inner.base_model_prefix)


def head_of(model: Any) -> Head:
    """The vocabulary projection of a causal model."""
    layer = causal(model).get_output_embeddings()
    return Head(layer.weight, getattr(layer, "bias", None))


def hidden_states(model: Any, batch: Batch) -> torch.Tensor:
    """Last hidden states, (B, T, d)."""
    found: torch.Tensor = decoder_of(model)(
        input_ids=batch["input_ids"], position_ids=batch["position_ids"], use_cache=False
    ).last_hidden_state
    return found


def learned_logits(model: Any, batch: Batch, learned: torch.Tensor) -> torch.Tensor:
    """The model's own logits at the positions that predict a learned token, (n, V)."""
    width = batch["input_ids"].shape[1]  # virtual tokens may stand before them
    positions = {} if is_prompted(model) else {"position_ids": batch["position_ids"]}
    narrow: Callable[..., Any] = lambda _, arguments: (arguments[0][:, -width:][:, :-1][learned],)  # noqa: E731
    handle = causal(model).get_output_embeddings().register_forward_pre_hook(narrow)
    try:
        logits: torch.Tensor = model(input_ids=batch["input_ids"], use_cache=False, **positions).logits
    finally:
        handle.remove()
    return logits


def logits_are_linear(model: Any) -> bool:
    """Whether a model's logits are its projection of the last hidden states and nothing else; tried on a few tokens."""
    if is_prompted(model):
        return False
    batch = _probe(model)
    head = head_of(model)
    with torch.no_grad(), _evaluating(model):
        states = hidden_states(model, batch)
        own = model(input_ids=batch["input_ids"], position_ids=batch["position_ids"], use_cache=False).logits
        made = functional.linear(states, head.weight, head.bias)
    return bool(own.shape == made.shape and torch.allclose(own.float(), made.float(), rtol=1e-5, atol=1e-5))


def check_packing(model: Any) -> None:
    """Raise ModelError if packed examples would hear each other: changing one must leave the next exactly as it was."""
    attend_by_segment(causal(model))
    batch = _probe(model)
    half = _PROBE_TOKENS // 2
    positions = torch.arange(half, device=batch["input_ids"].device).repeat(2)[None]
    first = {"input_ids": batch["input_ids"], "position_ids": positions}
    changed = batch["input_ids"].clone()
    changed[:, :half] = changed[:, :half].flip(1)
    with torch.no_grad(), _evaluating(model):
        one, two = (
            hidden_states(model, each)[:, half:] for each in (first, {"input_ids": changed, "position_ids": positions})
        )
    if not torch.equal(one, two):
        raise ModelError(
            f"{type(causal(model)).__name__} does not keep packed examples apart",
            place="train.packing",
            cure="set packing: false",
        )


def _probe(model: Any) -> dict[str, torch.Tensor]:
    embeddings = causal(model).get_input_embeddings().weight
    ids = torch.arange(_PROBE_TOKENS, device=embeddings.device)[None] * 7 % embeddings.shape[0]
    return {"input_ids": ids, "position_ids": torch.arange(_PROBE_TOKENS, device=embeddings.device)[None]}


@contextmanager
def _evaluating(model: Any) -> Iterator[None]:
    """Without dropout inside the block; as it was afterwards."""
    training = model.training
    model.eval()
    try:
        yield
    finally:
        model.train(training)
