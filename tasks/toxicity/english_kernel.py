"""Known words of each text and what the linear model makes of them, compiled: no token is ever made a string.

The definitions stand in `english.py`, which is how to call this. All kernels in one file, since numba keeps machine
code by file (see `tasks/kernels/compiled.py`).
"""

import numpy as np
import numpy.typing as npt

from tasks.kernels.compiled import compiled

Bytes = npt.NDArray[np.uint8]
Offsets = npt.NDArray[np.int64]
Hashes = npt.NDArray[np.uint64]
Floats = npt.NDArray[np.float64]

LIMIT = 0x40000  # code points from here on are in no word
_BASIS, _PRIME = np.uint64(0xCBF29CE484222325), np.uint64(0x100000001B3)  # FNV-1a, 64 bits
_MIX = np.uint64(0x9E3779B97F4A7C15)  # FNV leaves short words close together


@compiled
def _slot(key: np.uint64, keys: Hashes) -> int:
    """Where a hash stands in the table, or the empty slot (0) where it would."""
    wrap = keys.size - 1
    slot = np.int64((key ^ key >> np.uint64(32)) * _MIX >> np.uint64(40)) & wrap
    while keys[slot] != np.uint64(0) and keys[slot] != key:
        slot = slot + 1 & wrap
    return int(slot)


@compiled
def fill(data: Bytes, begins: Offsets, keys: Hashes, places: Offsets) -> bool:
    """Put the hash of each word into the table; False if two words have the same."""
    distinct = True
    for word in range(begins.size - 1):
        key = _BASIS
        for at in range(begins[word], begins[word + 1]):
            key = (key ^ np.uint64(data[at])) * _PRIME
        slot = _slot(key, keys)
        distinct = distinct and keys[slot] == np.uint64(0) and key != np.uint64(0)
        keys[slot], places[slot] = key, word
    return distinct


@compiled
def distances(
    data: Bytes,
    begins: Offsets,
    first: int,
    last: int,
    in_word: Bytes,
    keys: Hashes,
    places: Offsets,
    idf: Floats,
    weights: Floats,
    out: Floats,
) -> None:
    """out[text - first]: the sums of the k machines, then the norm (0 where no word is known).

    Args:
        data, begins: lower-case UTF-8.
        in_word: (LIMIT,) 1 for letters, digits and the underscore.
        weights: (n_words, k).
    """
    counts = np.zeros(idf.size, np.int64)
    longest = 0
    for text in range(first, last):
        longest = max(longest, begins[text + 1] - begins[text])
    found = np.empty(longest // 2 + 2, np.int64)
    k = weights.shape[1]
    for text in range(first, last):
        n, at, end = 0, begins[text], begins[text + 1]
        key, characters = _BASIS, 0
        while at <= end:
            inside, start = False, at
            if at < end:
                byte = np.int64(data[at])
                if byte < 0x80:
                    point = byte
                    at += 1
                elif byte < 0xE0:
                    point = (byte & 0x1F) << 6 | (np.int64(data[at + 1]) & 0x3F)
                    at += 2
                elif byte < 0xF0:
                    point = (byte & 0x0F) << 12 | (np.int64(data[at + 1]) & 0x3F) << 6
                    point |= np.int64(data[at + 2]) & 0x3F
                    at += 3
                else:
                    point = np.int64(LIMIT)
                    at += 4
                inside = bool(point < LIMIT and in_word[point] != 0)
            else:
                at += 1
            if inside:
                for i in range(start, at):
                    key = (key ^ np.uint64(data[i])) * _PRIME
                characters += 1
                continue
            if characters >= 2:
                slot = _slot(key, keys)
                if keys[slot] == key:
                    word = places[slot]
                    if counts[word] == 0:
                        found[n] = word
                        n += 1
                    counts[word] += 1
            if characters:
                key, characters = _BASIS, 0
        square = 0.0
        for i in range(n):
            word = found[i]
            value = counts[word] * idf[word]
            counts[word] = 0
            square += value * value
            for machine in range(k):
                out[text - first, machine] += value * weights[word, machine]
        out[text - first, k] = np.sqrt(square)
