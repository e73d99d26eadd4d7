"""JSON files that are one value: an array of records, an object that holds such an array, or a single record.

Read as a stream, element by element, so memory is bounded by the longest record and one damaged element costs itself
alone: after a syntax error, reading goes on at the next `{` behind a comma that parses and has the fields of a record.
Fields of a wrapping object (`{"version": 1, "data": […]}`) belong to no record and are not kept.
"""

import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import orjson
import xxhash

from tasks.kernels.reading.encodings import TextDecoder, broken_reason
from tasks.kernels.reading.records import EXCERPT_SOURCE_BYTES, Batch, NotReadable, Read, Unread, unread
from tasks.kernels.reading.repeated_keys import refuse_repeated
from tasks.kernels.reading.streams import BLOCK_BYTES, ByteStream, guarded, too_long
from tasks.kernels.records.odd import json_safe

_DECODER = json.JSONDecoder(object_pairs_hook=refuse_repeated)
_SPACE = re.compile(r"[ \t\r\n]*")
_NEXT_RECORD = re.compile(r"[,\[]\s*(?=\{)")
_BATCH = 2000
_NEAR_END = 4096  # characters: an error closer to the end of the window may only be for want of more text


class _Window:
    """The part of a file that is in memory, and the position in it."""

    def __init__(self, stream: ByteStream, path: Path, decoder: TextDecoder, limit: int, start: bytes) -> None:
        self._stream = stream
        self._path = path
        self.decoder = decoder
        self._limit = limit
        self.text = decoder.text(start)
        self.position = 0
        self.is_whole = False

    def more(self) -> bool:
        """Read on; False at the end of the file."""
        if self.is_whole:
            return False
        data = guarded(self._stream, self._path, max(BLOCK_BYTES, len(self.text)))
        self.text += self.decoder.text(data)
        self.is_whole = not data
        return True

    def forget(self) -> None:
        """Let go of what was read."""
        if self.position > BLOCK_BYTES:
            self.text, self.position = self.text[self.position :], 0

    def peek(self) -> str:
        """The next character that is no white space; empty at the end."""
        while True:
            match = _SPACE.match(self.text, self.position)
            self.position = match.end() if match else self.position
            if self.position < len(self.text) or not self.more():
                return self.text[self.position : self.position + 1]

    def take(self, wanted: str) -> None:
        """Pass over one character that must come now."""
        if self.peek() != wanted:
            raise NotReadable("not_json", f"{wanted} expected")
        self.position += 1

    def value(self) -> tuple[Any, str]:
        """The value at the position and its text."""
        start = self.position
        while True:
            try:
                value, end = _DECODER.raw_decode(self.text, start)
            except NotReadable:
                raise
            except json.JSONDecodeError as error:
                is_real = error.pos < len(self.text) - _NEAR_END and not error.msg.startswith("Unterminated")
                if is_real or self.is_whole:
                    raise NotReadable("not_json", f"{error.msg}: its character {error.pos - start}") from None
            except RecursionError:
                raise NotReadable("nested_too_deep", "objects inside objects inside objects") from None
            except ValueError:
                raise NotReadable("number_too_long", "a number of more than 4300 digits") from None
            else:
                if end < len(self.text) or self.is_whole:
                    self.position = end
                    return value, self.text[start:end]
            if len(self.text) - start > self._limit:
                raise NotReadable("record_too_long", f"more than {self._limit / 1e6:.1f} MB")
            self.more()


def read_json_values(
    stream: ByteStream, path: Path, decoder: TextDecoder, limit: int, start: bytes, is_record: Callable[[Any], bool]
) -> Iterator[Batch]:
    """The records of a JSON file.

    Args:
        stream: the file, behind `start`.
        path: for error messages.
        decoder: of the file.
        limit: characters of the longest record.
        start: bytes already read, without a byte-order mark.
        is_record: whether a value has the fields of a record.
    """
    window = _Window(stream, path, decoder, limit, start)
    reader = _Reader(window, is_record)
    if window.peek() == "[":
        window.position += 1
        yield from reader.array()
    else:
        yield from reader.object()
    yield reader.batch
    if window.peek():
        rest = window.text[window.position :].encode("utf-8", "surrogatepass")
        yield Batch(unread=[unread(reader.count + 1, "not_json", "text behind the end of the JSON value", rest)])


class _Reader:
    def __init__(self, window: _Window, is_record: Callable[[Any], bool]) -> None:
        self._window = window
        self._is_record = is_record
        self.batch = Batch()
        self.count = 0
        self._lost_end = False  # the file ended inside the array, and a quarantined record says so

    def array(self) -> Iterator[Batch]:
        """The elements of an array, its bracket passed."""
        window = self._window
        while (character := window.peek()) not in ("", "]"):
            if character == ",":
                window.position += 1
                continue
            start = window.position
            try:
                self._add(*window.value())
            except NotReadable as error:
                window.position = start
                self._skip_broken(error)
            window.forget()
            if len(self.batch.records) + len(self.batch.unread) >= _BATCH:
                full, self.batch = self.batch, Batch()
                yield full
        if window.peek():
            window.position += 1
        elif not self._lost_end:
            self._lost_end = True
            self.count += 1
            self.batch.unread.append(unread(self.count, "not_json", "the array is not closed", b""))

    def object(self) -> Iterator[Batch]:
        """An object: the arrays of records in it, or else itself as one record."""
        window, fields, has_arrays = self._window, {}, False
        start = window.position
        try:
            window.take("{")
            while window.peek() != "}":
                key, _ = window.value()
                window.take(":")
                if window.peek() == "[" and self._opens_records():
                    has_arrays = True
                    yield from self.array()
                    if self._lost_end:
                        return
                else:
                    fields[str(key)], _ = window.value()
                if window.peek() == ",":
                    window.position += 1
            window.position += 1
        except NotReadable as error:
            raw = window.text[start:].encode("utf-8", "surrogatepass")
            self.count += 1
            self.batch.unread.append(unread(self.count, error.reason, error.detail, raw))
            while window.more():
                window.text = ""
            window.position = len(window.text)
            return
        if not has_arrays:
            self._add(fields, window.text[start : window.position])

    def _opens_records(self) -> bool:
        """Whether an array of records starts here; if so its bracket is passed."""
        window, start = self._window, self._window.position
        window.position += 1
        inside = window.position
        try:
            is_records = window.peek() == "{" and self._is_record(window.value()[0])
        except NotReadable:
            is_records = False
        window.position = inside if is_records else start
        return is_records

    def _add(self, value: Any, text: str) -> None:
        self.count += 1
        raw = text.encode("utf-8", "surrogatepass")
        try:
            safe = json_safe(value)
            orjson.dumps(safe)
        except (TypeError, RecursionError) as error:
            deep = "recursion" in str(error).lower()
            undecoded = any("\udc80" <= character <= "\udcff" for character in text)
            reason = broken_reason(self._window.decoder.encoding) if undecoded else "invalid_unicode"
            reason = "nested_too_deep" if deep else reason
            detail = "nested too deep" if deep else "bytes or half a surrogate pair that are no text"
            self.batch.unread.append(unread(self.count, reason, detail, raw))
        else:
            self.batch.records.append(Read(self.count, safe, raw, True))

    def _skip_broken(self, error: NotReadable) -> None:
        """Pass on to the next record, and note what was passed over as one unread record."""
        window, digest, head, size = self._window, xxhash.xxh3_64(), b"", 0
        start = search = window.position
        while True:
            match = _NEXT_RECORD.search(window.text, search)
            if match is None and window.is_whole:
                end = window.position = len(window.text)
                self._lost_end = True
                break
            if match is None:
                search = max(search, len(window.text) - 64)
            else:
                search = window.position = match.end()
                if self._record_here():
                    end = window.position = search
                    break
                continue
            passed = window.text[start:search].encode("utf-8", "surrogatepass")
            head, size = head or passed[:EXCERPT_SOURCE_BYTES], size + len(passed)
            digest.update(passed)
            window.text, start, search = window.text[search:], 0, 0
            window.more()
        passed = window.text[start:end].encode("utf-8", "surrogatepass")
        head = head or passed[:EXCERPT_SOURCE_BYTES]
        digest.update(passed)
        self.count += 1
        unread_record = Unread(self.count, error.reason, error.detail, head, digest.hexdigest())
        if error.reason == "record_too_long":
            unread_record = too_long(self.count, size + len(passed), head, digest.hexdigest())
        self.batch.unread.append(unread_record)

    def _record_here(self) -> bool:
        try:
            return self._is_record(self._window.value()[0])
        except NotReadable:
            return False
