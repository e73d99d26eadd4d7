"""The benchmarks' own arithmetic: truth is true, verdicts count what they say, the page says what was measured."""

import itertools
import json
import random
import socket
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from benchmarks.corpora import first_rows, planted, write_rows
from benchmarks.peers.timed import halves, ids_of
from benchmarks.quality import agreement, by_reason
from benchmarks.rule_names import SAME_RULE
from benchmarks.session import alternate
from benchmarks.tables import document, machine, table
from benchmarks.targets import targets
from benchmarks.truth import Truth, all_pairs, judge, shingles, truth_of
from tasks.quality.rules import RULE_SETS
from tests import plain_shingles

WORDS = ["a", "b", "Cc", "d1", "ée", "中", "文字", "かな", "!", "\n"]


@given(st.text())
@settings(max_examples=60)
def test_truth_has_the_tokens_of_the_definition(text: str) -> None:
    assert shingles(text) == plain_shingles.shingles(text)


@given(st.lists(st.lists(st.sampled_from(WORDS), max_size=14).map(" ".join), max_size=14), st.sampled_from([0.5, 0.7]))
@settings(max_examples=60)
def test_truth_is_what_comparing_all_pairs_gives(texts: list[str], threshold: float) -> None:
    sets = [plain_shingles.shingles(text) for text in texts]
    expected = {
        (i, j): plain_shingles.jaccard(sets[i], sets[j])
        for i, j in itertools.combinations(range(len(sets)), 2)
        if plain_shingles.jaccard(sets[i], sets[j]) >= threshold
    }
    assert {(i, j): value for i, j, value in all_pairs(texts, threshold)} == expected


def test_truth_finds_planted_copies_of_long_rows() -> None:
    draw = random.Random(3)
    rows = [" ".join(draw.choice("abcdefghij") * 2 + str(draw.randrange(300)) for _ in range(80)) for _ in range(40)]
    texts = [*rows, *planted(rows, 60, random.Random(5))]
    sets = [plain_shingles.shingles(text) for text in texts]
    pairs = {(i, j) for i, j, _ in all_pairs(texts, 0.7)}
    assert len(pairs) > 30
    for i, j in itertools.combinations(range(len(sets)), 2):
        assert ((i, j) in pairs) == (plain_shingles.jaccard(sets[i], sets[j]) >= 0.7)


def test_truth_is_computed_once(tmp_path: Path) -> None:
    source = write_rows(["one two", "three", "", "One  two"], tmp_path / "rows.jsonl")
    found = truth_of(source, tmp_path / "pairs.npz", 0.7)
    assert (found.ids.tolist(), found.left.tolist(), found.right.tolist()) == ([1, 2, 3], [0], [2])
    source.unlink()
    assert truth_of(source, tmp_path / "pairs.npz", 0.7).jaccard.tolist() == [1.0]


def test_a_verdict_counts_pairs_left_and_rows_removed_for_nothing() -> None:
    pairs = [(0, 1, 0.9), (1, 2, 0.72), (3, 4, 0.7)]
    left, right, jaccard = (np.array(column) for column in zip(*pairs, strict=True))
    truth = Truth(np.array([10, 11, 12, 13, 14, 15]), left, right, jaccard)
    everything = judge([10, 11, 12, 13, 14, 15], truth, 0.75)
    assert (everything.kept, everything.left, everything.left_above, everything.unjustified) == (6, 3, 1, 0)
    chained = judge([10, 13], truth, 0.75)  # 12 resembles 11 only, which went; 15 resembles nothing
    assert (chained.left, chained.unjustified) == (0, 2)
    with pytest.raises(ValueError, match="distinct"):
        judge([10, 99], truth, 0.75)


def test_halves_hold_every_row_once(tmp_path: Path) -> None:
    source = write_rows((f"row {n}" for n in range(7)), tmp_path / "rows.jsonl")
    assert ids_of(list(halves(source).glob("*.jsonl"))) == list(range(1, 8))
    assert ids_of([first_rows(source, 3)]) == [1, 2, 3]


def test_rules_are_compared_row_by_row() -> None:
    theirs = by_reason(
        [{"id": 1, "reasons": ["short", "dots"]}, {"id": 2, "reasons": ["short"]}, {"id": 3, "reasons": []}]
    )
    found = agreement(4, {"short": "min_words", "long": "max_words"}, theirs, {"min_words": {1, 3}, "max_words": set()})
    assert found["short"] == {"ours": "min_words", "both": 1, "only_theirs": 1, "only_ours": 1, "agreement": 0.5}
    assert found["long"]["agreement"] == 1


def test_a_table_is_markdown() -> None:
    assert table(("tool", "s"), [("a|b", "1")]) == "| tool | s |\n| --- | ---: |\n| a\\|b | 1 |"


def test_tools_take_turns() -> None:
    order: list[str] = []

    class Run:
        seconds, peak_mb, answer = 1.0, 2.0, None

    def call(name: str) -> Any:
        return lambda: order.append(name) or Run()

    runs = alternate({"ours": (3, call("ours")), "slow": (1, call("slow"))}, "test")
    assert order == ["ours", "slow", "ours", "ours"]
    assert [len(each.seconds) for each in runs.values()] == [3, 1]


def test_every_rule_that_is_compared_exists() -> None:
    for rule_set, names in SAME_RULE.items():
        assert set(names.values()) == {rule.name for rule in RULE_SETS[rule_set]}


def tool(median: float, peak: float, **more: Any) -> dict[str, Any]:
    return {"seconds": [median], "median": median, "peak_mb": peak, "failed": ""} | more


def results() -> dict[str, Any]:
    ours = tool(1.0, 300.0, kept=90, removed=10, left=0, left_above=0, unjustified=0)
    peer = tool(79.0, 700.0, kept=80, removed=20, left=3, left_above=1, unjustified=4, tool="datatrove 1 (x)")
    rules = {rule: {2} if rule == "c4_curly_brackets" else set[int]() for rule in SAME_RULE["c4"].values()}
    loop = tool(0.5, 9.0, all_cores=0.3)
    corpus = {"rows": 100, "megabytes": 1.0, "pairs": 1000, "pairs_above": 900}
    return {
        "dedupe": {
            "multitask": corpus | {"tools": {"Winnow": ours, "bare loop": loop, "datatrove": peer}},
            "chinese-poetry": {"missing": "npm is not installed"},
            "measured": machine() | {"date": "2026-01-02"},
        },
        "scaling": {"sizes": {"50": tool(1.0, 100.0, megabytes=1.0), "1000": tool(31.0, 2000.0, megabytes=20.0)}},
        "quality": {
            "corpus": "x", "rows": 100, "megabytes": 1.0, "rule_sets": list(RULE_SETS),
            "tools": {"Winnow": tool(1.0, 1.0), "datatrove": tool(61.0, 1.0)},
            "kept": {"ours": 5, "theirs": 6, "agreement": 0.99},
            "agreement": {"c4": agreement(100, SAME_RULE["c4"], {"curly_bracket": {1, 2}}, rules)},
        },
        "toxicity": {"corpus": "x", "rows": 1000, "seconds": [0.01, 0.02, 0.03], "peak_mb": 5.0},
    }  # fmt: skip


def test_targets_are_judged_by_the_figures() -> None:
    held = {each.what: each.holds for each in targets({k: v for k, v in results().items() if k != "measured"})}
    assert held["multitask: times faster than datatrove"] is False  # 79 of 80
    assert held["multitask: time against the bare loop"] is True
    assert held["multitask: peak memory against the leanest peer"] is True
    assert held["time per row at 1,000 rows against 50"] is False  # 1.55
    assert held["toxicity, rows a second"] is True
    assert held["four rule sets: times faster than datatrove's four filters"] is True
    assert held["the least of 3 rules: rows decided alike"] is True  # 99 %


def test_the_page_has_every_figure_and_nothing_of_the_machine_but_words() -> None:
    page = document(results())
    assert "| datatrove 1 (x) | 79.00 | 79.00 | 1 | 700 | 80 | 3 | 1 | 4 (20.0%) |" in page
    assert "| multitask: times faster than datatrove | 79.0 | at least 80.0 | **no** |" in page
    assert "| curly_bracket | c4_curly_brackets |  | 1 | 1 | 0 | 99.00% |" in page
    assert "Not measured: npm is not installed." in page
    assert "2026-01-02, dedupe" in page
    assert str(Path.home()) not in page
    assert socket.gethostname() not in page
    json.dumps(results())
