"""Cross-entropy and distillation loss from hidden states, without the logits of a whole batch.

The vocabulary projection is the largest product of a small model, and its float32 logits the largest tensor: 49,152
numbers a token. Here it is made for learned positions only, a chunk at a time, and the gradient of a chunk is computed
in the forward pass while its logits are there, so that neither logits nor a second projection are needed backward.

Imported by the trainers only, since a class of torch has to be at hand when the module is read.
"""

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


@dataclass(frozen=True)
class Teaching:
    """A teacher's view of the same positions, and how much it counts (Hinton et al., 2015).

    Attributes:
        hidden: (n, d_teacher).
        head: the teacher's, over the same vocabulary.
        alpha: weight of the divergence; cross-entropy has the rest.
        temperature: T; the divergence is scaled by T², which keeps its gradient's size.
    """

    hidden: torch.Tensor
    head: Head
    alpha: float
    temperature: float


def completion_loss(
    hidden: torch.Tensor,
    head: Head,
    targets: torch.Tensor,
    weights: torch.Tensor,
    teaching: Teaching | None = None,
    smoothing: float = 0.0,
) -> tuple[torch.Tensor, Mapping[str, torch.Tensor]]:
    """The weighted sum over positions of (1 - a)·CE + a·T²·KL(teacher ‖ student); CE alone without a teacher.

    Args:
        hidden: (n, d) states that predict the targets.
        targets: (n,) int64.
        weights: (n,) float32.
        smoothing: ε; the target is 1 - ε on the token and ε spread evenly over the vocabulary.

    Returns:
        the sum, differentiable in `hidden` and the head; and its parts, `cross_entropy` and (with a teacher) `kl`,
        summed over positions, for logs.
    """
    kind = hidden.device.type
    dtype = torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else hidden.dtype
    if teaching is not None:
        cast = Head(teaching.head.weight.to(dtype), teaching.head.bias)
        teaching = replace(teaching, hidden=teaching.hidden.to(dtype), head=cast)
    with torch.autocast(kind, enabled=False):
        loss, cross_entropy, divergence = _CompletionLoss.apply(
            hidden, head.weight, head.bias, targets, weights, teaching, dtype, smoothing
        )
    parts = {"cross_entropy": cross_entropy} | ({"kl": divergence} if teaching else {})
    return loss, parts


class _CompletionLoss(torch.autograd.Function):  # type: ignore[misc]
    """Loss and gradient in one pass over chunks of positions."""

    @staticmethod
    def forward(
        ctx: Any,
        hidden: torch.Tensor,
        weight: torch.Tensor,
        bias: torch.Tensor | None,
        targets: torch.Tensor,
        weights: torch.Tensor,
        teaching: Teaching | None,
        dtype: torch.dtype,
        smoothing: float,
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        wanted = ctx.needs_input_grad[:3]
        cast = weight.to(dtype)
        grad_hidden = torch.empty_like(hidden) if wanted[0] else None
        grad_weight = torch.zeros_like(weight, dtype=torch.float32) if wanted[1] else None
        grad_bias = torch.zeros_like(bias, dtype=torch.float32) if bias is not None and wanted[2] else None
        sums = torch.zeros(2, dtype=torch.float32, device=hidden.device)
        for part in _chunks(len(hidden), len(weight)):
            states = hidden[part].to(dtype)
            logits = _logits(states, cast, bias)
            grad = _step(logits, targets[part], weights[part], sums, _part(teaching, part), any(wanted), smoothing)
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
        share = 0.0 if teaching is None else teaching.alpha
        scale = 0.0 if teaching is None else teaching.temperature**2
        cross_entropy, divergence = sums.unbind()
        loss = (1 - share) * cross_entropy + share * scale * divergence
        ctx.mark_non_differentiable(cross_entropy, divergence)
        return loss, cross_entropy, divergence

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
    weights: torch.Tensor,
    sums: torch.Tensor,
    teaching: Teaching | None,
    wants_grad: bool,
    smoothing: float,
) -> torch.Tensor | None:
    """Add a chunk's cross-entropy and divergence to `sums`, and give the gradient by its logits, (n, V) float32."""
    log_p = functional.log_softmax(logits, dim=-1)
    rows = torch.arange(len(targets), device=targets.device)
    if smoothing:
        sums[0] -= (weights * ((1 - smoothing) * log_p[rows, targets] + smoothing * log_p.mean(-1))).sum()
    else:
        sums[0] -= (weights * log_p[rows, targets]).sum()
    share = 0.0 if teaching is None else teaching.alpha
    grad = None
    if wants_grad:
        grad = log_p.exp_()
        grad[rows, targets] -= 1 - smoothing
        if smoothing:
            grad -= smoothing / logits.shape[-1]
        grad *= (weights * (1 - share))[:, None]
    if teaching is not None:
        heat = teaching.temperature
        log_q = functional.log_softmax(logits / heat, dim=-1)
        log_t = functional.log_softmax(
            _logits(teaching.hidden, teaching.head.weight, teaching.head.bias) / heat, dim=-1
        )
        target = log_t.exp()
        sums[1] += (weights * (target * (log_t - log_q)).sum(-1)).sum()
        if grad is not None:
            grad += (log_q.exp_() - target) * (weights * share * heat)[:, None]
    return grad


def _part(teaching: Teaching | None, part: slice) -> Teaching | None:
    return None if teaching is None else replace(teaching, hidden=teaching.hidden[part])


def _logits(states: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None) -> torch.Tensor:
    logits = (states @ weight.t()).float()
    return logits if bias is None else logits + bias.float()


def _chunks(n_positions: int, n_vocabulary: int) -> list[slice]:
    size = max(16, _CHUNK_BYTES // (4 * n_vocabulary))
    return [slice(start, start + size) for start in range(0, n_positions, size)]
