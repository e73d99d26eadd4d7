"""The floor: read a file, hash its word 5-grams, keep their minima; compiled, and nothing else.

    python -m benchmarks.bare_loop SOURCE SMALL FOLDER

No JSON, no Unicode, no bands, no verification, no output: bytes of the file as they are, a line a row, a word is a run
of ASCII letters, digits and all bytes from 128 up. Signatures have as many values as the pipeline's own bands use.
On one core; the answer holds what the same loop takes on all of them, the rows shared out.
"""

import os
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from numba import njit

from benchmarks.peers.timed import measure

VALUES = 125  # 25 bands of 5
SHINGLE = 5


@njit(nogil=True, cache=True)
def sketch(
    data: npt.NDArray[np.uint8],
    lines: npt.NDArray[np.int64],
    first: int,
    last: int,
    a: npt.NDArray[np.uint32],
    b: npt.NDArray[np.uint32],
    out: npt.NDArray[np.uint32],
) -> None:
    """Signatures of lines first to last: (n_lines, values)."""
    words = np.empty(SHINGLE, np.uint32)
    for line in range(first, last):
        least = out[line]
        least[:] = np.uint32(0xFFFFFFFF)
        count = 0
        value = np.uint32(0)
        inside = False
        for at in range(lines[line], lines[line + 1]):
            byte = data[at]
            letter = byte >= 128 or 48 <= byte <= 57 or 65 <= byte <= 90 or 97 <= byte <= 122
            if letter:
                value = np.uint32((value ^ np.uint32(byte)) * np.uint32(0x01000193))
            elif inside:
                words[count % SHINGLE] = value
                count += 1
                value = np.uint32(0x811C9DC5)
                if count >= SHINGLE:
                    h = np.uint32(0)
                    for k in range(SHINGLE):
                        h = np.uint32((h ^ words[(count + k) % SHINGLE]) * np.uint32(0x85EBCA6B))
                        h = np.uint32(h ^ (h >> np.uint32(13)))
                    for k in range(a.size):
                        least[k] = min(least[k], np.uint32(a[k] * h + b[k]))
            inside = letter


def run(source: Path, folder: Path) -> None:
    """Read the file and sketch all its lines on one core."""
    sketch_file(source, 1)


def sketch_file(source: Path, threads: int) -> None:
    """Read the file and sketch its lines, shared out by their number."""
    data = np.fromfile(source, np.uint8)
    ends = np.flatnonzero(data == 10).astype(np.int64) + 1
    lines = np.concatenate([np.zeros(1, np.int64), ends])
    draw = np.random.default_rng(1)
    a, b = (draw.integers(0, 1 << 32, VALUES, dtype=np.uint32) | np.uint32(1) for _ in range(2))
    out = np.empty((lines.size - 1, VALUES), np.uint32)
    cuts = np.linspace(0, lines.size - 1, threads + 1).astype(int).tolist()
    with ThreadPoolExecutor(threads) as pool:
        list(pool.map(lambda at: sketch(data, lines, cuts[at], cuts[at + 1], a, b, out), range(threads)))


def main() -> None:
    """One core under the clock, all cores beside it."""
    timed: list[Path] = []

    def once(source: Path, folder: Path) -> None:
        timed[:] = [source]
        run(source, folder)

    def answer(_: Path) -> dict[str, Any]:
        started = time.perf_counter()
        sketch_file(timed[0], os.cpu_count() or 1)
        return {"all_cores": time.perf_counter() - started}

    measure(once, answer)


if __name__ == "__main__":
    main()
