"""The walk of `lsh.py`, compiled: chains of candidates, exact Jaccard, first matches.

The table of chains is open addressed: a slot holds key << 32 | link + 1, where link = row * bands + band is the
newest row of the chain, and `before[link]` is the next older link + 1. A key has 32 bits; two bands that share one by
chance cost a look at a row that is no candidate, never a wrong match.
"""

import numpy as np
import numpy.typing as npt

from tasks.kernels.compiled import compiled

FIRST_KEPT, ALL_PAIRS, FOREST = 0, 1, 2

Int32s = npt.NDArray[np.int32]
Int64s = npt.NDArray[np.int64]
Links = npt.NDArray[np.uint32]
Hashes = npt.NDArray[np.uint64]
Signatures = npt.NDArray[np.uint32]
Floats = npt.NDArray[np.float64]

_MIX = np.uint64(0x9E3779B185EBCA87)
_LOW = np.uint64(0xFFFFFFFF)
_32 = np.uint64(32)
_SLACK = 1e-6  # bounds are computed in floating point: never let one cut off what the division would accept


@compiled
def _band_key(signature: Signatures, row: int, band: int, width: int) -> np.uint64:
    """32 bits over a band's values and its number."""
    key = np.uint64(band + 1) * _MIX
    for column in range(band * width, (band + 1) * width):
        key = (key ^ np.uint64(signature[row, column])) * _MIX
        key ^= key >> _32
    return key >> _32


@compiled
def _slot(table: Hashes, key: np.uint64) -> np.int64:
    """Where a key stands, or would stand, in a table of key << 32 | newest link + 1."""
    wrap = table.size - 1
    slot = np.int64(key) & wrap
    while table[slot] != 0 and table[slot] >> _32 != key:
        slot = (slot + 1) & wrap
    return slot


@compiled
def _insert(
    table: Hashes, entries: np.int64, before: Links, signature: Signatures, row: int, width: int
) -> tuple[Hashes, np.int64]:
    """Hang a row into the chains of all its bands; the table, twice as large once half full, and its entries."""
    bands = signature.shape[1] // width
    for band in range(bands):
        key = _band_key(signature, row, band, width)
        slot = _slot(table, key)
        link = row * bands + band
        before[link] = table[slot] & _LOW
        if table[slot] == 0:
            entries += 1
        table[slot] = key << _32 | np.uint64(link + 1)
        if 2 * entries > table.size:
            larger = np.zeros(2 * table.size, np.uint64)
            for old in table:
                if old != 0:
                    larger[_slot(larger, old >> _32)] = old
            table = larger
    return table, entries


@compiled
def _mark(seen: Hashes, seen_in: Int64s, stamp: int, values: Hashes, begin: int, end: int) -> int:
    """Put a set into a hash table under a stamp; the table's wrap."""
    wrap = 2
    while wrap < 2 * (end - begin):
        wrap *= 2
    wrap -= 1
    for at in range(begin, end):
        slot = np.int64(values[at] & np.uint64(wrap))
        while seen_in[slot] == stamp:
            slot = (slot + 1) & wrap
        seen[slot], seen_in[slot] = values[at], stamp
    return wrap


@compiled
def _shared(
    seen: Hashes, seen_in: Int64s, stamp: int, wrap: int, values: Hashes, begin: int, end: int, needed: float
) -> int:
    """How many values of a set are in the marked one; -1 as soon as fewer than needed is certain."""
    misses = np.int64(end - begin - needed) + 1
    hits = 0
    for at in range(begin, end):
        slot = np.int64(values[at] & np.uint64(wrap))
        while seen_in[slot] == stamp and seen[slot] != values[at]:
            slot = (slot + 1) & wrap
        if seen_in[slot] == stamp:
            hits += 1
        else:
            misses -= 1
            if misses < 0:
                return -1
    return hits


@compiled
def _root(parent: Int32s, row: int) -> int:
    while parent[row] != row:
        parent[row] = parent[parent[row]]
        row = parent[row]
    return row


@compiled
def _unite(parent: Int32s, one: int, two: int) -> None:
    """Join two rows' groups under the smaller root."""
    one, two = _root(parent, one), _root(parent, two)
    parent[max(one, two)] = min(one, two)


@compiled
def _largest(offsets: Int64s) -> int:
    """The size of the largest set."""
    largest = 0
    for field in range(offsets.shape[0]):
        for row in range(offsets.shape[1] - 1):
            largest = max(largest, offsets[field, row + 1] - offsets[field, row])
    return largest


@compiled
def _nothing(rows: int) -> Int32s:
    """-1 for each row."""
    out = np.empty(rows, np.int32)
    for row in range(rows):
        out[row] = -1
    return out


@compiled
def _longer(pairs: Int32s, jaccard: Floats) -> tuple[Int32s, Floats]:
    """The same lines with room for twice as many."""
    more_pairs = np.empty((2 * pairs.shape[0], 2), np.int32)
    more_jaccard = np.empty((2 * pairs.shape[0], jaccard.shape[1]), np.float64)
    for line in range(pairs.shape[0]):
        more_pairs[line, 0], more_pairs[line, 1] = pairs[line, 0], pairs[line, 1]
        for field in range(jaccard.shape[1]):
            more_jaccard[line, field] = jaccard[line, field]
    return more_pairs, more_jaccard


@compiled
def _may_reach(offsets: Int64s, checked: int, row: int, match: int, threshold: float) -> bool:
    """Whether the sizes allow the threshold: Jaccard is at most the smaller size over the larger."""
    for field in range(checked):
        ours = offsets[field, row + 1] - offsets[field, row]
        theirs = offsets[field, match + 1] - offsets[field, match]
        if min(ours, theirs) < threshold * max(ours, theirs) - _SLACK:
            return False
    return True


@compiled
def _jaccard(
    seen: Hashes,
    seen_in: Int64s,
    wraps: Int64s,
    values: Hashes,
    offsets: Int64s,
    field: int,
    row: int,
    match: int,
    threshold: float,
) -> float:
    """Jaccard of two rows' sets in a field, or 0.0 where it is below the threshold; two empty sets are equal.

    The row's own set is marked once, when first needed (`wraps[field]` is -1 before).
    """
    begin, end = offsets[field, match], offsets[field, match + 1]
    ours, theirs = offsets[field, row + 1] - offsets[field, row], end - begin
    if ours == 0 or theirs == 0:
        return 1.0 if ours == theirs else 0.0
    if wraps[field] < 0:
        wraps[field] = _mark(seen[field], seen_in[field], row + 1, values, offsets[field, row], offsets[field, row + 1])
    needed = threshold / (1 + threshold) * (ours + theirs) - _SLACK
    hits = _shared(seen[field], seen_in[field], row + 1, wraps[field], values, begin, end, needed)
    return hits / (ours + theirs - hits) if hits >= 0 else 0.0


@compiled
def _similar(
    seen: Hashes,
    seen_in: Int64s,
    wraps: Int64s,
    values: Hashes,
    offsets: Int64s,
    row: int,
    match: int,
    threshold: float,
    jaccard: Floats,
) -> float:
    """The least Jaccard over the first `jaccard.size` fields, each of which is put there; 0.0 if below the threshold."""
    least = 1.0
    for field in range(jaccard.size - 1, -1, -1):
        jaccard[field] = _jaccard(seen, seen_in, wraps, values, offsets, field, row, match, threshold)
        if jaccard[field] < threshold:
            return 0.0
        least = min(least, jaccard[field])
    return least


@compiled
def walk_rows(
    mode: int,
    values: Hashes,
    offsets: Int64s,
    checked: int,
    signature: Signatures,
    width: int,
    threshold: float,
    order: Int64s,
    kind: Int32s,
    label: Int32s,
    prompt: Int32s,
    answer: int,
    refuse: bool,
) -> tuple[Int32s, Floats, Int32s, Int32s, Int32s, Int64s]:
    """The arguments and results are those of `lsh.walk`, as arrays.

    Args:
        values: the sets of all fields, one after the other.
        offsets: (n_fields, n_rows + 1) where the set of a field and row begins in `values`.
        signature: (n_rows, bands * width).
    """
    rows = offsets.shape[1] - 1
    bands = signature.shape[1] // width
    table, entries = np.zeros(1 << 12, np.uint64), np.int64(0)
    before = np.empty(rows * bands, np.uint32)
    heads = np.empty(bands, np.int64)
    met = _nothing(rows)  # the row that last met this one
    slots = 2
    while slots < 2 * _largest(offsets):
        slots *= 2
    seen = np.empty((offsets.shape[0], slots), np.uint64)
    seen_in = np.zeros((offsets.shape[0], slots), np.int64)  # the row + 1 that a slot was last used by
    wraps = np.empty(offsets.shape[0], np.int64)
    group = _nothing(rows)
    for row in range(rows):
        group[row] = row
    first_of = _nothing(rows)  # prompt -> its first kept row
    found_pair, found_jaccard = np.empty((1024, 2), np.int32), np.empty((1024, checked), np.float64)
    jaccard = np.empty(checked, np.float64)
    found = 0
    other_label, other_answer = _nothing(rows), _nothing(rows)
    examined = np.zeros(2, np.int64)
    for row in order:
        for field in range(wraps.size):
            wraps[field] = -1
        for band in range(bands):  # read all heads first: independent reads overlap
            heads[band] = np.int64(table[_slot(table, _band_key(signature, row, band, width))] & _LOW)
        alone = True
        for band in range(bands):
            link = heads[band]
            while link and alone:
                match = (link - 1) // bands
                link = np.int64(before[link - 1])
                if met[match] == row:
                    continue
                met[match] = row
                examined[0] += 1
                if kind[match] != kind[row] or (mode == FOREST and _root(group, match) == _root(group, row)):
                    continue
                if not _may_reach(offsets, checked, row, match, threshold):
                    continue
                examined[1] += 1
                least = _similar(seen, seen_in, wraps, values, offsets, row, match, threshold, jaccard)
                if least < threshold:
                    continue
                if label[match] != label[row]:
                    if label[match] >= 0 and label[row] >= 0:
                        other_label[row] = match
                    continue
                if found == found_pair.shape[0]:
                    found_pair, found_jaccard = _longer(found_pair, found_jaccard)
                found_pair[found, 0], found_pair[found, 1] = row, match
                for field in range(checked):
                    found_jaccard[found, field] = jaccard[field]
                found += 1
                if mode == FOREST:
                    _unite(group, row, match)
                alone = mode == ALL_PAIRS or (mode == FOREST and least < 1.0)
        if mode == FIRST_KEPT:
            if not alone:
                other_label[row] = -1
            elif prompt[row] >= 0:
                first = first_of[prompt[row]]
                if first < 0:
                    first_of[prompt[row]] = row
                elif _jaccard(seen, seen_in, wraps, values, offsets, answer, row, first, threshold) < threshold:
                    other_answer[row] = first
                    alone = not refuse
        if alone:
            table, entries = _insert(table, entries, before, signature, row, width)
    for row in range(rows):
        group[row] = _root(group, row)
    return found_pair[:found], found_jaccard[:found], group, other_label, other_answer, examined
