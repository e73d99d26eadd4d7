"""split: every row in one place, nothing that leaks between places, and no row moved by the coming of others."""

import math
import random
import re
from collections import Counter
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from pipeline_config.data_schema import Ingest, Source
from pipeline_config.errors import ConfigError, DataError
from pipeline_config.schema import Config
from pipeline_config.sets_schema import Split
from pipeline_config.sets_schema import TestSet as DrawnSet
from tasks.kernels.rows import ROW_SCHEMA, digest
from tasks.ledger import Decision
from tasks.split.decide import decide
from tasks.split.task import references
from tasks.split.task import split as stage
from tasks.stage import StageInput

SCHEMA = dict.fromkeys(("row_id", "source", "task", "split", "key", "whole", "prompt", "answer"), pl.String)
VOCABULARY = [f"word{i}" for i in range(4000)]


def row(prompt: str, answer: str, **more: str | None) -> dict[str, str | None]:
    whole = f"{prompt}\n{answer}" if prompt else answer
    base = {"row_id": digest(prompt, answer, str(more)), "source": "mine", "task": "t", "split": None, "key": None}
    return base | {"whole": whole, "prompt": prompt, "answer": answer} | more


def frame(rows: list[dict[str, str | None]]) -> pl.DataFrame:
    return pl.DataFrame(rows, schema=SCHEMA).unique("row_id", maintain_order=True)


def words(rng: random.Random, n: int) -> str:
    return " ".join(rng.choices(VOCABULARY, k=n))


def unlike(n: int, seed: int = 0, **more: str | None) -> list[dict[str, str | None]]:
    rng = random.Random(seed)
    return [row(words(rng, 12), words(rng, 12), **more) for _ in range(n)]


def split_of(decision: Decision) -> dict[str, str]:
    assert decision.assigned is not None
    return dict(decision.assigned.select("row_id", "split").iter_rows())


def side(split: str) -> str:
    return split.split(":", 1)[0]


def shingles(text: str, n: int = 5) -> set[tuple[str, ...]]:
    """Slow, plain: runs of tokens; each Chinese character is a token."""
    tokens = re.findall(r"[\u4e00-\u9fff]|(?:(?![\u4e00-\u9fff])\w)+", text.casefold())
    return {tuple(tokens[i : i + n]) for i in range(max(1, len(tokens) - n + 1))}


def jaccard(one: str, other: str) -> float:
    a, b = shingles(one), shingles(other)
    return len(a & b) / len(a | b)


@st.composite
def alike(draw: st.DrawFn) -> pl.DataFrame:
    """Rows of which many are edits of each other, in English and Chinese; some raw text."""
    rng = random.Random(draw(st.integers(0, 10**6)))
    letters = list("春眠不觉晓处处闻啼鸟夜来风雨声花落知多少白日依山尽黄河入海流欲穷千里目更上一层楼")
    rows: list[dict[str, str | None]] = []
    for _ in range(draw(st.integers(0, 12))):
        chinese = rng.random() < 0.5
        tokens = rng.choices(letters, k=30) if chinese else rng.choices(VOCABULARY, k=30)
        space = "" if chinese else " "
        for _ in range(rng.randint(1, 4)):
            edited = [rng.choice(tokens) if rng.random() < 0.04 else token for token in tokens]
            prompt = "" if rng.random() < 0.3 else space.join(edited[:15])
            rows.append(row(prompt, space.join(edited[15:]), source=rng.choice(["a", "b"])))
    rng.shuffle(rows)
    return frame(rows)


CONFIG = Split(validation=0.2, test={"python": DrawnSet(sources=["a"], size=0.2), "chat": DrawnSet(size=0.2)}, folds=3)


@given(alike())
@settings(max_examples=40, deadline=None)
def test_no_near_duplicate_straddles(rows: pl.DataFrame) -> None:
    split = split_of(decide(rows, CONFIG, seed=1))
    listed = [each for each in rows.iter_rows(named=True) if each["row_id"] in split]
    for i, one in enumerate(listed):
        for other in listed[:i]:
            near = jaccard(one["whole"], other["whole"]) >= 0.65
            near |= bool(one["prompt"] and other["prompt"]) and jaccard(one["prompt"], other["prompt"]) >= 0.65
            if near:
                assert side(split[one["row_id"]]) == side(split[other["row_id"]])


@given(alike())
@settings(max_examples=40, deadline=None)
def test_every_row_is_placed_or_removed_and_only_rows_of_its_sources_are_in_a_test_set(rows: pl.DataFrame) -> None:
    decision = decide(rows, CONFIG, seed=1)
    split = split_of(decision)
    assert sorted([*split, *decision.removed["row_id"]]) == sorted(rows["row_id"])
    assert set(split.values()) <= {"train", "validation", "test:python", "test:chat"}
    source = dict(rows.select("row_id", "source").iter_rows())
    assert all(source[row_id] == "a" for row_id, name in split.items() if name == "test:python")
    assert decision.facts["leakage"] == 0


@given(alike(), st.integers(0, 99))
@settings(max_examples=40, deadline=None)
def test_unlike_rows_move_no_row(rows: pl.DataFrame, seed: int) -> None:
    config = CONFIG.model_copy(update={"decontaminate": False})
    split = split_of(decide(rows, config, seed=1))
    more = pl.concat([frame(unlike(7, 10**7 + seed)), rows, frame(unlike(7, 10**8 + seed))])
    again = split_of(decide(more, config, seed=1))
    assert {row_id: again[row_id] for row_id in split} == split


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_rows_put_in_front_move_no_row_whatever_they_resemble(seed: int) -> None:
    rows = unlike(300, seed)
    copies = [row(f"{old['prompt']} {end}", str(old["answer"])) for old in rows[:200] for end in ("please", "now")]
    config = Split(validation=0.2, test=0.3, decontaminate=False)
    split = split_of(decide(frame(rows), config, seed))
    again = split_of(decide(frame(copies + rows), config, seed))
    assert {row_id: again[row_id] for row_id in split} == split
    assert Counter(again[str(new["row_id"])] for new in copies) != {"train": 400}
    scattered = frame([*copies[:200], *rows[:200], *copies[200:], *rows[200:]])
    moved = split_of(decide(scattered, config, seed))
    assert sum(moved[row_id] != name for row_id, name in split.items()) > 9


def within(count: int, rows: int, share: float) -> bool:
    """Whether a count is no surprise: four standard deviations of a binomial."""
    return abs(count - rows * share) <= 4 * math.sqrt(rows * share * (1 - share))


@pytest.mark.parametrize("copies", [1, 6])
def test_shares_are_near_those_wanted_also_for_large_groups(copies: int) -> None:
    groups = 1500
    rows = [
        each | {"row_id": digest(str(n), str(each["row_id"])), "answer": words(random.Random(n), 9)}
        for n in range(copies)
        for each in unlike(groups)
    ]
    decision = decide(frame(rows), Split(validation=0.1, test=0.2, folds=4), seed=3)
    count = decision.facts["rows_by_split"]
    assert within(count["test"] // copies, groups, 0.2)
    assert within(count["validation"] // copies, groups, 0.1)
    learnt = groups - count["test"] // copies
    assert all(within(n // copies, learnt, 0.25) for n in decision.facts["rows_by_fold"].values())


def test_one_question_with_many_answers_stays_together() -> None:
    rng = random.Random(0)
    rows = [row(str(each["prompt"]), words(rng, 60)) for each in unlike(60) for _ in range(3)]
    split = split_of(decide(frame(rows), Split(test=0.5), seed=0))
    for n in range(0, len(rows), 3):
        assert len({split[str(each["row_id"])] for each in rows[n : n + 3]}) == 1


def test_another_seed_draws_another_split() -> None:
    rows = frame(unlike(200))
    assert split_of(decide(rows, Split(), seed=0)) != split_of(decide(rows, Split(), seed=1))


def test_folds_keep_near_duplicates_together_and_leave_test_rows_out() -> None:
    pairs = [each | {"row_id": digest(name, str(each["row_id"]))} for each in unlike(150) for name in "ab"]
    decision = decide(frame(pairs), Split(test=0.3, folds=5), seed=0)
    assert decision.assigned is not None
    fold = dict(decision.assigned.select("row_id", "fold").iter_rows())
    test = {row_id for row_id, name in split_of(decision).items() if name == "test"}
    assert {row_id for row_id, number in fold.items() if number is None} == test
    for one, other in zip(pairs[::2], pairs[1::2], strict=True):
        assert fold[str(one["row_id"])] == fold[str(other["row_id"])]
    assert set(fold.values()) == {None, 0, 1, 2, 3, 4}


def test_rows_that_share_a_meta_value_stay_together() -> None:
    rng = random.Random(0)
    rows = [row(words(rng, 12), words(rng, 12), key=f"customer {i % 40}" if i % 3 else None) for i in range(600)]
    split = split_of(decide(frame(rows), Split(group_by="customer", test=0.3), seed=0))
    where: dict[str, set[str]] = {}
    for each in rows:
        if each["key"]:
            where.setdefault(each["key"], set()).add(split[str(each["row_id"])])
    assert all(len(splits) == 1 for splits in where.values())
    assert len({name for splits in where.values() for name in splits}) > 1


def test_a_customers_new_row_moves_none_of_the_old_ones() -> None:
    rng = random.Random(0)
    rows = [row(words(rng, 12), words(rng, 12), key=f"customer {i % 40}") for i in range(200)]
    more = [row(words(rng, 12), words(rng, 12), key=f"customer {i}") for i in range(40)]
    config = Split(group_by="customer", test=0.3)
    before, after = (split_of(decide(frame(each), config, seed=0)) for each in (rows, more + rows))
    assert {row_id: after[row_id] for row_id in before} == before


def test_a_field_that_no_row_has_is_an_error() -> None:
    with pytest.raises(DataError, match="customer"):
        decide(frame(unlike(3)), Split(group_by="customer"), seed=0)


def test_the_users_own_split_is_respected_and_its_test_set_neither_grows_nor_leaks() -> None:
    bench, train = unlike(20, seed=1, split="test:bench"), unlike(20, seed=2, split="train")
    copies = [each | {"row_id": digest("copy", str(each["row_id"])), "split": None} for each in bench]
    rows = frame(copies + bench + train + unlike(50, seed=3))
    decision = decide(rows, Split(test=0.3), seed=0)
    split = split_of(decision)
    assert {row_id for row_id, name in split.items() if name == "test:bench"} == {each["row_id"] for each in bench}
    assert all(split[str(each["row_id"])] == "train" for each in train)
    removed = decision.removed
    assert dict(removed.select("row_id", "kept_row_id").iter_rows()) == {
        copy["row_id"]: original["row_id"] for copy, original in zip(copies, bench, strict=True)
    }
    assert set(removed["rule"]) == {"contaminated"}
    assert (removed["value"] >= removed["threshold"]).all()


def test_the_users_validation_set_does_not_grow_and_its_own_near_duplicates_in_train_stay() -> None:
    validation = unlike(20, seed=1, split="validation")
    copies = [each | {"row_id": digest("copy", str(each["row_id"])), "split": None} for each in validation[:10]]
    trained = [each | {"row_id": digest("train", str(each["row_id"])), "split": "train"} for each in validation[10:]]
    decision = decide(frame(validation + copies + trained), Split(), seed=0)
    assert set(decision.removed["row_id"]) == {each["row_id"] for each in copies}
    assert decision.facts["rows_by_split"] == {"train": 10, "validation": 20}
    assert decision.facts["leakage"] == 0
    assert decision.facts["leakage_placed_by_user"] > 0


def test_rows_near_the_users_train_rows_follow_them() -> None:
    train = unlike(60, seed=2, split="train")
    copies = [each | {"row_id": digest("copy", str(each["row_id"])), "split": None} for each in train]
    split = split_of(decide(frame(copies + train), Split(test=0.5), seed=0))
    assert set(split.values()) == {"train"}


def test_a_test_row_inside_a_longer_train_row_is_found_but_a_shared_template_is_not() -> None:
    rng = random.Random(0)
    template = words(rng, 60)
    bench = [row(f"{template} {words(rng, 25)}", words(rng, 2), split="test:bench") for _ in range(30)]
    holding = [row(f"{words(rng, 90)} {each['prompt']}", f"{words(rng, 90)} {each['answer']}") for each in bench]
    honest = [row(f"{template} {words(rng, 25)}", words(rng, 2)) for _ in range(30)]
    decision = decide(frame(bench + holding + honest), Split(test=0, validation=0), seed=0)
    assert dict(decision.removed.select("row_id", "kept_row_id").iter_rows()) == {
        leak["row_id"]: each["row_id"] for leak, each in zip(holding, bench, strict=True)
    }
    assert (decision.removed["value"] > 0.9).all()


def test_a_shared_passage_with_another_answer_gives_nothing_away() -> None:
    rng = random.Random(0)
    passage = words(rng, 40)
    bench = row(f"{passage} {words(rng, 30)}", words(rng, 20), split="test:bench")
    other = row(f"{passage} {words(rng, 60)}", words(rng, 20))
    assert decide(frame([bench, other]), Split(test=0, validation=0), seed=0).removed.is_empty()


def test_without_decontamination_rows_near_the_users_test_rows_follow_them() -> None:
    bench = unlike(20, seed=1, split="test:bench")
    copies = [each | {"row_id": digest("copy", str(each["row_id"])), "split": None} for each in bench]
    decision = decide(frame(bench + copies), Split(decontaminate=False), seed=0)
    assert decision.removed.is_empty()
    assert set(split_of(decision).values()) == {"test:bench"}


def test_leakage_that_the_user_placed_is_told() -> None:
    both = [
        each | {"row_id": digest(name, str(each["row_id"])), "split": name}
        for each in unlike(5)
        for name in ("train", "validation")
    ]
    facts = decide(frame(both), Split(), seed=0).facts
    assert facts["leakage_placed_by_user"] > 0
    assert facts["leakage"] == 0


@pytest.mark.parametrize("n", [0, 1])
def test_hardly_any_rows_are_no_trouble(n: int) -> None:
    assert len(split_of(decide(frame(unlike(n)), Split(folds=2), seed=0))) == n


def test_drift_is_none_where_tasks_are_alike_and_whole_where_they_are_not() -> None:
    rows = unlike(20, seed=1, task="a", split="train") + unlike(20, seed=2, task="b", split="test")
    rows += unlike(20, seed=3, task="a", split="validation")
    assert decide(frame(rows), Split(), seed=0).facts["task_drift"] == {"test": 1.0, "validation": 0.0}


def stage_input(rows: list[dict[str, Any]], config: Split, sources: list[Source] | None = None) -> StageInput[Split]:
    run = Config(ingest=Ingest(sources=sources or [Source(path="/x/mine.jsonl")]), split=config)
    empty = dict.fromkeys(ROW_SCHEMA)
    table = pl.DataFrame([empty | each for each in rows], schema=ROW_SCHEMA)
    return StageInput(config, run, 0, table.lazy(), None, {}, Path(), Path(), Path())


def talk(row_id: str, *turns: tuple[str, str], meta: str = "{}") -> dict[str, Any]:
    messages = [{"role": role, "content": content, "weight": 1.0} for role, content in turns]
    return {"row_id": digest(row_id), "source": "mine", "messages": messages, "meta": meta}


def test_a_shared_system_prompt_ties_no_rows_together() -> None:
    rng = random.Random(0)
    system = words(rng, 80)
    rows = [talk(str(i), ("system", system), ("user", words(rng, 6)), ("assistant", words(rng, 6))) for i in range(40)]
    assert stage.run(stage_input(rows, Split())).facts["largest_group"] == 1


def test_the_group_field_is_read_from_meta() -> None:
    rng = random.Random(0)
    rows = [
        talk(str(i), ("text", words(rng, 12)), meta=f'{{"customer\'s id": {i % 4}, "_winnow": {{}}}}')
        for i in range(40)
    ]
    assert stage.run(stage_input(rows, Split(group_by="customer's id"))).facts["groups"] == 4


def test_a_split_that_a_source_fills_is_not_drawn_on_top() -> None:
    rng = random.Random(0)
    rows = [talk(str(i), ("text", words(rng, 12))) for i in range(100)]
    sources = [Source(path="/x/mine.jsonl"), Source(path="/x/bench.jsonl", split="test")]
    decision = stage.run(stage_input(rows, Split(test=0.5, validation=0.2), sources))
    assert isinstance(decision, Decision)
    assert Counter(split_of(decision).values()).keys() == {"train", "validation"}


def test_a_test_set_that_is_both_given_and_drawn_is_an_error() -> None:
    config = Split(test={"bench": DrawnSet(size=0.1)})
    given_too = stage_input([], config, [Source(path="/x/bench.jsonl", split="test:bench")])
    with pytest.raises(ConfigError, match="test:bench"):
        references(config, given_too.run, Path())


@pytest.mark.parametrize(
    "wrong",
    [{"test": 0.9, "validation": 0.1}, {"test": {"a b": {}}}, {"test": {"a": {"size": 0.6}, "b": {"size": 0.5}}}],
)
def test_impossible_shares_and_names_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        Split(**wrong)
