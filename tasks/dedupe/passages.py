"""The rows' text, twice: once to see what each row says to the letter, once more to see what resembles it.

Only text that fits into a quarter of a gigabyte is held in between. More is read again, so memory holds a block of rows
and what is kept of each (design: bounded by streaming); but an order of keeping that is not the rows' own needs all of
it at once.
"""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import polars as pl

from tasks.kernels.text import Texts, from_messages

_BLOCK_ROWS = 16_384
_HELD_BYTES = 256 << 20
_TEXT = ("messages", "rejected")


class Passage(NamedTuple):
    """A block of rows.

    Attributes:
        start: the first one's place among all rows.
        said: their messages.
        rejected: the messages of the other halves of preference pairs.
    """

    start: int
    said: Texts
    rejected: Texts

    @property
    def rows(self) -> int:
        """How many."""
        return self.said.rows.size - 1


class Passages:
    """All rows, in source order, in blocks.

    Args:
        rows: `messages`, `rejected` and others.
        whole: all of them as one block.
    """

    def __init__(self, rows: pl.LazyFrame, *, whole: bool) -> None:
        self._rows = rows
        self._whole = whole
        self._held: list[Passage] | None = None

    def read(self, columns: Sequence[str]) -> Iterator[tuple[pl.DataFrame, Passage]]:
        """Every block with some of its columns, for the first time."""
        held, size = [], 0
        for frame, passage in self._read([*columns, *(name for name in _TEXT if name not in columns)]):
            size += passage.said.data.size + passage.rejected.data.size
            if size <= _HELD_BYTES or self._whole:
                held.append(passage)
            else:
                held.clear()
            yield frame, passage
        self._held = held if size <= _HELD_BYTES or self._whole else None

    def again(self) -> Iterator[Passage]:
        """Every block once more."""
        if self._held is not None:
            yield from self._held
        else:
            yield from (passage for _, passage in self._read(_TEXT))

    def _read(self, columns: Sequence[str]) -> Iterator[tuple[pl.DataFrame, Passage]]:
        start, wanted = 0, self._rows.select(columns)
        if self._whole:
            blocks = iter([wanted.collect()])
        else:
            blocks = wanted.collect_batches(chunk_size=_BLOCK_ROWS, maintain_order=True)
        for block in blocks:
            frame = block.rechunk()
            yield frame, Passage(start, from_messages(frame["messages"]), from_messages(frame["rejected"]))
            start += frame.height
