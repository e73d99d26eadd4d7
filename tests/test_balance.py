"""balance: the wanted proportions in train, nowhere else, and the same rows whatever else is there."""

import math
from collections import Counter
from collections.abc import Sequence

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from pipeline_config.sets_schema import Balance
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
    return frame(ids, [split] * len(ids), tasks)


def frame(ids: list[str], splits: Sequence[str | None], tasks: Sequence[str | None]) -> pl.DataFrame:
    schema = {"row_id": pl.String, "split": pl.String, "task": pl.String, "weight": pl.Float32}
    return pl.DataFrame({"row_id": ids, "split": splits, "task": tasks, "weight": None}, schema=schema)


@st.composite
def corpora(draw: st.DrawFn) -> pl.DataFrame:
    n = draw(st.integers(0, 60))
    tasks = draw(st.lists(st.sampled_from(["mail", "code", "诗", None]), min_size=n, max_size=n))
    splits = draw(st.lists(st.sampled_from(SPLITS), min_size=n, max_size=n))
    ids = [digest("row", str(i)) for i in range(n)]
    return frame(ids, splits, tasks)


settings_of = st.builds(
    Balance,
    mode=st.just("apply"),
    temperature=st.sampled_from([1.0, 1.5, 3.0, 50.0]),
    cap=st.one_of(st.none(), st.integers(5, 20), st.just({"mail": 3, "诗": 9})),
    floor=st.one_of(st.none(), st.integers(1, 3), st.just({"mail": 2, "诗": 5})),
    shares=st.sampled_from([{}, {"mail": 0.5}, {"mail": 0.2, "code": 0.8}, {"nowhere": 0.3}]),
    resample=st.sampled_from(["both", "down", "up"]),
    max_repeats=st.integers(1, 4),
)


def after(rows: pl.DataFrame, config: Balance, seed: int = 0) -> list[str]:
    """The origin of every row that stands in the result."""
    decision = decide(rows, config, seed)
    gone = set(decision.removed["row_id"])
    left = [row_id for row_id in rows["row_id"] if row_id not in gone]
    return left + ([] if decision.added is None else decision.added["parent_row_id"].to_list())


@given(corpora(), settings_of)
@settings(max_examples=60, deadline=None)
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
    assert decision.facts["unknown_groups"] == ["mial"]


def test_evenness_runs_from_one_group_to_equal_groups() -> None:
    import numpy as np

    assert evenness(np.array([5, 5, 5])) == pytest.approx(1.0)
    assert evenness(np.array([99, 1])) < 0.1


def test_a_cap_below_one_row_is_refused() -> None:
    with pytest.raises(ValidationError):
        Balance(cap=0)


def sizes(groups: dict[str, int], **fields: object) -> dict[str, int]:
    """The wanted sizes."""
    config = Balance.model_validate(fields)
    found = wanted_sizes(pl.DataFrame({"group": list(groups), "rows": list(groups.values())}), config)
    return dict(zip(found["group"], found["wanted"], strict=True))


def test_explicit_shares_are_reached_and_the_others_have_the_rest() -> None:
    groups = {"mail": 600, "code": 300, "诗": 100}
    assert sizes(groups, shares={"诗": 0.2}) == {"mail": 533, "code": 267, "诗": 200}
    assert sizes(groups, shares={"诗": 0.2}, temperature=1e9) == {"mail": 400, "code": 400, "诗": 200}
    assert sizes(groups, shares={"mail": 0.5, "code": 0.5}) == {"mail": 500, "code": 500, "诗": 1}


def test_down_makes_nothing_grow_and_up_makes_nothing_shrink() -> None:
    groups = {"mail": 600, "code": 300, "诗": 100}
    equal = {"mail": 1 / 3, "code": 1 / 3, "诗": 1 / 3}
    assert sizes(groups, shares=equal, resample="down") == {"mail": 100, "code": 100, "诗": 100}
    assert sizes(groups, shares=equal, resample="up") == {
        "mail": 600,
        "code": 600,
        "诗": 400,
    }  # four times each at most
    assert sizes(groups, temperature=1e9, resample="down") == {"mail": 100, "code": 100, "诗": 100}


def test_a_floor_is_reached_by_repeats_and_no_further_than_four() -> None:
    assert sizes({"mail": 600, "rare": 20, "rarest": 3}, floor=50) == {"mail": 600, "rare": 50, "rarest": 12}
    assert sizes({"mail": 600, "rare": 20}, floor={"rare": 30}) == {"mail": 600, "rare": 30}


def test_groups_may_be_combinations_of_columns() -> None:
    rows = frame([digest(str(n)) for n in range(6)], ["train"] * 6, ["mail", "mail", "code", "code", None, "mail"])
    rows = rows.with_columns(pl.Series("lang", ["en", "zh", "en", "en", "zh", "en"]))
    decision = decide(rows, Balance(mode="apply", by=["task", "lang"], cap={"mail/en": 1}), seed=0)
    assert decision.facts["sizes"] == {"code/en": 2, "mail/en": 2, "(none)/zh": 1, "mail/zh": 1}
    assert decision.removed["detail"].to_list() == ["task/lang mail/en"]


@given(corpora(), st.sampled_from([2.0, 1e9]))
@settings(max_examples=30, deadline=None)
def test_weights_count_as_often_as_the_rows_would_have_stood(rows: pl.DataFrame, temperature: float) -> None:
    rows = rows.with_columns(pl.when(pl.col("task") == "code").then(0.5).cast(pl.Float32).alias("weight"))
    decision = decide(rows, Balance(mode="weights", temperature=temperature), seed=0)
    assert decision.removed.is_empty()
    assert decision.added is None
    assert decision.assigned is not None
    train = rows.filter(pl.col("split").fill_null("train") == "train")
    assert set(decision.assigned["row_id"]) <= set(train["row_id"])
    new = dict(zip(decision.assigned["row_id"], decision.assigned["weight"], strict=True))
    sums: Counter[str] = Counter()
    for row_id, task, weight in train.select("row_id", "task", pl.col("weight").fill_null(1.0)).iter_rows():
        sums[task or "(none)"] += new.get(row_id, weight) / weight
    assert {task: round(total, 3) for task, total in sums.items()} == decision.facts["wanted"]


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"shares": {"a": 0.7, "b": 0.4}}, "add up to 1.1"),
        ({"cap": 5, "floor": 6}, "floor 6 is above cap 5"),
        ({"cap": {"a": 5}, "floor": 6}, "for 'a'"),
        ({"mode": "weights"}, "weighs all rows alike"),
        ({"by": ["task", "task"]}, "names a column twice"),
    ],
)
def test_what_can_not_be_is_refused(fields: dict[str, object], said: str) -> None:
    with pytest.raises(ValidationError, match=said):
        Balance.model_validate(fields)
