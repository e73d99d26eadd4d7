"""The run record: true at every moment, also about a run that was killed; the latest run is the latest."""

import json
import os
import signal
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from flows.show import closing_lines
from pipeline_config.errors import ConfigError
from tasks import runs
from tasks.presence import Presence
from tasks.runs import RunRecord, StageRecord, new_run_id, read_run, run_ids, settle_dead_runs


def record(run_id: str, **changes: Any) -> RunRecord:
    stages = [StageRecord("ingest", "k", "ran"), StageRecord("clean", reason="running"), StageRecord("dedupe")]
    return RunRecord(**{"run_id": run_id, "config": {}, "overrides": [], "sources": [], "stages": stages, **changes})


def in_a_process_that_is_killed(work: Callable[[], object]) -> None:
    child = os.fork()
    if child == 0:
        work()
        os.kill(os.getpid(), signal.SIGKILL)
    assert os.waitpid(child, 0)[1] == signal.SIGKILL


def on_disk(data: Path, run_id: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((data / "runs" / f"{run_id}.json").read_text())
    return found


def begin(data: Path, **changes: Any) -> tuple[RunRecord, Presence]:
    started = record("20260101T000000-aaaa", **changes)
    presence = Presence(data, started.run_id)
    started.save(data)
    return started, presence


def test_the_next_run_says_of_a_killed_one_that_it_failed_and_where(tmp_path: Path) -> None:
    """Whoever has its process id now: here it is this very process's."""
    in_a_process_that_is_killed(lambda: begin(tmp_path, pid=os.getppid()))
    assert read_run(tmp_path).status == "running"
    settle_dead_runs(tmp_path)
    found = read_run(tmp_path)
    assert found.status == "failed"
    assert found.error is not None
    assert "its process died" in found.error["message"]
    assert found.error["place"] == "clean"
    assert [stage.state for stage in found.stages] == ["ran", "failed", "pending"]
    assert not (tmp_path / "runs" / f".{found.run_id}.lock").exists()


def test_a_run_at_work_is_left_alone_by_others(tmp_path: Path) -> None:
    _, presence = begin(tmp_path)
    child = os.fork()
    if child == 0:
        settle_dead_runs(tmp_path)
        os._exit(0)
    assert os.waitpid(child, 0)[1] == 0
    assert read_run(tmp_path).status == "running"
    presence.leave()


def test_a_run_that_ends_between_two_looks_is_not_taken_for_dead(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    in_a_process_that_is_killed(lambda: begin(tmp_path))

    def ends_now(data_dir: Path, run_id: str) -> bool:
        record(run_id, status="done").save(tmp_path)
        return False

    monkeypatch.setattr(runs, "is_running", ends_now)
    settle_dead_runs(tmp_path)
    assert read_run(tmp_path).status == "done"


def test_a_killed_write_leaves_the_old_record(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def killed() -> None:
        record("20260101T000000-aaaa").save(tmp_path)
        monkeypatch.setattr(os, "fsync", lambda handle: os.kill(os.getpid(), signal.SIGKILL))
        record("20260101T000000-aaaa", metrics={"x": 1.0}).save(tmp_path)

    in_a_process_that_is_killed(killed)
    assert read_run(tmp_path).metrics == {}


def test_the_latest_run_is_the_latest_although_the_clock_went_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Clock(datetime):
        moment = datetime(2026, 12, 31, 22, 59, 59, 999_990, tzinfo=UTC)

        @classmethod
        def now(cls, tz: Any = None) -> datetime:  # type: ignore[override]
            return cls.moment

    monkeypatch.setattr(runs, "datetime", Clock)
    made = []
    for hours in (0, 0, 1, -5, -400, 0):  # twice at the same moment, then back by hours and days
        Clock.moment += timedelta(hours=hours)
        made.append(new_run_id(tmp_path))
        record(made[-1], status="done").save(tmp_path)
        assert read_run(tmp_path).run_id == made[-1]
    assert run_ids(tmp_path) == made
    assert len(set(made)) == 6


def test_the_runs_of_a_study_are_not_the_latest_unless_there_are_no_others(tmp_path: Path) -> None:
    for n, study in enumerate((None, None, "S", "S")):
        record(f"20260101T00000{n}-0000", study=study).save(tmp_path)
    assert [read_run(tmp_path, wanted).run_id[14] for wanted in (None, "latest", "latest~1")] == ["1", "1", "0"]
    with pytest.raises(ConfigError, match="latest~2"):
        read_run(tmp_path, "latest~2")
    for n in (0, 1):
        (tmp_path / "runs" / f"20260101T00000{n}-0000.json").unlink()
    assert read_run(tmp_path).run_id[14] == "3"


def test_a_record_that_cannot_be_read_stops_no_run(tmp_path: Path) -> None:
    in_a_process_that_is_killed(lambda: begin(tmp_path))
    (tmp_path / "runs" / "20260101T000000-aaaa.json").write_text("{")
    (tmp_path / "runs" / "of-another-form.json").write_text("{}")
    settle_dead_runs(tmp_path)
    assert new_run_id(tmp_path) > "20260101T000000-aaaa"


def test_commands_to_paste_name_run_and_folder_unless_it_is_the_default(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    record = RunRecord("R", {}, [], [], [StageRecord("ingest", key="k")])
    monkeypatch.delenv("WINNOW_DATA", raising=False)
    away = "\n".join(closing_lines(record, tmp_path / "my data"))
    assert f"winnow explain ROW_ID R --data-dir '{tmp_path}/my data'" in away
    assert f"winnow report R --data-dir '{tmp_path}/my data'" in away
    monkeypatch.setenv("WINNOW_DATA", str(tmp_path))
    here = "\n".join(closing_lines(record, tmp_path))
    assert "winnow explain ROW_ID R\n" in here
    assert "--data-dir" not in here
