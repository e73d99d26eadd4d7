"""Where one text stands inside another, word for word or lightly edited; compiled over hashed tokens.

A copy with one token in ten replaced keeps 43 % of its 8-grams, but 73 % of its trigrams, and every kept trigram stands
where it stood: so trigrams find the place, and the tokens between two of them are then compared one by one. What is
counted is tokens, not n-grams, so an edit costs the one token that it changed.
"""

import numpy as np
import numpy.typing as npt

from tasks.kernels.compiled import compiled
from tasks.kernels.tokens import Hashes, Offsets

Numbers = npt.NDArray[np.int32]
Weights = npt.NDArray[np.float64]

_REPEATS = 4  # places of one n-gram in a part that are looked at; comparing tokens one by one finds the others
_A, _B = np.uint64(0x9E3779B97F4A7C15), np.uint64(0xD6E8FEB86659FD93)


@compiled
def _gram(tokens: Hashes, at: int, n: int) -> np.uint64:
    """The hash of n tokens from a place on; never 0."""
    value = np.uint64(n)
    for token in tokens[at : at + n]:
        value = (value ^ token) * _A
        value ^= value >> np.uint64(29)
    return (value * _B) | np.uint64(1)


@compiled
def grams(tokens: Hashes, offsets: Offsets, n: int) -> Hashes:
    """The hash of the n tokens from each place on; 0 where the text ends before."""
    found = np.zeros(tokens.size, np.uint64)
    for row in range(offsets.size - 1):
        for at in range(offsets[row], offsets[row + 1] - n + 1):
            found[at] = _gram(tokens, at, n)
    return found


@compiled
def slots_of(keys: Hashes) -> tuple[Hashes, Numbers]:
    """An open hash table over distinct keys: the keys by slot (0: free), and their positions."""
    size = 16
    while size < 2 * keys.size:
        size *= 2
    table, place = np.zeros(size, np.uint64), np.zeros(size, np.int32)
    for number in range(keys.size):
        slot = np.int64(keys[number] >> np.uint64(20)) & (size - 1)
        while table[slot]:
            slot = (slot + 1) & (size - 1)
        table[slot], place[slot] = keys[number], number
    return table, place


@compiled
def _find(table: Hashes, place: Numbers, key: np.uint64) -> np.int64:
    """The position of a key, or -1."""
    slot = np.int64(key >> np.uint64(20)) & (table.size - 1)
    while table[slot]:
        if table[slot] == key:
            return np.int64(place[slot])
        slot = (slot + 1) & (table.size - 1)
    return np.int64(-1)


@compiled
def count_groups(
    tokens: Hashes,
    offsets: Offsets,
    groups: Offsets,
    n: int,
    table: Hashes,
    place: Numbers,
    last: Offsets,
    count: Numbers,
) -> None:
    """Count for each n-gram of the table in how many groups it stands.

    Rows of a group stand side by side; `last` (the group that an n-gram was last seen in) and `count` go on from call
    to call.
    """
    for row in range(offsets.size - 1):
        for at in range(offsets[row], offsets[row + 1] - n + 1):
            found = _find(table, place, _gram(tokens, at, n))
            if found >= 0 and last[found] != groups[row]:
                last[found] = groups[row]
                count[found] += 1


@compiled
def candidates(
    tokens: Hashes,
    offsets: Offsets,
    first: int,
    end: int,
    n: int,
    table: Hashes,
    place: Numbers,
    starts: Offsets,
    owners: Numbers,
    needed: Numbers,
) -> tuple[list[np.int64], list[np.int64]]:
    """Rows and parts that share enough n-grams: (rows, parts).

    Args:
        starts: where the owners of each n-gram begin.
        owners: parts that have the n-gram.
        needed: n-grams that a part must share with a row.
    """
    count = np.zeros(needed.size, np.int32)
    touched = np.empty(needed.size, np.int32)
    seen = np.full(starts.size - 1, -1, np.int64)
    rows, parts = [np.int64(0) for _ in range(0)], [np.int64(0) for _ in range(0)]
    for row in range(first, end):
        used = 0
        for at in range(offsets[row], offsets[row + 1] - n + 1):
            found = _find(table, place, _gram(tokens, at, n))
            if found < 0 or seen[found] == row:
                continue
            seen[found] = row
            for each in range(starts[found], starts[found + 1]):
                part = owners[each]
                if count[part] == 0:
                    touched[used] = part
                    used += 1
                count[part] += 1
        touched[:used].sort()
        for each in range(used):
            part = touched[each]
            if count[part] >= needed[part]:
                rows.append(np.int64(row))
                parts.append(np.int64(part))
            count[part] = 0
    return rows, parts


@compiled
def verbatim(
    tokens: Hashes,
    offsets: Offsets,
    first: int,
    end: int,
    n: int,
    table: Hashes,
    place: Numbers,
    starts: Offsets,
    owners: Numbers,
    anchors: Offsets,
    parts: Hashes,
    begins: Offsets,
) -> tuple[list[np.int64], list[np.int64]]:
    """Rows in which both parts of an item stand word for word: (rows, items).

    Args:
        starts: where the owners of each n-gram begin.
        owners: parts that are looked for where the n-gram stands; the other part of the item may stand anywhere.
        anchors: (n_parts,) where in the part that n-gram stands.
        parts, begins: tokens of the parts, and where each part begins.
    """
    rows, items = [np.int64(0) for _ in range(0)], [np.int64(0) for _ in range(0)]
    for row in range(first, end):
        for at in range(offsets[row], offsets[row + 1] - n + 1):
            found = _find(table, place, _gram(tokens, at, n))
            if found < 0:
                continue
            for each in range(starts[found], starts[found + 1]):
                part = owners[each]
                start = at - anchors[part]
                if start < offsets[row] or not _stands(tokens, start, offsets[row + 1], parts, begins, part):
                    continue
                for other in range(offsets[row], offsets[row + 1] + 1):
                    if _stands(tokens, other, offsets[row + 1], parts, begins, part ^ 1):
                        rows.append(np.int64(row))
                        items.append(np.int64(part // 2))
                        break
    return rows, items


@compiled
def _stands(tokens: Hashes, at: int, end: int, parts: Hashes, begins: Offsets, part: int) -> bool:
    """Whether a part stands at a place of a row that ends there."""
    size = begins[part + 1] - begins[part]
    same = 0
    while same < size and at + size <= end and tokens[at + same] == parts[begins[part] + same]:
        same += 1
    return bool(same == size and at + size <= end)


@compiled
def _found_by_grams(row: Hashes, part: Hashes, n: int, width: int) -> Offsets:
    """Where each token of a part stands in the stretch of a row that has most of the part's n-grams; -1: not there."""
    size = part.size - n + 1
    slots = 16
    while slots < 2 * size:
        slots *= 2
    keys = np.empty(size, np.uint64)
    head, chain = np.full(slots, -1, np.int32), np.full(size, -1, np.int32)
    for at in range(size):
        keys[at] = _gram(part, at, n)
        slot = np.int64(keys[at] >> np.uint64(20)) & (slots - 1)
        same, place = 0, head[slot]
        while place >= 0:
            same += keys[place] == keys[at]
            place = chain[place]
        if same < _REPEATS:
            chain[at], head[slot] = head[slot], at
    where, what = [np.int64(0) for _ in range(0)], [np.int64(0) for _ in range(0)]  # hits, in the order of the row
    for at in range(row.size - n + 1):
        key = _gram(row, at, n)
        place = head[np.int64(key >> np.uint64(20)) & (slots - 1)]
        while place >= 0:
            if keys[place] == key:
                where.append(np.int64(at))
                what.append(np.int64(place))
            place = chain[place]
    inside = np.zeros(size, np.int32)
    best, best_from, best_to, have, begin = 0, 0, 0, 0, 0
    for end in range(len(where)):
        have += inside[what[end]] == 0
        inside[what[end]] += 1
        while where[end] - where[begin] > width:
            inside[what[begin]] -= 1
            have -= inside[what[begin]] == 0
            begin += 1
        if have > best:
            best, best_from, best_to = have, begin, end + 1
    stands = np.full(part.size, -1, np.int64)
    for hit in range(best_from, best_to):
        for k in range(n):
            stands[what[hit] + k] = where[hit] + k
    return stands


@compiled
def _extend(row: Hashes, part: Hashes, stands: Offsets, step: int) -> None:
    """Find more tokens: those that stand where they must if nothing was put in or left out since the last one found."""
    expected = np.int64(-1)
    at = 0 if step > 0 else part.size - 1
    while 0 <= at < part.size:
        if stands[at] >= 0:
            expected = stands[at]
        elif expected >= 0:
            expected += step
            if 0 <= expected < row.size and row[expected] == part[at]:
                stands[at] = expected
        at += step


@compiled
def align(
    tokens: Hashes,
    offsets: Offsets,
    parts: Hashes,
    begins: Offsets,
    bits: Weights,
    rarity: Weights,
    pair_rows: Offsets,
    pair_parts: Offsets,
    widths: Offsets,
    brief: npt.NDArray[np.bool_],
    n: int,
    out: Weights,
) -> None:
    """How much of a part stands in a row, within one stretch of it; for each pair of a row and a part.

    Args:
        tokens, offsets: of the rows.
        parts, begins: tokens of the parts, and where each part begins.
        bits: what each token of the parts says; 0: it does not count.
        rarity: a weight that the rarest tokens decide.
        pair_rows, pair_parts, widths: the pairs, and how many tokens of the row the stretch may have.
        brief: (n_parts,) parts of which only some words are asked for, wherever they stand in the row.
        n: tokens of an n-gram; no part is shorter.
        out: (n_pairs, 7): tokens that count, those of them found, bits found, rarity, rarity found, the longest run
            of counting tokens not found, and the share of the other part's tokens that the row has, if that is brief.
    """
    for pair in range(pair_rows.size):
        row = tokens[offsets[pair_rows[pair]] : offsets[pair_rows[pair] + 1]]
        first = begins[pair_parts[pair]]
        part = parts[first : begins[pair_parts[pair] + 1]]
        stands = _found_by_grams(row, part, n, widths[pair])
        _extend(row, part, stands, 1)
        _extend(row, part, stands, -1)
        hole = 0
        for at in range(part.size):
            if stands[at] >= 0:
                hole = 0
            if bits[first + at] == 0.0:
                continue
            out[pair, 0] += 1
            out[pair, 3] += rarity[first + at]
            if stands[at] >= 0:
                out[pair, 1] += 1
                out[pair, 2] += bits[first + at]
                out[pair, 4] += rarity[first + at]
            else:
                hole += 1
                out[pair, 5] = max(out[pair, 5], hole)
        other = pair_parts[pair] ^ 1
        out[pair, 6] = 1.0
        if brief[other]:
            there = 0
            for at in range(begins[other], begins[other + 1]):
                for token in row:
                    if token == parts[at]:
                        there += 1
                        break
            out[pair, 6] = there / (begins[other + 1] - begins[other])
