"""Gates in whole runs, seen as a user sees them: the terminal, the run record, Prefect's database, Data Docs."""

import json
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from flows.server import Server
from tasks.gates.docs import data_docs_index, data_docs_page
from tests.browser import browser
from tests.command import Workplace, database_text
from tests.prefect_home import served

pytestmark = pytest.mark.server

SECRET = "the heron waits at the weir until evening"  # stands in a row, and may stand nowhere else
GATE = "{on_fail: warn, max_quarantined_share: 0, min_languages: 9, max_quarantined_share_by_reason: {not_json: 0}}"


@pytest.fixture(scope="module")
def rows(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("rows") / "rows.jsonl"
    good = [
        {"instruction": f"What waits at weir {i}?", "output": f"{SECRET}, every day but day {i}."} for i in range(6)
    ]
    bad = [{"instruction": f"{SECRET} {i}"} for i in range(2)]
    path.write_text("".join(json.dumps(line) + "\n" for line in [*good, *bad]))
    return path


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory, migrated_home: Path) -> Iterator[tuple[Path, Server]]:
    """A folder, and a server on the Prefect home in it."""
    root = tmp_path_factory.mktemp("gates")
    shutil.copytree(migrated_home, root / "prefect")
    with served(root / "prefect") as found:
        yield root, found


@pytest.fixture(scope="module")
def place(server: tuple[Path, Server]) -> Workplace:
    root, found = server
    return Workplace(root / "data", root / "prefect", found.url)


@pytest.fixture(scope="module")
def words(rows: Path) -> list[str]:
    return ["run", "--set", f"ingest.sources=[{{path: {rows}, format: alpaca}}]", "--until", "ingest"]


@pytest.fixture(scope="module")
def warned(place: Workplace, words: list[str]) -> tuple[dict[str, Any], str]:
    """A run whose gate fails and only warns: its record, and what it said."""
    done = place.winnow(*words, "--set", f"ingest.gate={GATE}")
    assert done.returncode == 0, done.stderr
    return place.runs()[-1], done.stderr


def test_a_gate_that_warns_is_shown_and_the_run_goes_on(warned: tuple[dict[str, Any], str]) -> None:
    record, said = warned
    gate = record["stages"][0]["gate"]
    assert (record["status"], record["stages"][0]["state"], gate["passed"]) == ("done", "ran", False)
    assert "share of rows quarantined is 0.250, allowed is at most 0 (rows " in said
    assert "different languages is 0, allowed is at least 9" in said
    assert {check["expectation"] for check in gate["checks"]} >= {"rows left", "share of rows quarantined for not_json"}


def test_a_gate_that_stops_names_rows_that_explain_finds(
    place: Workplace, words: list[str], warned: tuple[dict[str, Any], str]
) -> None:
    done = place.winnow(*words, "--set", "ingest.gate.max_quarantined_share=0")
    assert done.returncode == 1
    assert "Traceback" not in done.stderr
    record = place.runs()[-1]
    failed = [check for check in record["stages"][0]["gate"]["checks"] if not check["passed"]]
    assert [len(check["samples"]) for check in failed] == [2]
    row_id = failed[0]["samples"][0]
    command = f"winnow explain {row_id} {record['run_id']} --data-dir {place.data}"
    assert f"look at one: {command}" in done.stderr
    assert "ingest.gate.max_quarantined_share" in done.stderr
    assert record["error"]["type"] == "GateError"
    later = place.winnow(*words)  # so that the run that failed is not the newest
    assert later.returncode == 0
    told = subprocess.run(
        [sys.executable, "-m", "flows.cli", *shlex.split(command)[1:]], capture_output=True, text=True, check=False
    )
    assert told.returncode == 0, told.stderr
    assert record["run_id"] in told.stdout
    assert "quarantined: missing_field" in told.stdout


def test_data_docs_show_the_failed_expectation_in_a_browser_without_a_network(
    place: Workplace, warned: tuple[dict[str, Any], str], chromium: str, tmp_path: Path
) -> None:
    digest = warned[0]["stages"][0]["gate"]["digest"]
    index, page = data_docs_index(place.data), data_docs_page(place.data, digest)
    assert index is not None
    assert page is not None
    with browser() as window:
        window.open(index.as_uri())
        window.wait_for("Data docs: the gates of all runs", "ingest", "✗ failed", "different languages")
        window.click("✗ failed")
        window.wait_for("All gates", "Gate after ingest", "Expectation Suite: ingest")
        window.open(page.as_uri())
        failed = "different languages is 0, allowed is at least 9"
        shown = window.wait_for(failed, "winnow explain", "maximum value must be greater than or equal to 9")
        assert "heron" not in shown
        window.screenshot(tmp_path / "gate.png")
    for made in (index, page):
        text = made.read_text("utf-8")
        assert "heron" not in text
        assert "<script" not in text
        assert "src=" not in text
        assert 'href="http' not in text


def test_an_unchanged_verdict_is_shown_again_without_great_expectations(
    place: Workplace, words: list[str], warned: tuple[dict[str, Any], str]
) -> None:
    gates = sorted((place.data / "gates").rglob("*"))
    done = place.winnow(*words, "--set", f"ingest.gate={GATE}", PYTHONPROFILEIMPORTTIME="1")
    assert done.returncode == 0, done.stderr
    assert "tasks.gates.judge" in done.stderr
    assert "great_expectations" not in done.stderr
    assert "different languages is 0, allowed is at least 9" in done.stderr
    before, record = warned[0], place.runs()[-1]
    again = json.dumps(record["stages"][0]["gate"]).replace(record["run_id"], before["run_id"])
    assert json.loads(again) == before["stages"][0]["gate"]
    assert sorted((place.data / "gates").rglob("*")) == gates


def test_prefect_holds_the_verdict_and_no_text_of_a_row(
    place: Workplace, server: tuple[Path, Server], warned: tuple[dict[str, Any], str]
) -> None:
    server[1].close()  # so this is the last test: all that the runs above told is written
    database = database_text(place.home)
    assert "winnow-ingest-gate" in database
    check = next(c for c in warned[0]["stages"][0]["gate"]["checks"] if c["samples"])
    assert check["samples"][0] in database
    assert "heron" not in database
