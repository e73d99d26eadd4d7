"""Text encodings: UTF-8 with or without a byte-order mark, UTF-16, GB18030.

With `encoding: auto` a byte-order mark decides. Without one, NUL bytes at every second place mean UTF-16. Anything else
is read as UTF-8 until the first block (8 MB) with a byte above 127, and that block decides for the whole file: it is
GB18030 only if more of its non-ASCII lines break UTF-8 than keep it, at least 90 % of those that break it decode as
GB18030, and at least 80 % of the characters that come out are of the GB 2312 set, as nearly all of real Chinese text
is. So one damaged line in a UTF-8 file is quarantined, and never turns the file into Chinese; Latin-1 or Big5 text,
which also decodes as GB18030, gives rare characters and stays refused.
"""

import codecs
from collections.abc import Sequence

from tasks.kernels.reading.streams import ByteStream

_MARKS = (
    (codecs.BOM_UTF8, "utf-8"),
    (codecs.BOM_UTF16_LE, "utf-16-le"),
    (codecs.BOM_UTF16_BE, "utf-16-be"),
    (b"\x84\x31\x95\x33", "gb18030"),
)
_SAMPLE_LINES = 2000


def from_start(start: bytes, wanted: str) -> tuple[str | None, int]:
    """The encoding that a file's first bytes show, and the length of its byte-order mark.

    Args:
        start: first bytes of the file.
        wanted: `auto`, `utf-8`, `utf-16` or `gb18030`.

    Returns:
        `utf-8`, `utf-16-le`, `utf-16-be`, `gb18030`, or none: UTF-8 or GB18030, to be seen further on.
    """
    for mark, name in _MARKS:
        if start.startswith(mark) and (wanted == "auto" or name.startswith(wanted)):
            return name, len(mark)
    if wanted in ("utf-8", "gb18030"):
        return wanted, 0
    little, big = start[1:4096:2].count(0), start[0:4096:2].count(0)
    half = max(len(start[:4096]) // 2, 1)
    if wanted == "utf-16" or max(little, big) > 0.3 * half > 3 * min(little, big):
        return ("utf-16-be" if big > little else "utf-16-le"), 0
    return None, 0


def from_block(data: bytes) -> str:
    """`utf-8` or `gb18030`, judged by a block of lines that is not all ASCII (see the module)."""
    lines = [line for line in data.split(b"\n") if not line.isascii()][:_SAMPLE_LINES]
    broken = [line for line in lines if not _decodes(line, "utf-8")]
    if len(broken) * 2 <= len(lines):
        return "utf-8"
    chinese = [line for line in broken if _decodes(line, "gb18030")]
    return "gb18030" if len(chinese) >= 0.9 * len(broken) and _common_share(chinese) >= 0.8 else "utf-8"


def is_utf8(data: bytes) -> bool:
    """Whether bytes are valid UTF-8."""
    return data.isascii() or _decodes(data, "utf-8")


def _decodes(line: bytes, encoding: str) -> bool:
    try:
        line.decode(encoding)
    except UnicodeDecodeError:
        return False
    return True


def _common_share(lines: Sequence[bytes]) -> float:
    characters = [character for line in lines for character in line.decode("gb18030") if character > "\x7f"]
    common = sum(1 for character in characters if character.encode("gb2312", "ignore"))
    return common / max(len(characters), 1)


def broken_reason(encoding: str | None) -> str:
    """The reason under which a record that is not in its file's encoding is quarantined."""
    return {"gb18030": "invalid_gb18030", "utf-16-le": "invalid_utf16", "utf-16-be": "invalid_utf16"}.get(
        encoding or "", "invalid_utf8"
    )


class LineDecoder:
    """Gives lines as UTF-8 bytes, for one file.

    Args:
        encoding: `utf-8`, `gb18030`, or none: decided by the first block that is not ASCII.
    """

    def __init__(self, encoding: str | None) -> None:
        self.encoding = encoding

    @property
    def broken(self) -> str:
        """The reason under which an undecodable line is quarantined."""
        return broken_reason(self.encoding)

    def utf8(self, data: bytes) -> tuple[bytes, set[int]]:
        """A block of lines as UTF-8, and which of its lines (from 0) are not in the file's encoding.

        Lines of a UTF-8 file are handed on unchecked: whoever parses them checks them anyway.
        """
        if data.isascii():
            return data, set()
        if self.encoding is None:
            self.encoding = from_block(data)
        if self.encoding != "gb18030":
            return data, set()
        try:
            return data.decode("gb18030").encode(), set()
        except UnicodeDecodeError:
            return self._by_line(data)

    @staticmethod
    def _by_line(data: bytes) -> tuple[bytes, set[int]]:
        lines, broken = data.split(b"\n"), set()
        for number, line in enumerate(lines):
            try:
                lines[number] = line.decode("gb18030").encode()
            except UnicodeDecodeError:
                broken.add(number)
        return b"\n".join(lines), broken


class TextDecoder:
    """Gives a stream as text, for one file; bytes that are not in its encoding become lone surrogates.

    Args:
        encoding: of the file (UTF-16 comes through `Utf16Stream`, as UTF-8); none: decided by the first block that is
            not ASCII.
    """

    def __init__(self, encoding: str | None) -> None:
        self.encoding = encoding
        self._decoder: codecs.IncrementalDecoder | None = None

    def text(self, data: bytes) -> str:
        """The text of the next bytes; no bytes mean the end."""
        if self._decoder is None:
            if self.encoding is None and data.isascii():
                return data.decode()
            if self.encoding is None:
                self.encoding = from_block(data[: data.rfind(b'"')] or data)
            codec = "gb18030" if self.encoding == "gb18030" else "utf-8"
            self._decoder = codecs.getincrementaldecoder(codec)("surrogateescape")
        return self._decoder.decode(data, final=not data)


class Utf16Stream:
    """A UTF-16 stream as UTF-8; half a character at the end and lone surrogates come out as bytes that are no UTF-8."""

    def __init__(self, stream: ByteStream, encoding: str, start: bytes) -> None:
        self._stream = stream
        self._start = start
        self._decoder = codecs.getincrementaldecoder(encoding)("surrogatepass")
        self._is_done = False

    def read(self, size: int = -1, /) -> bytes:
        """At most one and a half times `size` bytes of UTF-8; none at the end."""
        while not self._is_done:
            data, self._start = self._start or self._stream.read(size), b""
            self._is_done = not data
            text = self._decode(data)
            if text:
                return text.encode("utf-8", "surrogatepass")
        return b""

    def _decode(self, data: bytes) -> str:
        try:
            return self._decoder.decode(data, final=not data)
        except UnicodeDecodeError:
            return "\udcff"
