"""Zstandard files, read to their end or refused.

The library's own reader takes the end of the file for the end of the data, and stops behind the first of several
frames: a file that was copied in part, or written by several threads, would lose rows without a word.
"""

import io
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import zstandard
    from _typeshed import WriteableBuffer

_READ_BYTES = 1 << 16


class ZstandardStream(io.RawIOBase):
    """The decompressed bytes of all frames of a file.

    Raises:
        EOFError: on reading, if the file ends inside a frame.
        zstandard.ZstdError: on reading, if it is damaged.
    """

    def __init__(self, path: Path) -> None:
        super().__init__()
        self._file = path.open("rb")
        self._frame: zstandard.ZstdDecompressionObj | None = None
        self._left = b""  # compressed bytes behind the last frame
        self._ready = memoryview(b"")

    def readable(self) -> bool:
        """Always."""
        return True

    def readinto(self, buffer: "WriteableBuffer") -> int:
        """Fill a buffer; 0 at the end."""
        while not self._ready:
            compressed = self._left or self._file.read(_READ_BYTES)
            self._left = b""
            if not compressed:
                if self._frame is not None:
                    raise EOFError("the compressed file ended before the end-of-frame mark")
                return 0
            self._ready = memoryview(self._decompressed(compressed))
        target = memoryview(buffer).cast("B")
        size = min(len(target), len(self._ready))
        target[:size] = self._ready[:size]
        self._ready = self._ready[size:]
        return size

    def close(self) -> None:
        """Close the file."""
        self._file.close()
        super().close()

    def _decompressed(self, compressed: bytes) -> bytes:
        import zstandard

        if self._frame is None:
            self._frame = zstandard.ZstdDecompressor().decompressobj()
        data = self._frame.decompress(compressed)
        if self._frame.eof:
            self._left, self._frame = self._frame.unused_data, None
        return data
