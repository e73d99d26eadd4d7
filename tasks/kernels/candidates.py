"""The walk of `lsh.py`, compiled: chains of candidates, exact Jaccard, first matches.

The table of chains is open addressed: a slot holds key << 32 | link + 1, where link = row * bands + band is the
newest row of the chain, and `before[link]` is the next older link + 1. A key has 32 bits; two bands that share one by
chance cost a look at a row that is no candidate, never a wrong match. All in one file, as `compiled.py` asks.
"""

import math

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
_ODD = np.uint64(0xC2B2AE3D27D4EB4F)
_COUNT_BITS = 22
_STEPS = 12.5  # size classes in a factor of e
_DEEP = 64  # rows in a chain from which a row that meets it counts as deep
_MANY = 256  # kept deep rows from which deep rows ask the prefixes instead
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
def _hang(table: Hashes, used: np.int64, key: np.uint64, link: np.int64) -> tuple[Hashes, np.int64, np.uint64]:
    """Put a link at the head of a key's chain; the table (twice as large once half full), its keys, the older head."""
    slot = _slot(table, key)
    older = table[slot] & _LOW
    if older == 0:
        used += 1
    table[slot] = key << _32 | np.uint64(link + 1)
    if 2 * used > table.size:
        larger = np.zeros(2 * table.size, np.uint64)
        for entry in table:
            if entry != 0:
                larger[_slot(larger, entry >> _32)] = entry
        table = larger
    return table, used, older


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
    misses = np.int64(end - begin - needed)
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
    match: int | np.int64,
    threshold: float,
) -> float:
    """Jaccard of two rows' sets in a field, or 0.0 where it is below the threshold.

    The row's own set is marked once, when first needed (`wraps[field]` is -1 before).
    """
    begin, end = offsets[field, match], offsets[field, match + 1]
    ours, theirs = offsets[field, row + 1] - offsets[field, row], end - begin
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
    """The least Jaccard over the first `jaccard.size` fields, each of which is put there; 0.0 if below threshold."""
    least = 1.0
    for field in range(jaccard.size - 1, -1, -1):
        jaccard[field] = _jaccard(seen, seen_in, wraps, values, offsets, field, row, match, threshold)
        if jaccard[field] < threshold:
            return 0.0
        least = min(least, jaccard[field])
    return least


@compiled
def _from_bands(heads: Int64s, before: Links, bands: int, row: int, met: Int32s, queue: Int64s) -> int:
    """Queue the rows of the chains that begin at the heads, each once; how many."""
    queued = 0
    for head in heads:
        link = head
        while link:
            match = (link - 1) // bands
            link = np.int64(before[link - 1])
            if met[match] != row:
                met[match] = row
                queue[queued] = match
                queued += 1
    return queued


@compiled
def _counts(values: Hashes, offsets: Int64s, checked: int) -> npt.NDArray[np.uint32]:
    """About how often each shingle of a checked field occurs, by the hash's leading bits."""
    counts = np.zeros(1 << _COUNT_BITS, np.uint32)
    for field in range(checked):
        tag = np.uint64(field) * _MIX
        for at in range(offsets[field, 0], offsets[field, offsets.shape[1] - 1]):
            counts[(values[at] ^ tag) >> np.uint64(64 - _COUNT_BITS)] += np.uint32(1)
    return counts


@compiled
def _by_rarity(
    values: Hashes, offsets: Int64s, checked: int, row: int, counts: npt.NDArray[np.uint32], out: Hashes
) -> int:
    """A row's shingles of all checked fields, rarest first, as count << 40 | 40 bits of hash; how many."""
    size = 0
    for field in range(checked):
        tag = np.uint64(field) * _MIX
        for at in range(offsets[field, row], offsets[field, row + 1]):
            value = values[at] ^ tag
            count = min(counts[value >> np.uint64(64 - _COUNT_BITS)], np.uint32(0xFFFFFF))
            out[size] = np.uint64(count) << np.uint64(40) | value & np.uint64(0xFFFFFFFFFF)
            size += 1
    gap = size // 2
    while gap > 0:  # Shell's sort: short, and good enough for a few hundred
        for at in range(gap, size):
            element, to = out[at], at
            while to >= gap and out[to - gap] > element:
                out[to] = out[to - gap]
                to -= gap
            out[to] = element
        gap = gap // 2 if gap == 2 else gap * 5 // 11
    return size


@compiled
def _size_class(size: float) -> int:
    """Sizes by steps of a twelfth."""
    return math.floor(math.log(size) * _STEPS)


@compiled
def _posting_key(element: np.uint64, size_class: int) -> np.uint64:
    return ((element ^ np.uint64(size_class + 1) * _ODD) * _MIX) >> _32


@compiled
def _most_postings(offsets: Int64s, checked: int, threshold: float) -> np.int64:
    """Room for the prefixes of all rows."""
    rows = np.int64(offsets.shape[1] - 1)
    size = np.int64(0)
    for field in range(checked):
        size += offsets[field, rows] - offsets[field, 0]
    return np.int64(size * (1 - threshold) + 2 * rows)


@compiled
def _post(
    table: Hashes,
    used: np.int64,
    postings: Int32s,
    posted: np.int64,
    elements: Hashes,
    size: int,
    threshold: float,
    row: int,
) -> tuple[Hashes, np.int64, np.int64]:
    """Index a row by the rarest of its shingles, as many as the smallest set that it may resemble asks for.

    A posting is row, older posting + 1, size, position; its key holds the row's class of sizes.
    """
    size_class = _size_class(size)
    for position in range(size - math.ceil(threshold * size - _SLACK) + 1):
        table, used, older = _hang(table, used, _posting_key(elements[position], size_class), posted)
        postings[posted, 0], postings[posted, 1] = row, np.int64(older)
        postings[posted, 2], postings[posted, 3] = size, position
        posted += 1
    return table, used, posted


@compiled
def _from_prefixes(
    table: Hashes,
    postings: Int32s,
    elements: Hashes,
    size: int,
    threshold: float,
    row: int,
    met: Int32s,
    queue: Int64s,
) -> int:
    """Queue the rows whose rare shingles meet this row's, each once; how many.

    Two sets of n and m elements reach a Jaccard t only if they share o = t / (1 + t) (n + m); so, both in one order,
    they share an element within the first n - o + 1 of one and m - o + 1 of the other (Chaudhuri et al., ICDE 2006;
    with positions, Xiao et al., PPJoin, WWW 2008). Rarest first, what many rows share is looked up only by rows that
    consist of little else.
    """
    queued = 0
    share = threshold / (1 + threshold)
    for size_class in range(_size_class(size * threshold - _SLACK), _size_class(size / threshold + _SLACK) + 1):
        smallest = max(size * threshold, math.floor(math.exp(size_class / _STEPS)))
        prefix = min(size, size - math.ceil(share * (size + smallest) - _SLACK) + 1)
        for position in range(prefix):
            link = np.int64(table[_slot(table, _posting_key(elements[position], size_class))] & _LOW)
            while link:
                match, theirs, place = postings[link - 1, 0], postings[link - 1, 2], postings[link - 1, 3]
                link = np.int64(postings[link - 1, 1])
                needed = share * (size + theirs) - _SLACK
                if met[match] != row and theirs - place >= needed and size - position >= needed:
                    met[match] = row
                    queue[queued] = match
                    queued += 1
    return queued


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
    table, used = np.zeros(1 << 12, np.uint64), np.int64(0)
    before = np.empty(rows * bands, np.uint32)
    depth = np.empty(rows * bands, np.uint8)  # rows in the chain below and at a link, up to 255
    heads = np.empty(bands, np.int64)
    met, queue = _nothing(rows), np.empty(rows, np.int64)  # the row that last met this one; whom the row meets
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
    kept, n_kept, n_indexed, kept_deep = np.empty(rows, np.int64), 0, 0, 0
    counts, elements = np.empty(0, np.uint32), np.empty(offsets.shape[0] * slots, np.uint64)
    index, indexed = np.zeros(1 << 12, np.uint64), np.int64(0)
    postings, posted = np.empty((0, 4), np.int32), np.int64(0)
    found_pair, found_jaccard = np.empty((1024, 2), np.int32), np.empty((1024, checked), np.float64)
    jaccard = np.empty(checked, np.float64)
    found = 0
    other_label, other_answer = _nothing(rows), _nothing(rows)
    examined = np.zeros(3, np.int64)
    for row in order:
        for field in range(wraps.size):
            wraps[field] = -1
        deep = False
        for band in range(bands):
            heads[band] = np.int64(table[_slot(table, _band_key(signature, row, band, width))] & _LOW)
            deep |= heads[band] > 0 and depth[heads[band] - 1] >= _DEEP
        if deep and kept_deep >= _MANY:
            if not counts.size:
                counts = _counts(values, offsets, checked)
                postings = np.empty((_most_postings(offsets, checked, threshold), 4), np.int32)
            for match in kept[n_indexed:n_kept]:
                size = _by_rarity(values, offsets, checked, match, counts, elements)
                index, indexed, posted = _post(index, indexed, postings, posted, elements, size, threshold, match)
            n_indexed = n_kept
            size = _by_rarity(values, offsets, checked, row, counts, elements)
            examined[2] += 1
            queued = _from_prefixes(index, postings, elements, size, threshold, row, met, queue)
        else:
            queued = _from_bands(heads, before, bands, row, met, queue)
        examined[0] += queued
        alone = True
        for match in queue[:queued]:
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
            if not alone:
                break
        if mode == FIRST_KEPT:
            if not alone:
                other_label[row] = -1
            elif prompt[row] >= 0:
                first = np.int64(first_of[prompt[row]])
                if first < 0:
                    first_of[prompt[row]] = row
                elif _jaccard(seen, seen_in, wraps, values, offsets, answer, row, first, threshold) < threshold:
                    other_answer[row] = first
                    alone = not refuse
        if not alone:
            continue
        kept[n_kept] = row
        n_kept += 1
        kept_deep += deep
        for band in range(bands):
            link = np.int64(row * bands + band)
            table, used, before[link] = _hang(table, used, _band_key(signature, row, band, width), link)
            depth[link] = min(depth[before[link] - 1], 254) + 1 if before[link] else 1
    for row in range(rows):
        group[row] = _root(group, row)
    return found_pair[:found], found_jaccard[:found], group, other_label, other_answer, examined
