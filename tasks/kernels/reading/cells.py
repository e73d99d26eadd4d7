"""Lines of text, CSV rows and tables as cells that nobody has made records of yet.

The kernels are loaded when the first of them is scanned, so that looking at a file (`winnow plan`) needs none.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from typing import Any

from tasks.kernels.reading.found import Found, Room
from tasks.kernels.reading.records import Batch, Read, Unread

_TURN = ("role", "content")
_MOST_CELLS = 1 << 18


@dataclass
class TextLines:
    """Lines, each of which is a text.

    Attributes:
        first_line: 1-based number of the first.
        data: UTF-8, without the last line's break.
        limit: bytes of the longest record.
        exactly: the records of some lines: numbers and bytes.
    """

    first_line: int
    data: bytes
    limit: int
    exactly: Callable[[list[tuple[int, bytes]]], Batch]
    keys: tuple[str, ...] = ("text",)

    @cached_property
    def parsed(self) -> Batch:
        """The records of all lines."""
        return self.exactly(list(enumerate(self.data.split(b"\n"), self.first_line)))

    @property
    def records(self) -> list[Read]:
        """The records of all lines."""
        return self.parsed.records

    @property
    def unread(self) -> list[Unread]:
        """Those that could not be read."""
        return self.parsed.unread

    def scanned(self, room: Room) -> Found:
        """Where the texts stand."""
        import numpy as np

        from tasks.kernels.reading import cell_scan

        size, count = len(self.data) + 1, self.data.count(b"\n") + 1
        data = _placed(self.data, room)
        begins, value = np.empty(count + 1, np.int32), np.empty((count, 4), np.int32)
        state, sizes = np.empty(count, np.uint8), np.empty(count, np.int64)
        cell_scan.text_lines(data, size, self.limit, begins, value, state)
        cell_scan.classify(data, value, sizes)
        return _found(data, value, sizes, 1)._replace(
            numbers=self.first_line + np.arange(count),
            program=np.where(state == 0, -2, -1).astype(np.int32),
            must_parse=state == 2,
            parse=partial(self._parse, begins),
        )

    def _parse(self, begins: Any, places: Sequence[int], numbers: Sequence[int]) -> Batch:
        lines = [self.data[begins[place] : begins[place + 1] - 1] for place in places]
        return self.exactly(list(zip(numbers, lines, strict=True)))


@dataclass
class Rows:
    """CSV rows that were found plain, all with as many cells as the header.

    Attributes:
        keys: the header.
        numbers: the line each begins with.
        exactly: the record of one row: its line and its bytes.
        begins: where each row begins in `data`.
        data, text, value: as in `Found`.
    """

    keys: tuple[str, ...]
    numbers: Any
    exactly: Callable[[int, bytes], Read]
    begins: Any
    data: bytes
    text: Any
    value: Any

    @cached_property
    def records(self) -> list[Read]:
        """All records, made one by one."""
        return self._parse(range(len(self.numbers)), self.numbers.tolist()).records

    @property
    def unread(self) -> list[Unread]:
        """None: such rows are handed on otherwise."""
        return []

    def scanned(self, room: Room) -> Found:
        """Where the cells stand."""
        import numpy as np

        from tasks.kernels.reading import cell_scan

        sizes = np.empty(self.value.shape[0], np.int64)
        cell_scan.classify(self.text, self.value, sizes)
        found = _found(self.text, self.value, sizes, len(self.keys))
        return found._replace(numbers=self.numbers, parse=self._parse)

    def _parse(self, places: Sequence[int], numbers: Sequence[int]) -> Batch:
        rows = [self.data[self.begins[place] : self.begins[place + 1] - 1] for place in places]
        return Batch([self.exactly(number, row) for number, row in zip(numbers, rows, strict=True)])


class PlainRows:
    """Finds the plain rows of a block of CSV lines.

    Args:
        data: UTF-8, without the last line's break.
        delimiter: one ASCII character.
        header: the names of the columns.
        limit: bytes of the longest row.
        exactly: the record of one row: its line and its bytes.

    Attributes:
        at, line: where the last search ended, and the number of that line.
    """

    def __init__(
        self,
        data: bytes,
        delimiter: str,
        header: tuple[str, ...],
        limit: int,
        exactly: Callable[[int, bytes], Read],
    ) -> None:
        import numpy as np

        self._data = data
        self._bytes = _placed(data, lambda _, size: np.zeros(size, np.uint8))
        self._delimiter = ord(delimiter)
        self._header = header
        self._limit = limit
        self._exactly = exactly
        self.at = self.line = 0

    def rows(self, at: int, line: int) -> Iterator[Rows]:
        """Plain rows from a place on, which is the beginning of this line, up to one that is not plain."""
        import numpy as np

        from tasks.kernels.reading import cell_scan

        self.at, self.line = at, line
        columns = len(self._header)
        room = max(_MOST_CELLS // columns, 1)
        stop = len(self._data) + 1
        while self.at < stop:
            text = self._bytes.copy()
            begins, numbers = np.empty(room + 1, np.int32), np.empty(room, np.int64)
            value = np.empty((room * columns, 4), np.int32)
            place, found, lines = cell_scan.csv_rows(
                self._bytes, self.at, stop, self._delimiter, columns, self._limit, text, begins, numbers, value
            )
            if not found:
                self.at, self.line = place, self.line + lines
                return
            numbers = numbers[:found] + self.line
            yield Rows(self._header, numbers, self._exactly, begins, self._data, text, value[: found * columns])
            self.at, self.line = place, self.line + lines
            if found < room:
                return


@dataclass
class Table:
    """Rows of an Arrow table whose columns are texts, whole numbers, truth values, or plain lists of turns.

    Attributes:
        first: 1-based number of the first row.
        batch: an Arrow record batch, its texts valid.
        exactly: the records of some rows: a table and their numbers.
    """

    first: int
    batch: Any
    exactly: Callable[[Any, Sequence[int]], list[Read]]

    @property
    def keys(self) -> tuple[str, ...]:
        """The names of the columns."""
        return tuple(self.batch.schema.names)

    @cached_property
    def records(self) -> list[Read]:
        """All records, made one by one."""
        return self.exactly(self.batch, range(self.first, self.first + self.batch.num_rows))

    @property
    def unread(self) -> list[Unread]:
        """None: a table's rows can all be read."""
        return []

    def scanned(self, room: Room) -> Found:
        """Where the cells stand: all columns' bytes are put one behind the other."""
        import numpy as np

        from tasks.kernels.reading import cell_scan, json_scan

        rows, columns = self.batch.num_rows, self.batch.num_columns
        value = np.empty((rows, columns, 4), np.int32)
        parts: list[Any] = []
        turn = np.empty((0, 5), np.int32)
        at = 0
        sizes = np.zeros(rows, np.int64)
        must_parse = np.zeros(rows, np.bool_)
        for n, column in enumerate(self.batch.columns):
            if is_turn_list(column.type):
                ends, roles, contents, is_null = _turn_list(column)
                begins, behind, at = _text(contents, at, parts)
                turn = np.stack([begins, behind, behind, np.full_like(begins, -1), roles], axis=1).astype(np.int32)
                value[:, n, 0], value[:, n, 1], value[:, n, 2] = ends[:-1], ends[1:], ends[1:]
                value[:, n, 3] = np.where(is_null, json_scan.NULL, json_scan.OPENAI)
            else:
                begins, behind, at = _text(column, at, parts)
                value[:, n, 0], value[:, n, 1], value[:, n, 2] = begins, behind, behind
                value[:, n, 3] = _kinds(column)
        data = np.concatenate([*parts, np.zeros(json_scan.SPARE, np.uint8)])
        for n in (n for n, column in enumerate(self.batch.columns) if is_turn_list(column.type)):
            content = np.ascontiguousarray(turn[:, :4])
            each = np.empty(len(turn), np.int64)
            cell_scan.classify(data, content, each)
            turn[:, 3] = content[:, 3]
            ends = np.concatenate([value[:1, n, 0], value[:, n, 1]])
            is_odd = (turn[:, 4] < 0) | (content[:, 3] & json_scan.KIND != json_scan.TEXT)
            has_answer = _any(turn[:, 4] == json_scan.ASSISTANT, ends)
            must_parse = (_any(is_odd, ends) | ~has_answer) & (value[:, n, 3] == json_scan.OPENAI)
            sizes += np.diff(np.concatenate([[0], np.cumsum(each + 40)])[ends])
        flat = value.reshape(-1, 4)
        each = np.empty(len(flat), np.int64)
        cell_scan.classify(data, flat, each)
        sizes += each.reshape(rows, columns).sum(axis=1)
        found = _found(data, flat, sizes[:, None], 1)
        return found._replace(
            first=(np.arange(rows) * columns).astype(np.int32),
            turn=turn,
            numbers=self.first + np.arange(rows),
            program=np.full(rows, -1, np.int32),
            must_parse=must_parse,
            parse=self._parse,
        )

    def _parse(self, places: Sequence[int], numbers: Sequence[int]) -> Batch:
        return Batch(self.exactly(self.batch.take(list(places)), numbers))


def can_be_scanned(schema: Any) -> bool:
    """Whether a table of these columns can be read as cells."""
    import pyarrow.types as types

    turns = [is_turn_list(field.type) for field in schema]
    plain = (types.is_null, types.is_string, types.is_large_string, types.is_boolean, types.is_integer)
    others = [any(is_it(field.type) for is_it in plain) for field in schema]
    return sum(turns) <= 1 and all(map(max, zip(turns, others, strict=True)))


def is_turn_list(kind: Any) -> bool:
    """Whether a type is a list of `{role, content}`."""
    import pyarrow.types as types

    if not (types.is_list(kind) or types.is_large_list(kind)) or not types.is_struct(kind.value_type):
        return False
    fields = list(kind.value_type)
    texts = all(types.is_string(field.type) or types.is_large_string(field.type) for field in fields)
    return texts and tuple(field.name for field in fields) == _TURN


def _placed(data: bytes, room: Room) -> Any:
    import numpy as np

    from tasks.kernels.reading import json_scan

    placed = room(0, len(data) + 1 + json_scan.SPARE)
    placed[: len(data)] = np.frombuffer(data, np.uint8)
    placed[len(data)] = 10
    return placed


def _found(data: Any, value: Any, sizes: Any, columns: int) -> Found:
    """Rows of so many cells, all of them to be written."""
    import numpy as np

    rows = len(sizes) // columns
    return Found(
        data,
        data,
        (np.arange(rows) * columns).astype(np.int32),
        value,
        np.empty((0, 5), np.int32),
        sizes.reshape(rows, columns).sum(axis=1),
        np.arange(rows),
        np.full(rows, -1, np.int32),
        lambda places, numbers: Batch(),
    )


def _text(column: Any, at: int, parts: list[Any]) -> tuple[Any, Any, int]:
    """Where each text of a column (numbers as text) begins and ends, its bytes added to the parts that end at `at`."""
    import numpy as np
    import pyarrow as pa

    array = column.cast(pa.large_string())
    _, places, data = array.buffers()
    offsets = np.frombuffer(places, np.int64)[array.offset : array.offset + len(array) + 1]
    if data is None or not len(offsets):
        nothing = np.full(len(array), at, np.int64)
        return nothing, nothing, at
    parts.append(np.frombuffer(data, np.uint8)[offsets[0] : offsets[-1]])
    moved = offsets - offsets[0] + at
    return moved[:-1], moved[1:], int(moved[-1])


def _kinds(column: Any) -> Any:
    """The kind of each value; of texts -1, to be told apart later."""
    import numpy as np
    import pyarrow.types as types

    from tasks.kernels.reading import json_scan

    if types.is_boolean(column.type):
        kinds = np.where(column.fill_null(False).to_numpy(zero_copy_only=False), json_scan.TRUE, json_scan.FALSE)
    else:
        kinds = np.full(len(column), json_scan.NUMBER if types.is_integer(column.type) else -1)
    return np.where(column.is_null().to_numpy(zero_copy_only=False), json_scan.NULL, kinds)


def _turn_list(column: Any) -> tuple[Any, Any, Any, Any]:
    """Where each list's turns end, the turns' roles (below 0: no plain one), their contents; which lists are null."""
    import numpy as np
    import pyarrow as pa
    import pyarrow.compute as pc

    from tasks.kernels.reading import json_scan
    from tasks.kernels.rows import ROLES

    offsets = column.offsets.to_numpy().astype(np.int64)
    turns = column.values.slice(offsets[0], offsets[-1] - offsets[0])
    roles, contents = turns.flatten()
    known = pa.array(ROLES[: json_scan.TOOL + 1], pa.large_string())
    code = pc.index_in(roles.cast(pa.large_string()), known).fill_null(-1)
    codes = code.to_numpy(zero_copy_only=False).astype(np.int32)
    codes[contents.is_null().to_numpy(zero_copy_only=False)] = -1
    return offsets - offsets[0], codes, contents, column.is_null().to_numpy(zero_copy_only=False)


def _any(flags: Any, ends: Any) -> Any:
    """Whether any flag is set between each end and the next."""
    import numpy as np

    return np.diff(np.concatenate([[0], np.cumsum(flags)])[ends]) > 0
