"""What the compiled readers find, and what they find it in: cells or lines whose records nobody has made yet."""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, Protocol

from tasks.kernels.reading.records import Batch, Read, Unread

Room = Callable[[int, int], Any]
"""Gives a buffer (0 or 1) of at least so many bytes, which is used again for the next block."""


class Found(NamedTuple):
    """Values of some rows, as `json_scan.py` describes them.

    Attributes:
        data, text: the bytes they stand in, and those of strings whose escapes were undone.
        first: the first value of each row.
        value, turn: (values, 4) and (turns, 5) int32.
        sizes: bytes that a row's values take at most as JSON.
        numbers: of the rows in the file.
        program: of each row; -1: none, it is parsed; -2: there is none.
        parse: the records of some rows, by their places here and their numbers.
        must_parse: rows that have no program, whatever their values.
    """

    data: Any
    text: Any
    first: Any
    value: Any
    turn: Any
    sizes: Any
    numbers: Any
    program: Any
    parse: Callable[[Sequence[int], Sequence[int]], Batch]
    must_parse: Any = False


class Unparsed(Protocol):
    """Rows whose records are made only if they must be."""

    @property
    def records(self) -> list[Read]:
        """All records, made one by one."""

    @property
    def unread(self) -> list[Unread]:
        """What could not be read of them."""


class Cells(Unparsed, Protocol):
    """Rows of cells under the same keys."""

    @property
    def keys(self) -> tuple[str, ...]:
        """The names of the columns."""

    def scanned(self, room: Room) -> Found:
        """Where the cells stand."""
