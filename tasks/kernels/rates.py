"""Parameters that learn faster than the others: a ratio each, and optimiser groups by it.

LoRA+ (Hayou et al., 2024) is made of nothing else. A schedule scales every group's own rate.
"""

from collections.abc import Sequence
from typing import Any

_RATIO = "winnow_rate_ratio"


def set_rate_ratio(parameter: Any, ratio: float) -> None:
    """Have a parameter learn at so many times the learning rate."""
    setattr(parameter, _RATIO, float(ratio))


def groups_by_rate(groups: Sequence[dict[str, Any]], learning_rate: float) -> list[dict[str, Any]]:
    """Optimiser groups, each parted by its parameters' ratios; those at the plain rate come first."""
    found = []
    for ratio in sorted({getattr(p, _RATIO, 1.0) for group in groups for p in group["params"]}):
        for group in groups:
            chosen = [p for p in group["params"] if getattr(p, _RATIO, 1.0) == ratio]
            if chosen:
                found.append({**group, "params": chosen} | ({} if ratio == 1 else {"lr": learning_rate * ratio}))
    return found
