"""The mean of a few measurements and its confidence interval, by Student's t.

The distribution function for whole degrees of freedom is a finite sum (Abramowitz and Stegun, 26.7.3 and 26.7.4); its
inverse is found by bisection. So that a command needs no statistics library for one number.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

LEVEL = 0.95


@dataclass(frozen=True)
class Interval:
    """Mean, standard deviation of the sample, and the interval of the mean; None where one value tells neither."""

    n: int
    mean: float
    sd: float | None
    low: float | None
    high: float | None


def mean_interval(values: Sequence[float], level: float = LEVEL) -> Interval:
    """The interval that holds the mean with probability `level`, if the values are independent and normal.

    Args:
        values: one at least.
    """
    n = len(values)
    mean = math.fsum(values) / n
    if n < 2:
        return Interval(n, mean, None, None, None)
    sd = math.sqrt(math.fsum((value - mean) ** 2 for value in values) / (n - 1))
    half = t_quantile((1 + level) / 2, n - 1) * sd / math.sqrt(n)
    return Interval(n, mean, sd, mean - half, mean + half)


def t_quantile(p: float, df: int) -> float:
    """The t below which the share p lies, 0.5 <= p < 1.

    Args:
        df: degrees of freedom, 1 or more.
    """
    low, high = 0.0, 1.0
    while _below(high, df) < p:
        high *= 2
    while high - low > 1e-12 * high:
        middle = (low + high) / 2
        if middle in (low, high):
            break
        low, high = (middle, high) if _below(middle, df) < p else (low, middle)
    return (low + high) / 2


def _below(t: float, df: int) -> float:
    angle = math.atan(t / math.sqrt(df))
    sine, cosine = math.sin(angle), math.cos(angle)
    if df % 2:
        term, total = cosine, 0.0
        for k in range(1, (df - 1) // 2 + 1):
            total += term
            term *= cosine**2 * 2 * k / (2 * k + 1)
        inside = 2 / math.pi * (angle + sine * total)
    else:
        term = total = 1.0
        for k in range(1, df // 2):
            term *= cosine**2 * (2 * k - 1) / (2 * k)
            total += term
        inside = sine * total
    return 0.5 + inside / 2
