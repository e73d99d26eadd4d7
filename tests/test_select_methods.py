"""select by importance, by a field, within quotas and far apart; and that importance serves its seed set best."""

import json
import math
import random
from collections import Counter
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from pipeline_config.data_schema import Ingest, Source
from pipeline_config.errors import DataError
from pipeline_config.schema import Config
from pipeline_config.sets_schema import Select
from tasks.kernels.rows import ROW_SCHEMA, digest
from tasks.ledger import Decision
from tasks.select.importance import farthest_first, log_weights, resampled, vectors
from tasks.select.task import select as stage
from tasks.stage import StageInput

WORDS = ["red", "green", "blue", "one", "two"]
texts = st.lists(st.lists(st.sampled_from(WORDS), max_size=8).map(" ".join), max_size=8)


@given(texts, texts)
@settings(max_examples=50, deadline=None)
def test_a_weight_is_the_log_ratio_over_tokens_and_pairs(pool: list[str], seeds: list[str]) -> None:
    """Slow, plain; on these words no two features share a bucket."""

    def bag(text: str) -> list[tuple[str, ...]]:
        words = text.split()
        return [(word,) for word in words] + list(pairwise(words))

    def shares(of: list[str]) -> Any:
        counts = Counter(feature for text in of for feature in bag(text))
        return lambda feature: counts[feature] / max(counts.total(), 1) + 1e-8

    target, raw = shares(seeds), shares(pool)
    slow = [sum(math.log(target(feature) / raw(feature)) for feature in bag(text)) for text in pool]
    found = log_weights(pl.Series(pool, dtype=pl.String), pl.Series(seeds, dtype=pl.String))
    np.testing.assert_allclose(found, slow, rtol=1e-6, atol=1e-6)


def test_resampling_draws_in_proportion_to_the_weights() -> None:
    ids = pl.Series([digest(str(n)) for n in range(30_000)])
    heavy = np.arange(30_000) % 3 == 0
    order = resampled(ids, np.where(heavy, math.log(8.0), 0.0), seed=1)
    drawn = np.argsort(-order)[:1000]
    assert abs(heavy[drawn].mean() - 0.8) < 0.05  # 8 : 1 : 1
    assert set(drawn) != set(np.argsort(-resampled(ids, np.where(heavy, math.log(8.0), 0.0), seed=2))[:1000])


def domain(rng: random.Random, name: str, n: int, length: tuple[int, int] = (6, 30)) -> list[str]:
    common, own = [f"common{i}" for i in range(200)], [f"{name}{i}" for i in range(150)]
    return [" ".join(rng.choices(own + common, k=rng.randint(*length))) for _ in range(n)]


def run_stage(rows: list[dict[str, Any]], config: Select, folder: Path, seed: int = 0) -> Decision:
    run = Config(ingest=Ingest(sources=[Source(path="/x/mine.jsonl")]), select=config)
    empty = dict.fromkeys(ROW_SCHEMA)
    table = pl.DataFrame([empty | each for each in rows], schema=ROW_SCHEMA)
    none = pl.DataFrame(schema={"row_id": pl.String, "score_similarity": pl.Float32})
    found = stage.run(StageInput(config, run, seed, table.lazy(), none, {}, folder, folder, folder))
    assert isinstance(found, Decision)
    return found


def text_row(text: str, n: int = 0, **more: Any) -> dict[str, Any]:
    message = {"role": "text", "content": text, "weight": 1.0}
    return {"row_id": digest(text, str(n)), "source": "mine", "messages": [message], "meta": "{}"} | more


def kept_ids(decision: Decision) -> set[str]:
    assert decision.assigned is not None
    return set(decision.assigned["row_id"])


def likelihood(chosen: list[str], held_out: list[str]) -> float:
    """Mean log likelihood of a token of the held-out texts under the smoothed unigrams of the chosen ones."""
    counts = Counter(word for text in chosen for word in text.split())
    total = counts.total() + 0.1 * 1000
    words = [word for text in held_out for word in text.split()]
    return sum(math.log((counts[word] + 0.1) / total) for word in words) / len(words)


@pytest.mark.parametrize("seed", [0, 1])
def test_importance_serves_its_seed_set_better_than_chance_and_than_the_longest(tmp_path: Path, seed: int) -> None:
    rng = random.Random(seed)
    seeds, held_out = domain(rng, "law", 40), domain(rng, "law", 100)
    pool = domain(rng, "law", 150) + domain(rng, "chat", 600, (6, 60)) + domain(rng, "code", 400)
    path = tmp_path / "seeds.jsonl"
    path.write_text("".join(json.dumps({"text": text}) + "\n" for text in seeds))
    rows = [text_row(text) for text in pool]
    decision = run_stage(rows, Select(method="importance", seed_set=str(path), keep=120), tmp_path, seed)
    kept = kept_ids(decision)
    ours = likelihood([t for t, each in zip(pool, rows, strict=True) if each["row_id"] in kept], held_out)
    by_chance = likelihood(rng.sample(pool, 120), held_out)
    longest = likelihood(sorted(pool, key=len, reverse=True)[:120], held_out)
    assert len(kept) == 120
    assert ours > max(by_chance, longest) + 0.3
    shuffled = run_stage(rows[::-1], Select(method="importance", seed_set=str(path), keep=120), tmp_path, seed)
    assert kept_ids(shuffled) == kept


def test_the_largest_of_a_field_stay_and_rows_without_it_go_first(tmp_path: Path) -> None:
    meta = ['{"score": 3}', '{"score": "9.5"}', "{}", '{"score": -1}']
    rows = [text_row(f"text {n}", meta=each) for n, each in enumerate(meta)]
    decision = run_stage(rows, Select(method="field", field="score", keep=2), tmp_path)
    assert kept_ids(decision) == {rows[0]["row_id"], rows[1]["row_id"]}
    assert decision.removed["value"].to_list() == [None, -1.0]
    assert decision.removed["threshold"].to_list() == [3.0, 3.0]
    with pytest.raises(DataError, match="other"):
        run_stage(rows, Select(method="field", field="other", keep=2), tmp_path)


@pytest.mark.parametrize(("keep", "each"), [(3, {"a": 3, "b": 2, "": 1}), (0.5, {"a": 5, "b": 1, "": 1})])
def test_every_group_has_its_own_quota(tmp_path: Path, keep: float, each: dict[str, int]) -> None:
    tasks = ["a"] * 10 + ["b"] * 2 + [None]
    rows = [text_row(f"text {n}", task=task, meta=f'{{"s": {n}}}') for n, task in enumerate(tasks)]
    decision = run_stage(rows, Select(method="field", field="s", keep=keep, quota_by="task"), tmp_path)
    kept = kept_ids(decision)
    assert Counter(row["task"] or "" for row in rows if row["row_id"] in kept) == each
    worst = {task: min(n for n, t in enumerate(tasks) if t == task and rows[n]["row_id"] in kept) for task in "ab"}
    for line in decision.removed.iter_rows(named=True):
        task = next(row["task"] for row in rows if row["row_id"] == line["row_id"])
        assert line["value"] < line["threshold"] == worst[task]


def test_what_stays_is_far_apart_and_among_the_best(tmp_path: Path) -> None:
    rng = random.Random(0)
    themes = [" ".join(f"theme{t}word{i}" for i in range(12)) for t in range(10)]
    rows = [text_row(f"{themes[n // 4]} extra{n}", meta=f'{{"s": {100 - n}}}') for n in range(40)]
    rows += [text_row(" ".join(domain(rng, "far", 1)), n, meta='{"s": 0}') for n in range(20)]
    alone = kept_ids(run_stage(rows, Select(method="field", field="s", keep=10), tmp_path))
    spread = kept_ids(run_stage(rows, Select(method="field", field="s", keep=10, diversity=4), tmp_path))
    assert [n // 4 for n, row in enumerate(rows) if row["row_id"] in alone] == [0] * 4 + [1] * 4 + [2] * 2
    assert sorted(n // 4 for n, row in enumerate(rows) if row["row_id"] in spread) == list(range(10))
    assert rows[0]["row_id"] in spread


def test_farthest_first_is_the_greedy_k_centre() -> None:
    points = np.random.default_rng(0).normal(size=(40, 5)).astype(np.float32)
    chosen = [0]
    while len(chosen) < 9:
        far = [min(float(((p - points[c]) ** 2).sum()) for c in chosen) for p in points]
        chosen.append(int(np.argmax(far)))
    assert set(np.flatnonzero(farthest_first(points, 9)).tolist()) == set(chosen)
    assert farthest_first(points[:3], 9).all()
    assert farthest_first(points[:0], 9).size == 0
    same = vectors(pl.Series(["a b", "a b", ""], dtype=pl.String))
    assert int(farthest_first(same, 2).sum()) == 2


@pytest.mark.parametrize("texts", [[], ["one"], ["same words"] * 20, [""] * 3])
@pytest.mark.parametrize("diversity", [None, 2])
def test_hardly_any_rows_and_equal_ones_are_no_trouble(tmp_path: Path, texts: list[str], diversity: int | None) -> None:
    rows = [text_row(text, n) for n, text in enumerate(texts)]
    config = Select(method="importance", description="same things", keep=4, diversity=diversity, quota_by="task")
    assert len(kept_ids(run_stage(rows, config, tmp_path))) == min(4, len(rows))


@pytest.mark.parametrize(
    "wrong",
    [
        {"method": "field", "keep": 1},
        {"method": "importance", "description": "x"},
        {"method": "importance", "description": "x", "keep": 1, "min_similarity": 0.1},
        {"description": "x", "quota_by": "task"},
    ],
)
def test_what_contradicts_itself_is_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        Select(**wrong)
