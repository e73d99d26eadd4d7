"""Semantic near-duplicates: greedy over meanings, and never a removal against a row that goes itself."""

from functools import partial
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import xxhash
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline_config.data_schema import Dedupe
from pipeline_config.fields import key_values
from tasks.dedupe.decide import decide
from tasks.dedupe.index import Index, write_index
from tasks.dedupe.semantic import _vectors
from tasks.kernels import cosines
from tasks.kernels.cosines import Vectors, first_alike
from tasks.ledger import Decision
from tests.test_dedupe import ask, corpora, frame, gone, kin, least, text, threshold_of

SYNONYMS = {"big": "large", "quick": "fast", "begin": "start", "A": "a"}


def encode(texts: list[str]) -> Vectors:
    """A vector for the bag of words, synonyms alike."""
    found = np.zeros((len(texts), 64), np.float32)
    for k, each in enumerate(texts):
        found[k, 0] = 1e-3
        for word in each.split():
            seed = xxhash.xxh3_64_intdigest(SYNONYMS.get(word, word).encode())
            found[k] += np.random.default_rng(seed).standard_normal(64).astype(np.float32)
    return found / np.linalg.norm(found, axis=1, keepdims=True)


def run(rows: list[dict[str, Any]], **config: Any) -> Decision:
    settled = Dedupe.model_validate({"semantic": {"threshold": 0.9}} | config)
    return decide(frame(rows).lazy(), settled, ["s"], encode=encode)


@given(st.integers(0, 40), st.integers(0, 3), st.sampled_from([0.3, 0.6, 0.9]), st.integers(0, 5), st.integers(0, 9))
@settings(deadline=None, max_examples=40)
def test_first_matches_are_those_of_a_plain_loop(
    rows: int, kinds: int, threshold: float, given: int, seed: int
) -> None:
    draw = np.random.default_rng(seed)
    vectors = draw.standard_normal((rows, 2, 3)).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=2, keepdims=True)
    like, given = draw.integers(0, kinds + 1, rows), min(given, rows)
    wide = vectors.astype(np.float64)
    kept, expected = list(range(given)), [-1] * rows
    for row in range(given, rows):
        near = [o for o in kept if like[o] == like[row] and (wide[o] * wide[row]).sum(axis=1).min() >= threshold]
        expected[row] = near[0] if near else -1
        kept += [] if near else [row]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(cosines, "_BLOCK", 7)
        patch.setattr(cosines, "_HELD", 5)
        match, values = first_alike(vectors, like, threshold, given)
    assert match.tolist() == expected
    for row in np.flatnonzero(match >= 0):
        assert values[row] == pytest.approx((wide[row] * wide[match[row]]).sum(axis=1))


def test_other_words_for_the_same_go_with_their_cosine() -> None:
    decision = run([text("a big dog ran home"), text("a large dog ran home"), text("a large cat ran home")])
    assert gone(decision) == {"r1": ("semantic", "r0")}
    (line,) = decision.removed.to_dicts()
    assert (line["value"], line["threshold"]) == (pytest.approx(1), 0.9)
    assert run([text("a big dog"), text("a large dog")], semantic=None).removed.is_empty()


def test_prompt_and_answer_must_both_mean_the_same() -> None:
    rows = [ask("a big dog", "begin now"), ask("a large dog", "never"), ask("a large dog", "start now")]
    decision = run(rows)
    assert gone(decision) == {"r2": ("semantic", "r0")}
    assert decision.removed["detail"].to_list() == ["prompt 1.0, answer 1.0"]
    assert gone(run([*rows, ask("a large dog", "start now", label="x")])) == {"r2": ("semantic", "r0")}


def test_numbers_are_no_synonyms() -> None:
    bag = "why is it so that a dog of 7 years runs as a dog of"
    assert gone(run([text(f"{bag} 7"), text(f"{bag} 8"), text(f"now {bag} 8")], near=False)) == {
        "r2": ("semantic", "r1")
    }


def test_who_went_for_a_row_that_goes_is_judged_again() -> None:
    words = [f"{one}{two}" for one in "abcdef" for two in "uvwxyz"]
    middle, first = " ".join(["big", *words]), " ".join([*reversed(words), "large"])
    last = middle.replace("fz", "big big big big big big big big big big")
    decision = run([text(first), text(middle), text(last), text(last)])
    assert gone(decision) == {"r1": ("semantic", "r0"), "r3": ("exact_duplicate", "r2")}
    assert gone(run([text(middle), text(last)], semantic=None)) == {"r1": ("near_duplicate", "r0")}
    assert decision.facts["duplicates_left"] == 0


@given(st.one_of(corpora, kin))
@settings(deadline=None, max_examples=40)
def test_no_likeness_is_left_and_the_output_again_loses_nothing(rows: list[dict[str, Any]]) -> None:
    decision = run(rows, shingle=2, bands=64)
    out = set(decision.removed["row_id"])
    kept = [one for place, one in enumerate(rows) if f"r{place}" not in out]
    assert set(decision.removed["kept_row_id"]) <= {f"r{k}" for k in range(len(rows))} - out
    assert all(least(one, two, 2) < threshold_of(one) for one, two in combinations(kept, 2))
    assert run(kept, shingle=2, bands=64).removed.is_empty()


def test_a_batch_is_held_against_what_earlier_rows_mean(tmp_path: Path) -> None:
    config = Dedupe.model_validate({"semantic": {"threshold": 0.9}})
    first, second = (
        frame([text("a big dog"), ask("quick", "begin")]),
        frame([text("a large dog"), ask("fast", "start")]),
    )
    decide(first.lazy(), config, ["s"], keep=partial(write_index, tmp_path), encode=encode)
    decision = decide(second.lazy(), config, ["s"], against=[Index(tmp_path, "dedupe/x")], encode=encode)
    assert gone(decision) == {"r0": ("semantic", "r0"), "r1": ("semantic", "r1")}
    assert decision.removed["detail"].to_list() == [
        "kept by dedupe/x",
        "prompt 1.0, answer 1.0; kept by dedupe/x",
    ]


def test_long_texts_are_read_to_their_end() -> None:
    read: list[str] = []

    def seen(texts: list[str]) -> Vectors:
        read.extend(texts)
        return encode(texts)

    body = "word " * 500
    one, two = _vectors([f"{body}yes", f"{body}certainly no other thing at all here but this"], 8, seen)
    assert not np.array_equal(one, two)
    assert max(len(piece) for piece in read) <= 24
    assert "".join(read[: len(read) // 2]).startswith("word word")
    assert np.allclose(np.linalg.norm([one, two], axis=1), 1)


def test_what_shapes_a_meaning_stands_in_the_key() -> None:
    keys = [
        key_values(Dedupe.model_validate({"semantic": each}))
        for each in (None, {}, {"threshold": 0.8}, {"max_length": 64}, {"batch_size": 2}, {"encoder": "other"})
    ]
    assert keys[1] == keys[4] == keys[5]  # the encoder by its digest, see `references`
    assert len({str(key) for key in keys}) == 4
