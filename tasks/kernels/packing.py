"""Examples packed into rows of one length, each kept apart from its neighbours.

Short examples padded to the longest waste most of the work; packed rows waste a few per cent. Packing must not leak:
each example's positions start at 0 again, from which the model builds a mask that is causal within an example and
closed between examples, and the first token of an example is never learned. Best-fit decreasing (Johnson, 1974):
longest first, each into the fullest row with room for it; ties go by the order given, so the result is a function of
the lengths alone.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from tasks.kernels.compiled import compiled

if TYPE_CHECKING:
    import torch

IGNORED = -100  # label of a token that is not learned, as transformers has it
NO_EXAMPLE = -1


@dataclass(frozen=True)
class Examples:
    """Tokenised examples, one behind the other.

    Attributes:
        row_ids: (n,) String.
        ids: (n_tokens,) int32.
        mask: (n_tokens,) bool; True where the token is learned.
        offsets: (n + 1,) int64.
        weights: (n,) float32; how much a learned token of the example counts.
    """

    row_ids: pl.Series
    ids: NDArray[np.int32]
    mask: NDArray[np.bool_]
    offsets: NDArray[np.int64]
    weights: NDArray[np.float32]

    @property
    def lengths(self) -> NDArray[np.int64]:
        """Tokens of each example."""
        return np.diff(self.offsets)

    def __len__(self) -> int:
        return len(self.weights)


def examples_from(tokens: pl.DataFrame) -> Examples:
    """Examples of a frame with `row_id, input_ids, loss_mask, n_tokens, weight` (null: 1)."""
    lengths = tokens["n_tokens"].to_numpy().astype(np.int64)
    return Examples(
        row_ids=tokens["row_id"],
        ids=tokens["input_ids"].explode(empty_as_null=False).to_numpy().astype(np.int32, copy=False),
        mask=tokens["loss_mask"].explode(empty_as_null=False).to_numpy().astype(np.bool_, copy=False),
        offsets=np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64),
        weights=tokens["weight"].fill_null(1.0).to_numpy().astype(np.float32),
    )


@dataclass(frozen=True)
class PackedRows:
    """Rows of examples, as a map-style data set.

    Attributes:
        members: examples of all rows, one row behind the other.
        borders: (n_rows + 1,) int64; row i holds `members[borders[i]:borders[i + 1]]`.
    """

    examples: Examples
    members: NDArray[np.int64]
    borders: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.borders) - 1

    @property
    def lengths(self) -> NDArray[np.int64]:
        """Tokens of each row."""
        upto = np.concatenate([[0], np.cumsum(self.examples.lengths[self.members])])
        return np.diff(upto[self.borders]).astype(np.int64)

    def __getitem__(self, index: int) -> "Row":
        chosen = self.members[self.borders[index] : self.borders[index + 1]]
        examples = self.examples
        slices = [slice(int(examples.offsets[n]), int(examples.offsets[n + 1])) for n in chosen]
        return Row(
            ids=np.concatenate([examples.ids[part] for part in slices]),
            mask=np.concatenate([examples.mask[part] for part in slices]),
            positions=np.concatenate([np.arange(part.stop - part.start) for part in slices]),
            weights=np.concatenate(
                [np.full(part.stop - part.start, examples.weights[n]) for n, part in zip(chosen, slices, strict=True)]
            ),
            members=chosen,
        )


@dataclass(frozen=True)
class Row:
    """One packed row of T tokens: everything (T,), and the examples it is made of."""

    ids: NDArray[np.int32]
    mask: NDArray[np.bool_]
    positions: NDArray[np.int64]
    weights: NDArray[np.float32]
    members: NDArray[np.int64]


def pack(examples: Examples, capacity: int) -> PackedRows:
    """Pack examples into rows of at most `capacity` tokens; a longer example has a row of its own."""
    order = np.argsort(-examples.lengths, kind="stable")
    rows = best_fit(examples.lengths[order], capacity)
    by_row = np.argsort(rows, kind="stable")
    counts = np.bincount(rows) if len(rows) else np.zeros(0, dtype=np.int64)
    return PackedRows(examples, order[by_row], np.concatenate([[0], np.cumsum(counts)]).astype(np.int64))


def unpacked(examples: Examples) -> PackedRows:
    """One example a row, in the order given."""
    return PackedRows(examples, np.arange(len(examples)), np.arange(len(examples) + 1, dtype=np.int64))


def collate(rows: Sequence[Row], pad: int) -> "dict[str, torch.Tensor]":
    """A batch of B rows, padded on the right to the longest, T tokens.

    Padding is told by position, not by id (pad and end-of-turn may be one token): each padding token starts a
    segment of its own, so that nothing attends to it, and its label is ignored.

    Returns:
        `input_ids`, `position_ids`, `labels` (B, T) int64; `weights` (B, T) float32; `members` (B, most examples of
        a row) int64, filled with -1; `n_tokens` (B,) int64, padding not counted.
    """
    import torch

    size = (len(rows), max(len(row.ids) for row in rows))
    ids = np.full(size, pad, dtype=np.int64)
    labels = np.full(size, IGNORED, dtype=np.int64)
    positions = np.zeros(size, dtype=np.int64)
    weights = np.zeros(size, dtype=np.float32)
    members = np.full((len(rows), max(len(row.members) for row in rows)), NO_EXAMPLE, dtype=np.int64)
    for n, row in enumerate(rows):
        length = len(row.ids)
        ids[n, :length] = row.ids
        labels[n, :length] = np.where(row.mask & (row.positions > 0), row.ids, IGNORED)
        positions[n, :length] = row.positions
        weights[n, :length] = row.weights
        members[n, : len(row.members)] = row.members
    arrays: dict[str, Any] = {
        "input_ids": ids,
        "position_ids": positions,
        "labels": labels,
        "weights": weights,
        "members": members,
        "n_tokens": np.array([len(row.ids) for row in rows], dtype=np.int64),
    }
    return {name: torch.from_numpy(array) for name, array in arrays.items()}


def best_fit(lengths: NDArray[np.int64], capacity: int) -> NDArray[np.int64]:
    """The row of each example: the fullest that has room, the newest of equals, a new one if none has.

    Args:
        lengths: (n,) tokens, longest first.

    Returns:
        (n,) row numbers from 0, in the order in which rows are opened.
    """
    rows: NDArray[np.int64] = _best_fit(np.ascontiguousarray(lengths, dtype=np.int64), capacity)
    return rows


@compiled
def _best_fit(lengths: NDArray[np.int64], capacity: int) -> NDArray[np.int64]:
    n = len(lengths)
    rows = np.empty(n, np.int64)
    newest = np.full(capacity + 1, -1, np.int64)  # room left → newest row with that room
    below = np.full(n, -1, np.int64)  # row → the next older one with the same room
    opened = 0
    for i in range(n):
        length = lengths[i]
        room = length
        while room <= capacity and newest[room] < 0:
            room += 1
        if room <= capacity:
            row = newest[room]
            newest[room] = below[row]
        else:
            row, room = opened, max(capacity, length)
            opened += 1
        rows[i] = row
        left = room - length
        if left > 0 and room <= capacity:
            below[row] = newest[left]
            newest[left] = row
    return rows
