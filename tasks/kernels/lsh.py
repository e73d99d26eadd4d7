"""Locality-sensitive hashing with exact verification: one walk over the rows, block by block.

A band of a signature is a key; rows that share a key are candidates (Leskovec, Rajaraman, Ullman, Mining of Massive
Datasets, 3.4). Every candidate is verified on the sets themselves, so the bands decide only what is looked at. The
rows of a key hang in a chain, and only rows that a later one may be matched to hang there: those kept (FIRST_KEPT),
all (ALL_PAIRS), or one of each identical set (FOREST). So a thousand copies of a row make a chain of one.

The walk takes rows in the order given, on one thread: its answer depends on nothing else. Only the sets of rows that
hang are held; those of a block may be dropped when it is done.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from tasks.kernels.candidates import (
    ALL_PAIRS,
    COMPARED,
    CROWDED,
    FIRST_KEPT,
    FOREST,
    HELD,
    MET,
    TALLY,
    Floats,
    Held,
    Int32s,
    Int64s,
    Lookup,
    Signatures,
    walk_block,
)
from tasks.kernels.text import Sets

__all__ = ["ALL_PAIRS", "FIRST_KEPT", "FOREST", "Walk", "Walked", "walk"]

_GROWTH = 1.1
_ROWS = 1024
_AT_FIRST = 16_384  # rows for which the table of chains has room before it grows


class Walked(NamedTuple):
    """What a walk found.

    Attributes:
        row: (n_found,) the later row of a pair in the order of the walk.
        match: (n_found,) the earlier one; a kept row, if the walk keeps firsts.
        jaccard: (n_found, checked) exact, of each field that was checked.
        group: (n_rows,) after FOREST, the first row that this one is connected to; else the row itself.
        other_label: (n_rows,) for a row that is kept, an earlier kept row that it resembles but for the label, or -1.
        other_answer: (n_rows,) for a row that is no duplicate, an earlier kept row of the same prompt whose answer
            resembles its own less than the threshold, or -1.
        examined: candidates met, those whose sets were compared, and rows whose candidates came from the index of rare
            shingles because many kept rows share their keys.
    """

    row: Int32s
    match: Int32s
    jaccard: Floats
    group: Int32s
    other_label: Int32s
    other_answer: Int32s
    examined: Int64s


class Walk:
    """A walk that takes its rows in blocks: match each row with earlier ones whose sets are similar in every checked
    field.

    Args:
        mode: FIRST_KEPT (a row's first match ends its search, and it is not kept), ALL_PAIRS, or FOREST (pairs
            enough to connect what similarity connects).
        rows: how many there are in all.
        fields: sets of each row.
        bands: of a signature; with none nothing is a candidate.
        width: values in a band.
        threshold: Jaccard that each checked field must reach, above 0.
        checked: how many of the fields, from the first, are checked.
        answer: the field of the answer, where there are prompts.
        refuse: a row with another answer to a kept row's prompt is not kept either.

    Raises:
        ValueError: rows times bands beyond 2^32.
    """

    def __init__(
        self,
        mode: int,
        rows: int,
        fields: int,
        bands: int,
        width: int,
        threshold: float,
        *,
        checked: int = 1,
        answer: int = -1,
        refuse: bool = False,
    ) -> None:
        if rows * bands >= 1 << 32:
            raise ValueError(f"{rows} rows in {bands} bands are more than 2^32 links")
        self.mode, self.bands, self.width, self.threshold = mode, bands, width, threshold
        self.checked, self.answer, self.refuse = checked, answer, refuse
        self._found: list[tuple[Int32s, Floats]] = []
        self._held = Held(
            values=np.zeros(0, np.uint64),
            begins=np.zeros((1, fields + 1), np.int64),
            row=np.zeros(0, np.int64),
            kind=np.zeros(0, np.int32),
            label=np.zeros(0, np.int32),
            met=np.zeros(0, np.int64),
            queue=np.zeros(0, np.int64),
            before=np.zeros(0, np.uint32),
            depth=np.zeros(0, np.uint8),
            first_of=np.zeros(rows, np.int32),
            group=np.arange(rows, dtype=np.int32),
            other_label=np.full(rows, -1, np.int32),
            other_answer=np.full(rows, -1, np.int32),
            tally=np.zeros(TALLY, np.int64),
        )
        self._lookup = _lookup(1 << max(12, (2 * bands * min(rows, _AT_FIRST)).bit_length()))

    def take(
        self,
        fields: Sequence[Sets],
        signature: Signatures,
        rows: Int64s,
        *,
        kind: Int32s | None = None,
        label: Int32s | None = None,
        prompt: Int32s | None = None,
        given: bool = False,
    ) -> None:
        """Walk the rows of a block.

        Args:
            fields: the sets of each field, a set for each row of the block; none is empty.
            signature: (n_block, bands * width) uint32.
            rows: (n_block,) their numbers among all rows.
            kind: (n_block,) rows of different kinds are never similar.
            label: (n_block,) -1 for none; rows of different labels are not matched, but noted.
            prompt: (n_block,) below the number of all rows, -1 for none; kept rows of one prompt with different
                answers are noted.
            given: these rows are kept whatever they resemble.
        """
        shifts = np.cumsum([0, *(field.values.size for field in fields[:-1])])
        values = fields[0].values if len(fields) == 1 else np.concatenate([field.values for field in fields])
        self._make_room(rows.size, values.size)
        nothing, same = np.full(rows.size, -1, np.int32), np.zeros(rows.size, np.int32)
        self._lookup, pairs, jaccard = walk_block(
            self.mode,
            self._held,
            self._lookup,
            values,
            np.stack([field.offsets + shift for field, shift in zip(fields, shifts, strict=True)]),
            rows,
            self.checked,
            signature,
            self.width,
            self.threshold,
            same if kind is None else kind,
            nothing if label is None else label,
            nothing if prompt is None else prompt,
            self.answer,
            self.refuse,
            given,
        )
        self._found.append((pairs, jaccard))

    def walked(self) -> Walked:
        """What was found in all blocks; after this none can be taken, and only the sets of the rows held are left."""
        pairs = np.concatenate([np.empty((0, 2), np.int32), *(pairs for pairs, _ in self._found)])
        jaccard = np.concatenate([np.empty((0, self.checked)), *(jaccard for _, jaccard in self._found)])
        held, group = self._held, self._held.group
        while (group[group] != group).any():  # each row points to its root
            group = group[group]
        examined = held.tally[[MET, COMPARED, CROWDED]]
        self._lookup = _lookup(1)
        for array in (held.met, held.queue, held.before, held.depth, held.first_of):
            array.resize(0, refcheck=False)
        return Walked(pairs[:, 0], pairs[:, 1], jaccard, group, held.other_label, held.other_answer, examined)

    def held(self) -> tuple[Int64s, Int64s, np.ndarray[tuple[int], np.dtype[np.uint64]]]:
        """The rows held, in the order of the walk, with their sets.

        Returns:
            their numbers; (n_held, n_fields + 1) where each set begins, and where the row ends; the sets' values.
        """
        count = int(self._held.tally[HELD])
        begins = self._held.begins[:count]
        return self._held.row[:count], begins, self._held.values

    def _make_room(self, rows: int, values: int) -> None:
        """Grow in place: `resize` moves pages, where a copy would need both for a moment."""
        held = self._held
        count = int(held.tally[HELD])
        needed = int(held.begins[count, 0]) + values
        if needed > held.values.size:
            held.values.resize(int(needed * _GROWTH), refcheck=False)
        needed = count + rows + 1
        if needed > held.begins.shape[0]:
            room = max(int(needed * _GROWTH), _ROWS)
            held.begins.resize((room, held.begins.shape[1]), refcheck=False)
            for array in (held.row, held.kind, held.label, held.met, held.queue):
                array.resize(room, refcheck=False)
            for links in (held.before, held.depth):
                links.resize(room * self.bands, refcheck=False)


def _lookup(slots: int) -> Lookup:
    """Nothing to be found yet."""
    return Lookup(
        np.zeros(slots, np.uint64), np.empty(0, np.uint32), np.zeros(1 << 12, np.uint64), np.empty((0, 4), np.int32)
    )


def walk(
    mode: int,
    fields: Sequence[Sets],
    signature: Signatures,
    width: int,
    threshold: float,
) -> Walked:
    """Walk all rows as one block, in their own order; every field is checked. See `Walk`."""
    rows = fields[0].offsets.size - 1
    whole = Walk(mode, rows, len(fields), signature.shape[1] // width, width, threshold, checked=len(fields))
    whole.take(fields, signature, np.arange(rows))
    return whole.walked()
