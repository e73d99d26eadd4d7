"""Drift against an earlier run: constructed shifts are found, equal data is not flagged, the run is named."""

import json
import os
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from pipeline_config.gate_schema import RowGate
from pipeline_config.schema import DATA_STAGES, Config
from tasks.apply import write_decision
from tasks.artifact import Artifact, Store
from tasks.execute import Workspace, judge_gate
from tasks.gates import reference
from tasks.gates.bounds import Reference
from tasks.gates.population import drift_bounds
from tasks.gates.verdict import Verdict
from tasks.kernels.rows import ROW_SCHEMA
from tasks.ledger import Decision
from tasks.runs import RunRecord, StageRecord

HALF = [("en", 100)] * 400 + [("zh", 100)] * 400


class Place:
    """A data folder with runs that each ingest some rows."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.runs = 0

    def artifact(self, rows: list[tuple[str, int]], name: str) -> Artifact:
        """An ingest artifact: a row for each language and number of characters."""
        lines = [
            {"row_id": f"{name}{i}", "source": "s", "lang": lang, "messages": [{"role": "text", "content": "x" * n}]}
            for i, (lang, n) in enumerate(rows)
        ]
        decision = Decision(assigned=pl.DataFrame(lines, schema=ROW_SCHEMA))

        def fill(out: Path) -> dict[str, Any]:
            counts, facts = write_decision("ingest", decision, None, out)
            return {"stage": "ingest", "key": name, "rows": counts, "facts": facts, "metrics": {}, "parents": []}

        return Store(self.folder).publish("ingest", name, fill)

    def record(
        self, artifact: Artifact, status: str = "done", source: str = "s", gate: dict[str, Any] | None = None
    ) -> str:
        """A run that used an artifact."""
        self.runs += 1
        stage = StageRecord("ingest", artifact.key, "ran", gate=gate)
        run_id = f"20260101T0000{self.runs:02}-abcd"
        RunRecord(run_id, {}, [], [{"name": source}], [stage], status=status, pid=os.getpid()).save(self.folder)
        return run_id

    def judge(self, artifact: Artifact, **gate: Any) -> Verdict:
        """The verdict that a run would have."""
        config = Config.model_validate({"ingest": {"sources": [{"name": "s", "path": "s.jsonl"}], "gate": gate}})
        return judge_gate("ingest", artifact, Workspace(config, self.folder, Store(self.folder)))


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place(tmp_path)


def shifts(verdict: Verdict) -> dict[str, bool]:
    """What drift was measured of, and whether it is allowed."""
    return {c.expectation.split()[2]: c.passed for c in verdict.checks if c.expectation.startswith("drift of")}


def test_a_language_that_takes_over_is_found_and_the_run_is_named(place: Place) -> None:
    before = place.record(place.artifact(HALF, "a"))
    verdict = place.judge(place.artifact([("en", 100)] * 720 + [("zh", 100)] * 80, "b"), max_drift=0.2)
    assert shifts(verdict) == {"sources": True, "languages": False, "length": True}
    error = verdict.error("ingest")
    assert f"drift is measured against run {before}" in error.message
    assert "most has changed: zh, from 0.500 to 0.100 of the rows" in error.cure
    assert verdict.failed[0].observed == pytest.approx(0.8789, abs=0.01)


def test_lengths_that_double_are_found(place: Place) -> None:
    place.record(place.artifact(HALF, "a"))
    verdict = place.judge(place.artifact([(lang, 2 * n) for lang, n in HALF], "b"), max_drift={"length": 0.2})
    assert shifts(verdict)["length"] is False
    assert len(verdict.failed[0].samples) == 5


def test_other_rows_of_the_same_kind_do_not_drift(place: Place) -> None:
    place.record(place.artifact(HALF, "a"))
    verdict = place.judge(place.artifact(HALF + HALF[:40] + HALF[-40:], "b"), max_drift=0.01)
    assert verdict.passed
    assert set(shifts(verdict).values()) == {True}


def test_without_a_word_in_the_configuration_a_large_shift_warns_and_stops_nothing(place: Place) -> None:
    before = place.record(place.artifact(HALF, "a"))
    verdict = place.judge(place.artifact([("en", 100)] * 800, "b"))
    assert verdict.passed
    assert [check.expectation for check in verdict.noticed] == ["drift of languages (population stability index)"]
    assert before in verdict.warnings()[0]
    assert verdict.to_dict()["warnings"]


def test_one_shift_is_noticed_where_data_come_in_and_where_training_takes_them(place: Place) -> None:
    then = place.artifact(HALF, "a").manifest["facts"]["population"]
    now = place.artifact([("en", 100)] * 800, "b").manifest["facts"]["population"]
    before = Reference("a run", "0", then)
    noticing = [stage for stage in DATA_STAGES if drift_bounds(now, before, RowGate(), stage)]
    assert noticing == ["ingest", "split"]
    asked = RowGate.model_validate({"max_drift": 0.1})
    assert all(drift_bounds(now, before, asked, stage) for stage in DATA_STAGES)


def test_few_rows_are_not_judged_by_default(place: Place) -> None:
    place.record(place.artifact(HALF[:10], "a"))
    assert shifts(place.judge(place.artifact([("de", 9)] * 10, "b"))) == {}


def test_the_first_run_has_nothing_to_be_compared_with(place: Place) -> None:
    verdict = place.judge(place.artifact(HALF, "a"), max_drift=0)
    assert (verdict.passed, verdict.reference, shifts(verdict)) == (True, None, {})


def test_failed_runs_and_runs_on_other_data_are_no_reference(place: Place) -> None:
    place.record(place.artifact(HALF, "a"), status="failed")
    place.record(place.artifact(HALF, "a"), status="running")
    place.record(place.artifact(HALF, "a"), source="another")
    assert place.judge(place.artifact(HALF[:500], "b")).reference is None


def test_a_cached_run_is_compared_with_what_the_run_before_it_was(place: Place) -> None:
    oldest = place.record(place.artifact(HALF, "a"))
    same = place.artifact(HALF[:500], "b")
    first = place.judge(same)
    assert first.reference == oldest
    for _ in range(8):
        place.record(same, gate=first.to_dict())
    reference._read.cache_clear()
    again = place.judge(same)
    assert reference._read.cache_info().misses == 2, "a long row of cached runs costs one look, and one more"
    assert (again.reference, again.digest, again.fresh) == (oldest, first.digest, False)


def test_a_reference_that_was_collected_or_damaged_is_passed_over(place: Place) -> None:
    oldest = place.record(place.artifact(HALF, "a"))
    newer = place.artifact(HALF[:700], "b")
    run_id = place.record(newer)
    (newer.path / "manifest.json").unlink()
    assert place.judge(place.artifact(HALF[:500], "c")).reference == oldest
    first = place.judge(place.artifact(HALF[:500], "c"))
    place.record(place.artifact(HALF[:500], "c"), gate=first.to_dict() | {"reference": "a run that is gone"})
    assert place.judge(place.artifact(HALF[:500], "c")).reference == oldest
    (place.folder / "runs" / f"{run_id}.json").write_text("{")
    assert place.judge(place.artifact(HALF[:500], "c")).reference == oldest


def test_a_run_keeps_its_verdict_when_the_reference_is_another_run_with_the_same_rows(place: Place) -> None:
    then, now = place.artifact(HALF, "a"), place.artifact(HALF[:500], "b")
    place.record(then)
    first = place.judge(now)
    newer = place.record(then)
    second = place.judge(now)
    assert (second.reference, second.digest, second.fresh) == (newer, first.digest, False)
    json.dumps(second.to_dict())
