"""One source's files or tables as frames of rows, a batch at a time."""

import itertools
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import polars as pl

from tasks.kernels.reading.columns import RowBuilder
from tasks.kernels.reading.files import read_file
from tasks.kernels.reading.formats import LOOKED_AT, FormatReader, is_record, likeliest, unknown_format
from tasks.kernels.reading.found import Unparsed
from tasks.kernels.reading.records import Batch, no_cycle_search

if TYPE_CHECKING:
    from tasks.kernels.reading.plain_lines import PlainLines

_MAX_RECORD_BYTES = 32_000_000


class Frames(NamedTuple):
    """Some rows of a source (`columns.READ_SCHEMA`) and what gave no row (`columns.UNREAD_SCHEMA`), not numbered."""

    rows: pl.DataFrame
    unread: pl.DataFrame


class SourceReader:
    """Reads the files or tables of one source.

    Args:
        name: stands in every row.
        record_format: a key of `formats.REQUIRED`, or `auto`: decided for each file by its first 100 records.
        fields: our field → the record's.
        defaults: `task`, `lang` for rows that name none; `split` for every row.
        encoding: of its text files.
        limit: bytes of the longest record.
    """

    def __init__(
        self,
        name: str,
        record_format: str = "auto",
        fields: Mapping[str, str] | None = None,
        defaults: Mapping[str, str | None] | None = None,
        encoding: str = "auto",
        limit: int = _MAX_RECORD_BYTES,
    ) -> None:
        self._name = name
        self._format = record_format
        self._fields = fields or {}
        self._defaults = defaults or {}
        self._encoding = encoding
        self._limit = limit

    def file(self, path: Path) -> Iterator[Frames]:
        """The rows of one file.

        Raises:
            SourceError: it can't be read to its end, or its records have the fields of no format.
        """
        return self.batches(
            read_file(path, self._encoding, self._limit, partial(is_record, self._format, self._fields)), str(path)
        )

    def batches(self, batches: Iterable[Batch | Unparsed], place: str) -> Iterator[Frames]:
        """The rows of records that were read elsewhere."""
        waiting = iter(batches)
        seen: list[Batch | Unparsed] = []
        for batch in waiting:
            seen.append(batch)
            if self._format != "auto" or sum(len(one.records) for one in seen) >= LOOKED_AT:
                break
        values = [record.value for one in seen for record in one.records][:LOOKED_AT]
        reader = FormatReader(self._decided(values, place), self._fields)
        unparsed = self._unparsed(reader)
        for batch in itertools.chain(seen, waiting):
            if not isinstance(batch, Batch):
                yield from unparsed(batch)
            else:
                yield self._frames(batch, reader)

    def _unparsed(self, reader: FormatReader) -> Callable[[Unparsed], Iterator[Frames]]:
        """What makes rows of lines that are not parsed; its kernels are loaded when the first ones come."""
        made: list[PlainLines] = []

        def frames(block: Unparsed) -> Iterator[Frames]:
            from tasks.kernels.reading.plain_lines import PlainLines

            if not made:
                made.append(PlainLines(self._name, reader, self._fields, self._defaults))
            for rows, unread in made[0].frames(block):
                yield Frames(rows, unread)

        return frames

    def _frames(self, batch: Batch, reader: FormatReader) -> Frames:
        builder = RowBuilder(self._name, reader, self._fields, self._defaults)
        with no_cycle_search():
            for record in batch.records:
                builder.add(record)
        for unread in batch.unread:
            builder.refuse(unread)
        return Frames(builder.rows(), builder.unread())

    def _decided(self, values: list[Any], place: str) -> str:
        if self._format != "auto":
            return self._format
        found = likeliest(values, self._fields)
        if found is None and values:
            raise unknown_format(values, place)
        return found or "text"
