"""Runs at the same time on one data folder: real processes that start together."""

import json
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from flows.planner import load_stage, workspace
from pipeline_config.load import load_config
from pipeline_config.schema import STAGES
from tasks import execute
from tasks.execute import examine, produce
from tests.plain_run import records, run_stages, states, write_config, write_source

RUN = """
import os, sys, time
from pathlib import Path
from tasks import artifact, execute
from tests.test_two_runs import run

data, config, override, ready, go, log = sys.argv[1:]
publish = artifact.Store.publish

def noted(self, stage, key, fill):
    with open(log, "a") as stream:
        stream.write(f"{stage}/{key}\\\\n")
    return publish(self, stage, key, fill)

def together(*given):  # both look for the scores before either can have made them
    Path(ready + "-scores").touch()
    while len(list(Path(ready).parent.glob("ready-*-scores"))) < 2:
        time.sleep(0.001)
    return scores_of(*given)

artifact.Store.publish = noted
scores_of, execute.scores_of = execute.scores_of, together if override else execute.scores_of
Path(ready).touch()
while not Path(go).exists():
    time.sleep(0.001)
run(Path(data), config, override)
""".replace("\\\\n", "\\n")


@pytest.fixture
def config(tmp_path: Path) -> Path:
    write_source(tmp_path, records() * 20)
    return write_config(tmp_path, quality={})


def at_once(tmp_path: Path, config: Path, overrides: list[str]) -> list[str]:
    """Start a process for each override, let them go together; what they published, in order."""
    data, go, log = tmp_path / "data", tmp_path / "go", tmp_path / "log"
    ready = [tmp_path / f"ready-{n}" for n in range(len(overrides))]
    command = [sys.executable, "-c", RUN, str(data), str(config)]
    processes = [
        subprocess.Popen(
            [*command, override, str(mark), str(go), str(log)],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for override, mark in zip(overrides, ready, strict=True)
    ]
    deadline = time.monotonic() + 120
    while not all(mark.exists() for mark in ready):
        assert time.monotonic() < deadline
        time.sleep(0.01)
    go.touch()
    ends = [process.communicate(timeout=300) for process in processes]
    assert [process.returncode for process in processes] == [0] * len(overrides), [error for _, error in ends]
    assert [path for path in data.rglob("*") if ".tmp" in path.name] == []
    return log.read_text().split()


def run(data: Path, config: Path | str, override: str = "") -> None:
    """Every stage in order, below Prefect."""
    settings = load_config(str(config), (override,) if override else ())
    work = workspace(settings, data)
    for name in STAGES:
        verdict = examine(load_stage(name), work)
        if verdict.verdict != "skipped":
            work.upstream[name] = verdict.artifact or produce(load_stage(name), verdict, work)


def contents(data: Path) -> dict[str, Any]:
    """Every file of every artifact; of the manifests what they say of the files."""
    found: dict[str, Any] = {}
    for path in sorted((data / "artifacts").rglob("*")):
        if path.name == "manifest.json":
            found[str(path.relative_to(data))] = json.loads(path.read_text())["files"]
        elif path.is_file():
            found[str(path.relative_to(data))] = path.read_bytes()
    return found


def test_the_same_run_twice_at_once_makes_everything_once(tmp_path: Path, config: Path) -> None:
    published = at_once(tmp_path, config, ["", ""])
    assert set(Counter(published).values()) == {1}
    assert len(published) >= 6
    run(tmp_path / "alone", config)
    assert contents(tmp_path / "data") == contents(tmp_path / "alone")


def test_runs_that_share_only_some_stages_are_each_as_if_alone(tmp_path: Path, config: Path) -> None:
    """Other thresholds: the same rows and, where the threshold is the quality stage's, the same scores."""
    overrides = ["quality.thresholds={min_answer_words: 3}", "quality.thresholds={min_answer_words: 4}"]
    published = at_once(tmp_path, config, overrides)
    assert set(Counter(published).values()) == {1}
    assert len([name for name in published if name.startswith("quality/")]) == 3  # scores once, decisions twice
    for override in overrides:
        run(tmp_path / "alone", config, override)
    assert contents(tmp_path / "data") == contents(tmp_path / "alone")


def test_what_another_run_made_meanwhile_is_cached_and_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The other one makes all of it between this one's look at a stage and its turn to make it."""
    write_source(tmp_path)
    config = write_config(tmp_path)
    data, locked = tmp_path / "data", execute.locked
    others: list[Path] = []

    def after_the_other(folder: Path) -> Any:
        if not others:
            others.append(folder)
            run(data, config)
        return locked(folder)

    monkeypatch.setattr(execute, "locked", after_the_other)
    record = run_stages(data, config)
    assert others
    assert set(states(record).values()) == {"cached"}, record.error
    assert record.stage("ingest").reason == execute.MEANWHILE == "another run made it meanwhile"
    assert record.stage("clean").reason.startswith("same inputs, configuration and code")
    again = run_stages(data, config, force=["ingest"])
    assert states(again)["ingest"] == "ran"
