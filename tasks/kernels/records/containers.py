"""Files that records are written to: JSON Lines, a JSON array, CSV, Parquet; .gz and .zst behind the name compress.

JSON is written as Python's own `json.dumps(record, ensure_ascii=False)` spells it, long integers and NaN included. CSV
writes a missing value as an empty cell and an empty string as `""`, so that the two stay apart.
"""

import gzip
import json
import os
import shlex
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Any, cast

from pipeline_config.errors import ConfigError

SUFFIXES = (".jsonl", ".ndjson", ".json", ".csv", ".tsv", ".parquet")


def container_of(out: Path) -> str:
    """The suffix that decides how `out` is written.

    Raises:
        ConfigError: its name says nothing.
    """
    name = Path(out.stem) if out.suffix in (".gz", ".zst") else out
    suffix = name.suffix.lower()
    if suffix not in SUFFIXES or (suffix == ".parquet" and name != out):
        raise ConfigError(
            f"{out.name} does not say what kind of file to write",
            place="--out",
            cure=f"end its name in one of {', '.join(SUFFIXES)}, and .gz or .zst behind it to compress",
        )
    return suffix


def write_records(records: Iterable[dict[str, Any]], out: Path) -> int:
    """Write records to a file, complete or not at all; gives their number."""
    suffix = container_of(out)
    with replacing(out) as temporary:
        if suffix == ".parquet":
            return _write_parquet(records, temporary)
        with _opened(temporary, out.suffix) as stream:
            if suffix in (".csv", ".tsv"):
                return _write_cells(list(records), stream, "\t" if suffix == ".tsv" else ",")
            if suffix == ".json":
                return _write_array(records, stream)
            count = 0
            for count, record in enumerate(records, 1):  # noqa: B007
                stream.write(_line(record))
            return count


@contextmanager
def replacing(out: Path) -> Iterator[Path]:
    """A file beside `out` to write to, which takes its place when all went well.

    Raises:
        ConfigError: the folder is not there (it may be mistyped, so none is made), or can't be written to.
    """
    if not out.parent.is_dir():
        raise ConfigError(
            f"there is no folder {out.parent}",
            place="--out",
            cure=f"check the path, or type: {shlex.join(['mkdir', '-p', str(out.parent)])}",
        )
    temporary = out.with_name(f".{out.name}.{os.getpid()}.tmp")
    try:
        yield temporary
        temporary.replace(out)
    except OSError as error:
        message = f"{out} can't be written: {error.strerror or error}"
        raise ConfigError(message, place="--out", cure="name a file in a folder that you may write to") from error
    finally:
        with suppress(OSError):
            temporary.unlink(missing_ok=True)


def _opened(path: Path, suffix: str) -> IO[bytes]:
    if suffix == ".gz":
        return cast(IO[bytes], gzip.GzipFile(path, "wb", mtime=0))
    if suffix == ".zst":
        import zstandard

        return cast(IO[bytes], zstandard.open(path, "wb"))
    return path.open("wb")


def _line(record: dict[str, Any]) -> bytes:
    return json.dumps(record, ensure_ascii=False, default=str).encode("utf-8", "surrogatepass") + b"\n"


def _write_array(records: Iterable[dict[str, Any]], stream: IO[bytes]) -> int:
    count = 0
    stream.write(b"[")
    for count, record in enumerate(records, 1):
        stream.write((b",\n" if count > 1 else b"\n") + _line(record)[:-1])
    stream.write(b"\n]\n")
    return count


def _write_cells(records: list[dict[str, Any]], stream: IO[bytes], delimiter: str) -> int:
    columns = list(dict.fromkeys(key for record in records for key in record))
    for row in [dict(zip(columns, columns, strict=True)), *records]:
        cells = [_cell(row.get(column), delimiter) for column in columns]
        line = delimiter.join(cells) if cells != [""] else '""'
        stream.write(line.encode("utf-8", "surrogatepass") + b"\n")
    return len(records)


def _cell(value: Any, delimiter: str) -> str:
    if value is None:
        return ""
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str)
    is_special = not text or any(mark in text for mark in (delimiter, '"', "\n", "\r"))
    return '"' + text.replace('"', '""') + '"' if is_special else text


def _write_parquet(records: Iterable[dict[str, Any]], path: Path) -> int:
    import pyarrow as pa
    import pyarrow.parquet as pq

    rows = list(records)
    columns = list(dict.fromkeys(key for row in rows for key in row))
    table = pa.table({column: _arrow_column([row.get(column) for row in rows]) for column in columns})
    pq.write_table(table, path, compression="zstd")
    return len(rows)


def _arrow_column(values: list[Any]) -> Any:
    import pyarrow as pa

    try:
        return pa.array(values, from_pandas=False)
    except (pa.ArrowException, OverflowError, ValueError, TypeError):  # mixed types: as JSON text
        written = [json.dumps(value, ensure_ascii=False, default=str) for value in values]
        return pa.array([v if v is None or isinstance(v, str) else w for v, w in zip(values, written, strict=True)])
