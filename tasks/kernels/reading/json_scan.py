"""JSON Lines scanned without making an object of a line: where its keys and values stand, and that they are plain.

A line is *plain* if it is one object of at most `MOST_FIELDS` keys without a backslash, and each value is a string that
is valid UTF-8 without half a surrogate pair, a number whose text any JSON writer would give again, true, false, null,
or a list of turns: `{"role", "content"}` or `{"from", "value"}` and nothing else in each, a role of the plain ones, a
content that is not blank, and an assistant's turn among them. Whatever is not surely plain is left to the exact parser,
so this one may refuse but must not mistake. A double of at most 15 digits without an exponent is written as it was
read: no two such texts give the same double, and none shorter gives it either.

All kernels in one file, since numba keeps machine code by file (`compiled.py`).
"""

from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from numba.extending import intrinsic

from tasks.kernels.compiled import compiled

Bytes = npt.NDArray[np.uint8]
Ints = npt.NDArray[np.int32]

BLANK_LINE, PLAIN, OTHER = 0, 1, 2  # of lines
TEXT, EMPTY, BLANK, NUMBER, NULL, TRUE, FALSE, OPENAI, SHAREGPT = range(9)  # of values
ESCAPED, RESPELLED = 16, 32  # flags on a string's kind: it has escapes; some that a JSON writer would not use
KIND = 15
SYSTEM, USER, ASSISTANT, TOOL = range(4)
BEGIN, RAW_END, END, KIND_OF, ROLE = range(5)  # of a value or a turn
MOST_FIELDS = 16
MOST_SHAPES = 64
SPARE = 8  # bytes behind the data that must be there, whatever they are
_UNKNOWN = -1

_PLAIN_BYTE, _SPACE_BYTE, _QUOTE, _BACKSLASH, _HIGH, _CONTROL = range(6)
_BYTE = np.full(256, _PLAIN_BYTE, np.uint8)
_BYTE[:32] = _CONTROL
_BYTE[32] = _SPACE_BYTE
_BYTE[34], _BYTE[92], _BYTE[128:] = _QUOTE, _BACKSLASH, _HIGH
_ONES, _TOPS, _SPACES, _QUOTES, _BACKSLASHES = (
    np.uint64(byte * 0x0101010101010101) for byte in (0x01, 0x80, 0x20, 0x22, 0x5C)
)
_HEX = np.full(256, -1, np.int32)
for _base, _digits in ((0, b"0123456789"), (10, b"abcdef"), (10, b"ABCDEF")):
    _HEX[np.frombuffer(_digits, np.uint8)] = np.arange(_base, _base + len(_digits))
_ESCAPE = np.zeros(256, np.uint8)  # what `\x` stands for
_ESCAPE[np.frombuffer(b'"\\/bfnrt', np.uint8)] = np.frombuffer(b'"\\/\b\f\n\r\t', np.uint8)


class Scanned(NamedTuple):
    """What a scan writes: room for some lines, some fields and some turns.

    Attributes:
        state: of each line, `BLANK_LINE`, `PLAIN` or `OTHER`.
        line: where each line begins, and where the one behind the last would.
        field: the first field of each line.
        shape: which sequence of keys a plain line has.
        key: where each field's key begins and ends, without quotes.
        value: of each field, by `BEGIN` to `KIND_OF`: where it begins and ends in the data (a string without quotes; of
            a list of turns, its turns), where it ends once its escapes are undone, its kind and flags.
        turn: of each turn the same of its content, and its `ROLE`.
        example: the first line of each shape.
    """

    state: Bytes
    line: Ints
    field: Ints
    shape: Ints
    key: Ints
    value: Ints
    turn: Ints
    example: Ints


def room(lines: int, fields: int, turns: int) -> Scanned:
    """Empty arrays for a scan."""
    return Scanned(
        np.empty(lines, np.uint8),
        np.empty(lines + 1, np.int32),
        np.empty(lines + 1, np.int32),
        np.empty(lines, np.int32),
        np.empty((fields, 2), np.int32),
        np.empty((fields, 4), np.int32),
        np.empty((turns, 5), np.int32),
        np.empty(MOST_SHAPES, np.int32),
    )


@intrinsic  # type: ignore[untyped-decorator]
def _load64(context: Any, data: Any, at: Any) -> Any:
    """8 bytes of an array, little endian, at any byte (as in `tokens.py`)."""
    from llvmlite import ir  # type: ignore[import-untyped]
    from numba import types

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        array = context.make_array(signature.args[0])(context, builder, arguments[0])
        address = builder.bitcast(builder.gep(array.data, [arguments[1]]), ir.IntType(64).as_pointer())
        word = builder.load(address)
        word.align = 1
        return word

    return types.uint64(data, types.int64), generate


@intrinsic  # type: ignore[untyped-decorator]
def _move(context: Any, source: Any, begin: Any, out: Any, to: Any, count: Any) -> Any:
    """Copy bytes from one array to another; a loop over them takes ten times as long."""
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
def is_space(point: int) -> bool:
    """Whether `str.isspace` holds for a code point."""
    if point < 0x85:
        return 9 <= point <= 13 or 28 <= point <= 32
    if point < 0x2000:
        return point == 0x85 or point == 0xA0 or point == 0x1680
    if point < 0x2030:
        return point <= 0x200A or point == 0x2028 or point == 0x2029 or point == 0x202F
    return point == 0x205F or point == 0x3000


@compiled
def _utf8(data: Bytes, at: int) -> tuple[int, int]:
    """The code point that begins with the byte above 127 at `at`, and where the next begins; `_UNKNOWN` if none does.

    No byte behind the data is read: a line break that ends it is no byte of a longer character.
    """
    byte, second = int(data[at]), int(data[at + 1])
    if second & 0xC0 != 0x80 or byte < 0xC2:
        return _UNKNOWN, at
    if byte < 0xE0:
        return (byte & 0x1F) << 6 | second & 0x3F, at + 2
    third = int(data[at + 2])
    if third & 0xC0 != 0x80:
        return _UNKNOWN, at
    point = (byte & 0x0F) << 12 | (second & 0x3F) << 6 | third & 0x3F
    if byte < 0xF0:
        return (_UNKNOWN if point < 0x800 or 0xD800 <= point < 0xE000 else point), at + 3
    fourth = int(data[at + 3])
    point = (byte & 0x07) << 18 | (second & 0x3F) << 12 | (third & 0x3F) << 6 | fourth & 0x3F
    if fourth & 0xC0 != 0x80 or byte > 0xF4 or point < 0x10000 or point > 0x10FFFF:
        return _UNKNOWN, at
    return point, at + 4


@compiled
def _four(data: Bytes, at: int) -> int:
    """Four hex digits, or below 0."""
    value = 0
    for digit in range(4):
        one = _HEX[data[at + digit]]
        if one < 0:
            return _UNKNOWN
        value = value << 4 | int(one)
    return value


@compiled
def _unescaped(data: Bytes, at: int) -> tuple[int, int]:
    """The code point of the escape whose backslash stands at `at`, and where the next character begins."""
    mark = data[at + 1]
    if mark != 117:  # u
        point = int(_ESCAPE[mark])
        return (point if point else _UNKNOWN), at + 2
    point = _four(data, at + 2)
    if point & 0xF800 != 0xD800 or point < 0:
        return point, at + 6
    if point >= 0xDC00 or data[at + 6] != 92 or data[at + 7] != 117:
        return _UNKNOWN, at
    low = _four(data, at + 8)
    if low & 0xFC00 != 0xDC00 or low < 0:
        return _UNKNOWN, at
    return 0x10000 + ((point & 0x3FF) << 10 | low & 0x3FF), at + 12


@compiled
def _put(point: int, text: Bytes, to: int) -> int:
    """Write a code point as UTF-8; where the next one goes."""
    if point < 0x80:
        text[to] = point
        return to + 1
    if point < 0x800:
        text[to] = 0xC0 | point >> 6
    else:
        if point < 0x10000:
            text[to] = 0xE0 | point >> 12
        else:
            text[to], text[to + 1] = 0xF0 | point >> 18, 0x80 | (point >> 12 & 0x3F)
            to += 1
        to += 1
        text[to] = 0x80 | (point >> 6 & 0x3F)
    text[to + 1] = 0x80 | (point & 0x3F)
    return to + 2


@compiled
def _run(data: Bytes, at: int) -> int:
    """Behind the plain ASCII at `at`, eight bytes at a time (the lowest bit that is found is always right)."""
    while True:
        word = _load64(data, at)
        quote, backslash = word ^ _QUOTES, word ^ _BACKSLASHES
        if ((word - _SPACES) | (quote - _ONES) | (backslash - _ONES) | word) & _TOPS:
            break
        at += 8
    while _BYTE[data[at]] <= _SPACE_BYTE:
        at += 1
    return at


@compiled
def _string(data: Bytes, at: int, text: Bytes) -> tuple[int, int, int]:
    """Read the string that begins at `at`, behind its quote; one with escapes is written to the same place of `text`.

    Returns:
        where its other quote stands (below 0 if it is not plain), where it ends in `text`, and its kind.
    """
    begin, to, filled, flags = at, at, False, 0
    while True:
        byte = _BYTE[data[at]]
        if byte <= _SPACE_BYTE:
            first = at
            filled = filled or byte == _PLAIN_BYTE
            while _BYTE[data[at]] == _SPACE_BYTE:
                at += 1
            filled = filled or _BYTE[data[at]] == _PLAIN_BYTE
            at = _run(data, at)
            if flags:
                _move(data, first, text, to, at - first)
                to += at - first
        elif byte == _QUOTE:
            if at == begin:
                return at, to, EMPTY
            return at, to if flags else at, (TEXT if filled else BLANK) | flags
        elif byte == _CONTROL:
            return _UNKNOWN, to, 0
        else:
            first = at
            if byte == _HIGH:
                point, at = _utf8(data, at)
            else:
                if not flags:
                    _move(data, begin, text, begin, at - begin)
                    to = at
                flags |= ESCAPED
                if data[at + 1] == 117 or data[at + 1] == 47:  # \u, \/
                    flags |= RESPELLED
                point, at = _unescaped(data, at)
            if point < 0:
                return _UNKNOWN, to, 0
            if flags:
                to = _put(point, text, to)
            filled = filled or not is_space(point)


@compiled
def _number(data: Bytes, at: int) -> int:
    """Where the number at `at` ends; -1 if a JSON writer might write it otherwise."""
    is_negative = data[at] == 45
    begin = at + 1 if is_negative else at
    at = begin
    while 48 <= data[at] <= 57:
        at += 1
    digits = at - begin
    starts_with_zero = data[begin] == 48
    if digits == 0 or digits > 18 or (starts_with_zero and digits > 1):
        return _UNKNOWN
    if data[at] != 46:
        return _UNKNOWN if starts_with_zero and is_negative else at
    point = at
    at += 1
    while 48 <= data[at] <= 57:
        at += 1
    decimals = at - point - 1
    if decimals == 0 or digits + decimals > 15 or (decimals > 1 and data[at - 1] == 48):
        return _UNKNOWN
    if starts_with_zero:
        leading = point + 1
        while leading < at and data[leading] == 48:
            leading += 1
        if leading > point + 3 or (leading == at and is_negative):
            return _UNKNOWN
    return at


@compiled
def _space(data: Bytes, at: int) -> int:
    """Behind the white space at `at`; a line ends with it."""
    while data[at] == 32 or data[at] == 9 or data[at] == 13:
        at += 1
    return at


@compiled
def _is(data: Bytes, at: int, word: Bytes) -> bool:
    same = 0
    while same < word.size and data[at + same] == word[same]:
        same += 1
    return same == word.size


_ROLE_KEY, _FROM_KEY, _CONTENT_KEY, _VALUE_KEY = (
    np.frombuffer(word, np.uint8) for word in (b'"role"', b'"from"', b'"content"', b'"value"')
)
_SYSTEM, _USER, _ASSISTANT, _TOOL, _HUMAN, _GPT, _OBSERVATION = (
    np.frombuffer(word, np.uint8)
    for word in (b'"system"', b'"user"', b'"assistant"', b'"tool"', b'"human"', b'"gpt"', b'"observation"')
)


@compiled
def _role(data: Bytes, at: int, is_openai: bool) -> tuple[int, int]:
    """The role at `at`, behind it; below 0 if it is no plain one."""
    if is_openai:
        if _is(data, at, _USER):
            return USER, at + 6
        if _is(data, at, _ASSISTANT):
            return ASSISTANT, at + 11
        if _is(data, at, _SYSTEM):
            return SYSTEM, at + 8
        if _is(data, at, _TOOL):
            return TOOL, at + 6
        return _UNKNOWN, at
    if _is(data, at, _HUMAN):
        return USER, at + 7
    if _is(data, at, _GPT):
        return ASSISTANT, at + 5
    if _is(data, at, _OBSERVATION):
        return TOOL, at + 13
    return _UNKNOWN, at


@compiled
def _after(data: Bytes, at: int, mark: int) -> int:
    """Behind white space, one mark, and white space; below 0 if it is another mark."""
    at = _space(data, at)
    return _space(data, at + 1) if data[at] == mark else _UNKNOWN


@compiled
def _turns(data: Bytes, at: int, text: Bytes, turn: Ints, count: int) -> tuple[int, int, int]:
    """Read the list of turns at `at`: behind it, how many turns there are now, its kind; below 0 if it is not plain."""
    at = _space(data, at + 1)
    is_openai = data[at] == 123 and _is(data, _space(data, at + 1), _ROLE_KEY)
    has_answer = False
    while data[at] == 123 and count < turn.shape[0]:
        at = _space(data, at + 1)
        if not _is(data, at, _ROLE_KEY if is_openai else _FROM_KEY):
            break
        at = _after(data, at + 6, 58)
        if at < 0:
            break
        role, at = _role(data, at, is_openai)
        if role < 0:
            break
        at = _after(data, at, 44)
        if at < 0 or not _is(data, at, _CONTENT_KEY if is_openai else _VALUE_KEY):
            break
        at = _after(data, at + (9 if is_openai else 7), 58)
        if at < 0 or data[at] != 34:
            break
        end, to, kind = _string(data, at + 1, text)
        if end < 0 or kind & KIND != TEXT:
            break
        turn[count, BEGIN], turn[count, RAW_END], turn[count, END] = at + 1, end, to
        turn[count, KIND_OF], turn[count, ROLE] = kind, role
        count += 1
        has_answer = has_answer or role == ASSISTANT
        at = _after(data, end + 1, 125)
        if at < 0:
            break
        if data[at] == 93:
            return (at + 1 if has_answer else _UNKNOWN), count, OPENAI if is_openai else SHAREGPT
        if data[at] != 44:
            break
        at = _space(data, at + 1)
    return _UNKNOWN, count, 0


@compiled
def _value(data: Bytes, at: int, text: Bytes, turn: Ints, turns: int, value: Ints, n: int) -> tuple[int, int]:
    """Read the value at `at` as field n: behind it, and how many turns there are now; below 0 if it is not plain."""
    byte = data[at]
    value[n, BEGIN] = at
    if byte == 34:
        end, value[n, END], value[n, KIND_OF] = _string(data, at + 1, text)
        value[n, BEGIN], value[n, RAW_END] = at + 1, end
        return (end + 1 if end >= 0 else _UNKNOWN), turns
    if byte == 91:
        end, count, value[n, KIND_OF] = _turns(data, at, text, turn, turns)
        value[n, BEGIN], value[n, RAW_END], value[n, END] = turns, count, count
        return end, count
    if byte == 110 and data[at + 1] == 117 and data[at + 2] == 108 and data[at + 3] == 108:
        kind, end = NULL, at + 4
    elif byte == 116 and data[at + 1] == 114 and data[at + 2] == 117 and data[at + 3] == 101:
        kind, end = TRUE, at + 4
    elif byte == 102 and data[at + 1] == 97 and data[at + 2] == 108 and data[at + 3] == 115 and data[at + 4] == 101:
        kind, end = FALSE, at + 5
    else:
        kind, end = NUMBER, _number(data, at)
    value[n, RAW_END], value[n, END], value[n, KIND_OF] = end, end, kind
    return end, turns


@compiled
def _fields(data: Bytes, at: int, text: Bytes, scanned: Scanned, field: int, turns: int) -> tuple[int, int, int]:
    """Read the object at `at` into fields: the field and the turn behind its last, and where its line ends.

    The first is below 0 if it is not plain. A line break stops every part of it, so nothing behind the line is taken
    for a part of it.
    """
    first = field
    at = _space(data, at + 1)
    while data[at] == 34 and field - first < MOST_FIELDS:
        end, _, kind = _string(data, at + 1, text)
        if end < 0 or kind & ESCAPED:
            break
        scanned.key[field, 0], scanned.key[field, 1] = at + 1, end
        at = _after(data, end + 1, 58)
        if at < 0:
            break
        at, turns = _value(data, at, text, scanned.turn, turns, scanned.value, field)
        if at < 0:
            break
        field += 1
        at = _space(data, at)
        if data[at] == 125:
            at = _space(data, at + 1)
            return (field if data[at] == 10 else _UNKNOWN), turns, at
        if data[at] != 44:
            break
        at = _space(data, at + 1)
    return _UNKNOWN, turns, at


@compiled
def _same_keys(data: Bytes, key: Ints, left: int, right: int, count: int) -> bool:
    for i in range(count):
        begin, size = key[left + i, 0], key[left + i, 1] - key[left + i, 0]
        other = key[right + i, 0]
        if key[right + i, 1] - other != size:
            return False
        for byte in range(size):
            if data[begin + byte] != data[other + byte]:
                return False
    return True


@compiled
def _shape(data: Bytes, scanned: Scanned, line: int, shapes: int) -> int:
    """Which shape a line has: a known one, the next free number, or `MOST_SHAPES` if there are no more."""
    first = scanned.field[line]
    count = scanned.field[line + 1] - first
    for shape in range(shapes):
        other = scanned.example[shape]
        begin = scanned.field[other]
        if scanned.field[other + 1] - begin == count and _same_keys(data, scanned.key, begin, first, count):
            return shape
    return shapes


@compiled
def scan(data: Bytes, at: int, stop: int, limit: int, text: Bytes, scanned: Scanned) -> tuple[int, int, int]:
    """Scan lines until the data or the room ends.

    Args:
        data: whole lines, each with a line break behind it, and `SPARE` bytes.
        at, stop: where to begin, and where the last line ends.
        limit: bytes; a longer line is not plain.
        text: as long as the data; takes the strings that have escapes, without them, each at its place.
        scanned: takes what is found.

    Returns:
        where the next line begins, how many lines were scanned, and how many shapes they have.
    """
    lines, field, turns, shapes = 0, 0, 0, 0
    while at < stop and lines < scanned.state.size and field + MOST_FIELDS <= scanned.key.shape[0]:
        scanned.line[lines], scanned.field[lines], scanned.shape[lines] = at, field, 0
        begin = _space(data, at)
        state, end, behind, turned = OTHER, at, field, turns
        if data[begin] == 10:
            state = BLANK_LINE
        elif data[begin] == 123:
            behind, turned, stopped = _fields(data, begin, text, scanned, field, turns)
            if behind >= 0:
                scanned.field[lines + 1], end = behind, stopped
                shape = _shape(data, scanned, lines, shapes)
                if shape < MOST_SHAPES and end - at <= limit:
                    state, scanned.shape[lines] = PLAIN, shape
                    if shape == shapes:
                        scanned.example[shapes] = lines
                        shapes += 1
            elif turned == scanned.turn.shape[0] and turns > 0:
                break  # for want of room: this line opens the next scan
        while data[end] != 10:
            end += 1
        if state == PLAIN:
            field, turns = behind, turned
        scanned.state[lines] = state
        lines += 1
        at = end + 1
    scanned.line[lines], scanned.field[lines] = at, field
    return at, lines, shapes


@compiled
def measure(data: Bytes, text: Bytes, value: Ints, fields: Ints, out: Ints) -> None:
    """Characters, and lines with something to see in them, of each of some fields' strings."""
    for i in range(fields.size):
        row = value[fields[i]]
        source = text if row[KIND_OF] & ESCAPED else data
        at, characters, lines, filled = row[BEGIN], 0, 0, False
        while at < row[END]:
            if source[at] < 0x80:
                point, at = int(source[at]), at + 1
            else:
                point, at = _utf8(source, at)
            characters += 1
            if point == 10:
                lines += filled
                filled = False
            elif not is_space(point):
                filled = True
        out[i, 0], out[i, 1] = characters, lines + filled
