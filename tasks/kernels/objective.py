"""What a batch costs: a causal model's losses at learned positions, alone or beside a teacher, and of the whole batch.

A model is taken apart into decoder and vocabulary projection, so that the projection is made for learned positions
only (`losses.py`). That is exact where logits are the projection and nothing else, which is tried out once; a model
that scales or caps its logits afterwards goes through its own forward, handed the learned positions alone.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from copy import copy
from dataclasses import replace
from typing import Any

import torch
from torch.nn import functional

from pipeline_config.errors import ModelError
from tasks.kernels.attached import is_prompted
from tasks.kernels.loss_list import Again, Losses, example_of
from tasks.kernels.losses import Head, Mix, Teaching, completion_loss, logit_loss
from tasks.kernels.own_loss import Learned
from tasks.kernels.packing import IGNORED
from tasks.kernels.segments import attend_by_segment

Batch = Mapping[str, torch.Tensor]
_PROBE_TOKENS = 16


class Objective:
    """The loss of a batch, summed over learned tokens by their weight.

    Args:
        model: the model that learns; wrapped by peft or not.
        losses: what is minimised (default: the cross-entropy).
        teacher: a model with the same vocabulary, or None.
        dtype: products are made in it (autocast); None: in the weights' own.
        place: stage, for errors.

    Raises:
        ModelError: the model can't take packed rows, or the teacher has another vocabulary.
    """

    def __init__(
        self,
        model: Any,
        losses: Losses | None = None,
        teacher: Any = None,
        dtype: torch.dtype | None = None,
        place: str = "train",
    ) -> None:
        self._dtype, self._losses, self._teacher = dtype, losses or Losses(Mix(), {}), teacher
        for each in (model, *([] if teacher is None else [teacher])):
            if not is_prompted(each):
                attend_by_segment(causal(each))
        self._is_linear = logits_are_linear(model) and (teacher is None or logits_are_linear(teacher))
        if teacher is not None:
            sizes = [int(causal(each).get_output_embeddings().weight.shape[0]) for each in (model, teacher)]
            if sizes[0] != sizes[1]:
                raise ModelError(
                    f"the student has a vocabulary of {sizes[0]} and the teacher of {sizes[1]}",
                    place=place,
                    cure="a student needs its teacher's tokenizer",
                )

    def to(self, device: torch.device) -> None:
        """Move the teacher, if there is one, to where the model that learns is."""
        if self._teacher is not None:
            self._teacher.to(device)

    def __call__(self, model: Any, batch: Batch) -> tuple[torch.Tensor, Mapping[str, torch.Tensor]]:
        """Loss (differentiable) and its parts, as sums.

        Args:
            batch: as `packing.collate` makes it.
        """
        learned = batch["labels"][:, 1:] != IGNORED
        targets, weights = batch["labels"][:, 1:][learned], batch["weights"][:, 1:][learned]
        kind, mix, given = batch["input_ids"].device.type, self._losses.mix, self._losses.emphasis
        emphasis = None if given is None else given.to(weights.device)[example_of(batch, learned)]
        with torch.autocast(kind, dtype=self._dtype, enabled=self._dtype is not None):
            if self._is_linear:
                states = hidden_states(model, batch)[:, :-1][learned]
                teaching = self._teaching(batch, learned) if mix.divergences else None
                with torch.set_grad_enabled(torch.is_grad_enabled() and mix.learns):
                    loss, parts = completion_loss(states, head_of(model), targets, weights, mix, teaching, emphasis)
                logits = lambda: head_of(model).logits(states)  # noqa: E731
            else:
                made, states = learned_logits(model, batch, learned)
                taught = self._taught_logits(batch, learned).float() if mix.divergences else None
                loss, parts = logit_loss(made.float(), targets, weights, mix, taught, emphasis)
                logits = lambda: made  # noqa: E731
            if not self._losses.batchwise:
                return loss, parts
            seen = Learned(states, targets, weights, example_of(batch, learned), logits)
            if self._teacher is not None:
                seen = replace(seen, teacher_logits=lambda: self._taught_logits(batch, learned))
            return self._with_batchwise(loss, parts, seen, lambda: self._states(model, batch, learned))

    def plain(self) -> "Objective":
        """The cross-entropy alone, not smoothed: what validation losses of different stages can be compared by."""
        plain = copy(self)
        plain._teacher, plain._losses = None, Losses(Mix(), {})
        return plain

    def _with_batchwise(
        self, loss: torch.Tensor, parts: Mapping[str, torch.Tensor], seen: Learned, again: Again
    ) -> tuple[torch.Tensor, Mapping[str, torch.Tensor]]:
        """Losses of the whole batch added, each as its mean times the batch's learned weight."""
        parts, size = dict(parts), seen.weights.sum()
        for name, (weight, compute) in self._losses.batchwise.items():
            value = size * compute(seen, again)
            loss = loss + weight * value
            parts[name] = value.detach()
        return loss, parts

    def _teaching(self, batch: Batch, learned: torch.Tensor) -> Teaching:
        with torch.no_grad():
            return Teaching(hidden_states(self._teacher, batch)[:, :-1][learned], head_of(self._teacher))

    def _taught_logits(self, batch: Batch, learned: torch.Tensor) -> torch.Tensor:
        with torch.no_grad():
            return learned_logits(self._teacher, batch, learned)[0]

    def _states(self, model: Any, batch: Batch, learned: torch.Tensor) -> torch.Tensor:
        """Of another pass, with noise of its own."""
        if self._is_linear:
            return hidden_states(model, batch)[:, :-1][learned]
        return learned_logits(model, batch, learned)[1]


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


def learned_logits(model: Any, batch: Batch, learned: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """The model's own logits at the positions that predict a learned token, (n, V), and their states, (n, d)."""
    width = batch["input_ids"].shape[1]  # virtual tokens may stand before them
    positions = {} if is_prompted(model) else {"position_ids": batch["position_ids"]}
    states: list[torch.Tensor] = []

    def narrow(_: Any, arguments: tuple[torch.Tensor, ...]) -> tuple[torch.Tensor, ...]:
        states.append(arguments[0][:, -width:][:, :-1][learned])
        return (states[-1],)

    handle = causal(model).get_output_embeddings().register_forward_pre_hook(narrow)
    try:
        logits: torch.Tensor = model(input_ids=batch["input_ids"], use_cache=False, **positions).logits
    finally:
        handle.remove()
    return logits, states[-1]


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
