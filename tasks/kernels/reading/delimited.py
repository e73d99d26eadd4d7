"""CSV and TSV: every cell a string; an empty cell without quotes is missing (null), `""` is an empty string.

The standard library's reader cannot tell those two apart and swallows the rest of a file after one unclosed quote, so
the rules are applied here (RFC 4180): a quote counts only at the start of a cell, is doubled inside, and a quoted cell
may hold line breaks. A row with more or fewer cells than the header is ragged. A row of several lines that is ragged or
unclosed most likely began with a stray quote: it costs its first line, and the others are read again as rows of their
own. A row with an unreadable line in it goes whole.
"""

from collections import deque
from collections.abc import Iterator
from pathlib import Path

from pipeline_config.errors import SourceError
from tasks.kernels.reading.cells import PlainRows, Rows
from tasks.kernels.reading.encodings import LineDecoder, is_utf8
from tasks.kernels.reading.json_lines import WORTH_SCANNING
from tasks.kernels.reading.records import Batch, Read, Unread, unread
from tasks.kernels.reading.streams import Lines

Cells = list[str | None]
_LINES_BY_HAND = 2000


class _Row:
    """A row being read: the cells so far, and the text of a quoted cell that is still open."""

    def __init__(self, delimiter: str) -> None:
        self._delimiter = delimiter
        self.cells: Cells = []
        self.open: list[str] | None = None
        self.lines: list[str | Unread] = []
        self.size = 0
        self.is_bad = False

    @property
    def raw(self) -> bytes:
        """The row's bytes, as far as they are known."""
        return b"\n".join(line.head if isinstance(line, Unread) else line.encode() for line in self.lines)

    @property
    def unread(self) -> Unread | None:
        """The first of its lines that could not be read."""
        return next((line for line in self.lines if isinstance(line, Unread)), None)

    def feed(self, given: str | Unread) -> bool:
        """Read one more line (of an unreadable one only the quotes count); whether the row is complete."""
        self.lines.append(given)
        line = given.head.decode("utf-8", "replace") if isinstance(given, Unread) else given
        self.size += len(line) + 1
        position = 0
        if self.open is not None:
            self.open.append("\n")
            position = self._quoted(line, 0)
        elif '"' not in line:
            self.cells = [cell or None for cell in line.removesuffix("\r").split(self._delimiter)]
            return True
        else:
            position = self._cell(line, 0)
        while position >= 0:
            position = self._cell(line, position)
        return self.open is None

    def _cell(self, line: str, position: int) -> int:
        """Read the cell at a position; where the next one starts, or -1 at the end of the line."""
        if line.startswith('"', position):
            self.open = []
            return self._quoted(line, position + 1)
        end = line.find(self._delimiter, position)
        cell = line[position:] if end < 0 else line[position:end]
        self.cells.append((cell.removesuffix("\r") if end < 0 else cell) or None)
        return -1 if end < 0 else end + 1

    def _quoted(self, line: str, position: int) -> int:
        """Read on in a quoted cell, its first quote passed."""
        open_cell = self.open if self.open is not None else []
        while True:
            end = line.find('"', position)
            if end < 0:
                open_cell.append(line[position:])
                return -1
            open_cell.append(line[position:end])
            if not line.startswith('"', end + 1):
                break
            open_cell.append('"')
            position = end + 2
        self.cells.append("".join(open_cell))
        self.open = None
        rest = line[end + 1 :]
        if rest in ("", "\r"):
            return -1
        self.is_bad = self.is_bad or not rest.startswith(self._delimiter)
        following = line.find(self._delimiter, end + 1)
        return -1 if following < 0 else following + 1


class DelimitedReader:
    """Reads one CSV or TSV file.

    Args:
        path: for messages and the delimiter: .tsv has tabs; .csv a comma, or what its header has instead (`;`, tab).
        decoder: of the file.
        limit: characters of the longest row.
    """

    def __init__(self, path: Path, decoder: LineDecoder, limit: int) -> None:
        self._path = path
        self._decoder = decoder
        self._limit = limit
        self._delimiter = ""
        self._header: list[str] = []
        self._row: _Row | None = None
        self._row_line = 0
        self._waiting: deque[tuple[int, str | Unread]] = deque()

    def read(self, blocks: Iterator[Lines | Unread]) -> Iterator[Batch | Rows]:
        """Blocks of lines as batches of records, or as rows of cells."""
        for block in blocks:
            if isinstance(block, Unread):
                self._waiting.append((block.line, block))
                batch = Batch()
                self._rows(batch)
                yield batch
            elif len(block.data) < WORTH_SCANNING:
                yield self._by_hand(block.first_line, *self._decoder.utf8(block.data))
            else:
                yield from self._large_block(block)
        batch = Batch()
        while self._row is not None:
            self._give_up(self._row, "unclosed_quote", "the row's quoted cell is never closed", batch)
            self._rows(batch)
        yield batch

    def _large_block(self, block: Lines) -> Iterator[Batch | Rows]:
        """Plain rows are found by the kernel; it stops at any other, and there some lines are read one by one."""
        data, broken = self._decoder.utf8(block.data)
        if broken or not is_utf8(data):
            yield self._by_hand(block.first_line, data, broken)
            return
        plain: PlainRows | None = None
        at, line = 0, block.first_line
        while at <= len(data):
            if self._header and self._row is None and not self._waiting:
                plain = plain or PlainRows(data, self._delimiter, tuple(self._header), self._limit, self._again)
                yield from plain.rows(at, line)
                at, line = plain.at, plain.line
            batch, wanted = Batch(), _LINES_BY_HAND if self._row is None else 1
            while at <= len(data) and (wanted > 0 or self._row is not None):
                end = data.find(b"\n", at)
                end = len(data) if end < 0 else end
                self._waiting.extend(self._lines(line, data[at:end], set()))
                self._rows(batch)
                at, line, wanted = end + 1, line + 1, wanted - 1
            yield batch

    def _by_hand(self, first_line: int, data: bytes, broken: set[int]) -> Batch:
        batch = Batch()
        self._waiting.extend(self._lines(first_line, data, broken))
        self._rows(batch)
        return batch

    def _again(self, number: int, raw: bytes) -> Read:
        """The record of a row that is known to be plain, and maybe blank lines behind it."""
        row = _Row(self._delimiter)
        for line in raw.decode().split("\n"):
            if row.feed(line):
                break
        return Read(number, dict(zip(self._header, row.cells, strict=True)), row.raw, False)

    def _lines(self, first_line: int, data: bytes, broken: set[int]) -> Iterator[tuple[int, str | Unread]]:
        for number, line in enumerate(data.split(b"\n")):
            place = first_line + number
            try:
                text = "" if number in broken else line.decode()
            except UnicodeDecodeError:
                broken.add(number)
            if number in broken:
                yield place, unread(place, self._decoder.broken, "the line is in another encoding", line)
            elif len(line) > self._limit:
                yield place, unread(place, "record_too_long", f"{len(line) / 1e6:.1f} MB", line)
            elif "\0" in text:
                yield place, unread(place, "nul_byte", f"{text.count(chr(0))} NUL bytes", line)
            else:
                yield place, text

    def _rows(self, batch: Batch) -> None:
        """Read the waiting lines."""
        while self._waiting:
            place, line = self._waiting.popleft()
            if isinstance(line, Unread) and line.reason == "record_too_long":
                if self._row is None:
                    batch.unread.append(line)
                else:
                    self._waiting.appendleft((place, line))
                    self._give_up(self._row, "unclosed_quote", "a line beyond the limit follows", batch)
                continue
            if self._row is None:
                if line in ("", "\r"):
                    continue
                self._row, self._row_line = _Row(self._delimiter or self._delimiter_of(line)), place
            if self._row.feed(line):
                self._finish(self._row, batch)
            elif self._row.size > self._limit:
                self._give_up(self._row, "unclosed_quote", "the row's quoted cell is never closed", batch)

    def _give_up(self, row: _Row, reason: str, detail: str, batch: Batch) -> None:
        """Quarantine the first line of a row, and read the others again as rows of their own."""
        first, *others = row.lines
        if not isinstance(first, Unread):
            first = unread(self._row_line, reason, detail, first.encode())
        batch.unread.append(first)
        again = [(self._row_line + 1 + number, line) for number, line in enumerate(others)]
        self._waiting.extendleft(reversed(again))
        self._row = None

    def _delimiter_of(self, header: str | Unread) -> str:
        if isinstance(header, Unread):
            raise SourceError(
                f"the first line of {self._path.name}, which names the columns, can't be read: {header.detail}",
                place=str(self._path),
                cure="set the source's `encoding`, or repair the line",
            )
        if ".tsv" in self._path.suffixes:
            return "\t"
        return next((mark for mark in ",;\t" if mark in header), ",")

    def _finish(self, row: _Row, batch: Batch) -> None:
        self._row = None
        if not self._header:
            self._delimiter = self._delimiter_of(row.lines[0])  # of the whole header, quotes and all
            self._header = self._checked([cell or "" for cell in row.cells], row.lines[0])
            return
        cells, columns = len(row.cells), len(self._header)
        if row.is_bad:
            self._give_up(row, "bad_quotes", "text stands behind a closing quote", batch)
        elif cells != columns:
            self._give_up(row, "ragged_row", f"{cells} cells, {columns} columns", batch)
        elif row.unread is not None:
            batch.unread.append(unread(self._row_line, row.unread.reason, row.unread.detail, row.raw))
        else:
            record = dict(zip(self._header, row.cells, strict=True))
            batch.records.append(Read(self._row_line, record, row.raw, False))

    def _checked(self, header: list[str], line: str | Unread) -> list[str]:
        if isinstance(line, str) and line.count("\r") > max(line.count('"'), 1):
            raise SourceError(
                f"the lines of {self._path.name} end with a carriage return alone, so all of it is one line",
                place=str(self._path),
                cure="save it with line feeds (Unix or Windows line ends)",
            )
        twice = next((name for name in header if header.count(name) > 1), None)
        if twice is not None:
            raise SourceError(
                f"{self._path.name} has two columns named {twice!r}",
                place=str(self._path),
                cure="give each column a name of its own in the first line",
            )
        return header
