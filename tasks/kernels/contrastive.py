"""Contrastive losses on pooled answers: each example's mean hidden state where its answer is predicted.

Without labels (SimCSE, Gao et al., 2021): the same example under other dropout is the positive, the other examples of
the batch are the negatives. With labels (Khosla et al., 2020, L_out): examples of one class are each other's
positives. Similarity is the cosine. More examples in a batch are more negatives: packed rows hold many.

Imported by the trainers only.
"""

import torch
from torch.nn import functional


def pooled(states: torch.Tensor, example: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Mean state of each example, of length 1.

    Args:
        states: (n, d); example: (n,) int64.

    Returns:
        (m, d) float32, and (m,) the examples that they are of, ascending.
    """
    examples, place = torch.unique(example, return_inverse=True)
    summed = torch.zeros(len(examples), states.shape[1], device=states.device, dtype=_wide(states))
    means = summed.index_add(0, place, states.to(summed.dtype))
    return functional.normalize(means, dim=-1), examples  # a sum points where the mean does


def simcse(one: torch.Tensor, two: torch.Tensor, temperature: float) -> torch.Tensor:
    """Mean cross-entropy of finding each example of `one` (m, d) among those of `two` (m, d); 0 where m is 1."""
    similar = _products(one, two) / temperature
    return functional.cross_entropy(similar, torch.arange(len(one), device=one.device))


def supervised(states: torch.Tensor, classes: torch.Tensor, temperature: float) -> torch.Tensor:
    """Mean over the examples with a positive of -1/|P| Σ log softmax of their similarity to it; 0 where none has one.

    Args:
        states: (m, d), of length 1.
        classes: (m,) int64; below 0: of no class, and left out.
    """
    given = classes >= 0
    states, classes = states[given], classes[given]
    itself = torch.eye(len(states), dtype=torch.bool, device=states.device)
    positive = (classes[:, None] == classes[None]) & ~itself
    anchors = positive.any(1)
    if not bool(anchors.any()):
        return states.sum() * 0
    similar = (_products(states, states) / temperature).masked_fill(itself, float("-inf"))
    log_share = functional.log_softmax(similar, dim=-1).masked_fill(~positive, 0.0)
    return -(log_share.sum(1)[anchors] / positive.sum(1)[anchors]).mean()


def _products(one: torch.Tensor, two: torch.Tensor) -> torch.Tensor:
    """(m, m), also under autocast in full precision: divided by a temperature, a rounding error grows twentyfold."""
    with torch.autocast(one.device.type, enabled=False):
        return one @ two.t()


def _wide(states: torch.Tensor) -> torch.dtype:
    return torch.promote_types(states.dtype, torch.float32)
