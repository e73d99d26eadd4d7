"""One file of any kind as batches of records.

The kind follows the name (.jsonl .ndjson .json .csv .tsv .parquet .txt, and .gz or .zst behind it), except that JSON is
looked at: many a `.json` file holds JSON Lines, and some `.jsonl` an array. In a text file each line that is not blank
is a record.
"""

import io
import json
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

from pipeline_config.errors import SourceError
from tasks.kernels.reading.cells import TextLines
from tasks.kernels.reading.delimited import DelimitedReader
from tasks.kernels.reading.encodings import LineDecoder, TextDecoder, Utf16Stream, from_start, is_utf8
from tasks.kernels.reading.found import Unparsed
from tasks.kernels.reading.json_lines import WORTH_SCANNING, read_json_lines
from tasks.kernels.reading.json_values import read_json_values
from tasks.kernels.reading.records import Batch, Read, Unread, unread
from tasks.kernels.reading.streams import COMPRESSIONS, ByteStream, Lines, guarded, line_blocks, open_bytes
from tasks.kernels.reading.tables import read_parquet

KINDS = {
    ".jsonl": "json",
    ".ndjson": "json",
    ".json": "json",
    ".csv": "delimited",
    ".tsv": "delimited",
    ".parquet": "parquet",
    ".txt": "text",
}
_SAMPLE_BYTES = 1 << 16


def kind_of(path: Path) -> str | None:
    """`json`, `delimited`, `parquet` or `text`, by the file's name; None for a name that says nothing."""
    name = Path(path.stem) if path.suffix in COMPRESSIONS else path
    kind = KINDS.get(name.suffix.lower())
    return None if kind == "parquet" and name != path else kind


def name_says(path: Path) -> list[str]:
    """What reading takes from a file's name: one content under two names that say the same gives the same records."""
    said = [suffix for suffix in (".json", ".tsv") if suffix in path.suffixes]
    return [kind_of(path) or "", *said, path.suffix if path.suffix in COMPRESSIONS else ""]


def read_file(path: Path, encoding: str, limit: int, is_record: Callable[[Any], bool]) -> Iterator[Batch | Unparsed]:
    """The records of one file, in its order.

    Args:
        path: a file whose `kind_of` is known.
        encoding: `auto`, `utf-8`, `utf-16` or `gb18030`.
        limit: bytes of the longest record.
        is_record: whether a value has the fields of a record; finds them in a JSON file that wraps or damaged them.

    Raises:
        SourceError: the file can't be read to its end.
    """
    if kind_of(path) == "parquet":
        yield from read_parquet(path)
        return
    with open_bytes(path) as opened:
        start = guarded(opened, path)
        found, mark = from_start(start, encoding)
        stream: ByteStream = opened
        start = start[mark:]
        if found is not None and found.startswith("utf-16"):
            stream = Utf16Stream(opened, found, start)
            start = guarded(stream, path)
        yield from _read_stream(stream, path, found, limit, start, is_record)


def _read_stream(
    stream: ByteStream, path: Path, encoding: str | None, limit: int, start: bytes, is_record: Callable[[Any], bool]
) -> Iterator[Batch | Unparsed]:
    kind = kind_of(path)
    if kind == "json" and _is_one_value(start, path):
        yield from read_json_values(stream, path, TextDecoder(encoding), limit, start, is_record)
        return
    blocks = line_blocks(stream, path, limit, start)
    decoder = LineDecoder(encoding)
    if kind == "json":
        yield from read_json_lines(blocks, decoder, limit)
    elif kind == "delimited":
        yield from DelimitedReader(path, decoder, limit).read(blocks)
    else:
        yield from _text_lines(blocks, decoder, limit)


def _is_one_value(start: bytes, path: Path) -> bool:
    """Whether a JSON file holds one value rather than one record a line."""
    text = start.lstrip()
    line, _, rest = text.partition(b"\n")
    is_complete = _parses(line)
    if text[:1] == b"[":
        return not is_complete or not rest.strip()
    return ".json" in path.suffixes and text[:1] == b"{" and (not is_complete or not rest.strip())


def _parses(line: bytes) -> bool:
    try:
        json.loads(line)
    except (ValueError, RecursionError):
        return False
    return True


def _text_lines(blocks: Iterator[Lines | Unread], decoder: LineDecoder, limit: int) -> Iterator[Batch | TextLines]:
    for block in blocks:
        if isinstance(block, Unread):
            yield Batch(unread=[block])
            continue
        data, broken = decoder.utf8(block.data)
        refused = {block.first_line + number for number in broken}
        exactly = partial(_text_batch, reason=decoder.broken, limit=limit, refused=refused)
        if len(data) < WORTH_SCANNING or broken or not is_utf8(data):
            yield exactly(list(enumerate(data.split(b"\n"), block.first_line)))
        else:
            yield TextLines(block.first_line, data, limit, exactly)


def _text_batch(lines: list[tuple[int, bytes]], reason: str, limit: int, refused: set[int]) -> Batch:
    batch = Batch()
    for number, line in lines:
        if line and not line.isspace():
            _text_line(number, line, reason, limit, number in refused, batch)
    return batch


def _text_line(place: int, line: bytes, reason: str, limit: int, is_broken: bool, batch: Batch) -> None:
    try:
        text = "" if is_broken else line.decode().removesuffix("\r")
    except UnicodeDecodeError:
        is_broken, text = True, ""
    if is_broken:
        batch.unread.append(unread(place, reason, "the line is in another encoding", line))
    elif len(line) > limit:
        batch.unread.append(unread(place, "record_too_long", f"{len(line) / 1e6:.1f} MB", line))
    elif "\0" in text:
        batch.unread.append(unread(place, "nul_byte", f"{text.count(chr(0))} NUL bytes", line))
    else:
        batch.records.append(Read(place, {"text": text}, line, False))


def sample(path: Path, encoding: str, is_record: Callable[[Any], bool]) -> list[Any]:
    """The records in the first 64 kB of a text file, to tell its format from; none of a larger JSON value.

    Raises:
        SourceError: the file can't be read, or holds nothing but white space.
    """
    with open_bytes(path) as stream:
        start = guarded(stream, path, _SAMPLE_BYTES)
        is_whole = not guarded(stream, path, 1)
    found, mark = from_start(start, encoding)
    start = start[mark:]
    if found is not None and found.startswith("utf-16"):
        start = Utf16Stream(io.BytesIO(), found, start).read()
    if is_whole and not start.strip():
        raise SourceError(
            f"{path} holds nothing but white space", place=str(path), cure="give a file with records in it"
        )
    if not is_whole:
        if kind_of(path) == "json" and _is_one_value(start, path):
            return []
        start = start[: start.rfind(b"\n") + 1]
    if not start:
        return []
    batches = _read_stream(io.BytesIO(), path, found, _SAMPLE_BYTES, start, is_record)
    return [record.value for batch in batches for record in batch.records]
