"""`winnow status` without a run: every run, its state, its size, and what takes up the disk."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from flows.overview import bytes_in_words, overview, sizes
from tasks.presence import Presence
from tasks.runs import read_run
from tests.command import Workplace
from tests.plain_run import run_stages, write_config, write_source


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Workplace:
    """A finished run, its repetition, and one that a gate stopped."""
    folder = tmp_path_factory.mktemp("status")
    write_source(folder)
    config = write_config(folder)
    data = folder / "data"
    run_stages(data, config)
    run_stages(data, config)
    run_stages(data, config, overrides=["clean.gate.min_rows=99"])
    return Workplace(data, folder / "prefect")


def runs(data: Path) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads(json.dumps(overview(data)))["runs"]
    return found


def test_every_run_has_its_state_counts_and_size(place: Workplace) -> None:
    failed, second, first = runs(place.data)
    assert [run["status"] for run in (failed, second, first)] == ["failed", "done", "done"]
    assert (first["stages"]["ran"], second["stages"]["cached"]) == (4, 4)
    assert (first["seconds"] > 0, first["started"][:4], first["missing"]) == (True, first["run_id"][:4], 0)
    assert first["config"].endswith("mine.yaml")
    record = read_run(place.data, first["run_id"])
    files = [
        path
        for entry in record.stages
        if entry.key
        for path in (place.data / "artifacts" / entry.name / entry.key).iterdir()
        if path.name != "manifest.json"
    ]
    assert first["bytes"] == sum(path.stat().st_size for path in files) == second["bytes"]
    assert failed["resume"].startswith(f"winnow resume {failed['run_id']} --data-dir")
    assert first["resume"] is None


def test_sizes_are_those_of_the_disk(place: Workplace) -> None:
    found = sizes(place.data)
    files = [path for path in place.data.rglob("*") if path.is_file()]
    assert found["total"] == sum(path.stat().st_size for path in files)
    below = [path for path in files if path.relative_to(place.data).parts[0] == "artifacts"]
    assert found["artifacts"] == sum(path.stat().st_size for path in below) > 0


def test_a_run_at_work_a_killed_one_and_a_broken_record(place: Workplace, tmp_path: Path) -> None:
    shutil.copytree(place.data, tmp_path / "data")
    data = tmp_path / "data"
    record = read_run(data, "latest~1")
    record.status = "running"
    presence = Presence(data, record.run_id)
    record.save(data)
    assert runs(data)[1]["status"] == "running"
    assert runs(data)[1]["resume"] is None
    presence.leave()
    assert runs(data)[1]["status"] != "running"
    assert runs(data)[1]["resume"]
    shutil.rmtree(data / "artifacts" / "split")
    assert runs(data)[2]["missing"] == 1
    (data / "runs" / "20260101T000000-0000.json").write_text("{")
    assert runs(data)[3] == {
        "run_id": "20260101T000000-0000", "status": "unreadable", "started": "2026-01-01T00:00:00+00:00",
    }  # fmt: skip
    assert Workplace(data, place.home).winnow("status").returncode == 0


def test_the_command_lists_all_runs_or_shows_one(place: Workplace) -> None:
    table = place.winnow("status")
    assert table.returncode == 0, table.stderr
    for run in runs(place.data):
        assert run["run_id"] in table.stdout
    assert "to go on with the latest: winnow resume" in table.stdout
    document = place.document("status")
    assert [run["run_id"] for run in document["runs"]] == [run["run_id"] for run in runs(place.data)]
    assert document["sizes"]["artifacts"] > 0
    newest = document["runs"][0]["run_id"]
    assert place.document("status", newest)["run_id"] == newest
    assert place.document("status", "latest")["run_id"] == newest


def test_a_folder_without_runs_is_no_error(tmp_path: Path) -> None:
    empty = Workplace(tmp_path / "data", tmp_path / "prefect")
    done = empty.winnow("status")
    assert (done.returncode, "type: winnow run" in done.stdout) == (0, True)
    assert empty.document("status") == {"runs": [], "sizes": dict.fromkeys(overview(tmp_path / "data")["sizes"], 0)}
    assert not (tmp_path / "data").exists()


def test_a_stage_or_report_that_is_not_there_is_named_by_what_was_typed(place: Workplace) -> None:
    assert "did you mean 'clean'" in place.winnow("export", "--stage", "clena", "--out", "x.jsonl").stderr
    assert "did you mean 'split'" in place.winnow("run", "tiny", "--until", "spilt").stderr
    missing = place.winnow("preview")
    assert missing.returncode == 2
    assert missing.stderr.startswith("error: RUN: run ")
    assert "has no tokenize" in missing.stderr


@pytest.mark.parametrize(("n", "words"), [(0, "0 B"), (999, "999 B"), (1500, "1.5 kB"), (2_345_678_901, "2.3 GB")])
def test_sizes_in_words(n: int, words: str) -> None:
    assert bytes_in_words(n) == words
