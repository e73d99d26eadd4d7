"""Digests of many strings at once."""

import numpy as np
import numpy.typing as npt
import polars as pl

from tasks.kernels import xxh3


def hexadecimal(data: xxh3.Bytes, offsets: npt.NDArray[np.int64]) -> pl.Series:
    """16 hex digits of xxh3-64 over each of the byte strings that lie one behind the other.

    Args:
        data: the bytes, and `xxh3.SPARE` more.
        offsets: where each begins, and where the last ends.
    """
    import pyarrow as pa

    values = np.empty(offsets.size - 1, np.uint64)
    xxh3.hashes(data, offsets, values)
    digits = np.empty(16 * values.size, np.uint8)
    xxh3.hexadecimal(values, digits)
    places = np.arange(values.size + 1, dtype=np.int64) * 16
    buffers = [None, pa.py_buffer(places), pa.py_buffer(digits)]
    return pl.Series(pa.Array.from_buffers(pa.large_string(), values.size, buffers), dtype=pl.String)


def digests(texts: pl.Series) -> pl.Series:
    """`rows.digest` of each text."""
    import pyarrow as pa

    array = texts.rechunk().to_arrow().cast(pa.large_binary())
    _, places, data = array.buffers()
    offsets = np.frombuffer(places, np.int64)[array.offset : array.offset + len(array) + 1]
    spared = np.empty(int(offsets[-1]) + xxh3.SPARE, np.uint8)
    spared[: offsets[-1]] = np.frombuffer(data, np.uint8)[: offsets[-1]]
    return hexadecimal(spared, offsets)
