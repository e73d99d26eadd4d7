"""Focal loss (Lin et al., 2017), as a loss by import path: tokens that are predicted well already count less.

    losses: [{name: "tasks.kernels.focal:focal", settings: {gamma: 2}}]

An example of how a loss of one's own is written; see `own_loss.py`.
"""

from typing import TYPE_CHECKING

from tasks.kernels.own_loss import Learned

if TYPE_CHECKING:
    import torch


def focal(learned: Learned, *, gamma: float = 2.0) -> "torch.Tensor":
    """The weighted mean of -(1 - p)^gamma · log p over the learned tokens."""
    log_p = learned.logits().float().log_softmax(-1).gather(1, learned.targets[:, None])[:, 0]
    found: torch.Tensor = -(learned.weights * (1 - log_p.exp()) ** gamma * log_p).sum() / learned.weights.sum()
    return found
