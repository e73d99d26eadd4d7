"""Exact truth about near-duplicates: every pair of rows whose shingle sets have a Jaccard of at least a threshold.

Written plainly and apart from the pipeline, to judge the pipeline by it: sets of strings in Python, no hashing, no
sampling. Text is NFC and case-folded; a token is a run of `\\w`, each Han, Kana or Hangul character alone; shingles are
sets of 5 consecutive tokens (fewer tokens: the whole sequence; none: the normalised text).

All pairs without comparing all pairs: if two sets overlap enough, then their rarest elements do. Of a set of n elements
the first n - ceil(t * n) + 1 in one global order, the rarest first, must share one with the like prefix of every set
within reach, and the other's size must lie between t * n and n / t (Bayardo, Ma, Srikant, Scaling up all pairs
similarity search, 2007; Chaudhuri, Ganti, Kaushik 2006). What remains is compared element by element.
"""

import json
import math
import re
import unicodedata
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import regex

SHINGLE = 5
_ALONE = r"[\p{Han}\p{Hiragana}\p{Katakana}\p{Hangul}ーｰ〱-〵〆〼ﾞﾟ]"
_RUN = re.compile(r"\w+")
_PART = regex.compile(rf"{_ALONE}|(?:(?!{_ALONE}).)+", regex.DOTALL)


@dataclass(frozen=True)
class Truth:
    """All pairs of rows at or above a threshold.

    Attributes:
        ids: (n_rows,) the rows' own ids, in file order.
        left, right: (n_pairs,) positions, left < right.
        jaccard: (n_pairs,) exact.
    """

    ids: npt.NDArray[np.int64]
    left: npt.NDArray[np.int64]
    right: npt.NDArray[np.int64]
    jaccard: npt.NDArray[np.float64]


@dataclass(frozen=True)
class Verdict:
    """What a tool's choice of rows is worth.

    Attributes:
        kept: rows that it kept.
        left: true pairs at the threshold whose both rows it kept.
        left_above: the same at threshold + 0.05.
        unjustified: rows that it removed although no row that it kept is a near-duplicate of theirs.
    """

    kept: int
    left: int
    left_above: int
    unjustified: int


def shingles(text: str) -> frozenset[str]:
    """The shingle set of a text; never empty."""
    words = tokens(text)
    if not words:
        return frozenset([unicodedata.normalize("NFC", text).casefold()])
    return frozenset(" ".join(words[k : k + SHINGLE]) for k in range(max(1, len(words) - SHINGLE + 1)))


def tokens(text: str) -> list[str]:
    """The tokens of a text, in order."""
    runs = _RUN.findall(unicodedata.normalize("NFC", text).casefold())
    return [token for run in runs for token in parts_of_run(run)]


def parts_of_run(run: str) -> list[str]:
    """A run of word characters, each Han, Kana or Hangul one alone."""
    return [run] if run.isascii() else _PART.findall(run)


def all_pairs(texts: Iterable[str], threshold: float) -> Iterator[tuple[int, int, float]]:
    """Every pair of texts, as (left, right, Jaccard), left < right, whose Jaccard reaches the threshold."""
    numbers: dict[str, int] = {}
    rows = [frozenset(numbers.setdefault(one, len(numbers)) for one in shingles(text)) for text in texts]
    del numbers
    frequency = Counter[int]()
    for row in rows:
        frequency.update(row)
    holders: dict[int, list[int]] = {}
    for right, row in enumerate(rows):
        least = threshold * len(row) - 1e-9
        prefix = sorted(row, key=lambda one: (frequency[one], one))[: len(row) - math.ceil(least) + 1]
        met: set[int] = set()
        for one in prefix:
            if frequency[one] > 1:
                before = holders.setdefault(one, [])
                met.update(before)
                before.append(right)
        for left in sorted(met):
            other = rows[left]
            if least <= len(other) <= len(row) / threshold + 1e-9:
                shared = len(row & other)
                jaccard = shared / (len(row) + len(other) - shared)
                if jaccard >= threshold:
                    yield left, right, jaccard


def truth_of(source: Path, cache: Path, threshold: float) -> Truth:
    """The pairs of a JSONL file of `id` and `text`, computed once and kept beside it."""
    if not cache.exists():
        records = [json.loads(line) for line in source.read_bytes().splitlines()]
        pairs = list(all_pairs((record["text"] for record in records), threshold))
        left, right, jaccard = (np.array(column) for column in zip(*pairs, strict=True)) if pairs else ([], [], [])
        ids = np.array([record["id"] for record in records], np.int64)
        np.savez(cache, ids=ids, left=left, right=right, jaccard=jaccard)
    with np.load(cache) as stored:
        return Truth(
            stored["ids"], stored["left"].astype(np.int64), stored["right"].astype(np.int64), stored["jaccard"]
        )


def judge(kept: Sequence[int], truth: Truth, above: float) -> Verdict:
    """Hold the ids that a tool kept against the truth.

    Raises:
        ValueError: an id that is not in the file, or stands twice.
    """
    is_kept = np.isin(truth.ids, kept)
    if int(is_kept.sum()) != len(kept):
        raise ValueError(f"{len(kept)} rows are said to be kept, {int(is_kept.sum())} of them are known and distinct")
    both = is_kept[truth.left] & is_kept[truth.right]
    justified = np.zeros(truth.ids.size, bool)
    justified[truth.left[is_kept[truth.right]]] = True
    justified[truth.right[is_kept[truth.left]]] = True
    return Verdict(
        kept=len(kept),
        left=int(both.sum()),
        left_above=int((both & (truth.jaccard >= above)).sum()),
        unjustified=int((~is_kept & ~justified).sum()),
    )
