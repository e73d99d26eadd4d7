"""Bootstrap intervals of corpus metrics, alone and paired.

A corpus metric here is a function of sums of per-example statistics: a mean is (sum of values, count), BLEU is ten sums
of n-gram counts, the loss is (negative log-likelihood, trained tokens). So drawing examples with replacement (Efron,
1979; for BLEU: Koehn, 2004) needs no second look at any text: each resample is a weighted sum of rows, and the metric
is computed again on the sums. Paired intervals draw the same examples for both models, since a hard example is hard for
both. Intervals are percentiles, 2.5 and 97.5 %; with few examples (below about 30) they are somewhat too narrow.
"""

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
Value = Callable[[Array], Array]  # (m, k) sums → (m,) values

_BLOCK = 4_000_000  # weights held at a time
_LEVEL = (0.025, 0.975)


def resampled_sums(statistics: Array, resamples: int, seed: int) -> Array:
    """Sums of the statistics over bootstrap samples.

    Args:
        statistics: (n_examples, k), at least one example.
        resamples: number of bootstrap samples, each of n examples drawn with replacement.
        seed: the same seed draws the same examples whatever the statistics are.

    Returns:
        (resamples, k) float64.
    """
    n = len(statistics)
    draw = np.random.Generator(np.random.PCG64(seed))
    shares = np.full(n, 1 / n)
    block = max(1, _BLOCK // n)
    blocks = [
        draw.multinomial(n, shares, size=min(block, resamples - start)) @ statistics
        for start in range(0, resamples, block)
    ]
    return np.concatenate(blocks)


def interval(statistics: Array, value: Value, resamples: int, seed: int) -> tuple[float, float]:
    """The 95 % interval of a metric.

    Args:
        statistics: (n_examples, k).
        value: the metric from sums of statistics.

    Returns:
        low and high; both NaN where no resample has a value.
    """
    return _percentiles(value(resampled_sums(statistics, resamples, seed)))


def paired_interval(ours: Array, theirs: Array, value: Value, resamples: int, seed: int) -> tuple[float, float]:
    """The 95 % interval of a metric's difference, ours less theirs, over the same examples.

    Args:
        ours: (n_examples, k), the examples in the order of `theirs`.
        theirs: (n_examples, k).

    Raises:
        ValueError: the two have not the same shape.
    """
    if ours.shape != theirs.shape:
        raise ValueError(f"paired statistics differ in shape: {ours.shape} and {theirs.shape}")
    sums = resampled_sums(np.concatenate([ours, theirs], axis=1), resamples, seed)
    k = ours.shape[1]
    return _percentiles(value(sums[:, :k]) - value(sums[:, k:]))


def ratio(sums: Array) -> Array:
    """First sum over second: a mean, or a loss per token; NaN where the second is 0."""
    with np.errstate(divide="ignore", invalid="ignore"):
        quotient: Array = np.where(sums[:, 1] == 0, np.nan, sums[:, 0] / sums[:, 1])
    return quotient


def _percentiles(values: Array) -> tuple[float, float]:
    kept = values[np.isfinite(values)]
    if kept.size == 0:
        return float("nan"), float("nan")
    low, high = np.quantile(kept, _LEVEL)
    return float(low), float(high)
