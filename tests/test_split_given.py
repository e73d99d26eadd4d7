"""split: edited copies, benchmarks, a frozen test set, times, strata, and the size that an interval asks for."""

import json
import random
import re
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from pipeline_config.data_schema import Ingest, Source
from pipeline_config.errors import ConfigError, DataError, SourceError
from pipeline_config.schema import Config
from pipeline_config.sets_schema import Split
from pipeline_config.sets_schema import TestSet as DrawnSet
from tasks.kernels.digests import FileDigests
from tasks.kernels.text import sequences, shingle_hashes
from tasks.split.contamination import leaks
from tasks.split.decide import decide
from tasks.split.sizing import rows_for_width
from tasks.split.task import references
from tasks.split.task import split as stage
from tasks.split.times import as_times
from tests.test_split import frame, row, split_of, stage_input, talk, unlike, words

RUN = Config(ingest=Ingest(sources=[Source(path="/x/mine.jsonl")]))
ALPHABET = st.text("aB é春ー한.,\n\t_9İßﬁ", max_size=40)


@given(st.lists(ALPHABET, max_size=5))
@settings(max_examples=60, deadline=None)
def test_tokens_in_order_are_those_of_the_shingles(texts: list[str]) -> None:
    series = pl.Series(texts, dtype=pl.String)
    tokens, offsets = sequences(series)
    for n, text in enumerate(texts):
        found = tokens[offsets[n] : offsets[n + 1]]
        once, _ = shingle_hashes(pl.Series([text]), 1)
        assert set(found.tolist()) == (set(once.tolist()) if re.search(r"\w", text) else set())


def edited(text: str, rng: random.Random, every: int = 10) -> str:
    """One token in ten replaced, at random."""
    tokens = text.split()
    for at in rng.sample(range(len(tokens)), max(1, len(tokens) // every)):
        tokens[at] = f"other{rng.randrange(10**6)}"
    return " ".join(tokens)


def about(items: list[dict[str, str | None]], rng: random.Random, edit: bool) -> list[dict[str, str | None]]:
    """Each item among other text."""
    made = []
    for each in items:
        prompt, answer = (edited(str(each[name]), rng) if edit else str(each[name]) for name in ("prompt", "answer"))
        made.append(row(f"{words(rng, 40)} {prompt} {words(rng, 9)}", f"{words(rng, 20)} {answer} {words(rng, 20)}"))
    return made


def recall(decision: Any, planted: list[dict[str, str | None]]) -> float:
    return len(set(decision.removed["row_id"]) & {each["row_id"] for each in planted}) / len(planted)


@pytest.mark.parametrize(("edit", "least"), [(False, 0.99), (True, 0.9)])
def test_planted_items_are_found_word_for_word_and_lightly_edited_and_nothing_else_is(edit: bool, least: float) -> None:
    rng = random.Random(0)
    bench = [row(words(rng, rng.randint(6, 60)), words(rng, rng.randint(4, 30)), split="test") for _ in range(200)]
    planted, honest = about(bench, rng, edit), unlike(1000, seed=9)
    decision = decide(frame(bench + planted + honest), Split(test=0), seed=0)
    assert recall(decision, planted) >= least
    assert decision.removed.height <= len(planted) + 1


def test_what_differs_in_the_words_that_matter_is_no_copy() -> None:
    rng = random.Random(0)
    common = [f"common{n}" for n in range(30)]
    frames = [tuple(" ".join(rng.choices(common, k=k)) for k in (5, 4, 6)) for _ in range(60)]
    made = []
    for number, (a, b, c) in enumerate(frames):
        for name, split in ((f"above{number}", "test"), (f"below{number}", "train")):
            made.append(row(f"{a} add_{name} {name} {b} {name} use {name}", f"{c} {name} done {name}", split=split))
    found = leaks(
        frame(made).filter(pl.col("split") == "test").with_row_index("group"),
        frame(made).filter(pl.col("split") == "train").with_row_index("group").with_columns(pl.col("group") + 10**6),
        0.7,
    )
    assert found.is_empty()


def found_in(tests: list[dict[str, str | None]], rows: list[dict[str, str | None]]) -> set[str]:
    """Which rows, each a group of its own, hold a test row."""
    groups = frame(rows).with_row_index("group").with_columns(pl.col("group").cast(pl.Int64) + 10**6)
    return set(leaks(frame(tests).with_row_index("group"), groups, 0.7)["row_id"])


def test_an_item_that_many_rows_hold_word_for_word_is_no_boilerplate() -> None:
    rng = random.Random(2)
    item = row(words(rng, 20), words(rng, 8))
    copies = about([item] * 40, rng, edit=False)
    assert found_in([item], copies + unlike(100)) == {each["row_id"] for each in copies}
    halves = [row(f"{words(rng, 9)} {item['prompt']}", words(rng, 8)) for _ in range(40)]
    assert not found_in([item], [*halves, *unlike(100)]), "the question alone gives no answer away"


def test_a_short_answer_that_is_another_one_is_no_copy_of_a_short_item() -> None:
    item = row("alpha bravo charlie delta echo foxtrot golf hotel", "kilo lima mike november")
    edit = row(str(item["prompt"]).replace("hotel", "papa"), "one kilo lima mike november two three")
    other = row(str(item["prompt"]).replace("hotel", "papa"), "quebec romeo sierra tango november")
    assert found_in([item], [edit, other, *unlike(30)]) == {edit["row_id"]}


@pytest.mark.parametrize("text", ["", "!?", "a", "a b"])
def test_items_of_next_to_no_tokens_are_not_looked_for(text: str) -> None:
    assert not found_in([row(text, text)], [row("a b", "a b c"), row("", "!?")])


def write(path: Path, items: list[dict[str, str | None]]) -> Path:
    path.write_text("".join(json.dumps({"instruction": i["prompt"], "output": i["answer"]}) + "\n" for i in items))
    return path


def talks(items: list[dict[str, str | None]]) -> list[dict[str, Any]]:
    return [
        talk(str(i["row_id"]), ("user", str(i["prompt"])), ("assistant", str(i["answer"]))) | {"row_id": i["row_id"]}
        for i in items
    ]


def test_no_row_gives_a_benchmark_away(tmp_path: Path) -> None:
    rng = random.Random(1)
    bench, honest = unlike(40, seed=5), unlike(200, seed=6)
    short = row("who are you", "a bot")
    copies = [each | {"row_id": row("copy", str(each["row_id"]))["row_id"]} for each in [*bench[:20], short]]
    planted = [*copies, *about(bench[20:], rng, edit=True)]
    path = write(tmp_path / "bench.jsonl", [*bench, short])
    decision: Any = stage.run(
        stage_input(talks(planted + honest), Split(decontaminate_against=[str(path)], test=0, validation=0))
    )
    assert recall(decision, planted) >= 0.95
    assert set(decision.removed["row_id"]) <= {each["row_id"] for each in planted}
    assert decision.removed["kept_row_id"].null_count() == decision.removed.height
    assert all("of bench.jsonl" in detail for detail in decision.removed["detail"])
    assert decision.facts["benchmark_items"] == 41
    assert set(split_of(decision).values()) == {"train"}


def test_other_benchmarks_are_another_key_and_missing_ones_are_told(tmp_path: Path) -> None:
    one, other = (write(tmp_path / name, unlike(2, seed)) for name, seed in (("a.jsonl", 1), ("b.jsonl", 2)))
    keys = [references(Split(decontaminate_against=[str(path)]), RUN, tmp_path) for path in (one, other, one)]
    assert keys[0] == keys[2] != keys[1]
    with pytest.raises(SourceError, match="nowhere"):
        references(Split(decontaminate_against=["nowhere.jsonl"]), RUN, tmp_path)


@pytest.mark.parametrize("seed", [0, 1])
def test_a_frozen_test_set_stays_the_same_whatever_is_drawn(tmp_path: Path, seed: int) -> None:
    frozen, others = unlike(15, seed=5), unlike(100, seed=6 + seed)
    path = write(tmp_path / "frozen.jsonl", frozen)
    decision: Any = stage.run(stage_input(talks(others + frozen), Split(frozen=str(path), validation=0.2)))
    test = {row_id for row_id, name in split_of(decision).items() if name == "test"}
    assert test == {each["row_id"] for each in frozen}
    with pytest.raises(DataError, match="2 of the 15"):
        stage.run(stage_input(talks(others + frozen[2:]), Split(frozen=str(path))))


def test_a_frozen_test_set_that_changed_is_told_before_anything_runs(tmp_path: Path) -> None:
    path = write(tmp_path / "frozen.jsonl", unlike(5))
    digest = FileDigests(tmp_path / "data").of(path)
    config = Split(frozen=str(path), frozen_digest=digest)
    before = references(config, RUN, tmp_path / "data")
    write(path, unlike(6))
    with pytest.raises(ConfigError, match="has changed"):
        references(config, RUN, tmp_path / "data")
    assert references(Split(frozen=str(path)), RUN, tmp_path / "data") != before


def timed(rows: list[dict[str, str | None]], times: list[float]) -> pl.DataFrame:
    return frame(rows).with_columns(pl.Series("time", times, dtype=pl.Float64))


@pytest.mark.parametrize("cutoff", [None, 150])
def test_nothing_after_the_cutoff_is_learnt_and_the_newest_rows_are_the_test_set(cutoff: float | None) -> None:
    rows = unlike(200)
    rows[0] |= {"key": "customer"}
    rows[199] |= {"key": "customer"}
    config = Split(time_by="day", group_by="customer", cutoff=cutoff, test=0.25, validation=0.2)
    decision = decide(timed(rows, [float(n) for n in range(200)]), config, seed=0)
    split = split_of(decision)
    learnt = {n for n, each in enumerate(rows) if split[str(each["row_id"])] in ("train", "validation")}
    assert decision.facts["cutoff"] == (149.0 if cutoff is None else 150.0)
    assert learnt == set(range(1, 150 if cutoff is None else 151))
    assert len(set(split.values())) == 3


def test_a_late_row_that_hangs_on_the_users_train_rows_goes() -> None:
    old = unlike(20, split="train")
    late = [each | {"row_id": row("late", str(each["row_id"]))["row_id"], "split": None} for each in old[:3]]
    decision = decide(timed(old + late, [1.0] * 20 + [9.0] * 3), Split(time_by="day", cutoff=5), seed=0)
    assert dict(decision.removed.select("row_id", "rule").iter_rows()) == {
        each["row_id"]: "after_cutoff" for each in late
    }
    assert decision.facts["learnt_after_cutoff"] == 0


def test_times_are_numbers_or_dates_of_any_length() -> None:
    assert as_times(pl.Series(["3", "1e1", "-2.5"])).to_list() == [3.0, 10.0, -2.5]
    dates = ["2024", "2024-01", "2024-01-01", "2024-01-01T00:00:00", "2024-01-01T02:00:00+02:00", "2024-01-01 00:00:00"]
    assert set(as_times(pl.Series(dates)).to_list()) == {1704067200.0}
    with pytest.raises(DataError, match="2 of 3"):
        as_times(pl.Series(["2024-01-01", "soon", None]))


def test_the_width_of_an_interval_gives_the_size() -> None:
    assert rows_for_width(0.05) == 1537
    assert rows_for_width(0.1) == 385
    rows = frame(unlike(1500))
    decision = decide(rows, Split(width=0.1, stratify=["task"]), seed=0)
    assert decision.facts["rows_by_split"]["test"] == 385
    named = decide(rows, Split(test={"a": DrawnSet(width=0.2)}), seed=0)
    assert 60 < named.facts["rows_by_split"]["test:a"] < 140
    with pytest.raises(DataError, match="1537"):
        decide(rows, Split(width=0.05), seed=0)


def test_every_stratum_has_its_exact_share() -> None:
    rows = [each | {"task": f"t{n % 7}"} for n, each in enumerate(unlike(700))]
    table = frame(rows).with_columns(pl.Series("label", [f"l{n % 2}" for n in range(700)]))
    decision = decide(table, Split(test=0.2, validation=0.1, stratify=["task", "label"], folds=4), seed=3)
    assert decision.assigned is not None
    counted = decision.assigned.join(table, on="row_id").group_by("task", "label", "split").len()
    assert set(counted.filter(pl.col("split") == "test")["len"]) == {10}
    assert set(counted.filter(pl.col("split") == "validation")["len"]) == {5}
    assert split_of(decide(table, Split(stratify=["task"]), 1)) != split_of(decide(table, Split(stratify=["task"]), 2))


@pytest.mark.parametrize("n", [0, 1])
@pytest.mark.parametrize("config", [Split(stratify=["task"]), Split(time_by="day"), Split(width=0.9, validation=0)])
def test_hardly_any_rows_and_equal_ones_are_no_trouble(n: int, config: Split) -> None:
    if config.width is None:
        assert len(split_of(decide(timed(unlike(n), [1.0] * n), config, seed=0))) == n
    same = [each | {"row_id": row(str(i), "")["row_id"]} for i in range(20) for each in unlike(1)]
    assert len(set(split_of(decide(timed(same, [1.0] * 20), config, seed=0)).values())) == 1


@pytest.mark.parametrize(
    "wrong",
    [
        {"cutoff": 3},
        {"frozen_digest": "0" * 64},
        {"frozen": "a.jsonl", "width": 0.1},
        {"test": {"a": {}}, "time_by": "day"},
        {"decontaminate": False, "decontaminate_against": ["a.jsonl"]},
    ],
)
def test_what_contradicts_itself_is_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        Split(**wrong)
