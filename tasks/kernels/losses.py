"""Cross-entropy, and distances to a teacher, from hidden states, without the logits of a whole batch.

The vocabulary projection is the largest product of a small model, and its float32 logits the largest tensor: 49,152
numbers a token. Here it is made for learned positions only, a chunk at a time, and the gradient of a chunk is computed
in the forward pass while its logits are there, so that neither logits nor a second projection are needed backward.

Imported by the trainers only, since a class of torch has to be at hand when the module is read.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch.nn import functional

_CHUNK_BYTES = 64 << 20  # float32 logits at a time


@dataclass(frozen=True)
class Head:
    """A vocabulary projection: logits = hidden · weightᵀ + bias.

    Attributes:
        weight: (V, d).
        bias: (V,) or None.
    """

    weight: torch.Tensor
    bias: torch.Tensor | None = None

    def logits(self, hidden: torch.Tensor) -> torch.Tensor:
        """All of them at once, (n, V)."""
        return functional.linear(hidden, self.weight, self.bias)


@dataclass(frozen=True)
class Teaching:
    """A teacher's view of the same positions.

    Attributes:
        hidden: (n, d_teacher).
        head: the teacher's, over the same vocabulary.
    """

    hidden: torch.Tensor
    head: Head


@dataclass(frozen=True)
class Divergence:
    """A distance of the student's distribution q to the teacher's t, both at a temperature T.

    Attributes:
        name: kl, KL(t ‖ q) (Hinton et al., 2015); reverse_kl, KL(q ‖ t) (Gu et al., 2024), which seeks a mode; jsd,
            half the sum of the distances of both to their mean, which is at most ln 2.
        weight: how much it counts.
        temperature: T; the distance is scaled by T², which keeps its gradient's size.
    """

    name: str
    weight: float
    temperature: float


@dataclass(frozen=True)
class Mix:
    """What is summed at each position.

    Attributes:
        cross_entropy: its weight.
        divergences: to the teacher.
        smoothing: ε; the target of the cross-entropy is 1 - ε on the token and ε spread evenly over the vocabulary.
    """

    cross_entropy: float = 1.0
    divergences: tuple[Divergence, ...] = ()
    smoothing: float = 0.0

    @property
    def learns(self) -> bool:
        """Whether it is more than measured."""
        return bool(self.cross_entropy or self.divergences)


def completion_loss(
    hidden: torch.Tensor,
    head: Head,
    targets: torch.Tensor,
    weights: torch.Tensor,
    mix: Mix | None = None,
    teaching: Teaching | None = None,
    emphasis: torch.Tensor | None = None,
) -> tuple[torch.Tensor, Mapping[str, torch.Tensor]]:
    """The weighted sum over positions of cross-entropy and divergences; cross-entropy alone without a mix.

    Args:
        hidden: (n, d) states that predict the targets.
        targets: (n,) int64.
        weights: (n,) float32.
        teaching: where the mix has divergences.
        emphasis: (n,) float32; the weights of the cross-entropy are multiplied by it.

    Returns:
        the sum, differentiable in `hidden` and the head; and each part by name, summed over positions without the
        mix's weight and T², for logs.
    """
    mix = mix or Mix()
    kind = hidden.device.type
    dtype = torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else hidden.dtype
    if teaching is not None:
        cast = Head(teaching.head.weight.to(dtype), teaching.head.bias)
        teaching = replace(teaching, hidden=teaching.hidden.to(dtype), head=cast)
    about = torch.stack([weights, weights if emphasis is None else weights * emphasis])
    with torch.autocast(kind, enabled=False):
        loss, sums = _CompletionLoss.apply(hidden, head.weight, head.bias, targets, about, mix, teaching, dtype)
    return loss, dict(zip(part_names(mix), sums.unbind(), strict=True))


def part_names(mix: Mix) -> list[str]:
    """The parts of a mix, in order."""
    return ["cross_entropy", *(each.name for each in mix.divergences)]


def logit_loss(
    logits: torch.Tensor,
    targets: torch.Tensor,
    weights: torch.Tensor,
    mix: Mix,
    taught: torch.Tensor | None = None,
    emphasis: torch.Tensor | None = None,
) -> tuple[torch.Tensor, Mapping[str, torch.Tensor]]:
    """The same from logits (n, V) that are there already, the model's and the teacher's."""
    each = functional.cross_entropy(logits, targets, reduction="none", label_smoothing=mix.smoothing)
    cross_entropy = ((weights if emphasis is None else weights * emphasis) * each).sum()
    loss, parts = mix.cross_entropy * cross_entropy, [cross_entropy]
    for wanted in mix.divergences:
        assert taught is not None
        log_q, log_t = (functional.log_softmax(side / wanted.temperature, dim=-1) for side in (logits, taught))
        parts.append((weights * _distance(wanted.name, log_q, log_t)).sum())
        loss = loss + wanted.weight * wanted.temperature**2 * parts[-1]
    return loss, {name: part.detach() for name, part in zip(part_names(mix), parts, strict=True)}


class _CompletionLoss(torch.autograd.Function):  # type: ignore[misc]
    """Loss and gradient in one pass over chunks of positions."""

    @staticmethod
    def forward(
        ctx: Any,
        hidden: torch.Tensor,
        weight: torch.Tensor,
        bias: torch.Tensor | None,
        targets: torch.Tensor,
        about: torch.Tensor,
        mix: Mix,
        teaching: Teaching | None,
        dtype: torch.dtype,
    ) -> tuple[torch.Tensor, torch.Tensor]:
        wanted = ctx.needs_input_grad[:3]
        cast = weight.to(dtype)
        grad_hidden = torch.empty_like(hidden) if wanted[0] else None
        grad_weight = torch.zeros_like(weight, dtype=torch.float32) if wanted[1] else None
        grad_bias = torch.zeros_like(bias, dtype=torch.float32) if bias is not None and wanted[2] else None
        sums = torch.zeros(1 + len(mix.divergences), dtype=torch.float32, device=hidden.device)
        for part in _chunks(len(hidden), len(weight)):
            states = hidden[part].to(dtype)
            logits = _logits(states, cast, bias)
            grad = _step(logits, targets[part], about[:, part], sums, mix, _part(teaching, part), any(wanted))
            if grad is None:
                continue
            grad = grad.to(dtype)
            if grad_hidden is not None:
                grad_hidden[part] = (grad @ cast).to(hidden.dtype)
            if grad_weight is not None:
                grad_weight += grad.t() @ states
            if grad_bias is not None:
                grad_bias += grad.sum(0, dtype=torch.float32)
        ctx.save_for_backward(grad_hidden, grad_weight, grad_bias)
        ctx.kinds = (hidden.dtype, weight.dtype, None if bias is None else bias.dtype)
        loss = mix.cross_entropy * sums[0]
        for number, each in enumerate(mix.divergences, 1):
            loss = loss + each.weight * each.temperature**2 * sums[number]
        ctx.mark_non_differentiable(sums)
        return loss, sums

    @staticmethod
    def backward(ctx: Any, *outer: torch.Tensor) -> tuple[Any, ...]:
        found = [
            None if grad is None else (grad * outer[0]).to(kind)
            for grad, kind in zip(ctx.saved_tensors, ctx.kinds, strict=True)
        ]
        return (*found, None, None, None, None, None)


def _step(
    logits: torch.Tensor,
    targets: torch.Tensor,
    about: torch.Tensor,
    sums: torch.Tensor,
    mix: Mix,
    teaching: Teaching | None,
    wants_grad: bool,
) -> torch.Tensor | None:
    """Add a chunk's cross-entropy and divergences to `sums`, and give the gradient by its logits, (n, V) float32."""
    weights, emphasised = about
    log_p = functional.log_softmax(logits, dim=-1)
    rows = torch.arange(len(targets), device=targets.device)
    smoothing = mix.smoothing
    if smoothing:
        sums[0] -= (emphasised * ((1 - smoothing) * log_p[rows, targets] + smoothing * log_p.mean(-1))).sum()
    else:
        sums[0] -= (emphasised * log_p[rows, targets]).sum()
    grad = None
    if wants_grad:
        grad = log_p.exp_()
        grad[rows, targets] -= 1 - smoothing
        if smoothing:
            grad -= smoothing / logits.shape[-1]
        grad *= (emphasised * mix.cross_entropy)[:, None]
    if teaching is None:
        return grad
    taught = _logits(teaching.hidden, teaching.head.weight, teaching.head.bias)
    for number, each in enumerate(mix.divergences, 1):
        log_q = functional.log_softmax(logits / each.temperature, dim=-1)
        log_t = functional.log_softmax(taught / each.temperature, dim=-1)
        sums[number] += (weights * _distance(each.name, log_q, log_t)).sum()
        if grad is not None:
            grad += _slope(each.name, log_q, log_t) * (weights * each.weight * each.temperature)[:, None]
    return grad


def _distance(name: str, log_q: torch.Tensor, log_t: torch.Tensor) -> torch.Tensor:
    """The divergence of each position, (n,), of the student's q and the teacher's t (n, V)."""
    if name == "kl":
        return (log_t.exp() * (log_t - log_q)).sum(-1)
    if name == "reverse_kl":
        return (log_q.exp() * (log_q - log_t)).sum(-1)
    log_m = torch.logaddexp(log_q, log_t) - math.log(2)
    return ((log_t.exp() * (log_t - log_m)).sum(-1) + (log_q.exp() * (log_q - log_m)).sum(-1)) / 2


def _slope(name: str, log_q: torch.Tensor, log_t: torch.Tensor) -> torch.Tensor:
    """Its gradient by the student's logits over T, (n, V); `log_q` is used up.

    Of Σ f(q) it is q · (f' - Σ q f'), with f' = log q - log t for reverse_kl and half of log q - log m for jsd.
    """
    if name == "kl":
        return log_q.exp_() - log_t.exp()
    mean = log_t if name == "reverse_kl" else torch.logaddexp(log_q, log_t) - math.log(2)
    slope = (log_q - mean) * (1.0 if name == "reverse_kl" else 0.5)
    share = log_q.exp_()
    return share * (slope - (share * slope).sum(-1, keepdim=True))


def _part(teaching: Teaching | None, part: slice) -> Teaching | None:
    return None if teaching is None else replace(teaching, hidden=teaching.hidden[part])


def _logits(states: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None) -> torch.Tensor:
    logits = (states @ weight.t()).float()
    return logits if bias is None else logits + bias.float()


def _chunks(n_positions: int, n_vocabulary: int) -> list[slice]:
    size = max(16, _CHUNK_BYTES // (4 * n_vocabulary))
    return [slice(start, start + size) for start in range(0, n_positions, size)]
