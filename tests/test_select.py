"""select: the nearest rows stay, each other one says how near it was, and what is not competing is left alone."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from pipeline_config.data_schema import Ingest, Source
from pipeline_config.errors import ModelError, SourceError
from pipeline_config.schema import Config
from pipeline_config.sets_schema import Select
from tasks.kernels.rows import MESSAGE, ROW_SCHEMA, digest
from tasks.select.choose import decide, kept_rows
from tasks.select.similarity import nearest_mean, view
from tasks.select.task import references, score
from tasks.select.task import select as stage
from tasks.stage import StageInput

WORDS = "any task"


def scored(values: list[float]) -> pl.DataFrame:
    ids = [digest(str(n)) for n in range(len(values))]
    return pl.DataFrame(
        {"row_id": ids, "score_similarity": values}, schema={"row_id": pl.String, "score_similarity": pl.Float32}
    )


similarities = st.lists(st.integers(-10, 10).map(lambda n: n / 10), max_size=40)
configs = st.builds(
    Select,
    description=st.just(WORDS),
    keep=st.one_of(st.none(), st.integers(1, 50), st.floats(0.01, 1.0)),
    min_similarity=st.one_of(st.none(), st.floats(-1, 1)),
)


@given(similarities, configs)
@settings(max_examples=150, deadline=None)
def test_no_removed_row_is_nearer_than_a_kept_one(values: list[float], config: Select) -> None:
    scores = scored(values)
    decision = decide(scores, config)
    assert decision.assigned is not None
    kept, removed = set(decision.assigned["row_id"]), decision.removed
    assert sorted([*kept, *removed["row_id"]]) == sorted(scores["row_id"])
    by_similarity = sorted(scores.iter_rows(), key=lambda row: (-row[1], row[0]))
    assert kept == {row_id for row_id, _ in by_similarity[: len(kept)]}
    quota = kept_rows(len(values), config.keep)
    assert quota is None or len(kept) <= quota
    for line in removed.iter_rows(named=True):
        assert line["value"] < line["threshold"] or (line["rule"], line["value"]) == ("beyond_quota", line["threshold"])
        assert line["rule"] == "below_similarity" or len(kept) == quota
    if config.min_similarity is None:
        assert len(kept) == (len(values) if quota is None else min(quota, len(values)))


@given(similarities, configs, st.integers(0, 99))
@settings(max_examples=50, deadline=None)
def test_the_order_of_rows_does_not_matter(values: list[float], config: Select, seed: int) -> None:
    scores = scored(values)
    one, other = decide(scores, config), decide(scores.sample(fraction=1.0, shuffle=True, seed=seed), config)
    assert one.removed.sort("row_id").equals(other.removed.sort("row_id"))


def test_what_is_removed_stands_in_source_order_with_its_rule() -> None:
    removed = decide(scored([0.9, 0.1, 0.5, 0.7]), Select(description=WORDS, keep=2, min_similarity=0.3)).removed
    assert removed["rule"].to_list() == ["below_similarity", "beyond_quota"]
    assert removed["value"].to_list() == pytest.approx([0.1, 0.5])
    assert removed["threshold"].to_list() == pytest.approx([0.3, 0.7])


@pytest.mark.parametrize(("keep", "rows"), [(3, 3), (0.5, 50), (1.0, 100), (0.001, 1), (None, None)])
def test_a_quota_is_rows_or_a_share(keep: float | None, rows: int | None) -> None:
    assert kept_rows(100, keep) == rows


@pytest.mark.parametrize("wrong", [{"keep": 1.5}, {"keep": 0}, {"keep": -1}, {"min_similarity": 2}])
def test_an_impossible_quota_is_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        Select(description=WORDS, **wrong)


def test_without_a_target_select_is_refused() -> None:
    with pytest.raises(ValidationError, match="seed_set"):
        Select()


@given(st.integers(0, 20), st.integers(1, 9), st.integers(1, 12))
@settings(max_examples=40, deadline=None)
def test_the_mean_is_over_the_nearest_examples(rows: int, examples: int, nearest: int) -> None:
    rng = np.random.default_rng(rows * 100 + examples)
    a, b = (v / np.linalg.norm(v, axis=1, keepdims=True) for v in (rng.normal(size=(n, 5)) for n in (rows, examples)))
    a, b = a.astype(np.float32), b.astype(np.float32)
    slow = [np.mean(sorted((float(row @ each) for each in b), reverse=True)[:nearest]) for row in a]
    np.testing.assert_allclose(nearest_mean(a, b, nearest), slow, atol=1e-4)


def seen(*turns: tuple[str, str], max_length: int = 48) -> str:
    messages = [{"role": role, "content": content, "weight": 1.0} for role, content in turns]
    table = pl.DataFrame({"messages": [messages]}, schema={"messages": pl.List(MESSAGE)})
    return str(table.select(view(max_length)).item())


def test_a_long_question_does_not_push_the_answer_out() -> None:
    for question in ("word " * 500, "春眠不觉晓" * 100):
        text = seen(("system", "be brief"), ("user", question), ("assistant", "the answer"), max_length=48)
        assert text.endswith("the answer")
        assert "be brief" not in text
        assert len(text) < 100


def test_raw_text_and_many_turns_are_seen() -> None:
    assert seen(("text", "some raw text")) == "some raw text"
    turns = (("user", "first"), ("assistant", "one"), ("user", "thanks"), ("assistant", "last"))
    assert seen(*turns) == "first\nlast"


PYTHON = ["How do I sort a list in Python?", "What does the yield keyword do in a Python function?"]
OTHER = ["What is your favourite food?", "Who won the football match last night?"]


def stage_input(config: Select, folder: Path) -> StageInput[Select]:
    def row(name: str, question: str, **more: Any) -> dict[str, Any]:
        turns = [("user", question), ("assistant", "Let me explain that.")]
        messages = [{"role": role, "content": content, "weight": 1.0} for role, content in turns]
        return dict.fromkeys(ROW_SCHEMA) | {"row_id": digest(name), "source": "mine", "messages": messages} | more

    rows = [row(question, question) for question in (*OTHER, *PYTHON)]
    rows += [row("bench", OTHER[0], split="test"), row("elsewhere", OTHER[0], source="other")]
    run = Config(ingest=Ingest(sources=[Source(path="/x/mine.jsonl"), Source(path="/x/other.jsonl")]), select=config)
    table = pl.DataFrame(rows, schema=ROW_SCHEMA)
    return StageInput(config, run, 0, table.lazy(), None, {}, folder, folder, folder)


def run_stage(config: Select, folder: Path) -> tuple[set[str], set[str]]:
    """Ids scored, and ids removed."""
    from dataclasses import replace

    given_rows = stage_input(config, folder)
    scores = score(given_rows)
    decision = stage.run(replace(given_rows, scores=scores))
    return set(scores["row_id"]), set(decision.removed["row_id"])  # type: ignore[union-attr]


def test_rows_near_a_seed_set_stay_and_rows_that_do_not_compete_are_not_touched(tmp_path: Path) -> None:
    seeds = [
        {"instruction": "How can I reverse a Python list?", "input": "", "output": "Use reversed()."},
        {"instruction": "Explain Python generators.", "output": "They yield values."},
        {"instruction": "How do I read a file in Python?", "output": "Use open()."},
    ]
    path = tmp_path / "seeds.jsonl"
    path.write_text("".join(json.dumps(seed) + "\n" for seed in seeds))
    scored_ids, removed = run_stage(Select(seed_set=str(path), keep=2, sources=["mine"]), tmp_path)
    assert scored_ids == {digest(question) for question in (*PYTHON, *OTHER)}
    assert removed == {digest(question) for question in OTHER}


def test_rows_near_a_description_stay(tmp_path: Path) -> None:
    _, removed = run_stage(
        Select(description="questions about Python programming", keep=0.5, sources=["mine"]), tmp_path
    )
    assert removed == {digest(question) for question in OTHER}


def test_a_seed_set_without_a_readable_record_is_told(tmp_path: Path) -> None:
    path = tmp_path / "seeds.jsonl"
    path.write_text('{"instruction": "broken"\n')
    with pytest.raises(SourceError):
        score(stage_input(Select(seed_set=str(path)), tmp_path))


def test_a_missing_seed_set_or_encoder_is_told_before_anything_runs(tmp_path: Path) -> None:
    run = Config(ingest=Ingest(sources=[Source(path="/x/mine.jsonl")]))
    with pytest.raises(SourceError, match="nowhere"):
        references(Select(seed_set=str(tmp_path / "nowhere.jsonl")), run, tmp_path)
    with pytest.raises(ModelError):
        references(Select(description=WORDS, encoder=str(tmp_path / "nowhere")), run, tmp_path)


def test_another_seed_set_is_another_key(tmp_path: Path) -> None:
    run = Config(ingest=Ingest(sources=[Source(path="/x/mine.jsonl")]))
    paths = [tmp_path / name for name in ("a.jsonl", "b.jsonl", "c.jsonl")]
    for path, text in zip(paths, ("one", "two", "one"), strict=True):
        path.write_text(json.dumps({"text": text}))
    a, b, c = (references(Select(seed_set=str(path)), run, tmp_path / "data") for path in paths)
    assert a == c != b
