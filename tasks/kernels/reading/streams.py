"""Files as blocks of whole lines: decompressed, bounded in memory however long a line is.

A line longer than the limit is never put together: it is hashed as it passes, and its first bytes are kept.
"""

import gzip
import io
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import IO, NamedTuple, Protocol, cast

import xxhash

from pipeline_config.errors import SourceError
from tasks.kernels.reading.records import EXCERPT_SOURCE_BYTES, Unread

BLOCK_BYTES = 8 << 20
COMPRESSIONS = (".gz", ".zst")


class ByteStream(Protocol):
    """What blocks are read from."""

    def read(self, size: int = -1, /) -> bytes:
        """At most `size` bytes; none at the end."""


class Lines(NamedTuple):
    """Whole lines, without the last one's line break."""

    first_line: int
    data: bytes


def open_bytes(path: Path) -> IO[bytes]:
    """A file's bytes, decompressed if its name ends in .gz or .zst."""
    if path.suffix == ".gz":
        return cast(IO[bytes], gzip.open(path, "rb"))
    if path.suffix == ".zst":
        from tasks.kernels.reading.zstandard_stream import ZstandardStream

        return io.BufferedReader(ZstandardStream(path), BLOCK_BYTES)
    return path.open("rb")


def guarded(stream: ByteStream, path: Path, size: int = BLOCK_BYTES) -> bytes:
    """Read, with damage to a compressed file or the disk reported as what it is."""
    try:
        return stream.read(size)
    except (EOFError, zlib.error, OSError) as error:
        raise damaged(path, error) from error
    except Exception as error:
        if type(error).__module__.startswith("zstandard"):
            raise damaged(path, error) from error
        raise


def damaged(path: Path, error: Exception) -> SourceError:
    """The error for a file that can't be read to its end."""
    return SourceError(
        f"{path.name} can't be read to its end ({type(error).__name__}: {error})",
        place=str(path),
        cure="the file is damaged or was copied in part; fetch it again",
    )


def line_blocks(stream: ByteStream, path: Path, limit: int, start: bytes = b"") -> Iterator[Lines | Unread]:
    """Cut a stream into blocks of whole lines.

    Args:
        stream: bytes in which a line break is the byte 10.
        path: for error messages.
        limit: bytes; a longer line comes as `Unread` in place of a block.
        start: bytes already read from the stream.
    """
    line, begun, size = 1, list[bytes](), 0  # of a line: the parts so far, and their bytes
    chunk = start or guarded(stream, path)
    while chunk:
        end = chunk.rfind(b"\n")
        if end < 0:
            begun.append(chunk)
            size += len(chunk)
            if size > limit:
                unread, chunk = _skip_line(stream, path, b"".join(begun), line)
                yield unread
                line, begun, size = line + 1, [], 0
                chunk = chunk or guarded(stream, path)
                continue
        else:
            data = b"".join([*begun, memoryview(chunk)[:end]])
            yield Lines(line, data)
            line += data.count(b"\n") + 1
            begun = [chunk[end + 1 :]] if end + 1 < len(chunk) else []
            size = len(chunk) - end - 1
        chunk = guarded(stream, path)
    if begun:
        yield Lines(line, b"".join(begun))


def _skip_line(stream: ByteStream, path: Path, read: bytes, line: int) -> tuple[Unread, bytes]:
    """Pass over the rest of a line; gives what stands for it, and the bytes read behind it."""
    digest = xxhash.xxh3_64(read)
    size, head = len(read), read[:EXCERPT_SOURCE_BYTES]
    while chunk := guarded(stream, path):
        end = chunk.find(b"\n")
        digest.update(chunk if end < 0 else chunk[:end])
        size += len(chunk) if end < 0 else end
        if end >= 0:
            return too_long(line, size, head, digest.hexdigest()), chunk[end + 1 :]
    return too_long(line, size, head, digest.hexdigest()), b""


def too_long(line: int, size: int, head: bytes, digest: str) -> Unread:
    """What stands for a record beyond the limit."""
    return Unread(line, "record_too_long", f"{size / 1e6:.1f} MB", head, digest)
