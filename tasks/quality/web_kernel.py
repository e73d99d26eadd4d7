"""The statistics of the web rule sets, compiled: one pass over a text's code points, its words and its lines.

What is counted stands in `web.py`, which is how to call this. All kernels in one file, since numba keeps machine code
by file (see `tasks/kernels/compiled.py`).
"""

import numpy as np
import numpy.typing as npt

from tasks.kernels.compiled import compiled

Bytes = npt.NDArray[np.uint8]
Offsets = npt.NDArray[np.int64]
Points = npt.NDArray[np.int32]
Kinds = npt.NDArray[np.uint16]
Hashes = npt.NDArray[np.uint64]
Packed = npt.NDArray[np.uint64]
Values = npt.NDArray[np.float64]

LIMIT = 0x40000  # code points from here on are of no kind
SPACE, BREAK, ALPHA, LOWER, UPPER, DIGIT = 1, 2, 4, 8, 16, 32
MARK = 64  # a word by itself at either end of a word
OPENING = 128  # a word by itself at the beginning only
QUOTE, SYMBOL, TERMINAL, PUNCTUATION, ICON = 256, 512, 1024, 2048, 4096
CURRENCY = 8192

# columns of the result, in the order of `web.STATISTICS`
WORDS, MEAN_WORD, HASHES, ELLIPSES, BULLETS, ELLIPSIS_ENDS, ALPHA_WORDS, STOP_WORDS = range(8)
DUP_PARAGRAPHS, DUP_PARAGRAPH_CHARS, DUP_LINES, DUP_LINE_CHARS = range(8, 12)
TOP_2, DUP_5 = 12, 15  # top 2-, 3- and 4-grams; duplicate 5- to 10-grams
SENTENCES, LOREM, CURLY = 21, 22, 23
PUNCTUATED, SHORT_LINES, LINE_REPEATS, NEWLINES = 24, 25, 26, 27
N_STATISTICS = 28

_LONG_WORD = 1000
_LINE_WORDS = 3
_SHORT_LINE = 30
_DOT, _NEWLINE, _ELLIPSIS = 0x2E, 0x0A, 0x2026
_K1, _K2, _K3 = (np.uint64(prime) for prime in (0x9E3779B97F4A7C15, 0xC2B2AE3D27D4EB4F, 0x165667B19E3779F9))


@compiled
def _decode(data: Bytes, at: int, end: int, kinds: Kinds, points: Points, what: Kinds) -> int:
    """UTF-8 to code points and what they are; how many."""
    n = 0
    while at < end:
        byte = np.int32(data[at])
        if byte < 0x80:
            point = byte
            at += 1
        elif byte < 0xE0:
            point = (byte & 0x1F) << 6 | (np.int32(data[at + 1]) & 0x3F)
            at += 2
        elif byte < 0xF0:
            point = (byte & 0x0F) << 12 | (np.int32(data[at + 1]) & 0x3F) << 6 | (np.int32(data[at + 2]) & 0x3F)
            at += 3
        else:
            point = (byte & 0x07) << 18 | (np.int32(data[at + 1]) & 0x3F) << 12
            point |= (np.int32(data[at + 2]) & 0x3F) << 6 | (np.int32(data[at + 3]) & 0x3F)
            at += 4
        points[n] = point
        what[n] = kinds[point] if point < LIMIT else np.uint16(0)
        n += 1
    return n


@compiled
def _pack(points: Points, begin: int, end: int) -> np.uint64:
    """Up to 8 ASCII characters as one number; 0 if they are not."""
    if end - begin > 8:
        return np.uint64(0)
    packed = np.uint64(0)
    for i in range(begin, end):
        if points[i] >= 0x80:
            return np.uint64(0)
        packed = packed << np.uint64(8) | np.uint64(points[i])
    return packed


@compiled
def _among(value: np.uint64, values: Packed) -> bool:
    found = False
    for each in values:
        found = found or each == value
    return found


@compiled
def _dots(points: Points, at: int, end: int) -> int:
    """Length of the run of full stops here."""
    run = at
    while run < end and points[run] == _DOT:
        run += 1
    return run - at


@compiled
def _abbreviation(points: Points, what: Kinds, begin: int, end: int, known: Packed) -> bool:
    if points[end - 1] != _DOT or end - begin < 2:
        return False
    if end - begin == 2:
        return bool(what[begin] & LOWER)
    return _among(_pack(points, begin, end), known)


@compiled
def _prefix(points: Points, what: Kinds, begin: int, end: int) -> int:
    """Characters at the beginning that are a word by themselves."""
    kind, point = what[begin], points[begin]
    if kind & (MARK | OPENING):
        return 1
    if point == 0x2B:  # +
        return 0 if begin + 1 < end and what[begin + 1] & DIGIT else 1
    run = _dots(points, begin, end)
    return run if run >= 2 else 0


@compiled
def _suffix(points: Points, what: Kinds, begin: int, end: int, units: Packed) -> int:
    """Characters at the end that are a word by themselves."""
    last, point = what[end - 1], points[end - 1]
    if last & MARK or point == 0x2013 or point == 0x2014:  # dashes
        return 1
    if end - begin < 2:
        return 0
    before = what[end - 2]
    if point == _DOT:
        run = 1
        while end - run > begin and points[end - run - 1] == _DOT:
            run += 1
        if run >= 2:
            return run
        previous = points[end - 2]
        if before & (LOWER | DIGIT | MARK) or previous == 0x25 or previous == 0x2D or previous == 0x2B:
            return 1
        return 1 if end - begin >= 3 and before & UPPER and what[end - 3] & UPPER else 0
    quote = points[end - 2]
    if (point == 0x73 or point == 0x53) and (quote == 0x27 or quote == 0x2019):  # 's
        return 2
    if before & DIGIT and (point == 0x2B or last & CURRENCY):
        return 1
    for length in range(1, 4):
        if end - length - 1 < begin:
            break
        if what[end - length - 1] & DIGIT and _among(_pack(points, end - length, end), units):
            return length
    return 0


@compiled
def _clitic(points: Points, begin: int, end: int) -> int:
    """Length of n't, 'll, 're, 've, 'd or 'm at the end, 0 if there is none."""
    for length in range(2, 4):
        quote = end - length if length == 2 or points[end - 1] != 0x74 else end - 2
        if quote <= begin or (points[quote] != 0x27 and points[quote] != 0x2019):
            continue
        a, b = points[end - 2], points[end - 1]
        if length == 2 and (b == 0x64 or b == 0x6D):
            return 2
        if length == 3:
            if b == 0x74 and points[end - 3] == 0x6E and end - 3 > begin:
                return 3
            if (a == 0x6C and b == 0x6C) or (a == 0x72 and b == 0x65) or (a == 0x76 and b == 0x65):
                return 3
    return 0


@compiled
def _infix(points: Points, what: Kinds, begin: int, at: int, end: int) -> int:
    """Length of the separator here, inside a word; 0 if there is none."""
    point, kind = points[at], what[at]
    if kind & ALPHA or kind & DIGIT:
        return 0
    if kind & ICON or point == _ELLIPSIS:
        return 1
    if point == _DOT:
        run = _dots(points, at, end)
        if run >= 2:
            return run
        joins = begin < at < end - 1 and what[at - 1] & (LOWER | QUOTE) and what[at + 1] & (UPPER | QUOTE)
        return 1 if joins else 0
    if at == begin or at == end - 1:
        return 0
    before, after = what[at - 1], what[at + 1]
    sign = point == 0x2B or point == 0x2D or point == 0x2A or point == 0x5E
    if sign and before & DIGIT and (after & DIGIT or points[at + 1] == 0x2D):
        return 1
    if point == 0x2C:
        return 1 if before & ALPHA and after & ALPHA else 0
    if not before & (ALPHA | DIGIT):
        return 0
    if point == 0x2D or point == 0x2013 or point == 0x2014 or point == 0x7E:
        run = 1
        while run < 3 and at + run < end and points[at + run] == point:
            run += 1
        return run if at + run < end and what[at + run] & ALPHA else 0
    if point == 0x3A or point == 0x3C or point == 0x3D or point == 0x3E or point == 0x2F:
        return 1 if after & ALPHA else 0
    return 0


@compiled
def _is_address(points: Points, begin: int, end: int) -> bool:
    found = end - begin > 4 and points[begin + 3] == _DOT
    for i in range(3):
        found = found and points[begin + i] == 0x77
    for i in range(begin, end - 2):
        found = found or (points[i] == 0x3A and points[i + 1] == 0x2F and points[i + 2] == 0x2F)
    return found


@compiled
def _split(
    points: Points,
    what: Kinds,
    begin: int,
    end: int,
    known: Packed,
    units: Packed,
    begins: Offsets,
    ends: Offsets,
    n: int,
    later: Offsets,
) -> int:
    """Write the words of one run of characters without white space behind the n there are; how many there are then."""
    held, tail = 0, end
    while begin < end and not _abbreviation(points, what, begin, end, known):
        length = _prefix(points, what, begin, end)
        if length:
            begins[n], ends[n] = begin, begin + length
            n += 1
            begin += length
            continue
        length = _suffix(points, what, begin, end, units)
        if not length:
            break
        later[held] = end - length
        held += 1
        end -= length
    if begin < end:
        if _abbreviation(points, what, begin, end, known) or _is_address(points, begin, end):
            begins[n], ends[n] = begin, end
            n += 1
        else:
            cut = _clitic(points, begin, end)
            end -= cut
            start = at = begin
            while at < end:
                length = _infix(points, what, begin, at, end)
                if length == 0:
                    at += 1
                    continue
                if start < at:
                    begins[n], ends[n] = start, at
                    n += 1
                begins[n], ends[n] = at, at + length
                n += 1
                at += length
                start = at
            if start < end:
                begins[n], ends[n] = start, end
                n += 1
            if cut:
                begins[n], ends[n] = end, end + cut
                n += 1
    for i in range(held - 1, -1, -1):
        begins[n], ends[n] = later[i], later[i - 1] if i else tail
        n += 1
    return n


@compiled
def _words(
    points: Points,
    what: Kinds,
    begin: int,
    end: int,
    known: Packed,
    units: Packed,
    begins: Offsets,
    ends: Offsets,
    n: int,
    later: Offsets,
) -> int:
    """Write the words of points[begin:end] behind the n there are; how many there are then."""
    at = begin
    while at < end:
        if what[at] & SPACE:
            at += 1
            continue
        start, plain = at, True
        while at < end and not what[at] & SPACE:
            plain = plain and what[at] & ALPHA != 0
            at += 1
        if plain:
            begins[n], ends[n] = start, at
            n += 1
        else:
            n = _split(points, what, start, at, known, units, begins, ends, n, later)
    return n


@compiled
def _sentences(what: Kinds, begins: Offsets, ends: Offsets, first: int, last: int) -> int:
    """Sentences among words: a new one begins with what follows a closing mark and is no punctuation."""
    if first == last:
        return 0
    count, closed = 1, False
    for word in range(first, last):
        stop = ends[word] - begins[word] == 1 and what[begins[word]] & TERMINAL != 0
        punctuation = True
        for i in range(begins[word], ends[word]):
            if not what[i] & PUNCTUATION:
                punctuation = False
                break
        if closed and not punctuation and not stop:
            count += 1
            closed = False
        elif stop:
            closed = True
    return count


@compiled
def _hash(points: Points, begin: int, end: int) -> np.uint64:
    value, i = _K3 + np.uint64(end - begin), begin
    while i + 3 <= end:  # three code points of 21 bits at once
        three = np.uint64(points[i]) | np.uint64(points[i + 1]) << np.uint64(21)
        value = (value ^ (three | np.uint64(points[i + 2]) << np.uint64(42))) * _K1
        value ^= value >> np.uint64(32)
        i += 3
    while i < end:
        value = (value ^ np.uint64(points[i])) * _K1
        i += 1
    value ^= value >> np.uint64(29)
    return value * _K2


@compiled
def _find(key: np.uint64, keys: Hashes, stamps: Offsets, stamp: int, wrap: int) -> np.int64:
    """Slot of a key; its stamp is another one if the key is new."""
    slot = np.int64(key >> np.uint64(32)) & (wrap - 1)
    while stamps[slot] == stamp and keys[slot] != key:
        slot = slot + 1 & wrap - 1
    return slot


@compiled
def _wrap(n: int) -> int:
    wrap = 4
    while wrap < 2 * n:
        wrap *= 2
    return wrap


@compiled
def _repeated(
    points: Points, begins: Offsets, ends: Offsets, n: int, keys: Hashes, stamps: Offsets, stamp: int
) -> tuple[int, int]:
    """How many of n pieces were there before, and their characters."""
    if n < 2:
        return 0, 0
    count, characters, wrap = 0, 0, _wrap(n)
    for piece in range(n):
        key = _hash(points, begins[piece], ends[piece])
        slot = _find(key, keys, stamps, stamp, wrap)
        if stamps[slot] == stamp:
            count += 1
            characters += ends[piece] - begins[piece]
        else:
            stamps[slot], keys[slot] = stamp, key
    return count, characters


@compiled
def _pieces(points: Points, begin: int, end: int, least: int, begins: Offsets, ends: Offsets) -> int:
    """Cut at every run of at least so many newlines; how many pieces."""
    n, start, at = 0, begin, begin
    while at < end:
        if points[at] != _NEWLINE:
            at += 1
            continue
        run = at
        while at < end and points[at] == _NEWLINE:
            at += 1
        if at - run >= least:
            begins[n], ends[n] = start, run
            n += 1
            start = at
    begins[n], ends[n] = start, end
    return n + 1


@compiled
def _stripped(what: Kinds, begin: int, end: int) -> tuple[int, int]:
    while begin < end and what[begin] & SPACE:
        begin += 1
    while end > begin and what[end - 1] & SPACE:
        end -= 1
    return begin, end


@compiled
def _ngrams(
    begins: Offsets,
    ends: Offsets,
    n_words: int,
    n_chars: int,
    hashes: Hashes,
    grams: Hashes,
    before: Offsets,
    slots: Offsets,
    counts: Offsets,
    places: Offsets,
    keys: Hashes,
    stamps: Offsets,
    stamp: int,
    out: Values,
) -> int:
    """The shares of the most frequent 2- to 4-gram and of repeated 5- to 10-grams; the last stamp used.

    A run of n words can only repeat where its first n - 1 words do, so that each length looks at few places.
    """
    before[0] = 0
    for i in range(n_words):
        before[i + 1] = before[i] + ends[i] - begins[i]
        places[i] = i
        grams[i] = hashes[i]
    candidates = n_words
    for n in range(2, 11):
        stamp += 1
        wrap, kept = _wrap(candidates), 0
        best, best_at = 1, 0
        for c in range(candidates):
            i = places[c]
            if i + n > n_words:
                break
            key = (grams[i] ^ (hashes[i + n - 1] + _K3)) * _K1
            key ^= key >> np.uint64(31)
            grams[i] = key
            slot = _find(key, keys, stamps, stamp, wrap)
            if stamps[slot] != stamp:
                stamps[slot], keys[slot] = stamp, key
                counts[slot] = 0
            counts[slot] += 1
            slots[kept], places[kept] = slot, i
            kept += 1
        repeats = 0
        for c in range(kept):
            count = counts[slots[c]]
            if count < 2:
                continue
            if count > best:
                best, best_at = count, places[c]
            slots[repeats], places[repeats] = slots[c], places[c]
            repeats += 1
        candidates = repeats
        if n <= 4:
            if n_words >= n:
                length = before[best_at + n] - before[best_at] + n - 1
                out[TOP_2 + n - 2] = best * length / n_chars
        else:
            repeated, at = 0, 0
            for c in range(repeats):
                i, slot = places[c], slots[c]
                if i < at:
                    continue
                if counts[slot] > 0:
                    counts[slot] = 0  # seen
                else:
                    repeated += before[i + n] - before[i]
                    at = i + n
            out[DUP_5 + n - 5] = repeated / n_chars
    return stamp


@compiled
def _quality(
    points: Points,
    what: Kinds,
    n_chars: int,
    begins: Offsets,
    ends: Offsets,
    n_words: int,
    stops: Packed,
    out: Values,
) -> None:
    """Words and symbols of the whole text."""
    words, characters, alphabetic = 0, 0, 0
    found, every = np.uint64(0), (np.uint64(1) << np.uint64(stops.size)) - np.uint64(1)
    for word in range(n_words):
        begin, end = begins[word], ends[word]
        symbols, letters, i = True, False, begin
        while i < end and (symbols or not letters):
            symbols = symbols and what[i] & SYMBOL != 0
            letters = letters or what[i] & ALPHA != 0
            i += 1
        if not symbols:
            words += 1
            characters += end - begin
        alphabetic += letters
        if end - begin <= 4 and found != every:
            packed = _pack(points, begin, end)
            for k in range(stops.size):
                if stops[k] == packed:
                    found |= np.uint64(1) << np.uint64(k)
    out[WORDS] = words
    out[STOP_WORDS] = 0
    for k in range(stops.size):
        out[STOP_WORDS] += np.float64(found >> np.uint64(k) & np.uint64(1))
    if words:
        out[MEAN_WORD] = characters / words
    hashes, ellipses, at = 0, 0, 0
    while at < n_chars:
        if points[at] == 0x23:
            hashes += 1
        elif points[at] == _ELLIPSIS:
            ellipses += 1
        elif points[at] == _DOT and at + 2 < n_chars and points[at + 1] == _DOT and points[at + 2] == _DOT:
            ellipses += 1
            at += 2
        at += 1
    if n_words:
        out[HASHES] = hashes / n_words
        out[ELLIPSES] = ellipses / n_words
        out[ALPHA_WORDS] = alphabetic / n_words


@compiled
def _ends_sentence(points: Points, begin: int, end: int) -> bool:
    """Whether a line ends in a full stop, question or exclamation mark or a quotation mark, but not in an ellipsis."""
    if begin == end:
        return False
    last = points[end - 1]
    if last == _DOT:
        return not (end - begin >= 3 and points[end - 2] == _DOT and points[end - 3] == _DOT)
    return bool(last == 0x3F or last == 0x21 or last == 0x22 or last == 0x27)


@compiled
def _phrases(points: Points, begin: int, end: int, phrases: Bytes, cuts: Offsets) -> int:
    """A bit for each lower-case ASCII phrase, of two letters at least, that stands here in any case."""
    found, initials, seconds = 0, 0, 0
    for k in range(cuts.size - 1):
        initials |= 1 << (phrases[cuts[k]] - 0x60)
        seconds |= 1 << (phrases[cuts[k] + 1] - 0x60)
    for at in range(begin, end - 1):
        first, second = points[at] | 0x20, points[at + 1] | 0x20
        if not 0x61 <= first <= 0x7A or not initials >> (first - 0x60) & 1:
            continue
        if not 0x61 <= second <= 0x7A or not seconds >> (second - 0x60) & 1:
            continue
        for k in range(cuts.size - 1):
            if phrases[cuts[k]] != first or at + cuts[k + 1] - cuts[k] > end:
                continue
            same = True
            for j in range(1, cuts[k + 1] - cuts[k]):
                point = points[at + j]
                if 0x41 <= point <= 0x5A:
                    point |= 0x20
                if point != phrases[cuts[k] + j]:
                    same = False
                    break
            if same:
                found |= 1 << k
    return found


@compiled
def _citation(points: Points, at: int, end: int, marks: Bytes, cuts: Offsets) -> int:
    """Length of [], [12], [edit] or [citation needed] here; 0 if there is none."""
    if points[at] != 0x5B:
        return 0
    i = at + 1
    while i < end and 0x30 <= points[i] <= 0x39:
        i += 1
    if i < end and points[i] == 0x5D:
        return i + 1 - at
    for k in range(cuts.size - 1):
        length = int(cuts[k + 1] - cuts[k])
        if at + length > end:
            continue
        same = True
        for j in range(length):
            same = same and points[at + j] == marks[cuts[k] + j]
        if same:
            return length
    return 0


@compiled
def _fineweb(
    points: Points,
    what: Kinds,
    n_chars: int,
    n_words: int,
    begins: Offsets,
    ends: Offsets,
    keys: Hashes,
    stamps: Offsets,
    stamp: int,
    out: Values,
) -> None:
    """Lines of a text that are not blank: how they end, how long they are, which were there before."""
    n, start, newlines, punctuated, short = 0, 0, 0, 0, 0
    for at in range(n_chars + 1):
        if at < n_chars and points[at] != _NEWLINE:
            continue
        newlines += at < n_chars
        begin, end = _stripped(what, start, at)
        if begin < end:
            begins[n], ends[n] = start, at
            n += 1
            punctuated += what[at - 1] & TERMINAL != 0
            short += at - start <= _SHORT_LINE
        start = at + 1
    if n == 0:
        return
    out[PUNCTUATED] = punctuated / n
    out[SHORT_LINES] = short / n
    out[LINE_REPEATS] = _repeated(points, begins, ends, n, keys, stamps, stamp)[1] / (n_chars - newlines)
    if n_words:
        out[NEWLINES] = newlines / n_words


@compiled
def measure(
    data: Bytes,
    rows: Offsets,
    first: int,
    last: int,
    after_c4: bool,
    kinds: Kinds,
    known: Packed,
    units: Packed,
    stops: Packed,
    phrases: Bytes,
    phrase_cuts: Offsets,
    marks: Bytes,
    mark_cuts: Offsets,
    out: Values,
) -> None:
    """Fill out[row - first] for rows first to last; what means nothing stays as it is.

    Args:
        rows: (n_rows + 1,) where each text begins in `data`.
        after_c4: whether the last four statistics are of the lines that C4 keeps, instead of the whole text.
        phrases: of C4: the first empties a page, the others drop a line.
        marks: of citations, which C4 cuts out of a line.
    """
    longest = 0
    for row in range(first, last):
        longest = max(longest, rows[row + 1] - rows[row])
    room = longest + 2
    points, what = np.empty(room, np.int32), np.empty(room, np.uint16)
    kept, kept_what = np.empty(2 * room, np.int32), np.empty(2 * room, np.uint16)
    begins, ends = np.empty(room, np.int64), np.empty(room, np.int64)
    other_begins, other_ends = np.empty(room, np.int64), np.empty(room, np.int64)
    later, places, slots = np.empty(room, np.int64), np.empty(room, np.int64), np.empty(room, np.int64)
    before, hashes, grams = np.empty(room, np.int64), np.empty(room, np.uint64), np.empty(room, np.uint64)
    wrap = _wrap(room)
    keys, counts, stamps = np.empty(wrap, np.uint64), np.empty(wrap, np.int64), np.zeros(wrap, np.int64)
    zero = first - first  # a literal 0 would have every kernel below compiled twice
    stamp = zero
    for row in range(first, last):
        line_out = out[row - first]
        line_out[WORDS], line_out[SENTENCES] = 0, 0
        n_chars = _decode(data, rows[row], rows[row + 1], kinds, points, what)
        if n_chars == 0:
            continue
        line_out[LOREM], line_out[CURLY] = 0, 0
        n_words = n_kept = kept_words = start = zero
        lines, bullets, ellipses = 0, 0, 0
        while start < n_chars:
            stop = start
            while stop < n_chars and not what[stop] & BREAK:
                stop += 1
            first_word = n_words
            n_words = _words(points, what, start, stop, known, units, begins, ends, n_words, later)
            begin, end = _stripped(what, start, stop)
            lines += 1
            if begin < end:
                bullets += points[begin] == 0x2022 or points[begin] == 0x2D
                dots = end - begin >= 3 and points[end - 1] == _DOT
                dots = dots and points[end - 2] == _DOT and points[end - 3] == _DOT
                ellipses += dots or points[end - 1] == _ELLIPSIS
                n_line, run, longest_run = 0, 0, 0
                for i in range(begin, end):
                    run = 0 if what[i] & SPACE else run + 1
                    n_line += run == 1
                    longest_run = max(longest_run, run)
                to, cited, i = n_kept, False, begin
                while i < end:
                    length = _citation(points, i, end, marks, mark_cuts) if points[i] == 0x5B else 0
                    if length:
                        i += length
                        cited = True
                    else:
                        kept[to], kept_what[to] = points[i], what[i]
                        to += 1
                        i += 1
                if longest_run <= _LONG_WORD and n_line >= _LINE_WORDS and _ends_sentence(kept, n_kept, to):
                    found = _phrases(kept, n_kept, to, phrases, phrase_cuts)
                    curly = False
                    for i in range(n_kept, to):
                        curly = curly or kept[i] == 0x7B
                    if found & 1:
                        line_out[LOREM] = 1
                    elif not found & 2 and curly:
                        line_out[CURLY] = 1
                    elif found == 0:
                        if cited:
                            n = _words(kept, kept_what, n_kept, to, known, units, other_begins, other_ends, zero, later)
                            line_out[SENTENCES] += _sentences(kept_what, other_begins, other_ends, zero, n)
                        else:
                            n = n_words - first_word
                            line_out[SENTENCES] += _sentences(what, begins, ends, first_word, n_words)
                        kept_words += n
                        kept[to], kept_what[to] = _NEWLINE, kinds[_NEWLINE]
                        n_kept = to + 1
            start = stop + 1
            if stop + 1 < n_chars and points[stop] == 0x0D and points[stop + 1] == _NEWLINE:
                start += 1
        line_out[BULLETS], line_out[ELLIPSIS_ENDS] = bullets / lines, ellipses / lines
        _quality(points, what, n_chars, begins, ends, n_words, stops, line_out)
        for i in range(n_words):
            hashes[i] = _hash(points, begins[i], ends[i])
        stamp = _ngrams(
            begins, ends, n_words, n_chars, hashes, grams, before, slots, counts, places, keys, stamps, stamp, line_out
        )
        stamp += 1
        begin, end = _stripped(what, zero, n_chars)
        n = _pieces(points, begin, end, 2, begins, ends)
        count, characters = _repeated(points, begins, ends, n, keys, stamps, stamp)
        line_out[DUP_PARAGRAPHS], line_out[DUP_PARAGRAPH_CHARS] = count / n, characters / n_chars
        stamp += 1
        n = _pieces(points, zero, n_chars, 1, begins, ends)
        count, characters = _repeated(points, begins, ends, n, keys, stamps, stamp)
        line_out[DUP_LINES], line_out[DUP_LINE_CHARS] = count / n, characters / n_chars
        stamp += 1
        if not after_c4:
            _fineweb(points, what, n_chars, n_words, begins, ends, keys, stamps, stamp, line_out)
        elif n_kept:
            _fineweb(kept, kept_what, n_kept - 1, kept_words, begins, ends, keys, stamps, stamp, line_out)
