"""Signatures are datasketch's, bands find what they promise, and every pair is verified."""

import random
from itertools import combinations

import numpy as np
import polars as pl
import pytest
import xxhash
from datasketch import MinHash
from hypothesis import given, settings
from hypothesis import strategies as st

from tasks.kernels.lsh import ALL_PAIRS, FIRST_KEPT, walk
from tasks.kernels.minhash import (
    Bands,
    choose_bands,
    permutations,
    signatures,
    similar_groups,
    similar_pairs,
)
from tasks.kernels.text import from_strings, shingles
from tests import plain_shingles as plain

ENGLISH = "The quick brown fox jumps over the lazy dog while seven wise owls look on and say nothing at all"
CHINESE = "床前明月光，疑是地上霜。举头望明月，低头思故乡。人工智能正在改变我们的生活方式。"
words = st.lists(st.sampled_from(["a", "b", "c", "d", "e", "你", "好", "世"]), max_size=9).map(" ".join)


def theirs(text: str, num_perm: int, n: int) -> list[int]:
    """The signature that datasketch makes of a text's shingles."""
    sketch = MinHash(num_perm, scheme="affine32", hashfunc=lambda data: xxhash.xxh64_intdigest(data) & 0xFFFFFFFF)
    sketch.update_batch([shingle.encode() for shingle in plain.shingles(text, n)])
    return [int(value) for value in sketch.hashvalues]


@given(st.lists(st.one_of(words, st.text(max_size=80)), max_size=4), st.sampled_from([16, 128, 200]), st.integers(1, 6))
@settings(deadline=None)
def test_signatures_are_datasketchs_bit_for_bit(texts: list[str], num_perm: int, n: int) -> None:
    ours = signatures(shingles(from_strings(pl.Series(texts, dtype=pl.String)), n), num_perm)
    assert ours.tolist() == [theirs(text, num_perm, n) for text in texts]


@pytest.mark.parametrize("text", [ENGLISH, CHINESE, ENGLISH * 20, CHINESE * 20, "", "ok", "。。。"])
def test_signatures_of_long_short_and_chinese_texts_are_datasketchs(text: str) -> None:
    assert signatures(shingles(from_strings(pl.Series([text])), 5), 128)[0].tolist() == theirs(text, 128, 5)


def test_permutations_are_datasketchs() -> None:
    assert (permutations(128) == MinHash(128, scheme="affine32").permutations).all()


def test_a_part_of_the_columns_is_that_part_of_the_signature() -> None:
    sets = shingles(from_strings(pl.Series([ENGLISH, CHINESE])), 5)
    columns = np.array([3, 5, 100])
    assert (signatures(sets, 128, columns) == signatures(sets, 128)[:, columns]).all()


@given(st.floats(0.05, 1.0), st.sampled_from([16, 64, 128, 256]), st.floats(0.5, 0.9999))
def test_bands_are_the_widest_that_find_the_wanted_share(threshold: float, num_perm: int, recall: float) -> None:
    bands, width = choose_bands(threshold, num_perm, recall)
    assert bands * width <= num_perm < (bands + 1) * width
    if width > 1:
        assert Bands(bands, width).recall(threshold) >= recall
    if width < num_perm:
        assert Bands(num_perm // (width + 1), width + 1).recall(threshold) < recall


def test_known_bands() -> None:
    assert Bands(25, 5).recall(0.7) == pytest.approx(1 - (1 - 0.7**5) ** 25)
    assert choose_bands(0.7, 128, 0.999) == (32, 4)
    assert choose_bands(0.85, 128, 0.999) == (18, 7)
    assert choose_bands(0.7, 128, 0.999, bands=25) == (25, 5)
    with pytest.raises(ValueError, match="200 bands"):
        choose_bands(0.7, 128, 0.999, bands=200)


def truth(texts: list[str], threshold: float, n: int) -> dict[tuple[int, int], float]:
    sets = [plain.shingles(text, n) for text in texts]
    every = {(i, j): plain.jaccard(sets[i], sets[j]) for i, j in combinations(range(len(texts)), 2)}
    return {pair: value for pair, value in every.items() if value >= threshold}


def first_of_group(count: int, pairs: list[tuple[int, int]]) -> list[int]:
    group = list(range(count))
    for _ in group:
        for i, j in pairs:
            group[i] = group[j] = min(group[i], group[j])
    return group


@given(st.lists(words, max_size=14), st.sampled_from([0.3, 0.5, 2 / 3, 0.7, 1.0]), st.integers(1, 3))
@settings(deadline=None)
def test_pairs_and_groups_are_those_of_brute_force(texts: list[str], threshold: float, n: int) -> None:
    expected = truth(texts, threshold, n)
    series = pl.Series(texts, dtype=pl.String)
    found = similar_pairs(series, threshold, n, bands=128)  # one value a band: a miss in 1e-19 at 0.3
    assert {(i, j): value for i, j, value in found.iter_rows()} == expected
    assert found.equals(found.sort("left", "right"))
    assert similar_groups(series, threshold, n, bands=128).to_list() == first_of_group(len(texts), list(expected))


@pytest.fixture(scope="module")
def templated() -> list[str]:
    """Rows of one long template with little of their own, a few of which resemble an earlier one."""
    draw = random.Random(7)
    template = [f"t{k}" for k in range(30)]
    rows: list[str] = []
    for _ in range(800):
        own = [str(draw.randrange(10_000)) for _ in range(draw.randrange(8, 16))]
        if rows and draw.random() < 0.2:
            kin = draw.choice(rows).split()
            rows.append(" ".join(kin[: draw.randrange(-3, 0)] + own[:1]))
        else:
            rows.append(" ".join(template[: draw.randrange(20, 31)] + own))
    return rows


def test_crowded_bands_lose_no_pair(templated: list[str]) -> None:
    expected = truth(templated, 0.7, 3)
    sets = shingles(from_strings(pl.Series(templated)), 3)
    found = walk(ALL_PAIRS, [sets], signatures(sets, 128), 4, 0.7)
    assert found.examined[2] > 200  # else the index of rare shingles was not asked
    lines = zip(found.match.tolist(), found.row.tolist(), found.jaccard[:, 0].tolist(), strict=True)
    pairs = {(i, j): value for i, j, value in lines}
    late = {pair: value for pair, value in expected.items() if pair[1] > 600}  # when the bands are crowded
    assert len(late) > 20
    assert late.items() <= pairs.items() <= expected.items()


def test_crowded_bands_cost_no_quadratic_work() -> None:
    draw = random.Random(3)
    template = " ".join(f"t{k}" for k in range(44))
    compared = []
    for count in (1000, 4000):
        rows = [f"{template} {' '.join(str(draw.randrange(10**6)) for _ in range(15))}" for _ in range(count)]
        sets = shingles(from_strings(pl.Series(rows)), 5)
        compared.append(int(walk(FIRST_KEPT, [sets], signatures(sets, 128), 4, 0.7).examined[1]))
    assert compared[1] < 6 * compared[0]  # four times for four times the rows, sixteen for all pairs


def test_a_thousand_copies_make_no_work() -> None:
    sets = shingles(from_strings(pl.Series([ENGLISH, CHINESE] * 1000)), 5)
    found = walk(FIRST_KEPT, [sets], signatures(sets, 128), 4, 0.7)
    assert found.examined[1] == 1998
    assert found.match.tolist() == [0, 1] * 999


def test_texts_without_a_word_match_only_their_equals() -> None:
    texts = pl.Series(["!!!", "???", "", "!!!", None, "ok", "OK", "okay"])
    assert similar_pairs(texts, 0.7).rows() == [(0, 3, 1.0), (2, 4, 1.0), (5, 6, 1.0)]


@pytest.mark.parametrize("texts", [[], ["alone"]])
def test_too_few_texts_for_a_pair(texts: list[str]) -> None:
    series = pl.Series(texts, dtype=pl.String)
    assert similar_pairs(series, 0.7).schema == {"left": pl.UInt32, "right": pl.UInt32, "jaccard": pl.Float64}
    assert similar_groups(series, 0.7).to_list() == list(range(len(texts)))
