"""Cells found without making an object of any: lines of text, CSV rows, and the strings of a table's columns, compiled.

What is written has the form of `json_scan.py`'s values, so that the same programs make rows of them. The bytes must be
UTF-8 (checked by the caller). Whether a text may be blank is judged by its bytes alone: one that holds nothing but
ASCII white space and characters of the neighbourhood of Unicode's is called blank, and then read exactly.
"""

import numpy as np
import numpy.typing as npt

from tasks.kernels.compiled import compiled

Bytes = npt.NDArray[np.uint8]
Ints = npt.NDArray[np.int32]
Offsets = npt.NDArray[np.int64]

UNCLASSIFIED = -1  # the kind of a text that `classify` has not seen
# as `json_scan.py` has them: a kernel reads no other module's constants
_TEXT, _EMPTY, _BLANK, _NUMBER, _NULL = range(5)
_RESPELLED = 32
_BEGIN, _RAW_END, _END, _KIND_OF = range(4)

_FILLED, _SPACE, _DOUBT, _WRITTEN_OUT = 1, 2, 4, 8
_BYTE = np.full(256, _FILLED, np.uint8)
_BYTE[:32] = _FILLED | _WRITTEN_OUT
_BYTE[[9, 10, 11, 12, 13, 28, 29, 30, 31]] = _SPACE | _WRITTEN_OUT
_BYTE[32] = _SPACE
_BYTE[[34, 92]] = _FILLED | _WRITTEN_OUT
_BYTE[0x80:0xC0] = 0  # follow other bytes
_BYTE[[0xC2, 0xE1, 0xE2, 0xE3]] = _DOUBT  # lead the bytes of Unicode's white space, among others


@compiled
def classify(data: Bytes, value: Ints, sizes: Offsets) -> None:
    """Give each unclassified value its kind, and tell how long at most each becomes as JSON.

    Args:
        value: (values, 4).
        sizes: takes bytes.
    """
    for i in range(value.shape[0]):
        sizes[i] = value[i, _RAW_END] - value[i, _BEGIN] + 4
        if value[i, _KIND_OF] != UNCLASSIFIED:
            continue
        if value[i, _BEGIN] == value[i, _RAW_END]:
            value[i, _KIND_OF] = _EMPTY
            continue
        seen = np.uint8(0)
        for at in range(value[i, _BEGIN], value[i, _RAW_END]):
            what = _BYTE[data[at]]
            if what & _DOUBT:
                first, second = data[at], data[at + 1]
                is_near = first == 0xC2 and (second == 0x85 or second == 0xA0)
                is_near = is_near or (first == 0xE1 and second == 0x9A) or (first == 0xE3 and second == 0x80)
                if not (is_near or (first == 0xE2 and second <= 0x81)):
                    what = np.uint8(_FILLED)
            seen |= what
            sizes[i] += 5 * (what >> 3)
        value[i, _KIND_OF] = (_TEXT if seen & _FILLED else _BLANK) | (_RESPELLED if seen & _WRITTEN_OUT else 0)


@compiled
def text_lines(data: Bytes, stop: int, limit: int, begins: Ints, value: Ints, state: Bytes) -> None:
    """Each line as one value, a carriage return at its end left out.

    Args:
        data: lines, each with a line break behind it.
        stop: where the last ends.
        limit: bytes of the longest.
        begins: takes where each line begins, and where the one behind the last would.
        state: takes 0 for a blank line, 1 for one that was read, 2 for one that must be read exactly.
    """
    at = 0
    for i in range(state.size):
        begins[i] = at
        is_blank, has_nul = True, False
        begin = at
        while data[at] != 10:
            is_blank = is_blank and (data[at] == 32 or 9 <= data[at] <= 13)
            has_nul = has_nul or data[at] == 0
            at += 1
        state[i] = 0 if is_blank else 2 if has_nul or at - begin > limit else 1
        end = at - 1 if at > begin and data[at - 1] == 13 else at
        value[i, _BEGIN], value[i, _RAW_END], value[i, _END] = begin, end, end
        value[i, _KIND_OF] = UNCLASSIFIED if state[i] == 1 else _NULL
        at += 1
    begins[state.size] = min(at, stop)


@compiled
def _quoted(data: Bytes, at: int, stop: int, text: Bytes, cell: Ints) -> int:
    """Read the quoted cell at `at`; behind its closing quote, or below 0 if there is none."""
    begin = at + 1
    at, to = begin, begin
    doubled = False
    while True:
        while at < stop and data[at] != 34 and data[at] != 0:
            if doubled:
                text[to] = data[at]
            at += 1
            to += 1
        if at >= stop or data[at] == 0:
            return -1
        if data[at + 1] != 34:
            break
        if not doubled:
            for i in range(begin, at):
                text[i] = data[i]
            doubled = True
        text[to] = 34
        at, to = at + 2, to + 1
    cell[_BEGIN], cell[_RAW_END], cell[_END], cell[_KIND_OF] = begin, to, to, UNCLASSIFIED
    return at + 1


@compiled
def csv_rows(
    data: Bytes,
    at: int,
    stop: int,
    delimiter: int,
    columns: int,
    limit: int,
    text: Bytes,
    begins: Ints,
    numbers: Offsets,
    value: Ints,
) -> tuple[int, int, int]:
    """Read rows until the data or the room ends, or one is not surely a plain row of so many columns.

    Args:
        data: lines, each with a line break behind it.
        at, stop: where to begin, and where the last line ends.
        limit: bytes of the longest row.
        text: a copy of the data; takes cells with doubled quotes, each at its place, its quotes single.
        begins: takes where each row begins, and where the one behind the last would.
        numbers: takes which line, from 0 at `at`, each row begins with.
        value: takes the cells, (rows * columns, 4).

    Returns:
        where reading stopped (the beginning of a row), how many rows, and how many lines before that place.
    """
    rows, lines = 0, 0
    while at < stop and rows < numbers.size:
        begins[rows] = at
        if data[at] == 10 or (data[at] == 13 and data[at + 1] == 10):
            at += 1 if data[at] == 10 else 2
            lines += 1
            continue
        start, n = at, 0
        while n < columns:
            cell = value[rows * columns + n]
            n += 1
            if data[at] == 34:
                at = _quoted(data, at, stop, text, cell)
                if at < 0:
                    break
                if data[at] == 13 and data[at + 1] == 10:
                    at += 1
                if data[at] != 10 and data[at] != delimiter:
                    at = -1
                    break
            else:
                begin = at
                while data[at] != delimiter and data[at] != 10 and data[at] != 0:
                    at += 1
                if data[at] == 0:
                    at = -1
                    break
                end = at - 1 if data[at] == 10 and at > begin and data[at - 1] == 13 else at
                cell[_BEGIN], cell[_RAW_END], cell[_END] = begin, end, end
                cell[_KIND_OF] = _NULL if begin == end else UNCLASSIFIED
            if data[at] == 10 or n == columns:
                break
            at += 1
        if at < 0 or data[at] != 10 or n != columns or at - start > limit:
            at = start
            break
        numbers[rows] = lines
        for i in range(start, at + 1):
            lines += data[i] == 10
        rows += 1
        at += 1
    begins[rows] = at
    return at, rows, lines
