"""The tiny recipe from end to end, with the real model and a real Prefect server: what a run promises, it keeps."""

import re
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from pipeline_config.schema import DATA_STAGES, STAGES
from tests.command import Workplace, database_text
from tests.planted import PLANTED

pytestmark = [pytest.mark.model, pytest.mark.server]


@pytest.fixture
def first(tiny_runs: list[dict[str, Any]]) -> dict[str, Any]:
    return tiny_runs[0]


@pytest.fixture
def second(tiny_runs: list[dict[str, Any]]) -> dict[str, Any]:
    return tiny_runs[1]


def artifacts(workplace: Workplace, record: dict[str, Any]) -> dict[str, Path]:
    return {entry["name"]: workplace.folder(record, entry["name"]) for entry in record["stages"] if entry["key"]}


def ledger(folder: Path, name: str) -> pl.DataFrame:
    return pl.read_parquet(folder / f"{name}.parquet")


def manifest(folder: Path) -> dict[str, Any]:
    import json

    found: dict[str, Any] = json.loads((folder / "manifest.json").read_text())
    return found


def some_id(workplace: Workplace, record: dict[str, Any], stage: str, name: str, rule: str | None = None) -> str:
    frame = ledger(workplace.folder(record, stage), name)
    if rule is not None:
        frame = frame.filter(pl.col("rule") == rule)
    return str(frame["row_id"][0])


def task_states(workplace: Workplace, record: dict[str, Any]) -> list[tuple[str, str]]:
    """What Prefect's database says of the tasks of one run, in their order."""
    query = """
        select task_run.name, task_run.state_name from task_run join flow_run on task_run.flow_run_id = flow_run.id
        where flow_run.name like '% ' || ? order by task_run.start_time"""
    with closing(sqlite3.connect(workplace.home / "prefect.db")) as connection:
        return connection.execute(query, (record["run_id"],)).fetchall()


def test_every_stage_runs_and_every_gate_passes(first: dict[str, Any]) -> None:
    assert first["status"] == "done"
    assert {entry["name"]: entry["state"] for entry in first["stages"]} == dict.fromkeys(STAGES, "ran")
    assert all(entry["gate"]["passed"] for entry in first["stages"])


def test_the_second_run_is_cached_and_prefect_says_so(
    workplace: Workplace, first: dict[str, Any], second: dict[str, Any]
) -> None:
    assert {entry["name"]: entry["state"] for entry in second["stages"]} == dict.fromkeys(STAGES, "cached")
    assert [entry["key"] for entry in second["stages"]] == [entry["key"] for entry in first["stages"]]
    for record, state in ((first, "Completed"), (second, "Cached")):
        assert task_states(workplace, record) == [(name, state) for name in STAGES]


def test_every_row_is_accounted_for(workplace: Workplace, first: dict[str, Any]) -> None:
    folders = artifacts(workplace, first)
    before = None
    for stage in DATA_STAGES:
        rows = manifest(folders[stage])["rows"]
        added, removed, quarantined = (sum(rows[kind].values()) for kind in ("added", "removed", "quarantined"))
        assert rows["in"] + added == rows["out"] + removed + quarantined, stage
        assert before is None or rows["in"] == before, stage
        assert ledger(folders[stage], "removed").height == removed
        assert ledger(folders[stage], "quarantine").height == quarantined
        before = rows["out"]


def test_every_removal_names_a_row_that_is_kept(workplace: Workplace, first: dict[str, Any]) -> None:
    folder = artifacts(workplace, first)["dedupe"]
    kept = set(pl.read_parquet(folder / "decision.parquet")["row_id"])
    removed = ledger(folder, "removed")
    assert removed.height >= 2
    assert set(removed["kept_row_id"]) <= kept
    assert (removed["value"] >= removed["threshold"]).all()


def test_every_edited_row_is_in_the_ledger(workplace: Workplace, first: dict[str, Any]) -> None:
    folders = artifacts(workplace, first)
    before = pl.read_parquet(folders["ingest"] / "part-*.parquet").select("row_id", "messages", "rejected", "meta")
    after = pl.read_parquet(folders["clean"] / "part-*.parquet").select("row_id", "messages", "rejected", "meta")
    both = before.join(after, on="row_id", suffix="_after")
    same = (
        pl.col("messages").eq_missing(pl.col("messages_after"))
        & pl.col("rejected").eq_missing(pl.col("rejected_after"))
        & pl.col("meta").eq_missing(pl.col("meta_after"))
    )
    edited = set(both.filter(~same)["row_id"])
    assert edited
    assert edited == set(ledger(folders["clean"], "changed")["row_id"]) & set(both["row_id"])


def test_planted_personal_data_is_nowhere_behind_ingest(workplace: Workplace, second: dict[str, Any]) -> None:
    seen = {}
    for path in sorted(workplace.data.rglob("*")):
        inside = path.relative_to(workplace.data).parts
        if not path.is_file() or inside[0] == "models" or inside[:2] == ("artifacts", "ingest"):
            continue
        if path.suffix in (".safetensors", ".gguf"):
            continue
        text = (
            str(pl.read_parquet(path).to_dicts()) if path.suffix == ".parquet" else path.read_text("utf-8", "replace")
        )
        seen[path] = [value for value in PLANTED if value in text]
    quarantine = ledger(workplace.folder(second, "ingest"), "quarantine")
    seen[Path("ingest/quarantine")] = [value for value in PLANTED if value in str(quarantine.to_dicts())]
    seen[Path("prefect.db")] = [value for value in PLANTED if value in database_text(workplace.home)]
    assert len(seen) > 60
    assert {path: values for path, values in seen.items() if values} == {}


def test_no_manifest_or_model_file_names_a_path_of_this_machine(workplace: Workplace, first: dict[str, Any]) -> None:
    for path in sorted((workplace.data / "artifacts").rglob("*")):
        if path.suffix in (".json", ".md", ".jinja"):
            assert str(workplace.data) not in path.read_text("utf-8"), path


@pytest.mark.parametrize(
    ("stage", "name", "words"),
    [
        ("dedupe", "removed", ["removed by", "against the threshold", "the row that is kept"]),
        ("clean", "changed", ["edited by"]),
        ("ingest", "quarantine", ["quarantined:", "line"]),
    ],
)
def test_explain_tells_what_happened_to_a_row(
    workplace: Workplace, first: dict[str, Any], stage: str, name: str, words: list[str]
) -> None:
    told = workplace.winnow("explain", some_id(workplace, first, stage, name)).stdout
    assert all(word in told for word in words), told


def test_explain_tells_of_a_kept_and_of_an_augmented_row(workplace: Workplace, first: dict[str, Any]) -> None:
    rows = pl.read_parquet(workplace.folder(first, "augment") / "part-*.parquet")
    kept = workplace.winnow("explain", rows.filter(pl.col("parent_row_id").is_null())["row_id"][0]).stdout
    assert "read from source" in kept
    assert "split = " in kept
    assert "tokens, " in kept
    added = workplace.winnow("explain", rows.filter(pl.col("parent_row_id").is_not_null())["row_id"][0]).stdout
    assert re.search(r"added for its parent \w{16} by (swap|chinese)", added)


def test_explain_refuses_what_it_does_not_know(workplace: Workplace, first: dict[str, Any]) -> None:
    done = workplace.winnow("explain", "ffff000011112222")
    assert done.returncode == 2
    assert "no row of this run" in done.stderr


def test_preview_marks_what_is_trained(workplace: Workplace, first: dict[str, Any]) -> None:
    done = workplace.winnow("preview", "--samples", "4")
    assert done.returncode == 0
    assert "tokens learned" in done.stdout
    assert "<|im_end|>⟧" in done.stdout


def test_the_tables_show_stages_and_models(workplace: Workplace, second: dict[str, Any]) -> None:
    done = workplace.winnow("status", second["run_id"])
    assert done.returncode == 0
    for word in ("near_duplicate", "pii_email", "cached", "distilled", "BERTScore", "report.html"):
        assert word in done.stdout, word


def test_the_report_is_one_page_without_network(workplace: Workplace, first: dict[str, Any]) -> None:
    page = Path(workplace.document("report")["report"]).read_text("utf-8")
    assert page.startswith("<!doctype html>") or page.startswith("<!DOCTYPE html>")
    assert 'src="http' not in page


def test_rows_come_out_for_other_trainers(workplace: Workplace, first: dict[str, Any], tmp_path: Path) -> None:
    for form in ("messages", "alpaca", "sharegpt", "text"):
        out = tmp_path / f"{form}.jsonl"
        done = workplace.document("export", "--stage", "augment", "--format", form, "--out", str(out))
        assert done["rows"] == len(out.read_text("utf-8").splitlines()) > 0
    refused = workplace.winnow("export", "--stage", "train", "--format", "messages", "--out", str(tmp_path / "x.jsonl"))
    assert refused.returncode == 2


def test_plan_says_cached_and_then_what_changed(workplace: Workplace, second: dict[str, Any]) -> None:
    plan = {entry["name"]: entry for entry in workplace.document("plan", "tiny")["stages"]}
    assert {entry["verdict"] for entry in plan.values()} == {"cached"}
    changed = workplace.document("plan", "tiny", "--set", "dedupe.threshold=0.9")["stages"]
    verdicts = {entry["name"]: entry["verdict"] for entry in changed}
    assert (verdicts["clean"], verdicts["dedupe"], verdicts["split"]) == ("cached", "run", "depends")
    assert "threshold 0.85 -> 0.9" in next(entry["reason"] for entry in changed if entry["name"] == "dedupe")


def test_a_bound_that_fails_stops_a_cached_run(workplace: Workplace, second: dict[str, Any]) -> None:
    done = workplace.winnow("run", "tiny", "--set", "quality.gate.min_rows=1000")
    assert done.returncode == 1
    assert "rows left is" in done.stderr
    assert "at least 1,000" in done.stderr
    assert "Traceback" not in done.stderr
    record = workplace.runs()[-1]
    states = {entry["name"]: entry["state"] for entry in record["stages"]}
    assert record["status"] == "failed"
    assert (states["toxicity"], states["quality"], states["select"]) == ("cached", "failed", "pending")
