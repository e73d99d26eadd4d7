"""Dedupe: a row goes only against a row that stays, and what stays holds no duplicate."""

from collections.abc import Callable
from functools import partial
from itertools import combinations
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from pipeline_config.data_schema import Dedupe
from pipeline_config.errors import ConfigError
from pipeline_config.schema import Config
from tasks.dedupe.decide import COLUMNS, decide
from tasks.dedupe.index import Index, write_index
from tasks.dedupe.task import references
from tasks.kernels.rows import ROW_SCHEMA
from tasks.ledger import QUARANTINE_SCHEMA, REMOVED_SCHEMA, Decision, check_equation, counts
from tests import plain_shingles as plain

SURE = {"bands": 64}  # two values a band: a pair at 0.85 is missed once in 1e35
PASSAGE = (
    "Nauru is an island country and microstate in Oceania in the Central Pacific whose nearest neighbour is Banaba"
)
LONG = " ".join(f"word{k}" for k in range(60))


def row(*turns: tuple[str, str], **columns: Any) -> dict[str, Any]:
    said = [{"role": role, "content": content, "weight": None} for role, content in turns]
    return {"source": "s", "label": None, "split": None, "rejected": None, "tools": None} | columns | {"messages": said}


def ask(prompt: str, answer: str, **columns: Any) -> dict[str, Any]:
    return row(("user", prompt), ("assistant", answer), **columns)


def text(content: str, **columns: Any) -> dict[str, Any]:
    return row(("text", content), **columns)


def rejected(content: str) -> list[dict[str, Any]]:
    return [{"role": "assistant", "content": content, "weight": None}]


def frame(rows: list[dict[str, Any]]) -> pl.DataFrame:
    lines = [{"row_id": f"r{k}"} | one for k, one in enumerate(rows)]
    return pl.DataFrame(lines, schema={name: ROW_SCHEMA[name] for name in COLUMNS})


def run(rows: list[dict[str, Any]], sources: tuple[str, ...] = ("s",), **config: Any) -> Decision:
    """Decide, and hold the ledgers against the row equation."""
    before = frame(rows)
    decision = decide(before.lazy(), Dedupe(**config), sources)
    left = before.height - decision.removed.height - decision.quarantined.height
    check_equation("dedupe", counts(decision, before.height, left))
    assert decision.removed.schema == REMOVED_SCHEMA
    assert decision.quarantined.schema == QUARANTINE_SCHEMA
    kept = set(before["row_id"]) - set(decision.removed["row_id"]) - set(decision.quarantined["row_id"])
    assert set(decision.removed["kept_row_id"]) <= kept
    return decision


def gone(decision: Decision) -> dict[str, tuple[str, str]]:
    return {line["row_id"]: (line["rule"], line["kept_row_id"]) for line in decision.removed.iter_rows(named=True)}


phrases = st.lists(st.sampled_from(["a", "A", "b", "c", "7", "你", "好", "!"]), max_size=8).map(" ".join)
turns = st.tuples(st.sampled_from(["system", "user", "tool"]), phrases)
conversations = st.builds(
    lambda asked, answer, **columns: row(*asked, ("assistant", answer), **columns),
    st.lists(turns, max_size=2),
    phrases,
    label=st.sampled_from([None, None, "x", "y"]),
    tools=st.sampled_from([None, None, None, "[]"]),
    rejected=st.one_of(st.none(), st.none(), phrases.map(rejected)),
)
raw = st.builds(text, phrases, label=st.sampled_from([None, None, "x", "y"]))
corpora = st.lists(st.one_of(conversations, raw), max_size=12)
cuttings = st.builds(lambda begin, end: " ".join("abcdefghijklmno"[begin:end]), st.integers(0, 3), st.integers(11, 15))
kin = st.lists(st.one_of(st.builds(ask, cuttings, cuttings), st.builds(text, cuttings)), max_size=12)


def sets(one: dict[str, Any], shingle: int) -> dict[str, set[str]]:
    """The parts that are compared, by the plain definition."""
    parts: dict[str, list[str]] = {"answer": []}
    for turn in one["messages"]:
        part = "answer" if turn["role"] in ("assistant", "text") else "prompt"
        parts.setdefault(part, []).append(turn["content"])
    if one["messages"][0]["role"] != "text":
        parts.setdefault("prompt", [])
    if one["rejected"]:
        parts["rejected"] = [turn["content"] for turn in one["rejected"]]
    return {part: plain.shingles("\n".join(contents), shingle) for part, contents in parts.items()}


def least(one: dict[str, Any], two: dict[str, Any], shingle: int) -> float:
    """The lesser Jaccard of two rows' parts; 0 if they are of different kinds."""
    here, there = sets(one, shingle), sets(two, shingle)
    same = one["tools"] == two["tools"] and one["label"] == two["label"] and here.keys() == there.keys()
    return min(plain.jaccard(here[part], there[part]) for part in here) if same else 0.0


def threshold_of(one: dict[str, Any]) -> float:
    return 0.7 if one["messages"][0]["role"] == "text" else 0.85


@given(st.one_of(corpora, kin), st.integers(1, 3))
@settings(deadline=None, max_examples=150)
def test_each_removal_is_true_and_none_is_forgotten(rows: list[dict[str, Any]], shingle: int) -> None:
    decision = run(rows, shingle=shingle, **SURE)
    removed = {int(line["row_id"][1:]): line for line in decision.removed.iter_rows(named=True)}
    for place, line in removed.items():
        value = least(rows[place], rows[int(line["kept_row_id"][1:])], shingle)
        assert line["value"] == value >= threshold_of(rows[place])
        assert int(line["kept_row_id"][1:]) < place
    kept = [one for place, one in enumerate(rows) if place not in removed]
    assert all(least(one, two, shingle) < threshold_of(one) for one, two in combinations(kept, 2))


@given(corpora, st.sampled_from(["report", "quarantine"]), st.sampled_from(["auto", "whole", "prompt", "answer"]))
@settings(deadline=None)
def test_deduplicating_twice_removes_nothing(rows: list[dict[str, Any]], conflicts: str, unit: str) -> None:
    config: dict[str, Any] = {"conflicting_answer": conflicts, "unit": unit, "shingle": 2, "priority": "longest"}
    first = run(rows, **config)
    out = set(first.removed["row_id"]) | set(first.quarantined["row_id"])
    again = run([one for place, one in enumerate(rows) if f"r{place}" not in out], **config)
    assert again.removed.is_empty()
    assert again.quarantined.is_empty()


@given(
    st.one_of(corpora, kin),
    st.integers(0, 12),
    st.sampled_from(["report", "quarantine"]),
    st.sampled_from(["auto", "whole", "answer"]),
)
@settings(deadline=None, max_examples=60)
def test_two_batches_decide_as_one_run_over_both(
    rows: list[dict[str, Any]], cut: int, conflicts: str, unit: str
) -> None:
    """Held against the index of the first, the second batch meets the fate that it has behind it."""
    config = Dedupe(shingle=2, conflicting_answer=conflicts, unit=unit, **SURE)
    both = frame(rows)
    whole = decide(both.lazy(), config, ["s"])
    with TemporaryDirectory() as name:
        folder = Path(name)
        first = decide(both[:cut].lazy(), config, ["s"], keep=partial(write_index, folder))
        second = decide(both[cut:].lazy(), config, ["s"], against=[Index(folder, "dedupe/x")])
    for ledger in ("removed", "quarantined"):
        parts = [getattr(each, ledger).drop("detail") for each in (first, second)]
        assert pl.concat(parts).sort("row_id").equals(getattr(whole, ledger).drop("detail").sort("row_id"))
    told = second.removed.filter(pl.col("detail").fill_null("").str.contains("kept by dedupe/x", literal=True))
    assert set(told["kept_row_id"]) <= set(both["row_id"][:cut])
    for count in ("conflicting_answer", "conflicting_label"):
        assert first.metrics[count] + second.metrics[count] == whole.metrics[count]


@given(st.one_of(corpora, kin))
@settings(deadline=None, max_examples=30)
def test_threads_and_blocks_decide_nothing(rows: list[dict[str, Any]]) -> None:
    with pytest.MonkeyPatch.context() as patch:
        one = run(rows)
        patch.setattr(pl, "thread_pool_size", lambda: 4)
        patch.setattr("tasks.kernels.text._BLOCK_BYTES", 8)
        patch.setattr("tasks.dedupe.passages._HELD_BYTES", 0)  # the text is read twice
        patch.setattr("tasks.dedupe.passages._BLOCK_ROWS", 3)
        patch.setattr("tasks.dedupe.rounds._ROWS", 2)
        many = run(rows)
    assert one.removed.equals(many.removed)
    assert one.facts == many.facts


def test_copies_differ_in_case_white_space_and_composition_only() -> None:
    decision = run(
        [
            ask("What is  2 + 3?", "Caf\u00e9"),
            ask("what is 2 + 3?\n", "CAFE\u0301"),
            ask("What is 2 + 4?", "Caf\u00e9"),
            row(("system", "What is 2 + 3?"), ("assistant", "Caf\u00e9")),
        ],
        near=False,
    )
    assert gone(decision) == {"r1": ("exact_duplicate", "r0")}
    assert decision.removed["value"].to_list() == [1.0]


def test_what_else_a_row_holds_makes_it_another_row() -> None:
    decision = run(
        [
            ask("Hi", "Hello", rejected=rejected("Go away")),
            ask("Hi", "Hello", rejected=rejected("What?")),
            ask("Hi", "Hello"),
            ask("Hi", "Hello", tools='[{"name": "search"}]'),
            ask("Hi", "Hello", rejected=rejected("GO AWAY")),
        ]
    )
    assert gone(decision) == {"r4": ("exact_duplicate", "r0")}


def test_pairs_of_preference_need_all_three_parts() -> None:
    nearly = LONG.replace("word59", "else")
    decision = run(
        [
            ask(LONG, LONG, rejected=rejected(LONG)),
            ask(LONG, nearly, rejected=rejected(nearly)),
            ask(LONG, nearly, rejected=rejected("no " * 9)),
        ]
    )
    assert gone(decision) == {"r1": ("near_duplicate", "r0")}
    assert decision.removed["detail"].to_list() == ["prompt 1.0, answer 0.9649, rejected 0.9649"]
    assert decision.metrics["conflicting_answer"] == 0


def test_a_row_that_resembles_only_a_removed_row_stays() -> None:
    words = [f"w{k}" for k in range(100)]
    chain = [" ".join(words[k : k + 80]) for k in (0, 8, 16)]
    assert gone(run([text(one) for one in chain])) == {"r1": ("near_duplicate", "r0")}


def test_a_copy_of_a_removed_row_names_the_kept_one() -> None:
    nearly = LONG.replace("word59", "else")
    decision = run([text(LONG), text(nearly), text(nearly.upper())])
    assert gone(decision) == {"r1": ("near_duplicate", "r0"), "r2": ("near_duplicate", "r0")}


def test_two_questions_about_one_passage_both_stay() -> None:
    rows = [
        ask(f"{PASSAGE} {PASSAGE} What is Nauru?", "An island"),
        ask(f"{PASSAGE} {PASSAGE} Where is it?", "Oceania"),
    ]
    assert run(rows).removed.is_empty()
    assert run(rows, threshold=0.5).removed.is_empty()
    assert gone(run(rows, threshold=0.5, unit="whole")) == {"r1": ("near_duplicate", "r0")}


def test_answers_to_one_prompt_are_counted_and_reported() -> None:
    rows = [ask(PASSAGE, "Yes"), ask(PASSAGE.upper(), "No"), ask("Other", "No"), ask(PASSAGE, "no"), text(PASSAGE)]
    decision = run(rows)
    assert gone(decision) == {"r3": ("exact_duplicate", "r1")}
    assert decision.metrics["conflicting_answer"] == 1
    assert decision.facts["conflicting_answers"] == [["r1", "r0"]]
    assert "conflicting_answers" not in run(rows, conflicting_answer="keep").facts
    assert run(rows, conflicting_answer="keep", near=False).metrics["conflicting_answer"] == 1


def test_quarantined_answers_take_their_likes_along() -> None:
    other = LONG.replace("word0 ", "other ")
    rows = [ask(PASSAGE, "Yes"), ask(PASSAGE, LONG), ask(PASSAGE, LONG), ask(PASSAGE, other), ask(PASSAGE + "!", LONG)]
    decision = run(rows, conflicting_answer="quarantine")
    assert decision.quarantined["row_id"].to_list() == ["r1", "r2", "r3"]
    assert set(decision.quarantined["reason"]) == {"conflicting_answer"}
    assert decision.quarantined["detail"][0] == "another answer to the prompt of row r0"
    assert decision.removed.is_empty()  # r4 resembled only rows that are not kept


def test_nothing_asked_is_no_conflict() -> None:
    rows = [row(("assistant", "One")), row(("assistant", "Two")), ask(" ", "Three"), ask("", "Four")]
    decision = run(rows, conflicting_answer="quarantine")
    assert decision.quarantined.is_empty()
    assert decision.removed.is_empty()


@pytest.mark.parametrize("near", [True, False])
def test_one_text_with_two_labels_is_kept_with_both(near: bool) -> None:
    rows = [
        text("good film", label="positive"),
        text("Good film", label="negative"),
        text("good film", label="positive"),
    ]
    decision = run([*rows, text("good film")], near=near)
    assert gone(decision) == {"r2": ("exact_duplicate", "r0")}
    assert decision.metrics["conflicting_label"] == 1


def test_chinese_is_compared_by_characters() -> None:
    poem = "白日依山尽黄河入海流欲穷千里目更上一层楼" * 2 + "床前明月光疑是地上霜举头望明月低头思故乡"
    rows = [text(poem), text(poem[:-1] + "土"), text("白日依山尽"), text("白日依山近")]
    decision = run(rows)
    assert gone(decision) == {"r1": ("near_duplicate", "r0")}
    assert decision.removed["value"].to_list() == [
        plain.jaccard(plain.shingles(poem), plain.shingles(poem[:-1] + "土"))
    ]


def test_the_value_of_a_removal_is_that_of_the_part_that_resembles_least() -> None:
    rows = [ask("Tell me all of it.", LONG), ask("Tell me all of it.", f"{LONG} more")]
    (line,) = run(rows).removed.to_dicts()
    assert line["value"] == plain.jaccard(plain.shingles(LONG), plain.shingles(f"{LONG} more")) < 1
    assert line["detail"] == f"prompt 1.0, answer {round(line['value'], 4)}"


def test_short_rows_are_compared_whole() -> None:
    rows = [ask("Hi", "ok"), ask("Hi", "okay"), ask("Hi", "OK!"), ask("Hi", "!"), ask("Hi", "?"), text(""), text("")]
    assert gone(run(rows)) == {"r2": ("near_duplicate", "r0"), "r6": ("exact_duplicate", "r5")}


@pytest.mark.parametrize(
    ("config", "kept"),
    [({}, "r0"), ({"priority": "longest"}, "r2"), ({"priority": "source_priority"}, "r1")],
)
def test_priority_says_which_row_stays(config: dict[str, Any], kept: str) -> None:
    rows = [text(LONG, source="web"), text(LONG + " x", source="book"), text(LONG + " x y", source="web")]
    decision = run(rows, sources=("book", "web"), **config)
    assert {match for _, match in gone(decision).values()} == {kept}
    assert decision.removed["row_id"].to_list() == sorted(decision.removed["row_id"])


def test_a_field_of_the_record_may_say_which_row_stays() -> None:
    metas = ['{"score": 0.5}', None, '{"score": "3"}', '{"score": 20, "a": {"b": 1}}', '{"score": "high"}', "[]"]
    before = frame([text(LONG + " x" * k) for k in range(len(metas))])
    before = before.with_columns(pl.Series("meta", metas, dtype=pl.String))

    def kept(priority: str, rows: pl.DataFrame = before) -> set[str]:
        decision = decide(rows.lazy(), Dedupe(priority=priority), ["s"])
        return set(rows["row_id"]) - set(decision.removed["row_id"])

    assert kept("meta.score") == {"r3"}
    assert kept("meta.score", before.filter(pl.col("row_id") != "r3")) == {"r2"}
    assert kept("meta.score", before.filter(~pl.col("row_id").is_in(["r3", "r2"]))) == {"r0"}
    assert kept("meta.a.b", before[[5, 4, 3, 2, 1, 0]]) == {"r3"}
    assert kept("meta.score", before.with_columns(split=pl.Series([None, "test", None, None, None, None]))) == {"r1"}
    with pytest.raises(ConfigError, match=r"no row has a number in meta\.scroe"):
        kept("meta.scroe")
    assert kept("meta.score", before.clear()) == set()


@pytest.mark.parametrize("priority", ["meta", "meta.", "meta.a'b", "score", "meta..a"])
def test_a_priority_that_means_nothing_is_refused(priority: str) -> None:
    with pytest.raises(ValidationError):
        Dedupe(priority=priority)


def test_what_leaks_leaves_train_and_not_the_test_set() -> None:
    decision = run([text(LONG), text(LONG, split="train"), text(LONG, split="test:frozen")])
    assert gone(decision) == {"r0": ("exact_duplicate", "r2"), "r1": ("exact_duplicate", "r2")}


def test_rows_without_the_compared_part_are_left_alone() -> None:
    rows = [row(("assistant", "One")), row(("assistant", "Two")), ask("Hi", "One"), ask("hi", "Two")]
    assert gone(run(rows, unit="prompt")) == {"r3": ("near_duplicate", "r2")}
    assert gone(run(rows, unit="answer")) == {"r2": ("near_duplicate", "r0"), "r3": ("near_duplicate", "r1")}


@pytest.mark.parametrize("config", [{}, {"near": False}, {"exact": False}, {"exact": False, "near": False}])
@pytest.mark.parametrize("make", [ask, lambda prompt, answer: text(prompt + answer)])
def test_none_one_and_all_alike(config: dict[str, Any], make: Callable[[str, str], dict[str, Any]]) -> None:
    assert run([], **config).removed.is_empty()
    assert run([make("Hi", "Hello")], **config).removed.is_empty()
    alike = run([make("Hi", "Hello")] * 50, **config)
    assert alike.removed.height == (0 if config == {"exact": False, "near": False} else 49)
    assert set(alike.removed["kept_row_id"]) <= {"r0"}


def test_facts_tell_what_was_found_and_what_may_be_missed() -> None:
    decision = run([text(LONG)] * 4 + [text("other"), text("OTHER")])
    assert decision.facts["duplicates_left"] == 0
    assert decision.facts["cluster_size"] == {"p50": 4.0, "p90": 4.0, "p99": 4.0, "max": 4.0}
    assert decision.facts["bands"] == [
        {"bands": 32, "width": 4, "parts": ["text"], "recall": pytest.approx(0.99985, abs=1e-5)}
    ]
    assert decision.metrics["clusters"] == 2
    assert decision.metrics["removed_share"] == pytest.approx(4 / 6)


def test_more_bands_than_permutations_is_a_mistake_in_the_configuration() -> None:
    with pytest.raises(ConfigError, match="200 bands"):
        run([text("a")], bands=200)


def test_the_order_of_sources_is_in_the_key_only_where_it_decides(tmp_path: Path) -> None:
    def found(*names: str, **config: Any) -> dict[str, str]:
        sources = [{"name": name, "path": f"{name}.jsonl"} for name in names]
        whole = Config.model_validate({"ingest": {"sources": sources}, "dedupe": config})
        assert whole.dedupe is not None
        return references(whole.dedupe, whole, tmp_path)

    assert found("a", "b") == found("b", "a") == {}
    assert found("a", "b", priority="source_priority") != found("b", "a", priority="source_priority")
