"""balance: the wanted proportions in train, nowhere else, and the same rows whatever else is there."""

import math
from collections import Counter

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from pipeline_config.data_schema import Balance
from tasks.balance.proportions import decide, evenness, wanted_sizes
from tasks.kernels.rows import digest

SPLITS = ("train", "train", "train", "validation", "test:chat", None)


def rows_of(sizes: dict[str, int], split: str | None = "train", salt: str = "") -> pl.DataFrame:
    tasks = [task for task, n in sizes.items() for _ in range(n)]
    seen: Counter[str] = Counter()
    ids = []
    for task in tasks:
        ids.append(digest(salt, task, str(seen[task])))
        seen[task] += 1
    schema = {"row_id": pl.String, "split": pl.String, "task": pl.String}
    return pl.DataFrame({"row_id": ids, "split": [split] * len(ids), "task": tasks}, schema=schema)


@st.composite
def corpora(draw: st.DrawFn) -> pl.DataFrame:
    n = draw(st.integers(0, 60))
    tasks = draw(st.lists(st.sampled_from(["mail", "code", "诗", None]), min_size=n, max_size=n))
    splits = draw(st.lists(st.sampled_from(SPLITS), min_size=n, max_size=n))
    ids = [digest("row", str(i)) for i in range(n)]
    schema = {"row_id": pl.String, "split": pl.String, "task": pl.String}
    return pl.DataFrame({"row_id": ids, "split": splits, "task": tasks}, schema=schema)


settings_of = st.builds(
    Balance,
    mode=st.just("apply"),
    temperature=st.sampled_from([1.0, 1.5, 3.0, 50.0]),
    cap=st.one_of(st.none(), st.integers(1, 20), st.just({"mail": 3, "诗": 9})),
    max_repeats=st.integers(1, 4),
)


def after(rows: pl.DataFrame, config: Balance, seed: int = 0) -> list[str]:
    """The origin of every row that stands in the result."""
    decision = decide(rows, config, seed)
    gone = set(decision.removed["row_id"])
    left = [row_id for row_id in rows["row_id"] if row_id not in gone]
    return left + ([] if decision.added is None else decision.added["parent_row_id"].to_list())


@given(corpora(), settings_of)
@settings(max_examples=80, deadline=None)
def test_train_reaches_the_wanted_sizes_and_nothing_else_moves(rows: pl.DataFrame, config: Balance) -> None:
    decision = decide(rows, config, seed=5)
    train = rows.filter(pl.col("split").fill_null("train") == "train")
    assert set(decision.removed["row_id"]) <= set(train["row_id"])
    assert decision.added is not None
    assert set(decision.added["parent_row_id"]) <= set(train["row_id"]) - set(decision.removed["row_id"])
    task_of = dict(zip(rows["row_id"], rows["task"].fill_null("(none)"), strict=True))
    standing = Counter(after(train, config, seed=5))
    assert max(standing.values(), default=0) <= config.max_repeats
    sizes = Counter(dict.fromkeys(decision.facts["wanted"], 0))
    for row_id, n in standing.items():
        sizes[task_of[row_id]] += n
    assert dict(sizes) == decision.facts["wanted"]
    ids = decision.added["row_id"].to_list()
    assert len(set(ids) | set(rows["row_id"])) == len(ids) + rows.height


@given(corpora(), settings_of, st.randoms())
@settings(max_examples=40, deadline=None)
def test_the_order_of_rows_does_not_matter(rows: pl.DataFrame, config: Balance, random: object) -> None:
    shuffled = rows.sample(fraction=1.0, shuffle=True, seed=random.randint(0, 99))  # type: ignore[attr-defined]
    assert Counter(after(rows, config)) == Counter(after(shuffled, config))


def test_a_row_more_displaces_at_most_one_under_a_cap() -> None:
    rows = rows_of({"mail": 200, "code": 30})
    config = Balance(mode="apply", cap=50)
    more = pl.concat([rows_of({"mail": 1}, salt="new"), rows])
    assert len(set(after(rows, config)) - set(after(more, config))) <= 1


def test_report_changes_nothing_and_says_what_is_there() -> None:
    decision = decide(rows_of({"mail": 90, "code": 10}), Balance(), seed=0)
    assert decision.removed.is_empty()
    assert decision.added is None
    assert decision.facts["sizes"] == {"mail": 90, "code": 10}
    assert decision.metrics["largest_share"] == pytest.approx(0.9)


def test_temperature_draws_sizes_together_by_its_formula() -> None:
    groups = pl.DataFrame({"group": ["a", "b"], "rows": [900, 100]})
    wanted = wanted_sizes(groups, Balance(temperature=2.0))["wanted"].to_list()
    total = math.sqrt(900) + math.sqrt(100)
    assert wanted == [round(1000 * math.sqrt(900) / total), round(1000 * math.sqrt(100) / total)]


def test_a_small_group_grows_to_at_most_four_standings_of_a_row() -> None:
    rows = rows_of({"mail": 1000, "rare": 5})
    standing = Counter(after(rows, Balance(mode="apply", temperature=1000.0)))
    rare = set(rows.filter(pl.col("task") == "rare")["row_id"])
    assert {standing[row_id] for row_id in rare} == {4}


def test_every_removed_row_says_which_bound_it_broke() -> None:
    rows = rows_of({"mail": 100, "code": 10})
    removed = decide(rows, Balance(mode="apply", cap={"mail": 60}, temperature=2.0), seed=0).removed
    by_rule = removed.group_by("rule").agg(pl.len(), pl.col("value").first(), pl.col("threshold").first()).sort("rule")
    assert by_rule.row(1, named=True) == {"rule": "over_cap", "len": 40, "value": 100.0, "threshold": 60.0}
    down = by_rule.row(0, named=True)
    assert down["rule"] == "down_sampled"
    assert down["len"] == down["value"] - down["threshold"]


def test_a_cap_for_a_group_that_is_not_there_is_told() -> None:
    decision = decide(rows_of({"mail": 3}), Balance(mode="apply", cap={"mial": 2}), seed=0)
    assert decision.facts["unknown_caps"] == ["mial"]


def test_evenness_runs_from_one_group_to_equal_groups() -> None:
    import numpy as np

    assert evenness(np.array([5, 5, 5])) == pytest.approx(1.0)
    assert evenness(np.array([99, 1])) < 0.1


def test_a_cap_below_one_row_is_refused() -> None:
    with pytest.raises(ValidationError):
        Balance(cap=0)
