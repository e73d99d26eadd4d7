"""Scanned JSON Lines written out again: messages, columns, canonical records and `meta`, compiled.

What is written for a line follows a *program*: constant bytes and values of the line's fields in turn, made once for
each sequence of keys (`plain_lines.py`). JSON strings are escaped as orjson does, which takes the fewest bytes of all
JSON writers, so nothing that is written is longer than what was read and the constants together.
"""

from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from numba.extending import intrinsic

from tasks.kernels.compiled import compiled

Bytes = npt.NDArray[np.uint8]
Ints = npt.NDArray[np.int32]
Offsets = npt.NDArray[np.int64]

WORD, STRING, JSON, FIGURE = range(4)  # what a column takes: see `column`
TURNS = -1  # in place of a role: all turns of a field
SEAMS = 1 << 16  # a piece: where the two texts meet that the line joins to one message
MOST_SEAM_BYTES = 64

# as `json_scan.py` has them: a kernel reads no other module's constants
_TEXT, _EMPTY, _BLANK, _NUMBER, _NULL, _TRUE, _FALSE, _OPENAI, _SHAREGPT = range(9)
_ESCAPED, _RESPELLED, _KIND = 16, 32, 15
_BEGIN, _RAW_END, _END, _KIND_OF, _ROLE = range(5)

_ESCAPE = np.zeros(256, np.uint8)  # the letter behind the backslash; 117 where four digits follow it
_ESCAPE[:32] = 117
_ESCAPE[[8, 9, 10, 12, 13, 34, 92]] = np.frombuffer(b'btnfr"\\', np.uint8)
_HEX = np.frombuffer(b"0123456789abcdef", np.uint8)
_OPEN_OPENAI, _OPEN_SHAREGPT, _ROLE_KEY, _VALUE_KEY = (
    np.frombuffer(word, np.uint8) for word in (b'{"content":"', b'{"from":"', b'","role":"', b'","value":"')
)
_NOTHING = np.frombuffer(b"null", np.uint8)
_OPENAI_ROLES = np.frombuffer(b"systemuserassistanttool", np.uint8)
_OPENAI_ENDS = np.array([0, 6, 10, 19, 23])
_SHAREGPT_ROLES = np.frombuffer(b"humangptobservation", np.uint8)
_SHAREGPT_ENDS = np.array([0, 0, 5, 8, 19])


class Lines(NamedTuple):
    """Scanned lines to write of.

    Attributes:
        data, text: the bytes that were scanned, and the strings whose escapes were undone (`json_scan.scan`).
        first: the first field of each line.
        value, turn: as in `json_scan.Scanned`.
        program: what to write for each line.
    """

    data: Bytes
    text: Bytes
    first: Ints
    value: Ints
    turn: Ints
    program: Ints


class Programs(NamedTuple):
    """Sequences of pieces, one after the other.

    Attributes:
        pieces: a field's number (its value as JSON), `SEAMS`, or -1 - a constant's number.
        begins: where each program begins, and where the last ends.
        constants, places: their bytes, and where each begins.
    """

    pieces: Ints
    begins: Ints
    constants: Bytes
    places: Ints


@intrinsic  # type: ignore[untyped-decorator]
def _move(context: Any, source: Any, begin: Any, out: Any, to: Any, count: Any) -> Any:
    """Copy bytes from one array to another; as in `json_scan.py`."""
    from numba import types
    from numba.core import cgutils

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        one = context.make_array(signature.args[0])(context, builder, arguments[0])
        two = context.make_array(signature.args[2])(context, builder, arguments[2])
        here, there = builder.gep(one.data, [arguments[1]]), builder.gep(two.data, [arguments[3]])
        cgutils.raw_memcpy(builder, there, here, arguments[4], 1)
        return context.get_dummy_value()

    return types.void(source, types.int64, out, types.int64, types.int64), generate


@compiled
def _copy(source: Bytes, begin: int, end: int, out: Bytes, to: int) -> int:
    _move(source, begin, out, to, end - begin)
    return to + end - begin


@compiled
def _escaped(text: Bytes, begin: int, end: int, out: Bytes, to: int) -> int:
    """Write a string as orjson does."""
    for at in range(begin, end):
        byte = text[at]
        mark = _ESCAPE[byte]
        if not mark:
            out[to] = byte
            to += 1
            continue
        out[to], out[to + 1] = 92, mark
        to += 2
        if mark == 117:
            out[to], out[to + 1], out[to + 2], out[to + 3] = 48, 48, _HEX[byte >> 4], _HEX[byte & 15]
            to += 4
    return to


@compiled
def _string(lines: Lines, row: Ints, out: Bytes, to: int) -> int:
    """Write a string's JSON without its quotes."""
    if row[_KIND_OF] & _RESPELLED:
        return _escaped(lines.text, row[_BEGIN], row[_END], out, to)
    return _copy(lines.data, row[_BEGIN], row[_RAW_END], out, to)


@compiled
def _turns(lines: Lines, row: Ints, out: Bytes, to: int) -> int:
    """Write a list of turns, their keys sorted."""
    is_openai = row[_KIND_OF] == _OPENAI
    mark = 91
    for n in range(row[_BEGIN], row[_END]):
        out[to] = mark
        mark = 44
        turn = lines.turn[n]
        role = turn[_ROLE]
        if is_openai:
            to = _copy(_OPEN_OPENAI, 0, _OPEN_OPENAI.size, out, to + 1)
            to = _string(lines, turn, out, to)
            to = _copy(_ROLE_KEY, 0, _ROLE_KEY.size, out, to)
            to = _copy(_OPENAI_ROLES, _OPENAI_ENDS[role], _OPENAI_ENDS[role + 1], out, to)
        else:
            to = _copy(_OPEN_SHAREGPT, 0, _OPEN_SHAREGPT.size, out, to + 1)
            to = _copy(_SHAREGPT_ROLES, _SHAREGPT_ENDS[role], _SHAREGPT_ENDS[role + 1], out, to)
            to = _copy(_VALUE_KEY, 0, _VALUE_KEY.size, out, to)
            to = _string(lines, turn, out, to)
        out[to], out[to + 1] = 34, 125
        to += 2
    out[to] = 93
    return to + 1


@compiled
def _json(lines: Lines, row: Ints, out: Bytes, to: int) -> int:
    """Write a value."""
    kind = row[_KIND_OF] & _KIND
    if kind >= _OPENAI:
        return _turns(lines, row, out, to)
    if kind == _NULL:  # an empty cell has no text of its own
        return _copy(_NOTHING, 0, _NOTHING.size, out, to)
    if kind > _BLANK:
        return _copy(lines.data, row[_BEGIN], row[_RAW_END], out, to)
    out[to] = 34
    to = _string(lines, row, out, to + 1)
    out[to] = 34
    return to + 1


@compiled
def _decimal(number: int, out: Bytes, to: int) -> int:
    digits = 1
    rest = number // 10
    while rest:
        digits += 1
        rest //= 10
    for place in range(digits - 1, -1, -1):
        out[to + place] = 48 + number % 10
        number //= 10
    return to + digits


@compiled
def _seams(measures: Ints, i: int, out: Bytes, to: int) -> int:
    """Write where two joined texts meet: `[characters in all,[characters,filled lines before the seam]]`."""
    out[to] = 91
    to = _decimal(measures[2 * i, 0] + 1 + measures[2 * i + 1, 0], out, to + 1)
    out[to], out[to + 1] = 44, 91
    to = _decimal(measures[2 * i, 0], out, to + 2)
    out[to] = 44
    to = _decimal(measures[2 * i, 1], out, to + 1)
    out[to], out[to + 1] = 93, 93
    return to + 2


@compiled
def records(lines: Lines, programs: Programs, measures: Ints, out: Bytes, offsets: Offsets) -> None:
    """Write each line's program.

    Args:
        measures: for each seam, in the order of lines, `json_scan.measure` of both texts.
        out: room enough.
        offsets: takes where each line's begins, and where the last ends.
    """
    to, seams = 0, 0
    for i in range(lines.first.size):
        offsets[i] = to
        for n in range(programs.begins[lines.program[i]], programs.begins[lines.program[i] + 1]):
            piece = programs.pieces[n]
            if piece < 0:
                to = _copy(programs.constants, programs.places[-1 - piece], programs.places[-piece], out, to)
            elif piece < SEAMS:
                to = _json(lines, lines.value[lines.first[i] + piece], out, to)
            else:
                to = _seams(measures, seams, out, to)
                seams += 1
    offsets[lines.first.size] = to


@compiled
def column(lines: Lines, fields: Ints, mode: int, out: Bytes, offsets: Offsets, filled: Bytes) -> None:
    """Write one field of each line.

    Args:
        fields: which one, for each program; below 0: none.
        mode: `WORD` (text, numbers, truth values), `STRING` (text), `FIGURE` (numbers, truth values) as text; `JSON`.
            What a mode doesn't take, an empty text, and null are left out.
        filled: takes whether there is one.
    """
    to = 0
    for i in range(lines.first.size):
        offsets[i] = to
        filled[i] = False
        field = fields[lines.program[i]]
        if field < 0:
            continue
        row = lines.value[lines.first[i] + field]
        kind = row[_KIND_OF] & _KIND
        if mode == JSON:
            if kind != _NULL:
                filled[i] = True
                to = _json(lines, row, out, to)
        elif kind <= _BLANK and kind != _EMPTY:
            if mode != FIGURE:
                filled[i] = True
                to = _copy(lines.text if row[_KIND_OF] & _ESCAPED else lines.data, row[_BEGIN], row[_END], out, to)
        elif _NUMBER <= kind <= _FALSE and kind != _NULL and mode != STRING:
            filled[i] = True
            to = _copy(lines.data, row[_BEGIN], row[_RAW_END], out, to)
    offsets[lines.first.size] = to


@compiled
def count_messages(lines: Lines, said: Ints, begins: Ints, ends: Ints) -> int:
    """Write where each line's messages end; how many there are in all.

    Args:
        said: messages of the programs: role, field, and a field that is joined to it or -1; or `TURNS`, field, -1.
        begins: where each program's begin, and where the last one's end.
        ends: takes 0, and for each line how many there are up to it.
    """
    count = 0
    ends[0] = 0
    for i in range(lines.first.size):
        for n in range(begins[lines.program[i]], begins[lines.program[i] + 1]):
            if said[n, 0] == TURNS:
                row = lines.value[lines.first[i] + said[n, 1]]
                count += row[_END] - row[_BEGIN]
            else:
                count += 1
        ends[i + 1] = count
    return count


@compiled
def messages(lines: Lines, said: Ints, begins: Ints, roles: Bytes, out: Bytes, offsets: Offsets) -> None:
    """Write roles and contents of each line's messages; `said` and `begins` as for `count_messages`."""
    to, count = 0, 0
    for i in range(lines.first.size):
        for n in range(begins[lines.program[i]], begins[lines.program[i] + 1]):
            row = lines.value[lines.first[i] + said[n, 1]]
            if said[n, 0] == TURNS:
                for m in range(row[_BEGIN], row[_END]):
                    turn = lines.turn[m]
                    offsets[count], roles[count] = to, turn[_ROLE]
                    source = lines.text if turn[_KIND_OF] & _ESCAPED else lines.data
                    to = _copy(source, turn[_BEGIN], turn[_END], out, to)
                    count += 1
                continue
            offsets[count], roles[count] = to, said[n, 0]
            to = _copy(lines.text if row[_KIND_OF] & _ESCAPED else lines.data, row[_BEGIN], row[_END], out, to)
            if said[n, 2] >= 0:
                out[to] = 10
                row = lines.value[lines.first[i] + said[n, 2]]
                to = _copy(lines.text if row[_KIND_OF] & _ESCAPED else lines.data, row[_BEGIN], row[_END], out, to + 1)
            count += 1
    offsets[count] = to
