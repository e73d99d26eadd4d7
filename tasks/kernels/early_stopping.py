"""When to stop: by the validation losses measured so far, and nothing else, so that a resumed run stops where it would.

Three rules. *patience* is everybody's: so many evaluations without improvement. *gl* and *up* are Prechelt's (1998,
"Early stopping - but when?"): GL_α stops as soon as the validation loss is α per cent above its lowest; UP_s when it
has risen in s successive strips, however high it is then, which forgives a single bump and a slow wobble.
"""

from collections.abc import Sequence
from itertools import pairwise

from pipeline_config.model_schema import EarlyStopping


def is_over(losses: Sequence[float], rule: EarlyStopping) -> bool:
    """Whether training stops after the last of these validation losses.

    Args:
        losses: of all evaluations so far, in order.
    """
    if not losses:
        return False
    if rule.rule == "gl":
        return generalisation_loss(losses) > rule.gl_alpha
    if rule.rule == "up":
        return rises(losses) >= rule.patience
    return waited(losses, rule.min_delta) >= rule.patience


def generalisation_loss(losses: Sequence[float]) -> float:
    """GL(t) = 100 · (E(t) / min E - 1): per cent by which the last loss is above the lowest."""
    lowest = max(min(losses), 1e-12)
    return 100 * (losses[-1] / lowest - 1)


def rises(losses: Sequence[float]) -> int:
    """How many of the last strips, without a break, ended higher than they began."""
    count = 0
    for before, after in pairwise(losses):
        count = count + 1 if after > before else 0
    return count


def waited(losses: Sequence[float], least: float) -> int:
    """Evaluations since the last one that was lower than all before it by more than `least`."""
    lowest, count = float("inf"), 0
    for loss in losses:
        count = 0 if loss < lowest - least else count + 1
        lowest = min(lowest, loss)
    return count


def reductions(losses: Sequence[float], patience: int) -> int:
    """How often a rate that is lowered on a plateau has been lowered: each `patience` evaluations without a new lowest.

    As `torch.optim.lr_scheduler.ReduceLROnPlateau` counts them, with its relative threshold of 1e-4.
    """
    lowest, bad, count = float("inf"), 0, 0
    for loss in losses:
        if loss < lowest * (1 - 1e-4):
            lowest, bad = loss, 0
        else:
            bad += 1
        if bad >= patience:
            bad, count = 0, count + 1
    return count
