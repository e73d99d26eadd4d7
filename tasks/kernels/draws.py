"""Draws that belong to a row: a number in [0, 1) fixed by row id, seed and purpose alone.

A shuffle gives a row another place as soon as a row is added anywhere; a draw from the row's own id does not. So
shares, orders and folds that are read off these draws are the same in any order of rows, at any thread count, and stay
what they were when other rows come or go. The mixing function is the finaliser of SplitMix64 (Steele, Lea, Flood
2014), a bijection of 64 bits in which every input bit changes every output bit with probability near 1/2.
"""

from collections.abc import Iterable

import numpy as np
import polars as pl
import xxhash


def draw_bits(row_ids: pl.Series, seed: int, purpose: str) -> np.ndarray:
    """64 bits for each row.

    Args:
        row_ids: ids of 16 hex digits.
        seed: the stage's seed.
        purpose: what the draw is for; draws for two purposes are independent.

    Returns:
        (n,) uint64.
    """
    ids = row_ids.str.to_integer(base=16, dtype=pl.UInt64).to_numpy()
    return mixed(ids, seed, purpose)


def value_bits(values: Iterable[str], seed: int, purpose: str) -> np.ndarray:
    """64 bits for each text, such as the values that group rows; (n,) uint64."""
    encoded = (value.encode("utf-8", "surrogatepass") for value in values)
    hashed = np.fromiter(map(xxhash.xxh3_64_intdigest, encoded), dtype=np.uint64)
    return mixed(hashed, seed, purpose)


def mixed(bits: np.ndarray, seed: int, purpose: str) -> np.ndarray:
    """Draw again from 64-bit values: (n,) uint64 → (n,) uint64."""
    salt = np.uint64(xxhash.xxh3_64_intdigest(f"{purpose}\x1f{seed}".encode()))
    state = bits.astype(np.uint64) ^ salt
    state = (state ^ (state >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    state = (state ^ (state >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return state ^ (state >> np.uint64(31))


def unit(bits: np.ndarray) -> np.ndarray:
    """The upper 53 bits as a number in [0, 1): (n,) uint64 → (n,) float64."""
    return (bits >> np.uint64(11)).astype(np.float64) * 2.0**-53
