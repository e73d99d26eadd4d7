"""What readers hand on: records with their place in the file, and records that could not be read."""

import gc
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import xxhash

EXCERPT_SOURCE_BYTES = 8192  # of a refused record are kept, to make its excerpt from


class NotReadable(ValueError):  # noqa: N818
    """A record that can't be read.

    Args:
        reason: short name, counted.
        detail: what was found.
    """

    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(reason, detail)
        self.reason = reason
        self.detail = detail


class Read(NamedTuple):
    """One record.

    Attributes:
        line: 1-based line where it starts; in JSON arrays and tables its 1-based number.
        value: what was read, an object unless the file holds something else.
        raw: its bytes in the file as UTF-8, or none where it has no text of its own (tables).
        may_be_odd: it may hold values that JSON can't say (`records/odd.py`).
    """

    line: int
    value: Any
    raw: bytes | None
    may_be_odd: bool


class Unread(NamedTuple):
    """A record that goes to quarantine.

    Attributes:
        line: as in `Read`.
        reason: short name, counted.
        detail: what was found.
        head: the first bytes of the record.
        digest: 16 hex digits of xxh3-64 over all of its bytes.
    """

    line: int
    reason: str
    detail: str
    head: bytes
    digest: str


@dataclass(slots=True)
class Batch:
    """Some records of a file, in its order; and those among them that could not be read."""

    records: list[Read] = field(default_factory=list)
    unread: list[Unread] = field(default_factory=list)


def unread(line: int, reason: str, detail: str, raw: bytes) -> Unread:
    """A record that goes to quarantine, given all of its bytes."""
    return Unread(line, reason, detail, raw[:EXCERPT_SOURCE_BYTES], xxhash.xxh3_64_hexdigest(raw))


@contextmanager
def no_cycle_search() -> Iterator[None]:
    """No search for reference cycles meanwhile.

    Thousands of new objects start one after the other, and values read from JSON hold no cycles: it costs a quarter
    of the time and finds nothing.
    """
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()
