"""Importance resampling with hashed n-grams: DSIR (Xie et al. 2023, "Data selection for language models via importance
resampling", section 4).

A row's tokens and pairs of tokens fall into 10,000 buckets. Bags of them are modelled as drawn from a distribution over
the buckets, one estimated from the seed set, one from all competing rows; a row's log weight is the sum over its bag of
the log ratio of the two. The Gumbel top-k trick then draws rows without replacement in proportion to their weights: a
draw that belongs to the row, so the order of rows and threads play no part.
"""

import numpy as np
import numpy.typing as npt
import polars as pl

from tasks.kernels.compiled import compiled
from tasks.kernels.draws import draw_bits, unit
from tasks.kernels.text import sequences
from tasks.kernels.tokens import Hashes, Offsets

Floats = npt.NDArray[np.float64]
BUCKETS = 10_000
_SMOOTHING = 1e-8  # added to each bucket's share, as the authors' code does
_BLOCK = 20_000  # rows whose tokens are in memory at once
_MIX = np.uint64(0x9E3779B97F4A7C15)


def log_weights(texts: pl.Series, seeds: pl.Series) -> Floats:
    """The log weight of each text: how much likelier its bag is in the seed set than in all texts.

    Returns:
        (n_texts,) float64; 0 for a text without tokens.
    """
    ratio = np.log(_shares(seeds)) - np.log(_shares(texts))
    blocks = [_sums(*sequences(texts.slice(start, _BLOCK)), ratio) for start in range(0, len(texts), _BLOCK)]
    return np.concatenate([np.empty(0), *blocks])


def resampled(row_ids: pl.Series, weights: Floats, seed: int) -> Floats:
    """Log weights with Gumbel noise: the k largest are k draws without replacement, in proportion to the weights."""
    uniform = np.clip(unit(draw_bits(row_ids, seed, "select")), 2.0**-53, None)
    return np.asarray(weights - np.log(-np.log(uniform)))


def vectors(texts: pl.Series, width: int = 64) -> npt.NDArray[np.float32]:
    """The bag of each text hashed with signs into a short vector of length 1 (Weinberger et al. 2009); of none: 0."""
    found = np.zeros((len(texts), width), np.float32)
    for start in range(0, len(texts), _BLOCK):
        _hash_into(*sequences(texts.slice(start, _BLOCK)), found[start : start + _BLOCK])
    lengths = np.linalg.norm(found, axis=1, keepdims=True)
    return np.asarray(found / np.maximum(lengths, 1e-12), dtype=np.float32)


@compiled
def farthest_first(points: npt.NDArray[np.float32], count: int) -> npt.NDArray[np.bool_]:
    """The k-centre choice (Gonzalez 1985): the first point, then always the one farthest from those chosen.

    Args:
        points: (n, d) float32, the best first; of equally far ones the first is taken.
        count: points to choose.

    Returns:
        (n,) whether a point is chosen.
    """
    chosen = np.zeros(points.shape[0], np.bool_)
    nearest = np.full(points.shape[0], np.inf, np.float32)
    at = 0
    for _ in range(min(count, points.shape[0])):
        chosen[at] = True
        farthest, best = -1, np.float32(-1)
        for other in range(points.shape[0]):
            if chosen[other]:
                continue
            distance = np.float32(0)
            for k in range(points.shape[1]):
                distance += (points[other, k] - points[at, k]) ** 2
            nearest[other] = min(nearest[other], distance)
            if nearest[other] > best:
                farthest, best = other, nearest[other]
        at = farthest
    return chosen


def _shares(texts: pl.Series) -> Floats:
    counts = np.zeros(BUCKETS)
    for start in range(0, len(texts), _BLOCK):
        _count(*sequences(texts.slice(start, _BLOCK)), counts)
    return np.asarray(counts / max(counts.sum(), 1.0) + _SMOOTHING)


@compiled
def _pair(one: np.uint64, other: np.uint64) -> np.uint64:
    value = (one ^ (other * _MIX)) * _MIX
    return value ^ (value >> np.uint64(29))


@compiled
def _count(tokens: Hashes, offsets: Offsets, counts: Floats) -> None:
    for row in range(offsets.size - 1):
        for at in range(offsets[row], offsets[row + 1]):
            counts[tokens[at] % np.uint64(BUCKETS)] += 1
            if at + 1 < offsets[row + 1]:
                counts[_pair(tokens[at], tokens[at + 1]) % np.uint64(BUCKETS)] += 1


@compiled
def _sums(tokens: Hashes, offsets: Offsets, ratio: Floats) -> Floats:
    found = np.zeros(offsets.size - 1)
    for row in range(offsets.size - 1):
        for at in range(offsets[row], offsets[row + 1]):
            found[row] += ratio[tokens[at] % np.uint64(BUCKETS)]
            if at + 1 < offsets[row + 1]:
                found[row] += ratio[_pair(tokens[at], tokens[at + 1]) % np.uint64(BUCKETS)]
    return found


@compiled
def _hash_into(tokens: Hashes, offsets: Offsets, out: npt.NDArray[np.float32]) -> None:
    for row in range(offsets.size - 1):
        for at in range(offsets[row], offsets[row + 1]):
            sign = np.float32(1) if tokens[at] >> np.uint64(63) else np.float32(-1)
            out[row, np.int64(tokens[at] % np.uint64(out.shape[1]))] += sign
