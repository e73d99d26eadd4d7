"""`winnow diff`: what differs between two runs, and for every row whose fate differs, how."""

import json
import shutil
from collections import Counter
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from flows.compare import compare_runs
from flows.show_diff import diff_lines
from pipeline_config.errors import ConfigError
from pipeline_config.schema import DATA_STAGES
from tasks.runs import RunRecord, read_run
from tests.command import Workplace
from tests.plain_run import records, run_stages, write_config, write_source


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("diff")
    write_source(folder)
    write_config(folder)
    return folder


@pytest.fixture(scope="module")
def first(place: Path) -> RunRecord:
    return run_stages(place / "data", place / "mine.yaml")


@pytest.fixture(scope="module")
def strict(place: Path, first: RunRecord) -> RunRecord:
    """Every pair of rows is too much alike, no answer is long enough: hardly a row is left."""
    sets = ["dedupe.threshold=0.05", "quality={thresholds: {min_answer_words: 22}, gate: {min_rows: 0}}"]
    return run_stages(place / "data", place / "mine.yaml", overrides=sets, until="quality")


def compared(place: Path, a: RunRecord, b: RunRecord, examples: int = 2) -> dict[str, Any]:
    found = compare_runs(a, b, place / "data", examples)
    assert json.loads(json.dumps(found)) == found
    return found


def slow_fates(place: Path, record: RunRecord, until: str) -> dict[str, str]:
    """The fate of each row, row by row."""
    found: dict[str, str] = {}
    for stage in DATA_STAGES[: DATA_STAGES.index(until) + 1]:
        key = record.stage(stage).key
        if key is None:
            continue
        folder = place / "data" / "artifacts" / stage / key
        for row in pl.read_parquet(folder / "removed.parquet").to_dicts():
            found[row["row_id"]] = f"{stage}: removed by {row['rule']}"
        for row in pl.read_parquet(folder / "quarantine.parquet").to_dicts():
            found[row["row_id"]] = f"{stage}: quarantined, {row['reason']}"
        last = folder
    kept = pl.concat([pl.read_parquet(p, columns=["row_id"]) for p in [*last.glob("part-*"), *last.glob("decision*")]])
    return found | dict.fromkeys(kept["row_id"], "kept")


def test_fates_are_those_of_a_slow_reading(place: Path, first: RunRecord, strict: RunRecord) -> None:
    found = compared(place, first, strict)["fates"]
    assert found["until"] == "quality"
    a, b = slow_fates(place, first, "quality"), slow_fates(place, strict, "quality")
    expected = Counter((a[row], b[row]) for row in a if a[row] != b[row])
    assert expected
    assert {(c["from"], c["to"]): c["rows"] for c in found["changed"]} == expected
    assert found["unchanged"] == sum(a[row] == b[row] for row in a)
    for change in found["changed"]:
        assert 1 <= len(change["examples"]) <= 2
        for row in change["examples"]:
            assert (a[row["row_id"]], b[row["row_id"]]) == (change["from"], change["to"])


def test_an_example_has_its_numbers_and_a_masked_beginning(place: Path, first: RunRecord, strict: RunRecord) -> None:
    changes = {c["to"]: c for c in compared(place, first, strict, examples=20)["fates"]["changed"]}
    row = changes["dedupe: removed by near_duplicate"]["examples"][0]
    assert row["a"]["fate"] == "kept"
    assert row["b"]["value"] >= row["b"]["threshold"] == pytest.approx(0.05)
    assert row["b"]["kept_row_id"]
    assert row["excerpt"].startswith("user: ")
    assert "ann.lee@example.com" not in json.dumps(changes)


def test_configuration_counts_and_metrics_stand_side_by_side(place: Path, first: RunRecord, strict: RunRecord) -> None:
    found = compared(place, first, strict)
    changes = {line["key"]: (line["from"], line["to"]) for line in found["configuration"]}
    assert changes["dedupe.threshold"] == (0.85, 0.05)
    assert set(changes) == {"dedupe.threshold", "quality"}
    stages = {stage["stage"]: stage for stage in found["stages"]}
    assert stages["ingest"]["same_artifact"]
    near = next(rule for rule in stages["dedupe"]["rules"] if rule["rule"] == "near_duplicate")
    assert near["b"] > near["a"] == 1
    assert stages["dedupe"]["b"]["out"] == 12 - near["b"]
    share = next(line for line in found["metrics"] if line["name"] == "dedupe.removed_share")
    assert share["difference"] == pytest.approx((near["b"] - 1) / 12)
    said = "\n".join(diff_lines(found))
    assert "dedupe.threshold: 0.85 -> 0.05" in said
    assert "compared up to quality: split: below --until quality" in said


def test_a_run_does_not_differ_from_itself_nor_from_its_repetition(place: Path, first: RunRecord) -> None:
    again = run_stages(place / "data", place / "mine.yaml")
    for other in (first, again):
        found = compared(place, first, other)
        assert not any(found[name] for name in ("configuration", "code", "versions", "sources", "missing"))
        assert (found["fates"]["changed"], found["fates"]["moved"]) == ([], [])
        assert found["fates"]["unchanged"] == 13
        assert diff_lines(found).count("  no difference") == 6


def test_rows_that_came_and_a_source_that_changed(place: Path, first: RunRecord, tmp_path: Path) -> None:
    new = {"instruction": "Where do the swallows go in winter?", "output": "They fly south, over the sea, to Africa."}
    write_source(tmp_path, [*records()[1:], new])
    write_config(tmp_path)
    found = compared(place, first, run_stages(place / "data", tmp_path / "mine.yaml"))
    assert [(source["name"], source["change"]) for source in found["sources"]] == [("mine", "other content")]
    changed = {(c["from"], c["to"]): c["rows"] for c in found["fates"]["changed"]}
    assert changed == {("kept", "not in the run"): 1, ("not in the run", "kept"): 1}


def test_a_row_that_moves_to_another_split(place: Path, first: RunRecord) -> None:
    other = run_stages(place / "data", place / "mine.yaml", overrides=["split.test=0.0"])
    found = compared(place, first, other)["fates"]
    assert found["changed"] == []
    assert {(move["from"], move["to"]) for move in found["moved"]} == {("test", "train")}


def test_a_stage_left_out_and_a_run_that_failed(place: Path, first: RunRecord) -> None:
    without = run_stages(place / "data", place / "mine.yaml", overrides=["dedupe=null"])
    changed = compared(place, first, without)["fates"]["changed"]
    assert [(c["from"], c["to"], c["rows"]) for c in changed] == [("dedupe: removed by near_duplicate", "kept", 1)]
    failed = run_stages(place / "data", place / "mine.yaml", overrides=["dedupe=null", "clean.gate.min_rows=99"])
    fates = compared(place, first, failed)["fates"]
    assert (fates["until"], fates["ended"], fates["changed"]) == ("clean", "clean failed", [])


def test_an_artifact_that_is_gone_is_named(place: Path, first: RunRecord, strict: RunRecord, tmp_path: Path) -> None:
    shutil.copytree(place / "data", tmp_path / "data")
    shutil.rmtree(tmp_path / "data" / "artifacts" / "dedupe" / str(strict.stage("dedupe").key))
    found = compare_runs(first, strict, tmp_path / "data", 2)
    assert found["missing"] == [{"run": strict.run_id, "stage": "dedupe", "why": "artifact is gone"}]
    assert (found["fates"]["until"], found["fates"]["ended"]) == ("clean", "the artifact of dedupe is gone")
    shutil.rmtree(tmp_path / "data" / "artifacts" / "ingest")
    assert compare_runs(first, strict, tmp_path / "data", 2)["fates"]["until"] is None


def test_runs_are_named_by_their_place_too(place: Path, first: RunRecord, strict: RunRecord) -> None:
    data = place / "data"
    newest = sorted(path.stem for path in (data / "runs").glob("*.json"))
    assert read_run(data, "latest~0").run_id == read_run(data, "latest").run_id == newest[-1]
    assert read_run(data, "latest~1").run_id == newest[-2]
    with pytest.raises(ConfigError, match="latest~99"):
        read_run(data, "latest~99")


def test_the_command_prints_words_or_one_document(place: Path, first: RunRecord, strict: RunRecord) -> None:
    here = Workplace(place / "data", place / "prefect")
    words = here.winnow("diff", first.run_id, strict.run_id)
    assert words.returncode == 0, words.stderr
    assert "rows that changed fate" in words.stdout
    assert here.document("diff", first.run_id, strict.run_id)["b"]["run_id"] == strict.run_id
    wrong = here.winnow("diff", first.run_id, "2020")
    assert (wrong.returncode, "there is no run 2020" in wrong.stderr) == (2, True)
