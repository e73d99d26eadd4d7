"""What to write for JSON lines of one shape, found by asking the exact reader once.

It is given a record of that shape with a *hole* in place of each text (a string that no key holds), and what it makes
of it shows which hole becomes which message, and what stands around the holes in the canonical record and in `meta`.
So formats are defined in one place, and a shape for which the answer would depend on more than the holes (a template, a
tool call, a text that may be blank) gets no program: its lines are read one by one.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import orjson

from tasks.kernels.reading import json_fill, json_scan
from tasks.kernels.reading.columns import OWN, RowBuilder
from tasks.kernels.reading.formats import REQUIRED, FormatReader
from tasks.kernels.reading.records import NotReadable, Read
from tasks.kernels.rows import ROLES

COLUMNS = ("tools", *OWN)  # a record's fields that become a column
_ASKED = {"system", "instruction", "input", "output", "history", "conversations", "messages", "prompt", "completion"}
_ASKED |= {name for required in REQUIRED.values() for name in required} | {"tools"}
_OPEN, _SEAM, _CLOSE = "\ue000", "\ue001", "\ue002"
_HOLE = re.compile(f"{_OPEN}([0-9]+){_CLOSE}")
_JOINED = re.compile(f"{_OPEN}([0-9]+){_CLOSE}\n{_OPEN}([0-9]+){_CLOSE}")
_IN_JSON = re.compile(f'"{_OPEN}([0-9]+){_CLOSE}"|"({_SEAM})"')
_FIXED = {json_scan.EMPTY: "", json_scan.NULL: None, json_scan.TRUE: True, json_scan.FALSE: False}
_TURN_KEYS = {json_scan.OPENAI: ("role", "content"), json_scan.SHAREGPT: ("from", "value")}
_TURN_ROLES = {json_scan.OPENAI: ("user", "assistant"), json_scan.SHAREGPT: ("human", "gpt")}
_NOT_USED = (json_scan.BLANK, json_scan.NUMBER)  # kinds on whose text the reader's answer may depend


@dataclass(frozen=True)
class Program:
    """What to write for a line.

    Attributes:
        record, meta: constants and, in turn, fields or `json_fill.SEAMS`.
        said, rejected: messages (role, field, joined field or -1); `json_fill.TURNS`: all of a field.
        seam: the two fields that are joined, if any.
        columns: for each of `COLUMNS`, its field or -1.
    """

    record: list[bytes | int]
    meta: list[bytes | int]
    said: list[tuple[int, int, int]]
    rejected: list[tuple[int, int, int]] | None
    seam: tuple[int, int] | None
    columns: list[int]


class Programs:
    """The programs of one source's lines of one format, made when a shape is first met.

    Args:
        reader: of the format.
        builder: makes rows of records that are read one by one.
        prefix: bytes in front of each canonical record.
        own: the source's names for `OWN`.
    """

    def __init__(self, reader: FormatReader, builder: RowBuilder, prefix: bytes, own: Sequence[str]) -> None:
        self._reader = reader
        self._builder = builder
        self._prefix = prefix
        self._own = own
        self._names = {reader.fields.name(name) for name in _ASKED}
        self._found: dict[tuple[tuple[str, ...], tuple[int, ...]], int] = {}
        self.listed: list[Program] = []

    def asked(self, keys: Sequence[str]) -> list[int]:
        """Which of these keys the format may read, so that what is written depends on the kinds of their values."""
        return [i for i, key in enumerate(keys) if key in self._names]

    def of(self, keys: tuple[str, ...], kinds: Mapping[int, int]) -> int:
        """The number of the program for lines with these keys, and values of these kinds at those asked for; or -1."""
        name = keys, tuple(kinds.values())
        if name not in self._found:
            program = self._made(keys, kinds)
            self._found[name] = -1 if program is None else len(self.listed)
            self.listed += [] if program is None else [program]
        return self._found[name]

    def _made(self, keys: tuple[str, ...], kinds: Mapping[int, int]) -> Program | None:
        if len(set(keys)) < len(keys) or any(mark in key for key in keys for mark in (_OPEN, _SEAM, _CLOSE)):
            return None
        if json_scan.BLANK in kinds.values():
            return None
        record = {key: _sample(i, kinds.get(i, json_scan.TEXT)) for i, key in enumerate(keys)}
        try:
            draft = self._reader.read(record)
        except NotReadable:
            return None
        used = {i for i, key in enumerate(keys) if key in draft.used}
        turns = {i for i, kind in kinds.items() if kind in _TURN_KEYS}
        if any(kinds.get(i) in _NOT_USED for i in used) or not turns <= used:
            return None
        spelled_out = {self._reader.fields.name(name) for name in draft.templates}
        if any(keys[i] in spelled_out for i in turns):
            return None
        said, rejected = _messages(draft.messages, turns), _messages(draft.rejected or [], turns)
        tools = _HOLE.fullmatch(draft.tools or "")
        if said is None or rejected is None or bool(draft.tools) != bool(tools):
            return None
        joined = [(one, other) for _, one, other in said + rejected if other >= 0]
        if len(joined) != len(draft.parts) or len(joined) > 1:
            return None
        draft.parts = dict.fromkeys(draft.parts, _SEAM)
        meta = _pieces(self._builder.meta(Read(0, record, None, False), draft).encode())
        canonical = {key: _hole(i) if i in turns else value for (i, (key, value)) in enumerate(record.items())}
        written = _pieces(self._prefix + orjson.dumps(canonical, option=orjson.OPT_SORT_KEYS))
        if used & set(meta) or json_fill.SEAMS in written:
            return None
        has_more = len(keys) > len(draft.used)
        own = [keys.index(name) if has_more and name in keys else -1 for name in self._own]
        if turns & set(own):
            return None
        return Program(
            written,
            meta,
            said,
            None if draft.rejected is None else rejected,
            joined[0] if joined else None,
            [int(tools[1]) if tools else -1, *own],
        )


def _sample(i: int, kind: int) -> Any:
    if kind in _TURN_KEYS:
        return [dict(zip(_TURN_KEYS[kind], (role, _hole(i)), strict=True)) for role in _TURN_ROLES[kind]]
    return _FIXED.get(kind, _hole(i))


def _hole(i: int) -> str:
    return f"{_OPEN}{i}{_CLOSE}"


def _messages(said: Sequence[tuple[str, str, float]], turns: set[int]) -> list[tuple[int, int, int]] | None:
    """Messages by the holes in them, lists of turns as one; None if one is no hole."""
    found: list[tuple[int, int, int]] = []
    for role, content, weight in said:
        one, two = _HOLE.fullmatch(content), _JOINED.fullmatch(content)
        if weight != 1.0 or not (one or two):
            return None
        place, other = (int(one[1]), -1) if one else (int(two[1]), int(two[2])) if two else (-1, -1)
        message = (json_fill.TURNS if place in turns else ROLES.index(role), place, other)
        if message[0] != json_fill.TURNS or message not in found:
            found.append(message)
    return found


def _pieces(text: bytes) -> list[bytes | int]:
    """JSON around holes."""
    pieces: list[bytes | int] = []
    parts = _IN_JSON.split(text.decode())
    for n in range(0, len(parts), 3):
        pieces.append(parts[n].encode())
        if n + 1 < len(parts):
            pieces.append(json_fill.SEAMS if parts[n + 2] else int(parts[n + 1]))
    return [piece for piece in pieces if piece != b""]


@dataclass(frozen=True)
class Tables:
    """Programs as the kernels take them."""

    record: json_fill.Programs
    meta: json_fill.Programs
    said: tuple[Any, Any]
    rejected: tuple[Any, Any]
    has_rejected: Any
    seams: Any  # (programs, 2)
    columns: Any  # (columns, programs)
    times: Any  # how often the most used field of a program is written among its messages
    sizes: Any  # bytes of a program's constants and seams, in the longer of record and meta


def tables(programs: Sequence[Program]) -> Tables:
    """Lists of pieces as arrays."""
    most = [max(_size(program.record), _size(program.meta)) for program in programs]
    return Tables(
        _flat([program.record for program in programs]),
        _flat([program.meta for program in programs]),
        _flat_messages([program.said for program in programs]),
        _flat_messages([program.rejected or [] for program in programs]),
        np.array([program.rejected is not None for program in programs]),
        np.array([program.seam or (-1, -1) for program in programs], np.int32),
        np.ascontiguousarray(np.array([program.columns for program in programs], np.int32).T),
        np.array([_times(program) for program in programs], np.int64),
        np.array(most, np.int64),
    )


def _times(program: Program) -> int:
    places = [place for _, *places in (*program.said, *(program.rejected or [])) for place in places if place >= 0]
    return max(map(places.count, places), default=1)


def _size(pieces: Sequence[bytes | int]) -> int:
    return sum(json_fill.MOST_SEAM_BYTES if isinstance(piece, int) else len(piece) for piece in pieces)


def _flat(programs: Sequence[Sequence[bytes | int]]) -> json_fill.Programs:
    constants: list[bytes] = []
    pieces: list[int] = []
    begins = [0]
    for program in programs:
        for piece in program:
            if isinstance(piece, int):
                pieces.append(piece)
            else:
                constants.append(piece)
                pieces.append(-len(constants))
        begins.append(len(pieces))
    places = np.cumsum([0, *map(len, constants)])
    joined = np.frombuffer(bytearray(b"".join(constants)), np.uint8)
    return json_fill.Programs(np.array(pieces, np.int32), np.array(begins, np.int32), joined, places.astype(np.int32))


def _flat_messages(programs: Sequence[Sequence[tuple[int, int, int]]]) -> tuple[Any, Any]:
    said = [message for program in programs for message in program]
    begins = np.cumsum([0, *map(len, programs)]).astype(np.int32)
    return np.array(said, np.int32).reshape(-1, 3), begins
