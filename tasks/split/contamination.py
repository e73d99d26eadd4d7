"""Rows that give a test row away: they hold it, word for word or lightly edited.

Near-duplicates are kept together before anything is drawn (`groups.py`); what is left are rows that hold a test row
among other text, or a copy of it in which so many words were replaced that few runs of five are left. Question and
answer are looked for apart, and both must be there; a part that says too little is not asked for, and a test row whose
parts all say too little is not judged here.

Trigrams that a row shares with a part make the pair a candidate; the pair is then aligned token by token
(`alignment.py`). A copy with one token in ten replaced keeps nine tokens in ten, whichever they are. What only looks
like one, such as two functions of one family, differs in the words that make the difference, again and again; so the
share is taken of the rarest tokens too, each kind of token once, and no long run may be missing: a shared passage with
another question is no copy.

A row in which question and answer both stand word for word is found apart from that, whatever is boilerplate in them:
a leaked item may stand in many rows. And a short question or answer that is not judged must be there by half if what
was found of the other says little: "Return the date part." is no copy because of the function's one line.

Boilerplate counts on neither side: tokens of a run of five that more than `_BOILERPLATE` groups of rows share are a
template, not a leak (Brown et al. 2020, appendix C, also pass over n-grams that are frequent in the training text).
Groups are counted, not rows, so a leaked item does not become boilerplate by standing in train many times.
"""

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import polars as pl

from tasks.kernels.text import in_blocks, sequences
from tasks.kernels.tokens import Hashes, Offsets
from tasks.split import alignment
from tasks.split.alignment import Weights

_BOILERPLATE = 10  # groups of rows that may share a run of `_RUN` tokens
_RUN = 5
_GRAM = 3  # tokens of an n-gram that makes candidates
_POSTINGS = 200  # parts that may have an n-gram; one of more says little, and would cost much
_SHARED = 0.25  # of a part's n-grams, from which a row is a candidate
_BLOCK = 20_000  # rows whose tokens are in memory at once
_BLOCK_TOKENS = 1 << 19  # that one thread looks through at a time
_LEAST_TOKENS, _LEAST_BITS = 5, 20.0  # that count, from which a part is judged, and that must be found in all
_RARE = 0.75  # of the rarity, that must be found
_BRIEF, _BRIEF_SHARE = 3, 0.5  # a part that is not judged, but has so many tokens, must be there by more than half
_AMPLE_BITS = 50.0  # found, from which that is not asked
_HOLE = 6  # counting tokens that may be missing in one run


class _Parts(NamedTuple):
    """Questions and answers of the test rows: part 2i and 2i + 1 are those of test row i.

    Attributes:
        tokens: of all parts.
        begins: (n_parts + 1,) where each part begins.
        said: what a token says, log2 of (groups / groups with it).
        bits: the same, but 0 for boilerplate.
        rarity: bits squared, shared by the places of one token in its part.
        judged: (n_parts,) whether it says enough to be looked for.
    """

    tokens: Hashes
    begins: Offsets
    said: Weights
    bits: Weights
    rarity: Weights
    judged: np.ndarray


def leaks(tests: pl.DataFrame, rows: pl.DataFrame, max_overlap: float) -> pl.DataFrame:
    """Find rows that hold a test row.

    Args:
        tests: `row_id`, `group`, `prompt` (questions alone) and `answer` of the test rows.
        rows: `row_id`, `group` and `whole` of the rows to be judged.
        max_overlap: share of a part's tokens, boilerplate apart, from which it counts as given away.

    Returns:
        `row_id`, `kept_row_id` (the test row it holds most of; of several the one with the smallest id) and `value`
        (the smaller share of the judged parts, in [max_overlap, 1]), in the order of the rows.
    """
    placed = rows.with_row_index("place").sort("group", maintain_order=True)
    texts = pl.DataFrame({"prompt": tests["prompt"], "answer": tests["answer"]})
    parts = _parts(texts, tests["group"], placed)
    index, anchored = _index(parts), _anchored(parts)
    found = [
        each.with_columns(pl.col("row").cast(pl.Int64) + start)
        for start, block in _blocks(placed["whole"])
        for each in (_verbatim(parts, anchored, block), _held(parts, index, block, max_overlap))
    ]
    return (
        pl.concat([pl.DataFrame(schema={"row": pl.Int64, "test": pl.Int64, "value": pl.Float64}), *found])
        .select(
            pl.lit(placed["place"]).gather("row").alias("place"),
            pl.lit(tests["row_id"]).gather("test").alias("kept_row_id"),
            "value",
        )
        .sort("place", "value", "kept_row_id", descending=[False, True, False])
        .unique("place", keep="first", maintain_order=True)
        .select(pl.lit(rows["row_id"]).gather("place").alias("row_id"), "kept_row_id", "value")
    )


def _blocks(texts: pl.Series) -> Iterator[tuple[int, tuple[Hashes, Offsets]]]:
    for start in range(0, len(texts), _BLOCK):
        yield start, sequences(texts.slice(start, _BLOCK))


def _parts(texts: pl.DataFrame, groups: pl.Series, rows: pl.DataFrame) -> _Parts:
    tokens, begins = sequences(texts.select(pl.concat_list("prompt", "answer").explode()).to_series())
    owner = np.repeat(np.arange(begins.size - 1), np.diff(begins))
    test_groups = np.repeat(groups.to_numpy().astype(np.int64), 2)
    row_groups = rows["group"].to_numpy().astype(np.int64)
    order = np.argsort(test_groups, kind="stable")
    by_group = sequences(texts.select(pl.concat_list("prompt", "answer").explode()).to_series().gather(order))
    counters = [_Counter(alignment.grams(tokens, begins, n), n) for n in (_RUN, 1)]
    for counter in counters:
        counter.count(*by_group, test_groups[order])
    for start, block in _blocks(rows["whole"]):
        for counter in counters:
            counter.count(*block, row_groups[start : start + _BLOCK])
    counts = np.ones(tokens.size, dtype=bool)
    frequent = counters[0].of_places() > _BOILERPLATE
    for k in range(_RUN):
        counts[k:] &= ~frequent[: tokens.size - k]
    all_groups = np.unique(test_groups).size + np.unique(row_groups).size
    said = np.log2((all_groups + 1) / np.maximum(counters[1].of_places(), 1))
    bits = np.where(counts, said, 0.0)
    same = pl.DataFrame({"part": owner, "token": tokens}).select(pl.len().over("part", "token")).to_series().to_numpy()
    own = np.bincount(owner, weights=bits > 0, minlength=begins.size - 1)
    return _Parts(tokens, begins, said, bits, bits**2 / same, own >= _LEAST_TOKENS)


class _Counter:
    """In how many groups each n-gram of the test rows stands; texts of one group must come one after the other."""

    def __init__(self, grams: Hashes, n: int) -> None:
        self._n = n
        self._keys, self._number = np.unique(grams, return_inverse=True)
        self._table = alignment.slots_of(self._keys)
        self._last = np.full(self._keys.size, -1, np.int64)
        self._counts = np.zeros(self._keys.size, np.int32)
        self._counts[: int(self._keys.size > 0 and self._keys[0] == 0)] = -1  # no n-gram

    def count(self, tokens: Hashes, offsets: Offsets, groups: Offsets) -> None:
        alignment.count_groups(tokens, offsets, groups, self._n, *self._table, self._last, self._counts)

    def of_places(self) -> np.ndarray:
        """The count of the n-gram that begins at each token of the test rows; -1: none does."""
        return self._counts[self._number]


class _Index(NamedTuple):
    """Which judged parts have an n-gram."""

    table: tuple[Hashes, np.ndarray]
    starts: Offsets
    owners: np.ndarray
    needed: np.ndarray


def _index(parts: _Parts) -> _Index:
    grams = alignment.grams(parts.tokens, parts.begins, _GRAM)
    owner = np.repeat(np.arange(parts.begins.size - 1, dtype=np.int32), np.diff(parts.begins))
    used = (grams != 0) & parts.judged[owner]
    for k in range(_GRAM):
        used[: grams.size - k] &= parts.bits[k:] > 0
    postings = pl.DataFrame({"gram": grams[used], "part": owner[used]}).unique().sort("gram", "part")
    postings = postings.filter(pl.len().over("gram") <= _POSTINGS)
    keys, starts = np.unique(postings["gram"].to_numpy(), return_index=True)
    owners = postings["part"].to_numpy()
    sizes = np.bincount(owners, minlength=parts.judged.size)
    needed = np.maximum(1, np.ceil(_SHARED * sizes)).astype(np.int32)
    return _Index(alignment.slots_of(keys), np.append(starts, owners.size).astype(np.int64), owners, needed)


class _Anchored(NamedTuple):
    """By which n-gram each item is looked for word for word: the one that says most in its longer part."""

    table: tuple[Hashes, np.ndarray]
    starts: Offsets
    owners: np.ndarray
    anchors: Offsets


def _anchored(parts: _Parts) -> _Anchored:
    grams = alignment.grams(parts.tokens, parts.begins, _GRAM)
    sizes = np.diff(parts.begins)
    owner = np.repeat(np.arange(sizes.size), sizes)
    says, upto = np.bincount(owner, weights=parts.said, minlength=sizes.size), np.append(0.0, np.cumsum(parts.said))
    enough = (_of_items(sizes) >= _LEAST_TOKENS) & (_of_items(says) >= _LEAST_BITS)
    chosen = (
        pl.DataFrame(
            {
                "part": owner,
                "item": owner // 2,
                "gram": grams,
                "at": np.arange(owner.size) - parts.begins[owner],
                "size": sizes[owner],
                "says": upto[np.minimum(np.arange(owner.size) + _GRAM, owner.size)] - upto[:-1],
            }
        )
        .filter((grams != 0) & enough[owner // 2])
        .sort("item", "size", "says", "at", descending=[False, True, True, False])
        .unique("item", keep="first", maintain_order=True)
        .sort("gram", "part")
    )
    keys, starts = np.unique(chosen["gram"].to_numpy(), return_index=True)
    anchors = np.zeros(sizes.size, np.int64)
    anchors[chosen["part"].to_numpy()] = chosen["at"].to_numpy()
    owners = chosen["part"].cast(pl.Int32).to_numpy()
    return _Anchored(alignment.slots_of(keys), np.append(starts, owners.size).astype(np.int64), owners, anchors)


def _of_items(of_parts: np.ndarray) -> np.ndarray:
    """Sums over the two parts of each item."""
    return np.asarray(of_parts.reshape(-1, 2).sum(axis=1))


def _verbatim(parts: _Parts, anchored: _Anchored, block: tuple[Hashes, Offsets]) -> pl.DataFrame:
    """`row`, `test` and `value` (1.0) of the rows in which question and answer of a test row stand word for word."""
    tokens, offsets = block

    def look(first: int, last: int) -> tuple[list[np.int64], list[np.int64]]:
        return alignment.verbatim(
            tokens, offsets, first, last, _GRAM, *anchored.table, anchored.starts, anchored.owners, anchored.anchors,
            parts.tokens, parts.begins,
        )  # fmt: skip

    looked = list(in_blocks(offsets, _BLOCK_TOKENS, look))
    return pl.DataFrame(
        {"row": [row for rows, _ in looked for row in rows], "test": [test for _, found in looked for test in found]},
        schema={"row": pl.Int64, "test": pl.Int64},
    ).with_columns(pl.lit(1.0).alias("value"))


def _held(parts: _Parts, index: _Index, block: tuple[Hashes, Offsets], max_overlap: float) -> pl.DataFrame:
    """`row` (number in the block), `test` (number) and `value` of the rows that hold a test row."""
    tokens, offsets = block

    def look(first: int, last: int) -> tuple[list[np.int64], list[np.int64]]:
        return alignment.candidates(
            tokens, offsets, first, last, _GRAM, *index.table, index.starts, index.owners, index.needed
        )

    looked = list(in_blocks(offsets, _BLOCK_TOKENS, look))
    pairs = pl.DataFrame(
        {"row": [row for rows, _ in looked for row in rows], "part": [part for _, found in looked for part in found]},
        schema={"row": pl.Int64, "part": pl.Int64},
    ).with_columns((pl.col("part") // 2).alias("test"))
    of_test = pl.Series(_of_items(parts.judged))
    pairs = pairs.filter(pl.len().over("row", "test") == pl.lit(of_test).gather(pl.col("test")))
    width = 2 * (parts.begins[2::2] - parts.begins[:-1:2]) + 16  # of both parts together, as turns may alternate
    brief = ~parts.judged & (np.diff(parts.begins) >= _BRIEF)
    out = np.zeros((pairs.height, 7))
    alignment.align(
        tokens, offsets, parts.tokens, parts.begins, parts.bits, parts.rarity, pairs["row"].to_numpy(),
        pairs["part"].to_numpy(), width[pairs["test"].to_numpy()], brief, _GRAM, out,
    )  # fmt: skip
    measured = pl.DataFrame(
        out, schema=["tokens", "met", "bits", "rarity", "rarity_met", "hole", "brief"], orient="row"
    )
    share = pl.col("met") / pl.col("tokens")
    rare = pl.col("rarity_met").sum() >= _RARE * pl.col("rarity").sum()
    bits = pl.col("bits").sum()
    enough = (bits >= _LEAST_BITS) & ((pl.col("brief").min() > _BRIEF_SHARE) | (bits >= _AMPLE_BITS))
    whole = pl.col("hole").max() <= _HOLE
    return (
        pl.concat([pairs, measured], how="horizontal")
        .group_by("row", "test")
        .agg(share.min().alias("value"), (rare & enough & whole).alias("held"))
        .filter(pl.col("held") & (pl.col("value") >= max_overlap))
        .select("row", "test", "value")
    )
