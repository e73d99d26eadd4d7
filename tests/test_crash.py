"""kill -9 in every stage: what is published is whole, and the runs after it end with the undisturbed artifacts."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from pipeline_config.schema import STAGES
from tests.killed_stages import MOMENT

TIMED = ("created", "seconds", "peak_rss_mb", "manifest_digest")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two data folders, filled without disturbance and with a kill in every stage."""
    place = tmp_path_factory.mktemp("crash")
    command = [sys.executable, "-m", "tests.killed_stages", str(place)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=600)
    assert done.returncode == 0, done.stderr
    (place / "stderr").write_text(done.stderr)
    return place


def contents(data: Path) -> dict[str, Any]:
    """Every file of every artifact; of manifests what is not a time."""
    found: dict[str, Any] = {}
    for path in sorted((data / "artifacts").rglob("*")):
        if path.name == "manifest.json":
            values = json.loads(path.read_text())
            found[str(path.relative_to(data))] = {name: value for name, value in values.items() if name not in TIMED}
        elif path.is_file():
            found[str(path.relative_to(data))] = path.read_bytes()
    return found


def test_every_attempt_was_killed_where_it_should_be_and_the_last_came_through(folder: Path) -> None:
    ends = json.loads((folder / "attempts.json").read_text())
    kills = {f"{name}, {moment}": 9 for name, moment in MOMENT.items()}
    assert ends == {"undisturbed": 0, **kills, "last": 0}, (folder / "stderr").read_text()[-4000:]


@pytest.mark.parametrize("stage", STAGES)
def test_the_artifacts_are_those_of_a_run_that_was_never_killed(folder: Path, stage: str) -> None:
    whole, broken = (
        {name: content for name, content in contents(folder / data).items() if name.split("/")[1] == stage}
        for data in ("whole", "broken")
    )
    assert whole
    assert set(broken) == set(whole)
    assert [name for name in whole if broken[name] != whole[name]] == []


def test_nothing_half_is_left(folder: Path) -> None:
    assert [str(path) for path in (folder / "broken").rglob("*") if ".tmp" in path.name] == []
    assert list((folder / "broken" / "work").rglob("checkpoint-*")) == []
