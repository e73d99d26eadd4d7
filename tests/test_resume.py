"""A run that did not finish goes on under the configuration that it had, whatever became of the YAML file since."""

import json
import os
import shlex
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from flows.planner import Selection
from flows.resume import changed_since, recorded_config, remaining_selection, unfinished_run
from pipeline_config.errors import ConfigError
from pipeline_config.load import load_config, recipe_names
from tasks.presence import Presence, is_running
from tasks.runs import RunRecord, new_run_id, read_run, resume_command
from tests.command import Workplace
from tests.plain_run import run_stages, states, write_config


def stopped(mine: Path, data: Path, **options: Any) -> RunRecord:
    """A run that its gate stops behind dedupe."""
    return run_stages(data, mine, overrides=["dedupe.gate.min_rows=1000"], **options)


@pytest.mark.parametrize("name", recipe_names())
def test_a_recorded_configuration_is_the_configuration(name: str) -> None:
    sets = ("ingest.sources=[{path: mine.jsonl}]",) if name == "default" else ()
    config = load_config(name, sets)
    written = json.loads(json.dumps(config.model_dump(mode="json", by_alias=True)))
    record = RunRecord("r", written, list(sets), [], [])
    assert recorded_config(record) == config


def test_a_failed_run_tells_the_command_that_resumes_it(mine: Path, data: Path) -> None:
    record = stopped(mine, data)
    assert record.status == "failed"
    assert record.error is not None
    assert record.error["type"] == "GateError"
    assert shlex.split(record.error["resume"]) == ["winnow", "resume", record.run_id, "--data-dir", str(data)]
    assert read_run(data, record.run_id).error == record.error


def test_the_command_names_the_data_folder_only_if_it_must(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WINNOW_DATA", str(data))
    assert resume_command("r", data) == "winnow resume r"
    monkeypatch.delenv("WINNOW_DATA")
    assert resume_command("r", data / "with space").endswith(f"--data-dir '{data}/with space'")


def test_resume_keeps_the_configuration_that_the_file_has_lost(mine: Path, data: Path) -> None:
    first = stopped(mine, data)
    assert changed_since(first) == ""
    mine.write_text(mine.read_text() + "# a comment is no change\n")
    assert changed_since(first) == ""
    write_config(mine.parent, dedupe={"threshold": 0.1})
    assert "something else" in changed_since(first)
    mine.unlink()
    assert "is gone" in changed_since(first)
    again = run_stages(data, resume=first.run_id)
    assert again.parent_run_id == first.run_id
    assert (again.config, again.config_name, again.overrides) == (first.config, first.config_name, first.overrides)
    assert states(again)["ingest"] == "cached"
    assert again.status == "failed"


def test_resume_with_another_bound_goes_through(mine: Path, data: Path) -> None:
    first = stopped(mine, data)
    second = run_stages(data, resume=first.run_id, overrides=["dedupe.gate.min_rows=1"])
    assert second.status == "done"
    assert second.error is None
    assert states(second) == dict.fromkeys(("ingest", "clean", "dedupe"), "cached") | {"split": "ran"}
    assert unfinished_run(data).run_id == second.run_id  # the first has been gone on with: nothing is left


def test_bounds_go_on_and_what_was_forced_is_not_forced_twice(mine: Path, data: Path) -> None:
    run_stages(data, mine)
    first = stopped(mine, data, until="dedupe", force=["clean", "dedupe"])
    assert [states(first)[name] for name in ("ingest", "clean", "dedupe")] == ["cached", "ran", "failed"]
    second = run_stages(data, resume=first.run_id)
    assert (second.selection["until"], second.selection["force"]) == ("dedupe", ("dedupe",))
    assert states(second)["clean"] == "cached"


def test_the_newest_run_that_nobody_finished_is_taken(mine: Path, data: Path) -> None:
    with pytest.raises(ConfigError, match="there is no run"):
        unfinished_run(data)
    failed = stopped(mine, data)
    assert unfinished_run(data).run_id == failed.run_id
    other = run_stages(data, mine)
    assert other.status == "done"
    assert unfinished_run(data).run_id == failed.run_id  # the other run had another bound: it did not finish this one
    assert unfinished_run(data, other.run_id).status == "done"
    halfway = run_stages(data, mine, until="clean")
    halfway.status = "failed"
    halfway.save(data)
    assert unfinished_run(data).run_id == halfway.run_id
    run_stages(data, mine, verify=True)  # all of it, so also that half
    assert unfinished_run(data).run_id == failed.run_id


def test_a_damaged_record_is_passed_over_and_named(mine: Path, data: Path) -> None:
    failed = stopped(mine, data)
    damaged = data / "runs" / "20990101T000000-0000.json"
    damaged.write_text("{")
    warnings: list[str] = []
    assert unfinished_run(data, None, warnings.append).run_id == failed.run_id
    assert warnings == [
        "runs/20990101T000000-0000.json: the record of run 20990101T000000-0000 can't be read (JSONDecodeError);"
        " it is passed over"
    ]
    (data / "runs" / f"{failed.run_id}.json").write_text("{")
    with pytest.raises(ConfigError, match="can't be read"):  # nothing else is left
        unfinished_run(data, None, warnings.append)
    assert len(warnings) == 3


def test_resume_can_verify_and_keeps_the_bounds(mine: Path, data: Path) -> None:
    failed = stopped(mine, data, until="dedupe")
    assert remaining_selection(failed, verify=True) == Selection(until="dedupe", verify=True)
    again = run_stages(data, resume=failed.run_id, overrides=["dedupe.gate.min_rows=1"], verify=True)
    assert (again.selection["until"], again.selection["verify"], "split" in states(again)) == ("dedupe", True, False)


def test_the_command_resumes_past_a_damaged_record_with_verify(mine: Path, data: Path, guest: Workplace) -> None:
    done = run_stages(data, mine)
    (data / "runs" / "20990101T000000-0000.json").write_text("{")
    told = guest.winnow("resume", "--verify")
    assert told.returncode == 0, told.stderr
    assert "warning: runs/20990101T000000-0000.json: " in told.stderr
    assert f"run {done.run_id} is done" in told.stderr


def test_a_run_at_work_is_not_resumed_and_a_killed_one_is(mine: Path, data: Path) -> None:
    record = run_stages(data, mine)
    record.status, record.run_id = "running", new_run_id()
    record.save(data)
    presence = Presence(data, record.run_id)
    assert is_running(data, record.run_id)
    with pytest.raises(ConfigError, match="still running"):
        unfinished_run(data, record.run_id)
    presence.leave()
    assert not is_running(data, record.run_id)
    assert unfinished_run(data, record.run_id).run_id == record.run_id


def test_a_record_of_a_later_version_can_be_read(mine: Path, data: Path) -> None:
    record = run_stages(data, mine, until="ingest")
    path = data / "runs" / f"{record.run_id}.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"of_tomorrow": 1}))
    assert read_run(data, "latest").run_id == record.run_id
    path.write_text("{")
    with pytest.raises(ConfigError, match="can't be read"):
        read_run(data, record.run_id)


@pytest.mark.server
def test_a_run_killed_in_a_stage_goes_on_from_the_command_line(mine: Path, tmp_path: Path, guest: Workplace) -> None:
    place = guest
    words = ["run", str(mine), "--until", "dedupe", "--data-dir", str(place.data)]
    process = subprocess.Popen(
        [sys.executable, "-c", _STUCK_IN_DEDUPE, *words],
        stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, env=place.environment(), start_new_session=True,
    )  # fmt: skip
    with process:
        assert process.stdout is not None
        assert process.stdout.readline() == "in dedupe\n"
        assert is_running(place.data, place.runs()[0]["run_id"])
        os.killpg(process.pid, signal.SIGKILL)
    (killed,) = place.runs()
    assert killed["status"] == "running"
    write_config(tmp_path, dedupe={"threshold": 0.1})
    done = place.winnow("resume", "--json")
    assert done.returncode == 0, done.stderr
    assert "something else now" in done.stderr
    record = json.loads(done.stdout)
    assert (record["parent_run_id"], record["config"]) == (killed["run_id"], killed["config"])
    found = {entry["name"]: entry["state"] for entry in record["stages"] if entry["state"] != "skipped"}
    assert found == {"ingest": "cached", "clean": "cached", "dedupe": "ran"}
    again = place.winnow("resume", record["run_id"])
    assert again.returncode == 0
    assert f"to run again: winnow run {mine}" in again.stderr


_STUCK_IN_DEDUPE = """
import signal
import flows.runner
from flows.cli import main

produce = flows.runner.produce

def stuck(stage, *given):
    if stage.name != "dedupe":
        return produce(stage, *given)
    print("in dedupe", flush=True)
    signal.pause()

flows.runner.produce = stuck
main()
"""
