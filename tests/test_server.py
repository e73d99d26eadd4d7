"""Prefect around a run: the server that comes and goes with it, and what its database says of runs that died."""

import shutil
import signal
import subprocess
from pathlib import Path

import pytest

from flows.dashboard import stage_table
from tests.command import Workplace, database_text
from tests.prefect_home import query, small_config, start_run, wait_until

pytestmark = pytest.mark.server


@pytest.fixture
def place(tmp_path: Path, migrated_home: Path) -> Workplace:
    shutil.copytree(migrated_home, tmp_path / "prefect")
    return Workplace(tmp_path / "data", tmp_path / "prefect")


def _flow_states(place: Workplace) -> dict[str, str]:
    """Run id → state, of every flow run."""
    return {name.split()[-1]: state for name, state in query(place.home, "select name, state_name from flow_run")}


def _servers(place: Workplace) -> list[int]:
    """Processes of the servers that were started with this home."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            command, variables = (folder / "cmdline").read_bytes(), (folder / "environ").read_bytes()
        except OSError:
            continue
        if b"local_server.py" in command and f"PREFECT_HOME={place.home}\0".encode() in variables:
            found.append(int(folder.name))
    return found


def _end(process: "subprocess.Popen[str]", number: int) -> str:
    process.send_signal(number)
    _, told = process.communicate(timeout=60)
    return told


@pytest.mark.parametrize("command", ["run", "dashboard"])
def test_an_unwritable_prefect_home_is_a_clear_error_before_anything_runs(tmp_path: Path, command: str) -> None:
    (tmp_path / "file").touch()
    place = Workplace(tmp_path / "data", tmp_path / "file" / "prefect")
    words = [command, str(small_config(tmp_path))] if command == "run" else [command]
    done = place.winnow(*words)
    assert done.returncode == 2
    assert "PREFECT_HOME" in done.stderr
    assert "what to do: set PREFECT_HOME" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_server_that_cannot_start_or_be_reached_is_a_clear_error(tmp_path: Path) -> None:
    config = str(small_config(tmp_path))
    place = Workplace(tmp_path / "data", tmp_path / "prefect")
    place.home.mkdir()
    (place.home / "prefect.db").write_text("this is no database" * 100)
    broken = place.winnow("run", config)
    assert (broken.returncode, "file is not a database" in broken.stderr) == (2, True), broken.stderr
    nobody = place.winnow("run", config, PREFECT_API_URL="http://127.0.0.1:9/api")
    assert (nobody.returncode, "no Prefect server answers at http://127.0.0.1:9/api" in nobody.stderr) == (2, True)
    assert "Traceback" not in broken.stderr + nobody.stderr


def test_a_killed_run_is_shown_as_crashed_by_the_next_command_and_a_living_one_is_left_alone(
    place: Workplace, tmp_path: Path
) -> None:
    config = small_config(tmp_path)
    killed = start_run(place, "wait", tmp_path / "killed", config)
    wait_until((tmp_path / "killed").exists, killed)
    _end(killed, signal.SIGKILL)
    wait_until(lambda: not _servers(place))  # a killed run leaves no server behind
    [dead] = _flow_states(place)
    assert _flow_states(place) == {dead: "Running"}

    living = start_run(Workplace(tmp_path / "other", place.home), "wait", tmp_path / "living", config)
    wait_until((tmp_path / "living").exists, living)
    assert _flow_states(place)[dead] == "Crashed"
    [alive] = set(_flow_states(place)) - {dead}
    done = place.winnow("run", str(config))
    assert done.returncode == 0, done.stderr
    assert _flow_states(place)[alive] == "Running"
    assert "SECRET" not in _end(living, signal.SIGTERM)
    assert living.returncode == 128 + signal.SIGTERM
    assert _flow_states(place)[alive] == "Crashed"
    tasks = query(place.home, "select distinct name, state_name from task_run order by 1, 2")
    assert tasks == [("clean", "Completed"), ("ingest", "Completed"), ("ingest", "Crashed")]
    assert [run["status"] for run in Workplace(tmp_path / "other", place.home).runs()] == ["interrupted"]


def test_an_unexpected_error_is_shown_as_crashed_at_once_and_its_words_stay_out_of_prefect(
    place: Workplace, tmp_path: Path
) -> None:
    process = start_run(place, "raise", tmp_path / "marker", small_config(tmp_path))
    _, told = process.communicate(timeout=120)
    assert process.returncode == 1
    assert "SECRET-ROW-TEXT" in told  # the traceback is the terminal's
    assert set(_flow_states(place).values()) == {"Crashed"}
    assert query(place.home, "select name, state_name from task_run") == [("ingest", "Crashed")]
    kept = database_text(place.home)
    assert "SECRET-ROW-TEXT" not in kept
    assert "RuntimeError at <string>:" in kept


def test_a_run_says_what_it_is_and_its_logs_progress_and_artifacts_are_in_prefect(
    place: Workplace, tmp_path: Path
) -> None:
    process = start_run(place, "track", tmp_path / "marker", small_config(tmp_path))
    _, told = process.communicate(timeout=120)
    assert process.returncode == 0, told
    [record] = place.runs()
    [(name, tags, flow_run_id)] = query(place.home, "select name, tags, id from flow_run")
    assert name == f"small {record['run_id']}"
    assert tags == '["data", "manual", "small"]'
    assert record["flow_run_id"] == flow_run_id
    assert query(place.home, "select distinct tags from task_run") == [("[]",)]  # a tag costs each task a request
    logs = query(
        place.home,
        "select t.name, l.message from log l join task_run t on t.id = l.task_run_id where l.name = 'winnow'",
    )
    assert ("ingest", "ingest: not run before") in logs
    assert any(stage == "clean" and text.startswith("clean: 3 of 3 rows") for stage, text in logs)

    artifacts = query(place.home, "select a.key, a.type, t.name, a.data from artifact a left join task_run t"
                      " on t.id = a.task_run_id order by a.key")  # fmt: skip
    data = {key: data for key, _, _, data in artifacts}
    assert ("winnow-ingest-progress-a-long-loop", "progress", "ingest", 100) in artifacts
    for stage in ("ingest", "clean"):
        assert (f"winnow-{stage}-rows", "table", stage) in [each[:3] for each in artifacts]
        assert (f"winnow-{stage}", "markdown", stage) in [each[:3] for each in artifacts]
    assert "ingest --> clean" in data["winnow-run"]
    assert "file://" in data["winnow-run"]
    assert "of three" not in database_text(place.home)  # no row's text

    shown = len(artifacts)
    assert place.winnow("run", str(tmp_path / "small.yaml")).returncode == 0
    assert query(place.home, "select count(*) from artifact") == [(shown + 1,)]  # a cached run leaves its lineage only


def test_a_stage_table_tells_each_rule_with_ids_of_rows_and_adds_up() -> None:
    rows = {"in": 9, "out": 7, "removed": {"exact": 2, "near": 1}, "changed": {}, "added": {"copy": 1}}
    table = stage_table({"rows": rows | {"quarantined": {}}}, {("removed", "exact"): ["aa", "bb"]})
    assert [(line["what"], line["rule"], line["rows"], line["examples"]) for line in table] == [
        ("in", "", 9, ""),
        ("removed", "exact", 2, "aa, bb"),
        ("removed", "near", 1, ""),
        ("added", "copy", 1, ""),
        ("out", "", 7, ""),
    ]
