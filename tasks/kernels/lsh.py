"""Locality-sensitive hashing with exact verification: one walk over the rows.

A band of a signature is a key; rows that share a key are candidates (Leskovec, Rajaraman, Ullman, Mining of Massive
Datasets, 3.4). Every candidate is verified on the sets themselves, so the bands decide only what is looked at. The
rows of a key hang in a chain, and only rows that a later one may be matched to hang there: those kept (FIRST_KEPT),
all (ALL_PAIRS), or one of each identical set (FOREST). So a thousand copies of a row make a chain of one.

The walk takes rows in the order given, on one thread: its answer depends on nothing else.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from tasks.kernels.candidates import (
    ALL_PAIRS,
    FIRST_KEPT,
    FOREST,
    Floats,
    Int32s,
    Int64s,
    Signatures,
    walk_rows,
)
from tasks.kernels.text import Sets

__all__ = ["ALL_PAIRS", "FIRST_KEPT", "FOREST", "Walked", "walk"]


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


def walk(
    mode: int,
    fields: Sequence[Sets],
    signature: Signatures,
    width: int,
    threshold: float,
    *,
    checked: int = 1,
    order: Int64s | None = None,
    kind: Int32s | None = None,
    label: Int32s | None = None,
    prompt: Int32s | None = None,
    answer: int = -1,
    refuse: bool = False,
) -> Walked:
    """Match each row with earlier ones whose sets are similar in every checked field.

    Args:
        mode: FIRST_KEPT (a row's first match ends its search, and it is not kept), ALL_PAIRS, or FOREST (pairs
            enough to connect what similarity connects).
        fields: the sets of each field; none is empty.
        signature: (n_rows, bands * width) uint32; with no columns nothing is a candidate.
        width: values in a band.
        threshold: Jaccard that each checked field must reach, above 0.
        checked: how many of the fields, from the first, are checked.
        order: the rows to walk, in the order of keeping; all in their own order if None.
        kind: (n_rows,) rows of different kinds are never similar.
        label: (n_rows,) -1 for none; rows of different labels are not matched, but noted.
        prompt: (n_rows,) below n_rows, -1 for none; kept rows of one prompt with different answers are noted.
        answer: the field of the answer, where there are prompts.
        refuse: a row with another answer to a kept row's prompt is not kept either.

    Raises:
        ValueError: rows times bands beyond 2^32.
    """
    rows = fields[0].offsets.size - 1
    if rows * (signature.shape[1] // width) >= 1 << 32:
        raise ValueError(f"{rows} rows in {signature.shape[1] // width} bands are more than 2^32 links")
    shifts = np.cumsum([0, *(field.values.size for field in fields[:-1])])
    nothing, same = np.full(rows, -1, np.int32), np.zeros(rows, np.int32)
    found = walk_rows(
        mode,
        fields[0].values if len(fields) == 1 else np.concatenate([field.values for field in fields]),
        np.stack([field.offsets + shift for field, shift in zip(fields, shifts, strict=True)]),
        checked,
        signature,
        width,
        threshold,
        np.arange(rows) if order is None else order,
        same if kind is None else kind,
        nothing if label is None else label,
        nothing if prompt is None else prompt,
        answer,
        refuse,
    )
    return Walked(found[0][:, 0], found[0][:, 1], *found[1:])
