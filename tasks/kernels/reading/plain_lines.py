"""Plain JSON lines into rows without a Python object for any: scanned, looked up by shape, and written by kernels.

A block of lines is scanned once (`json_scan.py`). Lines with the same keys share a program (`programs.py`), and kernels
write ids, messages, `meta` and the other columns of all lines at once (`json_fill.py`). Whatever is not surely plain
is parsed exactly, line by line, and put in its place among the others: what comes out is the same either way.
"""

from collections.abc import Callable, Iterator, Mapping
from functools import partial
from typing import Any, cast

import numpy as np
import numpy.typing as npt
import polars as pl

from tasks.kernels import xxh3
from tasks.kernels.hashing import hexadecimal
from tasks.kernels.reading import json_fill, json_scan
from tasks.kernels.reading.columns import RowBuilder, language, message_lists, split_name, whole_rows
from tasks.kernels.reading.formats import FormatReader
from tasks.kernels.reading.found import Cells, Found, Unparsed
from tasks.kernels.reading.json_lines import JsonLines
from tasks.kernels.reading.programs import COLUMNS, Programs, Tables, tables
from tasks.kernels.rows import ROLES

_LINES = 1 << 16  # of a scan
_FIELDS = 1 << 18
_TURNS = 1 << 18
_LONGEST_DATA = 1 << 30

Ints = npt.NDArray[np.int32]


class PlainLines:
    """Makes rows of blocks of lines.

    Args:
        source: its name.
        reader: of its format.
        fields: our field → the record's.
        defaults: `task`, `lang` for rows that name none; `split` for every row.
    """

    def __init__(
        self, source: str, reader: FormatReader, fields: Mapping[str, str], defaults: Mapping[str, str | None]
    ) -> None:
        self._source = source
        self._defaults = defaults
        self._reader = reader
        self._fields = fields
        builder = self._new_builder()
        self._programs = Programs(reader, builder, builder.prefix, builder.names)
        self._scanned = json_scan.room(_LINES, _FIELDS, _TURNS)
        self._tables: tuple[int, Tables] | None = None
        self._buffers = [np.empty(0, np.uint8) for _ in range(3)]

    def _new_builder(self) -> RowBuilder:
        return RowBuilder(self._source, self._reader, self._fields, self._defaults)

    def frames(self, block: Unparsed) -> Iterator[tuple[pl.DataFrame, pl.DataFrame]]:
        """Rows (`READ_SCHEMA`) and what gave none (`UNREAD_SCHEMA`), in the order of the file."""
        if isinstance(block, JsonLines):
            yield from map(self._frame, self._scanned_lines(block))
        else:
            block = cast(Cells, block)
            found = block.scanned(self._room)
            kinds = found.value[:, json_scan.KIND_OF].reshape(found.first.size, len(block.keys)) & json_scan.KIND
            self._choose(block.keys, np.flatnonzero(found.program == -1), kinds[found.program == -1], found.program)
            yield self._frame(found._replace(program=np.where(found.must_parse, -1, found.program)))

    def _scanned_lines(self, block: JsonLines) -> Iterator[Found]:
        size = len(block.data) + 1
        data, text = self._room(0, size + json_scan.SPARE), self._room(1, size)
        data[: size - 1] = np.frombuffer(block.data, np.uint8)
        data[size - 1] = 10
        at, number = 0, block.first_line
        while at < size:
            at, lines, shapes = json_scan.scan(data, at, size, block.limit, text, self._scanned)
            line = self._scanned.line[: lines + 1]
            yield Found(
                data,
                text,
                self._scanned.field[:lines],
                self._scanned.value,
                self._scanned.turn,
                np.diff(line),
                number + np.arange(lines),
                self._program_of(block.data, lines, shapes),
                partial(block.parse, line),
            )
            number += lines

    def _room(self, number: int, size: int) -> Any:
        """A buffer that is used again: new memory costs more than what is written to it."""
        if self._buffers[number].size < size:
            self._buffers[number] = np.empty(size, np.uint8)
        return self._buffers[number]

    def _program_of(self, data: bytes, lines: int, shapes: int) -> Ints:
        """The program of each line: -1: none, it is parsed; -2: it is blank."""
        scanned = self._scanned
        program = np.full(lines, -1, np.int32)
        state = scanned.state[:lines]
        program[state == json_scan.BLANK_LINE] = -2
        kind = scanned.value[:, json_scan.KIND_OF]
        for shape in range(shapes):
            first, behind = scanned.field[scanned.example[shape] : scanned.example[shape] + 2]
            keys = tuple(data[begin:end].decode() for begin, end in scanned.key[first:behind].tolist())
            found = np.flatnonzero((state == json_scan.PLAIN) & (scanned.shape[:lines] == shape))
            kinds = kind[scanned.field[found][:, None] + np.arange(len(keys))] & json_scan.KIND
            self._choose(keys, found, kinds, program)
        return program

    def _choose(self, keys: tuple[str, ...], found: Any, kinds: Ints, program: Ints) -> None:
        """Give some rows of the same keys their programs, by the kinds of their values (rows, keys)."""
        asked = self._programs.asked(keys)
        others = np.delete(kinds, asked, axis=1)
        is_known = (others < json_scan.OPENAI).all(axis=1) if others.size else np.ones(found.size, np.bool_)
        code = (kinds[:, asked].astype(np.int64) << (4 * np.arange(len(asked)))).sum(axis=1)
        for one in np.unique(code[is_known]).tolist():
            number = self._programs.of(keys, {i: one >> 4 * n & 15 for n, i in enumerate(asked)})
            program[found[is_known & (code == one)]] = number

    def _frame(self, found: Found) -> tuple[pl.DataFrame, pl.DataFrame]:
        plain, others = np.flatnonzero(found.program >= 0), np.flatnonzero(found.program == -1)
        builder = self._new_builder()
        if others.size:
            batch = found.parse(others.tolist(), found.numbers[others].tolist())
            for record in batch.records:
                builder.add(record)
            for unread in batch.unread:
                builder.refuse(unread)
        rows = builder.rows()
        if plain.size:
            written = self._written(found, plain)
            if rows.is_empty():
                rows = written
            else:
                order = np.argsort(np.concatenate([found.numbers[plain], builder.lines]), kind="stable")
                rows = pl.concat([written, rows])[order]
        return rows, builder.unread()

    def _written(self, found: Found, plain: npt.NDArray[np.int64]) -> pl.DataFrame:
        programs = self._programs.listed
        if self._tables is None or self._tables[0] != len(programs):
            self._tables = len(programs), tables(programs)
        table = self._tables[1]
        program = found.program[plain]
        lines = json_fill.Lines(found.data, found.text, found.first[plain], found.value, found.turn, program)
        read = int((found.sizes[plain] * table.times[program]).sum())
        room = read + int(table.sizes[program].sum()) + xxh3.SPARE
        out = self._room(2, room)
        series = {
            "row_id": hexadecimal(out, _records(lines, table, table.record, out)).alias("row_id"),
            "meta": _strings("meta", out, _records(lines, table, table.meta, out)),
            "messages": _messages("messages", lines, table.said, out),
        }
        if table.has_rejected[program].any():
            series["rejected"] = _messages("rejected", lines, table.rejected, out, table.has_rejected[program])
        columns = zip(COLUMNS, table.columns, strict=True)
        series |= self._own({name: _Column(lines, fields, out) for name, fields in columns})
        return whole_rows(series, {**self._defaults, "source": self._source, "weight": 1.0})

    def _own(self, own: Mapping[str, "_Column"]) -> dict[str, pl.Series]:
        """Columns that some line has something in, as `RowBuilder` takes them from one record."""
        defaults = self._defaults
        weight, split = own["weight"].take(json_fill.FIGURE), own["split"].take(json_fill.STRING)
        named = {
            "tools": own["tools"].take(json_fill.STRING),
            "task": _filled(own["task"].take(json_fill.WORD), defaults.get("task")),
            "label": own["label"].take(json_fill.WORD),
            "lang": _filled(_looked_up(own["lang"].take(json_fill.STRING), language), defaults.get("lang")),
            "split": None if defaults.get("split") else _looked_up(split, split_name),
            "weight": None if weight is None else _numbers(weight),
            "own_id": own["id"].take(json_fill.JSON),
            "own_split": own["split"].take(json_fill.WORD),
        }
        return {name: series.alias(name) for name, series in named.items() if series is not None}


class _Column:
    """One field of all lines, whichever it is in each."""

    def __init__(self, lines: json_fill.Lines, fields: Ints, out: Any) -> None:
        self._lines = lines
        self._fields = fields
        self._out = out

    def take(self, mode: int) -> pl.Series | None:
        """A String column of it (`json_fill.column`); none if all would be null."""
        if (self._fields < 0).all():
            return None
        size = self._lines.first.size
        offsets, filled = np.empty(size + 1, np.int64), np.empty(size, np.uint8)
        json_fill.column(self._lines, self._fields, mode, self._out, offsets, filled)
        return _strings("", self._out, offsets, filled) if filled.any() else None


def _records(lines: json_fill.Lines, table: Tables, programs: json_fill.Programs, out: Any) -> npt.NDArray[np.int64]:
    offsets = np.empty(lines.first.size + 1, np.int64)
    seams = table.seams[lines.program]
    fields = (lines.first[:, None] + seams)[seams[:, 0] >= 0].ravel()
    measures = np.empty((fields.size, 2), np.int32)
    json_scan.measure(lines.data, lines.text, lines.value, fields, measures)
    json_fill.records(lines, programs, measures, out, offsets)
    return offsets


def _messages(name: str, lines: json_fill.Lines, said: tuple[Any, Any], out: Any, is_list: Any = None) -> pl.Series:
    import pyarrow as pa

    ends = np.empty(lines.first.size + 1, np.int32)
    count = json_fill.count_messages(lines, *said, ends)
    roles, offsets = np.empty(count, np.uint8), np.empty(count + 1, np.int64)
    json_fill.messages(lines, *said, roles, out, offsets)
    named = pa.DictionaryArray.from_arrays(pa.array(roles.view(np.int8)), pa.array(ROLES, pa.large_string()))
    weights = pa.array(np.ones(count, np.float32))
    mask = None if is_list is None else pa.array(~is_list)
    turns = (named.cast(pa.large_string()), _large_strings(out, offsets), weights)
    return message_lists(name, turns, pa.array(ends), mask)


def _large_strings(out: Any, offsets: npt.NDArray[np.int64], filled: Any = None) -> Any:
    """An Arrow array of strings that lie one behind the other; their bytes are copied."""
    import pyarrow as pa

    mask = None if filled is None or filled.all() else pa.py_buffer(np.packbits(filled, bitorder="little"))
    buffers = [mask, pa.py_buffer(offsets), pa.py_buffer(out[: offsets[-1]].copy())]
    return pa.Array.from_buffers(pa.large_string(), offsets.size - 1, buffers)


def _strings(name: str, out: Any, offsets: npt.NDArray[np.int64], filled: Any = None) -> pl.Series:
    return pl.Series(name, _large_strings(out, offsets, filled), dtype=pl.String)


def _filled(values: pl.Series | None, default: str | None) -> pl.Series | None:
    return values.fill_null(default) if default and values is not None else values


def _looked_up(values: pl.Series | None, meaning: Callable[[str], str | None]) -> pl.Series | None:
    """What each value means, asked once for each that occurs."""
    if values is None:
        return None
    known = values.drop_nulls().unique()
    return values.replace_strict(known, pl.Series([meaning(value) for value in known], dtype=pl.String), default=None)


def _numbers(values: pl.Series) -> pl.Series:
    """JSON numbers and truth values; 1 where there is none."""
    return values.replace({"true": "1", "false": "0"}).cast(pl.Float64).cast(pl.Float32).fill_null(1.0)
