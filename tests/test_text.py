"""Tokens, shingles and digests: the compiled kernels say what the plain definitions say."""

import sys
import unicodedata
from itertools import pairwise

import numpy as np
import polars as pl
import pytest
import xxhash
from hypothesis import given, settings
from hypothesis import strategies as st

from tasks.kernels import text
from tasks.kernels.rows import ROLES, ROW_SCHEMA
from tasks.kernels.tokens import LIMIT
from tests import plain_shingles as plain

AWKWARD = (
    "abZ Aé_09.,!?\n\t\u3000\u00a0ßŉİΐᾷΣςﬃẞ漢字仮名かなカナー한글々〇ñn\u0303e\u0301\u0345\u0307\u1112\u1161\u11ab𝔘𠀀😀"
)
texts = st.lists(st.text(st.one_of(st.sampled_from(AWKWARD), st.characters(exclude_categories=["Cs"])), max_size=60))
EVERY = [chr(point) for point in range(sys.maxunicode + 1) if not 0xD800 <= point < 0xE000]


def hashed(shingles: set[str]) -> list[int]:
    return sorted(xxhash.xxh64_intdigest(shingle.encode()) for shingle in shingles)


def rows_of(values: np.ndarray, offsets: np.ndarray) -> list[list[int]]:
    return [values[begin:end].tolist() for begin, end in pairwise(offsets)]


@given(texts, st.integers(1, 7))
@settings(deadline=None)
def test_shingle_hashes_are_xxh64_of_the_plain_shingles(found: list[str], n: int) -> None:
    expected = [hashed(plain.shingles(one, n)) for one in found]
    assert rows_of(*text.shingle_hashes(pl.Series(found, dtype=pl.String), n)) == expected


def test_every_code_point_is_read_as_python_reads_it() -> None:
    found = ["".join(EVERY[k : k + 64]) for k in range(0, len(EVERY), 64)]
    assert rows_of(*text.shingle_hashes(pl.Series(found), 2)) == [hashed(plain.shingles(one, 2)) for one in found]


def test_nothing_beyond_the_tables_is_a_word_or_changes() -> None:
    beyond = "".join(chr(point) for point in range(LIMIT, sys.maxunicode + 1))
    assert not any(character.isalnum() or character.isspace() for character in beyond)
    assert beyond.casefold() == beyond == unicodedata.normalize("NFC", beyond)


@given(texts)
@settings(deadline=None)
def test_digests_are_xxh64_of_role_and_normalised_text(found: list[str]) -> None:
    said = text.digests(text.from_strings(pl.Series(found, dtype=pl.String)))
    for one, (low, high) in zip(found, said.tolist(), strict=True):
        piece = bytes([0xFF, ROLES.index("text")]) + " ".join(plain.normalised(one).split()).encode()
        assert (low, high) == (xxhash.xxh64_intdigest(piece, 0), xxhash.xxh64_intdigest(piece, 1))


@pytest.mark.parametrize(
    ("one", "two", "same"),
    [
        ("Straße  \n CAFE\u0301", "strasse café", True),
        ("2 + 3", "2 + 4", False),
        ("你好，世界", "你好,世界", False),
        ("", " \n", True),
        ("a b", "ab", False),
    ],
)
def test_rows_say_the_same_up_to_case_composition_and_white_space(one: str, two: str, same: bool) -> None:
    here, there = text.digests(text.from_strings(pl.Series([one, two])))
    assert (here == there).all() == same


def messages(*rows: list[tuple[str, str | None]] | None) -> pl.Series:
    lists = [row and [{"role": role, "content": content, "weight": None} for role, content in row] for row in rows]
    return pl.Series(lists, dtype=ROW_SCHEMA["messages"])


def test_a_message_is_not_its_neighbour() -> None:
    said = text.digests(
        text.from_messages(
            messages(
                [("user", "a"), ("assistant", "b")],
                [("assistant", "a"), ("user", "b")],
                [("user", "a b")],
                [("user", "a"), ("user", "b")],
                [],
            )
        )
    )
    assert len(set(map(tuple, said.tolist()))) == 5


def test_shingles_of_messages_are_those_of_their_contents_joined_by_a_newline() -> None:
    turns = [
        [("system", "Be kind."), ("user", "e"), ("assistant", "\u0301 你好 one two three four")],
        [("user", "?"), ("user", ""), ("user", "!")],
        [],
        None,
        [("user", None), ("assistant", "five six seven eight nine ten")],
    ]
    read = text.from_messages(messages(*turns))
    for roles in (ROLES, ("user",), ("assistant", "system")):
        sets = text.shingles(read, 3, text.role_mask(*roles))
        contents = [[content or "" for role, content in turn or [] if role in roles] for turn in turns]
        expected = [hashed(plain.shingles("\n".join(one), 3)) for one in contents]
        assert [sorted(row) for row in rows_of(*sets)] == expected


def test_a_slice_of_a_series_reads_its_own_rows() -> None:
    column = messages([("user", "one")], [("user", "two")], [("user", "three")])
    cut, alone = text.from_messages(column[1:2]), text.from_messages(messages([("user", "two")]))
    assert (text.digests(cut) == text.digests(alone)).all()
    words = pl.Series(["one", "two", "three"])
    assert rows_of(*text.shingle_hashes(words[1:2], 5)) == [hashed({"two"})]


def test_blocks_and_threads_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    found = pl.Series([AWKWARD[k % 40 :] * (k % 7) for k in range(200)])
    read = text.from_strings(found)
    whole, said = text.shingles(read, 4), text.digests(read)
    for size, threads in ((1, 3), (100, 4), (1000, 1)):
        monkeypatch.setattr(text, "_BLOCK_BYTES", size)
        monkeypatch.setattr(pl, "thread_pool_size", lambda threads=threads: threads)
        cut = text.shingles(read, 4)
        assert (cut.values == whole.values).all()
        assert (cut.offsets == whole.offsets).all()
        assert (text.digests(read) == said).all()


def test_a_row_of_ten_megabytes_is_one_set() -> None:
    values, offsets = text.shingle_hashes(pl.Series(["one two three four five six. " * 360_000]), 5)
    assert offsets.tolist() == [0, 6]
    assert values.size == 6


def test_no_rows_have_no_shingles() -> None:
    values, offsets = text.shingle_hashes(pl.Series([], dtype=pl.String), 5)
    assert values.size == 0
    assert offsets.tolist() == [0]
    assert text.digests(text.from_messages(messages())).shape == (0, 2)
