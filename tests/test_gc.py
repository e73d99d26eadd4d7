"""`winnow gc`: what the kept runs use stays, whatever else happens meanwhile; the rest goes."""

import fcntl
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import polars as pl
import pytest

import flows.runner
from flows.collect import collect
from flows.outputs import stage_artifact
from pipeline_config.errors import ConfigError
from tasks.artifact import Artifact, read_manifest
from tasks.presence import Presence
from tasks.runs import RunRecord, new_run_id, read_run, run_ids
from tests.command import Workplace
from tests.plain_run import records, run_stages, states, write_config, write_source


def other_rows(mine: Path) -> None:
    """Other content in the same file: everything is made anew."""
    write_source(mine.parent, records()[2:])


def folders(data: Path, record: RunRecord) -> dict[str, Path]:
    return {e.name: data / "artifacts" / e.name / e.key for e in record.stages if e.key}


def files(data: Path) -> set[Path]:
    return {path for path in data.rglob("*") if path.is_file() and not path.name.endswith(".lock")}


def test_a_kept_run_is_all_cached_and_the_other_is_gone(mine: Path, data: Path) -> None:
    old = run_stages(data, mine)
    other_rows(mine)
    new = run_stages(data, mine)
    items, needs = collect(data, 1, dry_run=False)
    assert needs.runs == {new.run_id} == set(run_ids(data))
    assert all(path.exists() for path in folders(data, new).values())
    assert not any(path.exists() for path in folders(data, old).values())
    assert sum(item.bytes for item in items) > 0
    assert set(states(run_stages(data, mine)).values()) == {"cached"}
    assert collect(data, 2, dry_run=True)[0] == []


def test_the_page_of_a_run_goes_with_its_record(mine: Path, data: Path) -> None:
    old, new = run_stages(data, mine), run_stages(data, mine)
    pages = [data / "reports" / name / "report.html" for name in (old.run_id, new.run_id, "mine")]
    for page in pages:
        page.parent.mkdir(parents=True)
        page.write_text("a page")
    collect(data, 1, dry_run=False)
    assert [page.exists() for page in pages] == [False, True, True]


def test_a_dry_run_tells_the_same_and_removes_nothing(mine: Path, data: Path) -> None:
    run_stages(data, mine)
    other_rows(mine)
    run_stages(data, mine)
    before = {path: path.stat().st_size for path in files(data)}
    told, _ = collect(data, 1, dry_run=True)
    assert files(data) == set(before)
    done, _ = collect(data, 1, dry_run=False)
    assert done == told
    gone = set(before) - files(data)
    assert gone
    assert sum(before[path] for path in gone) == sum(item.bytes for item in done)


def test_text_that_a_kept_decision_points_into_stays(mine: Path, data: Path) -> None:
    old = run_stages(data, mine)
    new = run_stages(data, mine, overrides=["clean.markup=keep"])  # no markup here: the same text under another key
    assert (states(new)["clean"], states(new)["dedupe"]) == ("ran", "cached")
    collect(data, 1, dry_run=False)
    assert folders(data, old)["clean"].exists()
    assert stage_artifact(new, "split", data).rows().collect().height == 11


def test_scores_of_kept_runs_stay_and_others_go(mine: Path, data: Path) -> None:
    scored: dict[str, Any] = {"overrides": ["quality={}"], "until": "quality"}
    run_stages(data, mine, **scored)
    other_rows(mine)
    run_stages(data, mine, **scored)
    tables = data / "artifacts" / "quality" / "scores"
    before = {path.name for path in tables.iterdir()}
    items, _ = collect(data, 1, dry_run=False)
    after = {path.name for path in tables.iterdir()}
    assert (len(before), len(after), [item.kind for item in items].count("score table")) == (2, 1, 1)
    height = pl.read_parquet(tables / after.pop() / "scores.parquet").height
    assert height == len(records()[2:]) - 1  # one twin less


def test_a_running_run_keeps_what_it_has_and_what_it_will_find(mine: Path, data: Path) -> None:
    old = run_stages(data, mine)
    working = RunRecord(new_run_id(), old.config, [], old.sources, [type(e)(e.name) for e in old.stages])
    working.stage("ingest").key = old.stage("ingest").key
    working.stage("ingest").state = "cached"
    working.save(data)
    presence = Presence(data, working.run_id)
    write_config(mine.parent, dedupe={"threshold": 0.05})
    new = run_stages(data, mine)
    half = folders(data, new)["split"].parent / f".{'a' * 12}-1-abcd.tmp"
    half.mkdir()
    _, needs = collect(data, 1, dry_run=False)
    assert needs.running == {working.run_id}
    assert set(run_ids(data)) == {working.run_id, new.run_id}
    assert all(path.exists() for path in folders(data, old).values()), "its plan finds them in the cache"
    assert half.exists()
    presence.leave()
    collect(data, 1, dry_run=False)
    assert not folders(data, old)["split"].exists()
    assert not half.exists()


def test_work_that_a_kept_run_can_go_on_with_stays(mine: Path, data: Path) -> None:
    failed = run_stages(data, mine, overrides=["dedupe.gate.min_rows=99"])
    kept, lost, held = (data / "work" / "train" / (c * 64) for c in "abc")
    failed.stage("train").key = kept.name
    failed.save(data)
    for folder in (kept, lost, held):
        (folder / "checkpoint-1").mkdir(parents=True)
    with (held / "lock").open("w") as handle:
        fcntl.flock(handle, fcntl.LOCK_EX)
        collect(data, 1, dry_run=False)
    assert [path.exists() for path in (kept, lost, held)] == [True, False, True]


def test_what_is_not_known_is_left_alone(mine: Path, data: Path) -> None:
    run_stages(data, mine)
    collect(data, 1, dry_run=False)
    strangers = [data / "notes.txt", data / "artifacts" / "clean" / "mine", data / "gates" / "index.html"]
    for path in [*strangers, data / "runs" / "20260101T000000-0000.json"]:
        path.parent.mkdir(exist_ok=True)
        path.write_text("{")
    assert collect(data, 1, dry_run=False)[0] == []
    assert all(path.exists() for path in strangers)


def test_verdicts_of_kept_runs_stay(mine: Path, data: Path) -> None:
    run_stages(data, mine)
    other_rows(mine)
    new = run_stages(data, mine)
    collect(data, 1, dry_run=False)
    needed = {str((entry.gate or {})["digest"]) for entry in new.stages if entry.gate}
    assert {path.stem for path in (data / "gates").glob("*.json")} == needed
    pages = data / "gates" / "docs" / "validations"
    assert {path.stem for path in pages.iterdir()} == needed
    listed = re.findall(r'href="validations/(\w+)\.html"', (pages.parent / "index.html").read_text())
    assert set(listed) == needed, "the front page names no page that is gone"


def test_gc_at_every_step_of_a_run_takes_nothing_from_it(
    mine: Path, data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between the look at an artifact and the note of its key gc has to wait; after the note the artifact is safe."""
    run_stages(data, mine)
    run_stages(data, mine, overrides=["dedupe.threshold=0.5", "clean.markup=keep"])
    judge_gate, examine = flows.runner.judge_gate, flows.runner.examine
    looks = []

    def looked_up(*given: Any) -> Any:
        with (data / "runs" / ".collection.lock").open() as lock, pytest.raises(BlockingIOError):
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        looks.append(given)
        return examine(*given)

    def judged(*given: Any) -> Any:
        collect(data, 1, dry_run=False)
        return judge_gate(*given)

    monkeypatch.setattr(flows.runner, "examine", looked_up)
    monkeypatch.setattr(flows.runner, "judge_gate", judged)
    third = run_stages(data, mine)
    assert len(looks) == 4
    assert set(states(third).values()) == {"cached"}
    assert stage_artifact(third, "split", data).rows().collect().height == 11


def test_runs_finish_while_gc_never_rests(mine: Path, data: Path) -> None:
    command = [sys.executable, "-c", _RUNS, str(mine), str(data)]
    enough = data.parent / "enough"
    with subprocess.Popen([*command, str(enough)], stdout=subprocess.PIPE) as process:
        while process.poll() is None:
            if collect(data, 1, dry_run=False)[0]:
                enough.touch()
        assert process.stdout is not None
        said = process.stdout.read().decode().split()
    assert len(said) >= 3
    assert set(said) == {"done"}
    assert enough.exists()
    last = read_run(data)
    folder = folders(data, last)["split"]
    assert Artifact(folder, read_manifest(folder)).rows().collect().height > 0


_RUNS = """
import sys
from pathlib import Path
from tests.plain_run import run_stages
for n in range(300):  # three, and more until gc has had its turn: nobody says when a busy machine gives it one
    if n >= 3 and Path(sys.argv[3]).exists():
        break
    print(run_stages(Path(sys.argv[2]), sys.argv[1], overrides=[f"dedupe.threshold=0.{5 + n % 3}"]).status)
"""


def test_failures_since_do_not_cost_the_last_result(mine: Path, data: Path) -> None:
    older = run_stages(data, mine)
    other_rows(mine)
    done = run_stages(data, mine)
    write_source(mine.parent, records()[4:])
    failed = run_stages(data, mine, overrides=["clean.gate.min_rows=99"])
    place = Workplace(data, data.parent / "prefect")
    would = place.winnow("gc", "--keep", "1", "--dry-run").stdout
    assert f"2 runs kept, {done.run_id} among them as the newest that is done" in would
    _, needs = collect(data, 1, dry_run=False)
    assert needs.last_done == done.run_id
    assert run_ids(data) == [done.run_id, failed.run_id]
    assert all(path.exists() for path in folders(data, done).values())
    assert not folders(data, older)["split"].exists()
    assert "newest done" in place.winnow("gc", "--help").stdout


def test_the_command_refuses_zero_and_says_what_it_freed(mine: Path, data: Path) -> None:
    with pytest.raises(ConfigError, match="0 runs can't be kept"):
        collect(data, 0, dry_run=False)
    place = Workplace(data, data.parent / "prefect")
    for words in (("gc",), ("gc", "--keep", "0")):
        refused = place.winnow(*words)
        assert (refused.returncode, "Traceback" in refused.stderr) == (2, False)
    run_stages(data, mine)
    other_rows(mine)
    run_stages(data, mine)
    would = place.document("gc", "--keep", "1", "--dry-run")
    assert would["bytes"] == sum(item["bytes"] for item in would["removed"]) > 0
    said = place.winnow("gc", "--keep", "1").stdout
    assert " freed: 1 run record, " in said
    assert "1 run kept" in said
