"""JSON Lines, a block at a time.

`parse_lines` is the one place where a JSON line becomes a Python object. Most lines go through orjson. It refuses what
Python's own parser takes (NaN, numbers beyond a double) and rounds integers beyond 64 bits without a word, so lines
with nineteen digits in a row, and lines that it refuses, are parsed again by the standard library, which keeps them.
"""

import json
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import orjson

from tasks.kernels.reading.encodings import LineDecoder
from tasks.kernels.reading.records import Batch, NotReadable, Read, Unread, no_cycle_search, unread
from tasks.kernels.reading.repeated_keys import refuse_repeated, repeated_key, suspects
from tasks.kernels.reading.streams import Lines
from tasks.kernels.records.odd import json_safe

_DIGITS = bytes(1 if 48 <= byte < 58 else 0 for byte in range(256))
_LONG_NUMBER = b"\1" * 19
WORTH_SCANNING = 1 << 20
"""Bytes of a block from which on loading the compiled kernels pays."""
_PARSED_LINES = 128


@dataclass
class JsonLines:
    """A block of lines that are not parsed yet: `plain_lines.py` makes rows of most without parsing them.

    Attributes:
        first_line: 1-based number of the first.
        data: UTF-8 where the file's encoding was kept to, without the last line's break.
        limit: bytes of the longest record.
        decoder: of the file.
    """

    first_line: int
    data: bytes
    limit: int
    decoder: LineDecoder

    @cached_property
    def parsed(self) -> Batch:
        """The records of all lines."""
        lines = enumerate(self.data.split(b"\n"), self.first_line)
        return parse_lines(lines, self.data, self.limit, self.decoder)

    def parse(self, begins: Any, places: Sequence[int], numbers: Sequence[int]) -> Batch:
        """The records of some lines, given where each line begins, which lines, and their numbers in the file."""
        taken = [self.data[begins[place] : begins[place + 1] - 1] for place in places]
        return parse_lines(zip(numbers, taken, strict=True), b"\n".join(taken), self.limit, self.decoder)

    @property
    def records(self) -> list[Read]:
        """The records of all lines, parsed."""
        return self.parsed.records

    @property
    def unread(self) -> list[Unread]:
        """Those that could not be read."""
        return self.parsed.unread


def read_json_lines(blocks: Iterator[Lines | Unread], decoder: LineDecoder, limit: int) -> Iterator[Batch | JsonLines]:
    """Blocks of lines as batches of records; of a large one only the first lines are parsed, to know the format by."""
    for block in blocks:
        if isinstance(block, Unread):
            yield Batch(unread=[block])
        elif len(block.data) < WORTH_SCANNING:
            yield parse_block(block, decoder, limit)
        else:
            yield from _large_block(block, decoder, limit)


def _large_block(block: Lines, decoder: LineDecoder, limit: int) -> Iterator[Batch | JsonLines]:
    data, broken = decoder.utf8(block.data)
    if broken:
        lines = enumerate(data.split(b"\n"), block.first_line)
        yield parse_lines(lines, data, limit, decoder, block.first_line, broken)
        return
    first = block.first_line
    if first == 1:
        *head, data = data.split(b"\n", _PARSED_LINES)
        yield parse_lines(enumerate(head, first), b"\n".join(head), limit, decoder)
        first += len(head)
    yield JsonLines(first, data, limit, decoder)


def parse_block(block: Lines, decoder: LineDecoder, limit: int) -> Batch:
    """Every line of a block as a record or as unread."""
    data, broken = decoder.utf8(block.data)
    lines = enumerate(data.split(b"\n"), block.first_line)
    return parse_lines(lines, data, limit, decoder, block.first_line, broken)


def parse_lines(
    lines: Iterable[tuple[int, bytes]],
    data: bytes,
    limit: int,
    decoder: LineDecoder,
    first_line: int = 1,
    broken: Collection[int] = (),
) -> Batch:
    """Every line as a record or as unread; blank lines give neither.

    Args:
        lines: numbers, and bytes as UTF-8.
        data: all of them.
        limit: bytes of the longest record.
        decoder: of the file.
        first_line: number of the line that `broken` counts from.
        broken: lines that are not in the file's encoding.
    """
    has_long_numbers = _LONG_NUMBER in data.translate(_DIGITS)
    batch = Batch()
    records = batch.records
    with no_cycle_search():
        for number, line in lines:
            if not line or line.isspace():
                continue
            try:
                if len(line) > limit or broken or (has_long_numbers and _LONG_NUMBER in line.translate(_DIGITS)):
                    raise ValueError
                records.append(Read(number, orjson.loads(line), line, False))
            except ValueError:
                _parse_again(number, line, limit, number - first_line in broken, decoder, batch)
        _take_out_repeated_keys(batch)
    return batch


def _take_out_repeated_keys(batch: Batch) -> None:
    for index in reversed(suspects(batch.records)):
        record = batch.records[index]
        error = repeated_key(record.raw or b"")
        if error is not None:
            batch.unread.append(unread(record.line, error.reason, error.detail, record.raw or b""))
            del batch.records[index]
    batch.unread.sort(key=lambda refused: refused.line)


def _parse_again(number: int, line: bytes, limit: int, is_broken: bool, decoder: LineDecoder, batch: Batch) -> None:
    if len(line) > limit:
        batch.unread.append(unread(number, "record_too_long", f"{len(line) / 1e6:.1f} MB", line))
    elif is_broken:
        batch.unread.append(unread(number, decoder.broken, f"not {decoder.encoding}", line))
    else:
        try:
            batch.records.append(Read(number, parse_exactly(line, decoder.broken), line, True))
        except NotReadable as error:
            batch.unread.append(unread(number, error.reason, error.detail, line))


def parse_exactly(line: bytes, broken: str = "invalid_utf8") -> Any:
    """JSON text as a value in which nothing was rounded (`json_safe`).

    Raises:
        NotReadable: it is no JSON, not UTF-8, names a key twice, holds a NUL byte or half a surrogate pair.
    """
    if b"\0" in line:
        raise NotReadable("nul_byte", f"{line.count(0)} NUL bytes")
    try:
        text = line.decode()
    except UnicodeDecodeError as error:
        raise NotReadable(broken, f"byte {error.start} of the record") from None
    try:
        value = json_safe(json.loads(text, object_pairs_hook=refuse_repeated))
        orjson.dumps(value)
    except NotReadable:
        raise
    except json.JSONDecodeError as error:
        raise NotReadable("not_json", f"{error.msg}: character {error.pos}") from None
    except RecursionError:
        raise NotReadable("nested_too_deep", "objects inside objects inside objects") from None
    except TypeError as error:  # orjson says both with this type
        deep = "recursion" in str(error).lower()
        reason = "nested_too_deep" if deep else "invalid_unicode"
        raise NotReadable(reason, "nested too deep" if deep else "half of a surrogate pair") from None
    except ValueError:
        raise NotReadable("number_too_long", "a number of more than 4300 digits") from None
    return value
