"""Tokens, shingles and digests of UTF-8 text, compiled: one pass over the bytes, no string is ever made.

The definitions stand in `text.py`, which is how to call these. All of them in one file, since numba keeps machine code
by file (see `compiled.py`).
"""

from typing import Any

import numpy as np
import numpy.typing as npt
from numba.extending import intrinsic

from tasks.kernels.compiled import compiled

Bytes = npt.NDArray[np.uint8]
Offsets = npt.NDArray[np.int64]
Hashes = npt.NDArray[np.uint64]
Points = npt.NDArray[np.int32]

LIMIT = 0x40000  # code points from here on are no word, and never change; `unicode.py` has the tables of those below
WORD = 1  # `\w`: alphanumeric or underscore
ALONE = 2  # a Han, Kana or Hangul word character: a token by itself
SPACE = 4
SUSPECT = 8  # may change under NFC, by itself or beside a neighbour

_PRIMES = (0x9E3779B185EBCA87, 0xC2B2AE3D27D4EB4F, 0x165667B19E3779F9, 0x85EBCA77C2B2AE63, 0x27D4EB2F165667C5)
_P1, _P2, _P3, _P4, _P5 = (np.uint64(prime) for prime in _PRIMES)
_LOW = np.uint64(0xFFFFFFFF)
_HIGH = np.uint64(0x8080808080808080)
_SPARE = 8  # bytes behind a buffer that is hashed


@intrinsic  # type: ignore[untyped-decorator]
def _load64(context: Any, data: Any, at: Any) -> Any:
    """8 bytes of an array, little endian, at any byte; a kernel spelling it out byte by byte takes twice as long."""
    from llvmlite import ir  # type: ignore[import-untyped]
    from numba import types

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        array = context.make_array(signature.args[0])(context, builder, arguments[0])
        address = builder.bitcast(builder.gep(array.data, [arguments[1]]), ir.IntType(64).as_pointer())
        word = builder.load(address)
        word.align = 1
        return word

    return types.uint64(data, types.int64), generate


@compiled
def _rotate(value: np.uint64, bits: int) -> np.uint64:
    return (value << np.uint64(bits)) | (value >> np.uint64(64 - bits))


@compiled
def _round(lane: np.uint64, word: np.uint64) -> np.uint64:
    return _rotate(lane + word * _P2, 31) * _P1


@compiled
def _xxh64(data: Bytes, at: int, end: int, seed: np.uint64) -> np.uint64:
    """xxh64 of data[at:end], with 4 bytes to spare behind it (specification: xxHash, doc/xxhash_spec.md, XXH64)."""
    length = np.uint64(end - at)
    if end - at >= 32:
        a, b, c, d = seed + _P1 + _P2, seed + _P2, seed, seed - _P1
        while end - at >= 32:
            a = _round(a, _load64(data, at))
            b = _round(b, _load64(data, at + 8))
            c = _round(c, _load64(data, at + 16))
            d = _round(d, _load64(data, at + 24))
            at += 32
        value = _rotate(a, 1) + _rotate(b, 7) + _rotate(c, 12) + _rotate(d, 18)
        for lane in (a, b, c, d):
            value = (value ^ _round(np.uint64(0), lane)) * _P1 + _P4
    else:
        value = seed + _P5
    value += length
    while end - at >= 8:
        value = _rotate(value ^ _round(np.uint64(0), _load64(data, at)), 27) * _P1 + _P4
        at += 8
    if end - at >= 4:
        value = _rotate(value ^ ((_load64(data, at) & _LOW) * _P1), 23) * _P2 + _P3
        at += 4
    while at < end:
        value = _rotate(value ^ (np.uint64(data[at]) * _P5), 11) * _P1
        at += 1
    value = (value ^ (value >> np.uint64(33))) * _P2
    value = (value ^ (value >> np.uint64(29))) * _P3
    return value ^ (value >> np.uint64(32))


@compiled
def _decode(data: Bytes, at: int) -> tuple[np.int64, int]:
    """The code point at a byte, and where the next one begins."""
    byte = np.int64(data[at])
    if byte < 0x80:
        return byte, at + 1
    if byte < 0xE0:
        return (byte & 0x1F) << 6 | (np.int64(data[at + 1]) & 0x3F), at + 2
    point = (np.int64(data[at + 1]) & 0x3F) << 6 | (np.int64(data[at + 2]) & 0x3F)
    if byte < 0xF0:
        return (byte & 0x0F) << 12 | point, at + 3
    return (byte & 0x07) << 18 | point << 6 | (np.int64(data[at + 3]) & 0x3F), at + 4


@compiled
def _encode(point: np.int64, out: Bytes, at: int) -> int:
    """Write a code point as UTF-8; where the next one goes."""
    if point < 0x80:
        out[at] = point
        return at + 1
    if point < 0x800:
        out[at] = 0xC0 | point >> 6
    elif point < 0x10000:
        out[at] = 0xE0 | point >> 12
        at += 1
        out[at] = 0x80 | (point >> 6 & 0x3F)
    else:
        out[at] = 0xF0 | point >> 18
        out[at + 1] = 0x80 | (point >> 12 & 0x3F)
        at += 2
        out[at] = 0x80 | (point >> 6 & 0x3F)
    out[at + 1] = 0x80 | (point & 0x3F)
    return at + 2


@compiled
def suspects(data: Bytes, pieces: Offsets, kind: Bytes) -> npt.NDArray[np.bool_]:
    """Which pieces may not be in NFC."""
    found = np.zeros(pieces.size - 1, np.bool_)
    for piece in range(pieces.size - 1):
        at, end = pieces[piece], pieces[piece + 1]
        while at < end:
            if at + 8 <= end and not _load64(data, at) & _HIGH:  # eight ASCII characters
                at += 8
                continue
            if data[at] < 0xCC:  # below U+0300 nothing changes under NFC
                at += 1
                continue
            point, at = _decode(data, at)
            if point < LIMIT and kind[point] & SUSPECT:
                found[piece] = True
                break
    return found


@compiled
def _fold(point: np.int64, k: int, fold: Points, many: Points) -> np.int64:
    """The k-th code point that a code point folds to, or -1."""
    folded = np.int64(fold[point]) if point < LIMIT else point
    if folded < 0:
        return np.int64(many[-folded, k])
    return folded if k == 0 else np.int64(-1)


@compiled
def _ascii(kind: Bytes, fold: Points, needed: np.uint8, barred: np.uint8) -> Bytes:
    """What an ASCII character folds to, if it is all that is needed and nothing that is barred; 0 for all others."""
    found = np.zeros(256, np.uint8)
    for byte in range(0x80):
        if kind[byte] & needed == needed and not kind[byte] & barred:
            found[byte] = fold[byte]
    return found


@compiled
def _normalise(
    data: Bytes,
    at: int,
    end: int,
    kind: Bytes,
    fold: Points,
    many: Points,
    plain: Bytes,
    collapse: bool,
    out: Bytes,
    to: int,
) -> int:
    """Write data[at:end] folded, white space collapsed if asked for; where the next byte goes."""
    begin, space = to, False
    while at < end:
        byte = plain[data[at]]
        if byte:  # a run of ASCII without white space
            if space and to > begin:
                out[to] = 0x20
                to += 1
            space = False
            while byte:
                out[to] = byte
                to += 1
                at += 1
                byte = plain[data[at]] if at < end else np.uint8(0)
            continue
        point, at = _decode(data, at)
        for k in range(3):
            folded = _fold(point, k, fold, many)
            if folded < 0:
                break
            if collapse and folded < LIMIT and kind[folded] & SPACE:
                space = True
                continue
            if space and to > begin:
                out[to] = 0x20
                to += 1
            space = False
            to = _encode(folded, out, to)
    return to


@compiled
def _longest(pieces: Offsets, rows: Offsets, which: Offsets) -> int:
    """Bytes of the longest of some rows."""
    longest = 0
    for row in which:
        longest = max(longest, pieces[rows[row + 1]] - pieces[rows[row]])
    return longest


@compiled
def _most_pieces(rows: Offsets, which: Offsets) -> int:
    """Pieces of the row, of some, that has most."""
    most = 0
    for row in which:
        most = max(most, rows[row + 1] - rows[row])
    return most


@compiled
def digests(
    data: Bytes,
    pieces: Offsets,
    rows: Offsets,
    roles: Bytes,
    mask: np.uint8,
    kind: Bytes,
    fold: Points,
    many: Points,
    first: int,
    last: int,
    out: Hashes,
) -> None:
    plain = _ascii(kind, fold, np.uint8(0), np.uint8(SPACE))
    which = np.arange(first, last)
    most = _most_pieces(rows, which)
    text = np.empty(3 * _longest(pieces, rows, which) + 2 * most + _SPARE, np.uint8)
    for row in range(first, last):
        to = 0
        for piece in range(rows[row], rows[row + 1]):
            if mask >> roles[piece] & 1:
                text[to], text[to + 1] = 0xFF, roles[piece]
                to = _normalise(data, pieces[piece], pieces[piece + 1], kind, fold, many, plain, True, text, to + 2)
        out[row - first, 0] = _xxh64(text, 0, to, np.uint64(0))
        out[row - first, 1] = _xxh64(text, 0, to, np.uint64(1))


@compiled
def _cut(
    data: Bytes,
    pieces: Offsets,
    rows: Offsets,
    roles: Bytes,
    mask: np.uint8,
    kind: Bytes,
    fold: Points,
    many: Points,
    words: Bytes,
    row: int,
    text: Bytes,
    begins: Offsets,
) -> tuple[int, int]:
    """Write a row's tokens, joined by a space, and where each begins; how many, and where the last one ends."""
    tokens, to = 0, 0
    for piece in range(rows[row], rows[row + 1]):
        if not mask >> roles[piece] & 1:
            continue
        inside = False
        at = pieces[piece]
        while at < pieces[piece + 1]:
            if data[at] < 0x80:  # most text by far: no decoding, and a run of word characters at once
                folded_byte = words[data[at]]
                if not folded_byte:
                    inside = False
                    at += 1
                    continue
                if not inside:
                    if tokens:
                        text[to] = 0x20
                        to += 1
                    begins[tokens] = to
                    tokens += 1
                    inside = True
                while folded_byte:
                    text[to] = folded_byte
                    to += 1
                    at += 1
                    folded_byte = words[data[at]] if at < pieces[piece + 1] else np.uint8(0)
                continue
            point, at = _decode(data, at)
            for k in range(3):
                folded = _fold(point, k, fold, many)
                if folded < 0:
                    break
                what = kind[folded] if folded < LIMIT else np.uint8(0)
                if not what & WORD:
                    inside = False
                    continue
                if not inside or what & ALONE:
                    if tokens:
                        text[to] = 0x20
                        to += 1
                    begins[tokens] = to
                    tokens += 1
                inside = not what & ALONE
                to = _encode(folded, text, to)
    return tokens, to


@compiled
def sequences(
    data: Bytes,
    pieces: Offsets,
    rows: Offsets,
    roles: Bytes,
    mask: np.uint8,
    kind: Bytes,
    fold: Points,
    many: Points,
    first: int,
    last: int,
    values: Hashes,
    counts: Offsets,
) -> int:
    """Write the hash of every token of rows first to last, in the order of the text; how many in all."""
    longest = _longest(pieces, rows, np.arange(first, last))
    words = _ascii(kind, fold, np.uint8(WORD), np.uint8(0))
    text = np.empty(4 * longest + _SPARE, np.uint8)
    begins = np.empty(longest + 2, np.int64)
    total = 0
    for row in range(first, last):
        tokens, to = _cut(data, pieces, rows, roles, mask, kind, fold, many, words, row, text, begins)
        begins[tokens] = to + 1
        for token in range(tokens):
            values[total] = _xxh64(text, begins[token], begins[token + 1] - 1, np.uint64(0))
            total += 1
        counts[row - first] = tokens
    return total


@compiled
def shingles(
    data: Bytes,
    pieces: Offsets,
    rows: Offsets,
    roles: Bytes,
    mask: np.uint8,
    n: int,
    kind: Bytes,
    fold: Points,
    many: Points,
    which: Offsets,
    values: Hashes,
    counts: Offsets,
) -> int:
    """Write the shingles of some rows, row after row, and how many each has; how many in all."""
    longest, most = _longest(pieces, rows, which), _most_pieces(rows, which)
    words = _ascii(kind, fold, np.uint8(WORD), np.uint8(0))
    plain = _ascii(kind, fold, np.uint8(0), np.uint8(SPACE))
    text = np.empty(4 * longest + most + _SPARE, np.uint8)  # tokens joined by a space
    begins = np.empty(longest + 2, np.int64)  # of the tokens in `text`
    slots = 2
    while slots < 2 * (longest + 1):
        slots *= 2
    seen = np.empty(slots, np.uint64)
    seen_in = np.zeros(slots, np.int64)  # the place + 1 that a slot was last used by
    total = 0
    for place in range(which.size):
        row = which[place]
        tokens, to = _cut(data, pieces, rows, roles, mask, kind, fold, many, words, row, text, begins)
        before = total
        if tokens <= n:
            if tokens == 0:
                to, joined = 0, False
                for piece in range(rows[row], rows[row + 1]):
                    if mask >> roles[piece] & 1:
                        if joined:
                            text[to] = 0x0A
                            to += 1
                        joined = True
                        begin, end = pieces[piece], pieces[piece + 1]
                        to = _normalise(data, begin, end, kind, fold, many, plain, False, text, to)
            values[total] = _xxh64(text, 0, to, np.uint64(0))
            total += 1
        else:
            begins[tokens] = to + 1
            wrap = 2
            while wrap < 2 * tokens:
                wrap *= 2
            for token in range(tokens - n + 1):
                value = _xxh64(text, begins[token], begins[token + n] - 1, np.uint64(0))
                slot = np.int64(value & np.uint64(wrap - 1))
                while seen_in[slot] == place + 1 and seen[slot] != value:
                    slot = slot + 1 & wrap - 1
                if seen_in[slot] != place + 1:
                    seen[slot], seen_in[slot] = value, place + 1
                    values[total] = value
                    total += 1
        counts[place] = total - before
    return total


@compiled
def sort_rows(values: Hashes, offsets: Offsets) -> None:
    for row in range(offsets.size - 1):
        values[offsets[row] : offsets[row + 1]].sort()
