"""Rows in an order in which neighbours are of like length, so that batches of unpacked rows hold little padding.

Where examples can't be packed (prefix and prompt tuning, a model that takes no positions) this saves most of what
packing would. The rows are shuffled, cut into stretches of fifty steps, and sorted within each: batches of an epoch
differ, and stay a fair sample. The longest row of all comes first, so that memory that does not suffice runs out at
once.
"""

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

_STEPS = 50  # optimiser steps in a stretch, as in transformers' LengthGroupedSampler


class LikeLengths:
    """A sampler for torch's DataLoader: an order of rows for each seed and epoch.

    Args:
        lengths: (n_rows,) tokens.
        step: rows in an optimiser step.
    """

    def __init__(self, lengths: NDArray[np.int64], step: int, seed: int) -> None:
        self._lengths, self._step, self._seed, self._epoch = lengths, step, seed, 0

    def set_epoch(self, epoch: int) -> None:
        """Called by the Trainer, also when it goes on in the middle of a run."""
        self._epoch = epoch

    def __len__(self) -> int:
        return len(self._lengths)

    def __iter__(self) -> Iterator[int]:
        order = np.random.default_rng((self._seed, self._epoch)).permutation(len(self._lengths))
        if len(order):
            first = int(np.argmax(self._lengths[order]))
            order[[0, first]] = order[[first, 0]]
        size = _STEPS * self._step
        for start in range(0, len(order), size):
            stretch = order[start : start + size]
            yield from stretch[np.argsort(-self._lengths[stretch], kind="stable")].tolist()
