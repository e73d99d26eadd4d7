"""What a gate is told of the rows: counted from the rows themselves, the same whether a stage wrote text or not."""

from pathlib import Path
from typing import Any

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasks.artifact import Artifact, Store
from tasks.gates.bounds import Sample
from tasks.gates.facts import length_bins, narrow_columns, population
from tasks.gates.population import population_stability
from tasks.gates.samples import sample_ids
from tasks.kernels.rows import ROW_SCHEMA
from tasks.ledger import Decision, quarantine_frame, removed_frame


def frame(n: int, **columns: Any) -> pl.DataFrame:
    lines = [
        {
            "row_id": f"r{i}", "source": "a", "lang": "en" if i % 2 else "zh", "label": None if i % 4 else "x",
            "messages": [{"role": "user", "content": "é" * i}, {"role": "assistant", "content": "b"}],
        }
        for i in range(n)
    ]  # fmt: skip
    return pl.DataFrame([line | columns for line in lines], schema=ROW_SCHEMA)


def test_rows_are_counted_by_what_they_are() -> None:
    found = population(narrow_columns(frame(8).lazy()))
    assert found["rows"] == 8
    assert found["mix"]["lang"] == {"en": 4, "zh": 4}
    assert found["mix"]["label"] == {"x": 2}
    assert found["mix"]["task"] == {}
    assert found["nulls"]["label"] == 6
    assert found["nulls"]["rejected"] == 8
    assert found["characters"]["quantiles"] == {
        "min": 1, "p1": 1, "p5": 1, "p25": 3, "p50": 5, "p75": 6, "p90": 7, "p95": 8, "p99": 8, "max": 8,
    }  # fmt: skip
    assert found["characters"]["bins"] == {"1": 1, "2": 2, "3": 4, "4": 1}


def test_no_rows_are_counted_too() -> None:
    found = population(narrow_columns(frame(0).lazy()))
    assert (found["rows"], found["mix"]["lang"], found["characters"]) == (0, {}, {"quantiles": {}, "bins": {}})


def test_of_many_values_the_commonest_are_named_and_none_is_lost() -> None:
    labels = [f"label {i}" for i in range(500)] + ["label 7"] * 3
    found = population(pl.DataFrame({"label": labels}))["mix"]["label"]
    assert found["label 7"] == 4
    assert sum(found.values()) == 503
    assert found["(others)"] == 300


@given(st.lists(st.integers(0, 2**40) | st.integers(0, 40).map(lambda k: 2**k - 1)))
def test_bins_of_lengths_double(lengths: list[int]) -> None:
    found = length_bins(pl.Series(lengths, dtype=pl.Int64)).to_list()
    assert found == [length.bit_length() for length in lengths]


def artifact(tmp_path: Path, stage: str, decision: Decision, before: Artifact | None) -> Artifact:
    from tasks.apply import write_decision

    def fill(out: Path) -> dict[str, Any]:
        rows, facts = write_decision(stage, decision, before, out)
        parents = [] if before is None else [{"stage": a.stage, "key": a.key} for a in (before, before.text())]
        return {"stage": stage, "key": stage.ljust(64, "0"), "rows": rows, "facts": facts, "parents": parents}

    return Store(tmp_path).publish(stage, stage.ljust(64, "0"), fill)


@pytest.fixture
def chain(tmp_path: Path) -> dict[str, Artifact]:
    """Rows that are read, then labelled and thinned out twice."""
    read = artifact(tmp_path, "ingest", Decision(assigned=frame(8)), None)
    removed = removed_frame([{"row_id": "r1", "rule": "short"}, {"row_id": "r2", "rule": "odd"}])
    languages = pl.DataFrame({"row_id": ["r3"], "lang": ["de"]})
    thin = artifact(tmp_path, "quality", Decision(removed=removed, assigned=languages), read)
    added = pl.DataFrame({"row_id": ["n1"], "parent_row_id": ["r7"], "rule": ["repeat"]})
    refused = quarantine_frame([{"row_id": "r5", "source": "a", "reason": "broken"}])
    thinner = artifact(tmp_path, "balance", Decision(added=added, quarantined=refused), thin)
    return {"ingest": read, "quality": thin, "balance": thinner}


def test_a_thin_decision_tells_what_whole_rows_would(chain: dict[str, Artifact]) -> None:
    for made in chain.values():
        assert made.manifest["facts"]["population"] == population(narrow_columns(made.rows()))
    assert chain["balance"].manifest["facts"]["population"]["mix"]["lang"] == {"zh": 3, "en": 2, "de": 1}


def test_tokens_are_counted_in_tokens(chain: dict[str, Artifact], tmp_path: Path) -> None:
    tokens = pl.DataFrame(
        {"row_id": ["r0", "r3"], "split": ["train", "test"], "task": [None, "qa"], "n_tokens": [5, 9]}
    )
    ids = chain["quality"].rows().collect()["row_id"].to_list()
    removed = removed_frame([{"row_id": row_id, "rule": "all_masked"} for row_id in ids if row_id not in ("r0", "r3")])
    made = artifact(tmp_path, "tokenize", Decision(assigned=tokens, removed=removed), chain["quality"])
    found = made.manifest["facts"]["population"]
    assert found["mix"] == {"split": {"train": 1, "test": 1}, "task": {"qa": 1}}
    assert found["tokens"]["quantiles"]["max"] == 9
    assert found["tokens"]["bins"] == {"3": 1, "4": 1}
    assert "characters" not in found
    assert sample_ids(made, Sample("longest", column="tokens")) == ("r3", "r0")


def test_facts_stand_in_no_digest(chain: dict[str, Artifact], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tasks.apply.population", lambda columns: {})
    again = artifact(tmp_path / "other", "ingest", Decision(assigned=frame(8)), None)
    assert again.manifest["facts"] != chain["ingest"].manifest["facts"]
    assert again.digest == chain["ingest"].digest


SAMPLES = [
    ("quality", Sample("removed"), ["r1", "r2"]),
    ("quality", Sample("removed", "odd"), ["r2"]),
    ("balance", Sample("quarantined", "broken"), ["r5"]),
    ("ingest", Sample("null", column="label"), ["r1", "r2", "r3", "r5", "r6"]),
    ("quality", Sample("value", "de", "lang"), ["r3"]),
    ("quality", Sample("not_value", "zh", "lang"), ["r3", "r5", "r7"]),
    ("ingest", Sample("longest", column="characters"), ["r7", "r6", "r5", "r4", "r3"]),
    ("quality", Sample("shortest", column="characters"), ["r0", "r3", "r4", "r5", "r6"]),
    ("ingest", Sample("named", ids=("r4",)), ["r4"]),
    ("ingest", Sample("value", "x", "no such column"), []),
]


@pytest.mark.parametrize(("stage", "sample", "ids"), SAMPLES)
def test_samples_are_ids_of_the_rows_meant(
    chain: dict[str, Artifact], stage: str, sample: Sample, ids: list[str]
) -> None:
    assert list(sample_ids(chain[stage], sample)) == ids


def test_stability_is_nothing_for_equal_shares_and_the_textbook_value_for_a_shift() -> None:
    assert population_stability({"a": 500, "b": 500}, {"a": 500, "b": 500}) == 0
    assert population_stability({"a": 500, "b": 500}, {"a": 50_000, "b": 50_000}) == pytest.approx(0, abs=1e-9)
    # (0.9 - 0.5) ln(0.9 / 0.5) + (0.1 - 0.5) ln(0.1 / 0.5)
    shifted = population_stability({"a": 50_000, "b": 50_000}, {"a": 90_000, "b": 10_000})
    assert shifted == pytest.approx(0.8789, abs=1e-3)


@given(
    st.dictionaries(st.sampled_from("abcd"), st.integers(0, 10_000)),
    st.dictionaries(st.sampled_from("abcd"), st.integers(0, 10_000)),
)
def test_stability_is_finite_never_negative_and_the_same_both_ways(then: dict[str, int], now: dict[str, int]) -> None:
    found = population_stability(then, now)
    assert 0 <= found < 100
    assert found == pytest.approx(population_stability(now, then), abs=1e-6)
