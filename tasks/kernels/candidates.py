"""The walk of `lsh.py`, compiled: chains of candidates, exact Jaccard, first matches.

Rows come in blocks. What a later row may be matched to is held: its sets one behind the other in `Held.values`, its
place in the order of holding is its number here. A row is written there before it is judged; one that is not to be
held is written over by the next.

The table of chains is open addressed: a slot holds key << 32 | link + 1, where link = held row * bands + band is the
newest row of the chain, and `before[link]` is the next older link + 1. A key has 32 bits; two bands that share one by
chance cost a look at a row that is no candidate, never a wrong match. All in one file, as `compiled.py` asks.
"""

import math
from typing import NamedTuple

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

HELD, HANGING, COUNTED, INDEXED, KEYS, POSTED, RENT, LARGEST = range(8)  # places in `Held.tally`
MET, COMPARED, CROWDED, TOUCHED = 8, 9, 10, 11
TALLY = 12

_MIX = np.uint64(0x9E3779B185EBCA87)
_LOW = np.uint64(0xFFFFFFFF)
_32 = np.uint64(32)
_ODD = np.uint64(0xC2B2AE3D27D4EB4F)
_COUNT_BITS = 22
_STEPS = 12.5  # size classes in a factor of e
_DEEP = 64  # rows in a chain from which a row that meets it counts as deep
_RENT = 64  # candidates that cost as much as indexing a row
_SLACK = 1e-6  # bounds are computed in floating point: never let one cut off what the division would accept


class Held(NamedTuple):
    """Rows that others may be matched to, with room for more; all but the last four by held row.

    Attributes:
        values: the sets, a row's fields one behind the other.
        begins: (room, n_fields + 1) where each begins in `values`, and where the row ends.
        row: its number among all rows.
        kind, label: those of the row.
        met: the row + 1 that last met this one.
        queue: room for the held rows that a row meets.
        before: (room * bands,) older links + 1.
        depth: (room * bands,) rows in the chain below and at a link, up to 255.
        first_of: prompt -> its first held row + 1.
        group: of all rows, see `lsh.Walked`; so are the next two.
        other_label: one that a row resembles but for the label.
        other_answer: one that answers a row's prompt otherwise.
        tally: counts that go on from block to block.
    """

    values: Hashes
    begins: Int64s
    row: Int64s
    kind: Int32s
    label: Int32s
    met: Int64s
    queue: Int64s
    before: Links
    depth: npt.NDArray[np.uint8]
    first_of: Int32s
    group: Int32s
    other_label: Int32s
    other_answer: Int32s
    tally: Int64s


class Lookup(NamedTuple):
    """What is looked up by hash, replaced as it grows.

    Attributes:
        table: of chains.
        counts: about how often each shingle occurred when the index was last made.
        prefixes: of chains of postings, built as `table`.
        postings: (room, 4) row, older posting + 1, size, position.
    """

    table: Hashes
    counts: Links
    prefixes: Hashes
    postings: Int32s


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
    """Put a link at the head of its key's chain; the table (doubled at three quarters), its keys, the older head."""
    slot = _slot(table, key)
    older = table[slot] & _LOW
    if older == 0:
        used += 1
    table[slot] = key << _32 | np.uint64(link + 1)
    if 4 * used > 3 * table.size:
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
def _may_reach(begins: Int64s, checked: int, row: int, match: int, threshold: float) -> bool:
    """Whether the sizes allow the threshold: Jaccard is at most the smaller size over the larger."""
    for field in range(checked):
        ours = begins[row, field + 1] - begins[row, field]
        theirs = begins[match, field + 1] - begins[match, field]
        if min(ours, theirs) < threshold * max(ours, theirs) - _SLACK:
            return False
    return True


@compiled
def _jaccard(
    seen: Hashes, seen_in: Int64s, wraps: Int64s, held: Held, field: int, row: int, match: int, threshold: float
) -> float:
    """Jaccard of two held rows' sets in a field, or 0.0 where it is below the threshold.

    The row's own set is marked once, when first needed (`wraps[field]` is -1 before), under `seen_in[field, -1]`.
    """
    begins = held.begins
    begin, end = begins[match, field], begins[match, field + 1]
    ours, theirs = begins[row, field + 1] - begins[row, field], end - begin
    stamp = int(seen_in[field, -1])
    if wraps[field] < 0:
        wraps[field] = _mark(
            seen[field], seen_in[field], stamp, held.values, begins[row, field], begins[row, field + 1]
        )
    needed = threshold / (1 + threshold) * (ours + theirs) - _SLACK
    hits = _shared(seen[field], seen_in[field], stamp, wraps[field], held.values, begin, end, needed)
    return hits / (ours + theirs - hits) if hits >= 0 else 0.0


@compiled
def _similar(
    seen: Hashes, seen_in: Int64s, wraps: Int64s, held: Held, row: int, match: int, threshold: float, jaccard: Floats
) -> float:
    """The least Jaccard over the first `jaccard.size` fields, each of which is put there; 0.0 if below threshold."""
    least = 1.0
    for field in range(jaccard.size - 1, -1, -1):
        jaccard[field] = _jaccard(seen, seen_in, wraps, held, field, row, match, threshold)
        if jaccard[field] < threshold:
            return 0.0
        least = min(least, jaccard[field])
    return least


@compiled
def _from_bands(heads: Int64s, held: Held, bands: int, stamp: int) -> int:
    """Queue the rows of the chains that begin at the heads, each once; how many."""
    queued = 0
    for head in heads:
        link = head
        while link:
            match = (link - 1) // bands
            link = np.int64(held.before[link - 1])
            if held.met[match] != stamp:
                held.met[match] = stamp
                held.queue[queued] = match
                queued += 1
    return queued


@compiled
def _counts(held: Held, rows: int, checked: int) -> Links:
    """About how often each shingle of a checked field occurs in the first held rows, by the hash's leading bits."""
    counts = np.zeros(1 << _COUNT_BITS, np.uint32)
    for row in range(rows):
        for field in range(checked):
            tag = np.uint64(field) * _MIX
            for at in range(held.begins[row, field], held.begins[row, field + 1]):
                counts[(held.values[at] ^ tag) >> np.uint64(64 - _COUNT_BITS)] += np.uint32(1)
    return counts


@compiled
def _by_rarity(held: Held, checked: int, row: int, counts: Links, out: Hashes) -> int:
    """A row's shingles of all checked fields, rarest first, as count << 40 | 40 bits of hash; how many."""
    size = 0
    for field in range(checked):
        tag = np.uint64(field) * _MIX
        for at in range(held.begins[row, field], held.begins[row, field + 1]):
            value = held.values[at] ^ tag
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
def _post(lookup: Lookup, tally: Int64s, elements: Hashes, size: int, threshold: float, row: int) -> Lookup:
    """Index a row by the rarest of its shingles, as many as the smallest set that it may resemble asks for.

    The key of a posting holds the row's class of sizes.
    """
    index, postings, keys, posted = lookup.prefixes, lookup.postings, tally[KEYS], tally[POSTED]
    size_class, prefix = _size_class(size), size - math.ceil(threshold * size - _SLACK) + 1
    while posted + prefix > postings.shape[0]:
        more = np.empty((max(4096, 2 * postings.shape[0]), 4), np.int32)
        for old in range(posted):  # a slice would be checked for its shape, which takes seconds to compile
            for part in range(4):
                more[old, part] = postings[old, part]
        postings = more
    for position in range(prefix):
        index, keys, older = _hang(index, keys, _posting_key(elements[position], size_class), posted)
        postings[posted, 0], postings[posted, 1] = row, np.int64(older)
        postings[posted, 2], postings[posted, 3] = size, position
        posted += 1
    tally[KEYS], tally[POSTED] = keys, posted
    return Lookup(lookup.table, lookup.counts, index, postings)


@compiled
def _from_prefixes(lookup: Lookup, elements: Hashes, size: int, threshold: float, held: Held, stamp: int) -> int:
    """Queue the rows whose rare shingles meet this row's, each once; how many.

    Two sets of n and m elements reach a Jaccard t only if they share o = t / (1 + t) (n + m); so, both in one order,
    they share an element within the first n - o + 1 of one and m - o + 1 of the other (Chaudhuri et al., ICDE 2006;
    with positions, Xiao et al., PPJoin, WWW 2008). Rarest first, what many rows share is looked up only by rows that
    consist of little else.
    """
    queued, postings = 0, lookup.postings
    share = threshold / (1 + threshold)
    for size_class in range(_size_class(size * threshold - _SLACK), _size_class(size / threshold + _SLACK) + 1):
        smallest = max(size * threshold, math.floor(math.exp(size_class / _STEPS)))
        prefix = min(size, size - math.ceil(share * (size + smallest) - _SLACK) + 1)
        for position in range(prefix):
            key = _posting_key(elements[position], size_class)
            link = np.int64(lookup.prefixes[_slot(lookup.prefixes, key)] & _LOW)
            while link:
                match, theirs, place = postings[link - 1, 0], postings[link - 1, 2], postings[link - 1, 3]
                link = np.int64(postings[link - 1, 1])
                needed = share * (size + theirs) - _SLACK
                if held.met[match] != stamp and theirs - place >= needed and size - position >= needed:
                    held.met[match] = stamp
                    held.queue[queued] = match
                    queued += 1
    return queued


@compiled
def _missing(tally: Int64s) -> int:
    """How many rows the index of rare shingles has to take in before it can be asked.

    Rows that meet many candidates look at all of them until that has cost as much as the index would: so neither a few
    crowded keys among a million rows nor many of them cost more than twice what they must.
    """
    return int(tally[HELD] - tally[INDEXED])


@compiled
def _indexed(lookup: Lookup, held: Held, checked: int, threshold: float, elements: Hashes) -> Lookup:
    """All held rows in the index of rare shingles; made anew each time that they have doubled, as what is rare may not
    stay so."""
    tally = held.tally
    tally[RENT] -= _RENT * _missing(tally)
    if not lookup.counts.size or tally[HELD] >= 2 * tally[COUNTED]:
        counts = _counts(held, tally[HELD], checked)
        lookup = Lookup(lookup.table, counts, np.zeros(1 << 12, np.uint64), lookup.postings)
        tally[COUNTED], tally[INDEXED], tally[KEYS], tally[POSTED] = tally[HELD], 0, 0, 0
    for match in range(tally[INDEXED], tally[HELD]):
        size = _by_rarity(held, checked, match, lookup.counts, elements)
        lookup = _post(lookup, tally, elements, size, threshold, match)
    tally[INDEXED] = tally[HELD]
    return lookup


@compiled
def _write(held: Held, values: Hashes, offsets: Int64s, row: int, place: int) -> None:
    """Copy a row's sets into its place."""
    to = held.begins[place, 0]
    for field in range(offsets.shape[0]):
        for at in range(offsets[field, row], offsets[field, row + 1]):
            held.values[to] = values[at]
            to += 1
        held.begins[place, field + 1] = to


@compiled
def _touch(table: Hashes, signature: Signatures, row: int, width: int, keys: Hashes) -> np.int64:
    """The keys of a row; and their slots read, all at once and a row ahead, so that the caches have them when they are
    needed: in a large table each would wait for memory."""
    wrap, seen = table.size - 1, np.uint64(0)
    for band in range(keys.size):
        keys[band] = _band_key(signature, row, band, width)
        seen ^= table[np.int64(keys[band]) & wrap]
    return np.int64(seen)


@compiled
def _widest(offsets: Int64s) -> int:
    """Shingles of the row that has most, all fields together."""
    widest = 0
    for row in range(offsets.shape[1] - 1):
        size = 0
        for field in range(offsets.shape[0]):
            size += offsets[field, row + 1] - offsets[field, row]
        widest = max(widest, size)
    return widest


@compiled
def walk_block(
    mode: int,
    held: Held,
    lookup: Lookup,
    values: Hashes,
    offsets: Int64s,
    rows: Int64s,
    checked: int,
    signature: Signatures,
    width: int,
    threshold: float,
    kind: Int32s,
    label: Int32s,
    prompt: Int32s,
    answer: int,
    refuse: bool,
    given: bool,
) -> tuple[Lookup, Int32s, Floats]:
    """Walk a block of rows; the arguments are those of `lsh.Walk`, as arrays.

    Args:
        held: with room for the whole block.
        values: the sets of all fields, one after the other.
        offsets: (n_fields, n_block + 1) where the set of a field and row begins in `values`.
        rows: (n_block,) the numbers of the rows among all; so of each array below a value a row of the block.

    Returns:
        the lookup, and the pairs found with the Jaccard of their checked fields.
    """
    bands, tally = signature.shape[1] // width, held.tally
    all_keys = np.empty((2, bands), np.uint64)  # of this row and the next
    heads = np.empty(bands, np.int64)
    widest = _widest(offsets)
    tally[LARGEST] = max(tally[LARGEST], widest)
    slots = 2
    while slots < 2 * widest:
        slots *= 2
    seen = np.empty((offsets.shape[0], slots), np.uint64)
    seen_in = np.zeros((offsets.shape[0], slots + 1), np.int64)  # the stamp that a slot was last used by; the stamp
    wraps = np.empty(offsets.shape[0], np.int64)
    elements = np.empty(tally[LARGEST], np.uint64)
    found_pair, found_jaccard = np.empty((1024, 2), np.int32), np.empty((1024, checked), np.float64)
    jaccard = np.empty(checked, np.float64)
    found = 0
    for i in range(-1, rows.size):
        if i + 1 < rows.size:
            tally[TOUCHED] ^= _touch(lookup.table, signature, i + 1, width, all_keys[(i + 1) % 2])
        if i < 0:
            continue
        keys_of_row = all_keys[i % 2]
        row, place, stamp = rows[i], tally[HELD], rows[i] + 1
        _write(held, values, offsets, i, place)
        held.kind[place], held.label[place], held.row[place] = kind[i], label[i], row
        wraps[:] = -1
        seen_in[:, -1] = stamp
        deep = False
        for band in range(bands):
            heads[band] = np.int64(lookup.table[_slot(lookup.table, keys_of_row[band])] & _LOW)
            deep |= heads[band] > 0 and held.depth[heads[band] - 1] >= _DEEP
        queued = 0
        if not given:
            if deep and tally[RENT] >= _RENT * _missing(tally):
                lookup = _indexed(lookup, held, checked, threshold, elements)
                size = _by_rarity(held, checked, place, lookup.counts, elements)
                tally[CROWDED] += 1
                queued = _from_prefixes(lookup, elements, size, threshold, held, stamp)
            else:
                queued = _from_bands(heads, held, bands, stamp)
                tally[RENT] += queued if deep else 0
        tally[MET] += queued
        alone = True
        for match in held.queue[:queued]:
            other = held.row[match]
            if held.kind[match] != kind[i] or (mode == FOREST and _root(held.group, other) == _root(held.group, row)):
                continue
            if not _may_reach(held.begins, checked, place, match, threshold):
                continue
            tally[COMPARED] += 1
            least = _similar(seen, seen_in, wraps, held, place, match, threshold, jaccard)
            if least < threshold:
                continue
            if held.label[match] != label[i]:
                if held.label[match] >= 0 and label[i] >= 0:
                    held.other_label[row] = other
                continue
            if found == found_pair.shape[0]:
                found_pair, found_jaccard = _longer(found_pair, found_jaccard)
            found_pair[found, 0], found_pair[found, 1] = row, other
            for field in range(checked):
                found_jaccard[found, field] = jaccard[field]
            found += 1
            if mode == FOREST:
                _unite(held.group, row, other)
            alone = mode == ALL_PAIRS or (mode == FOREST and least < 1.0)
            if not alone:
                break
        if mode == FIRST_KEPT:
            if not alone:
                held.other_label[row] = -1
            elif prompt[i] >= 0:
                first = int(held.first_of[prompt[i]]) - 1
                if first < 0:
                    held.first_of[prompt[i]] = place + 1
                elif not given and _jaccard(seen, seen_in, wraps, held, answer, place, first, threshold) < threshold:
                    held.other_answer[row] = held.row[first]
                    alone = not refuse
        if not alone:
            continue
        tally[HELD] += 1
        held.begins[place + 1, 0] = held.begins[place, offsets.shape[0]]
        table, keys = lookup.table, tally[HANGING]
        for band in range(bands):
            link = np.int64(place * bands + band)
            table, keys, older = _hang(table, keys, keys_of_row[band], link)
            held.before[link] = older
            held.depth[link] = min(held.depth[older - np.uint64(1)], 254) + 1 if older else 1
        tally[HANGING] = keys
        lookup = Lookup(table, lookup.counts, lookup.prefixes, lookup.postings)
    return lookup, found_pair[:found], found_jaccard[:found]
