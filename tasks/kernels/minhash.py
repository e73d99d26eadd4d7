"""MinHash signatures as datasketch makes them, bands chosen for a wanted recall, and the pairs that are truly similar.

The scheme is datasketch 2's `affine32`: a 32-bit hash h of each element is mixed once by MurmurHash3's fmix32, and the
k-th value of a signature is the least a_k * h + b_k mod 2^32, a_k odd, with a and b drawn by numpy's MT19937 from a
seed. Our h is the low half of a shingle's xxh64 (`text.py`): `MinHash(scheme="affine32", hashfunc=lambda b:
xxh64_intdigest(b) & 0xFFFFFFFF)` over the same shingles has the same bits, so datasketch's indexes take our signatures.
"""

import math
from collections import deque
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import polars as pl

from tasks.kernels.compiled import compiled
from tasks.kernels.lsh import ALL_PAIRS, FOREST, Walked, walk
from tasks.kernels.text import Sets, from_strings, in_blocks, shingles
from tasks.kernels.tokens import Hashes, Offsets

Signatures = npt.NDArray[np.uint32]
_SEED = 1  # datasketch's default
_EMPTY = np.uint32(0xFFFFFFFF)
_BLOCK_VALUES = 1 << 20


class Bands(NamedTuple):
    """How a signature is cut: `bands` keys of `width` values each."""

    bands: int
    width: int

    def recall(self, jaccard: float) -> float:
        """The chance that a pair of this Jaccard shares at least one key: 1 - (1 - J^width)^bands."""
        return float(-math.expm1(self.bands * math.log1p(-(jaccard**self.width)))) if jaccard < 1 else 1.0


def choose_bands(threshold: float, num_perm: int, recall: float, bands: int | None = None) -> Bands:
    """The most selective bands that find the wanted share of the pairs at the threshold.

    Wider bands meet fewer rows for nothing, but miss more pairs. All values that can be used are used: 128 values in
    bands of four make 32 bands even if 26 would do, since they find more for the same signature.

    Args:
        threshold: Jaccard.
        num_perm: values in a signature.
        recall: wanted share, of pairs exactly at the threshold (of those above it more are found).
        bands: this many, whatever the recall; the width follows.

    Raises:
        ValueError: more bands than values.
    """
    if bands is not None:
        if bands > num_perm:
            raise ValueError(f"{bands} bands need at least as many permutations, not {num_perm}")
        return Bands(bands, num_perm // bands)
    for width in range(num_perm, 1, -1):
        chosen = Bands(num_perm // width, width)
        if chosen.recall(threshold) >= recall:
            return chosen
    return Bands(num_perm, 1)


def permutations(num_perm: int, seed: int = _SEED) -> Signatures:
    """a and b of each permutation: (2, num_perm) uint32, equal to datasketch's `MinHash.permutations`."""
    draw = np.random.RandomState(seed)
    a = draw.randint(0, 1 << 31, num_perm, dtype=np.uint32) * np.uint32(2) + np.uint32(1)
    return np.stack([a, draw.randint(0, 1 << 32, num_perm, dtype=np.uint32)])


def signatures(sets: Sets, num_perm: int, columns: npt.NDArray[np.int64] | slice = slice(None)) -> Signatures:
    """The signature of each row's set: (n_rows, num_perm) uint32, or only some of its columns.

    The signature of an empty set is all ones, as datasketch's.
    """
    a, b = (np.ascontiguousarray(factors[columns]) for factors in permutations(num_perm))
    out = np.empty((sets.offsets.size - 1, a.size), np.uint32)

    def block(first: int, last: int) -> None:
        _sketch(sets.values, sets.offsets, a, b, first, last, out)

    deque(in_blocks(sets.offsets, _BLOCK_VALUES, block), maxlen=0)
    return out


def similar_pairs(
    texts: pl.Series,
    threshold: float,
    shingle: int = 5,
    num_perm: int = 128,
    bands: int | None = None,
    recall: float = 0.999,
) -> pl.DataFrame:
    """Every pair of texts that the bands find and whose exact Jaccard is at least the threshold.

    A thousand copies of one text make half a million pairs; where only the groups matter, use `similar_groups`.

    Args:
        texts: String; null is the empty text. All texts without a character are equal.
        threshold: Jaccard of shingles, above 0.
        shingle: tokens in a shingle.
        num_perm: values in a signature.
        bands: number of bands; chosen for the recall if None.
        recall: share of the pairs exactly at the threshold that the bands must find.

    Returns:
        left, right (UInt32, positions, left < right), jaccard (Float64, exact); sorted by left and right.
    """
    pairs = _walk(texts, ALL_PAIRS, threshold, shingle, num_perm, bands, recall)
    return pl.DataFrame(
        {"left": pairs.match, "right": pairs.row, "jaccard": pairs.jaccard[:, 0]},
        schema={"left": pl.UInt32, "right": pl.UInt32, "jaccard": pl.Float64},
    ).sort("left", "right")


def similar_groups(
    texts: pl.Series,
    threshold: float,
    shingle: int = 5,
    num_perm: int = 128,
    bands: int | None = None,
    recall: float = 0.999,
) -> pl.Series:
    """For each text the position of the first text that it is connected to by similar pairs (itself, if alone).

    Same arguments as `similar_pairs`, but linear in the copies of a text.

    Returns:
        UInt32, one a text.
    """
    group = _walk(texts, FOREST, threshold, shingle, num_perm, bands, recall).group
    return pl.Series("group", group).cast(pl.UInt32)


def _walk(
    texts: pl.Series, mode: int, threshold: float, shingle: int, num_perm: int, bands: int | None, recall: float
) -> Walked:
    sets = shingles(from_strings(texts), shingle)
    chosen = choose_bands(threshold, num_perm, recall, bands)
    signature = signatures(sets, num_perm, slice(chosen.bands * chosen.width))
    return walk(mode, [sets], signature, chosen.width, threshold)


@compiled
def _mixed(value: np.uint64) -> np.uint32:
    """The low half of a hash after MurmurHash3's 32-bit finaliser."""
    h = np.uint32(value)
    h = np.uint32((h ^ (h >> np.uint32(16))) * np.uint32(0x85EBCA6B))
    h = np.uint32((h ^ (h >> np.uint32(13))) * np.uint32(0xC2B2AE35))
    return np.uint32(h ^ (h >> np.uint32(16)))


@compiled
def _sketch(
    values: Hashes, offsets: Offsets, a: Signatures, b: Signatures, first: int, last: int, out: Signatures
) -> None:
    """Four elements at a time (the last ones repeated), so that a, b and the minima are read a quarter as often."""
    for row in range(first, last):
        least = out[row]
        least[:] = _EMPTY
        final = offsets[row + 1] - 1
        for at in range(offsets[row], final + 1, 4):
            h0, h1 = _mixed(values[at]), _mixed(values[min(at + 1, final)])
            h2, h3 = _mixed(values[min(at + 2, final)]), _mixed(values[min(at + 3, final)])
            for k in range(a.size):
                one = min(np.uint32(a[k] * h0 + b[k]), np.uint32(a[k] * h1 + b[k]))
                two = min(np.uint32(a[k] * h2 + b[k]), np.uint32(a[k] * h3 + b[k]))
                least[k] = min(least[k], one, two)
