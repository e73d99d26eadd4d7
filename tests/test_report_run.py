"""The page of one run: its gates, states and times stand on the cached page, exactly, and make nothing again."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from flows.run_report import make_report, report_path, write_report
from pipeline_config.errors import ConfigError
from pipeline_config.schema import STAGES
from tasks.artifact import Artifact, Store
from tasks.execute import Workspace, examine, judge_gate, produce
from tasks.report.gates import stage_gates, verdict_sentence
from tasks.report.run_page import SLOTS, run_page
from tasks.report.task import TEMPLATE, report
from tasks.runs import RunRecord, StageRecord
from tests import report_run
from tests.command import Workplace
from tests.page import Page

OFF = dict.fromkeys(("toxicity", "quality", "select", "split", "balance", "augment", "tokenize", "train"))
OFF |= dict.fromkeys(("distill", "compress", "evaluate"))
RUN = "20260102T030405-abcd"
CHECK = {"expectation": "rows left", "observed": 7, "allowed": "at least 9", "passed": False, "cure": "lower min_rows"}


def test_every_check_of_every_gate_stands_on_the_page_as_it_was_judged(tmp_path: Path) -> None:
    record, _ = _run(tmp_path)
    path = write_report(record, tmp_path)
    assert path == report_path(RUN, tmp_path)
    shown = _words(path)
    checks = [check for file in (tmp_path / "gates").glob("*.json") for check in json.loads(file.read_text())["checks"]]
    assert len(checks) > 15
    for check in checks:
        assert check["expectation"] in shown, check
    assert f"All {len(checks)} checks after 4 stages passed." in shown
    assert RUN in shown
    assert "2026-01-02 03:04 UTC" in shown


def test_a_changed_bound_changes_the_page_of_the_run_and_not_the_artifact(tmp_path: Path) -> None:
    record, upstream = _run(tmp_path)
    artifact = upstream["report"].path / "report.html"
    before, first = artifact.read_bytes(), _words(_written(record, tmp_path))
    strict = report_run.config(**OFF, dedupe={"gate": {"min_rows": 10**6, "on_fail": "warn"}})
    work = Workspace(strict, tmp_path, Store(tmp_path), dict(upstream))
    record.stage("dedupe").gate = judge_gate("dedupe", upstream["dedupe"], work).to_dict()
    assert examine(report, work).verdict == "cached"
    second = _words(_written(record, tmp_path))
    assert artifact.read_bytes() == before
    assert "at least 1,000,000" in second
    assert "at least 1,000,000" not in first
    assert "failed, after dedupe: rows left is" in second
    assert "passed" not in Page(before.decode()).words, "the cached page says nothing of any run's gates"


@pytest.mark.parametrize(
    "gate",
    [
        {
            "passed": False,
            "checks": [CHECK, {**CHECK, "passed": True}],
            "on_fail": "warn",
            "reference": {"run_id": "R"},
        },
        {"passed": False, "checks": 2, "failed": [CHECK], "digest": "0" * 64},
        {"passed": False, "checks": 2, "failed": [CHECK], "digest": "../../etc"},
    ],
    ids=["listed", "counted", "no digest"],
)
def test_verdicts_of_every_form_are_read(tmp_path: Path, gate: dict[str, Any]) -> None:
    (found,) = stage_gates({"stages": [{"name": "clean", "gate": gate}, {"name": "dedupe", "gate": None}]}, tmp_path)
    assert (found.n, len(found.failed), found.failed[0].observed, found.passed) == (2, 1, "7", False)
    assert verdict_sentence([found]) == "1 of 2 checks failed, after clean: rows left is 7, allowed is at least 9."


def test_a_failed_gate_stands_open_with_what_to_do_and_rows_to_look_at(tmp_path: Path) -> None:
    gate = {"passed": False, "on_fail": "stop", "checks": [CHECK | {"row_ids": ["0123456789abcdef"]}], "digest": ""}
    cure = "look at one: winnow explain 0123456789abcdef R --data-dir '/home/me/my data'; lower min_rows"
    gate["checks"][0]["cure"] = cure
    page = _filled(tmp_path, [{"name": "clean", "gate": gate}], status="failed", error={"message": "the gate failed"})
    assert "/home/me" not in page
    words = " ".join(Page(page).words.split())
    assert "<details open>" in page
    assert "What to do: look at one: winnow explain 0123456789abcdef R; lower min_rows." in words
    assert "Failed. the gate failed" in words
    assert "1 of 1 check failed, the run stopped" in words


def test_a_record_brings_no_element_and_no_path_into_the_page(tmp_path: Path) -> None:
    bad = report_run.HOSTILE
    check = dict.fromkeys(("expectation", "observed", "allowed", "cure"), bad) | {"passed": False, "samples": [bad]}
    gate = {"passed": False, "on_fail": bad, "checks": [check], "reference": bad}
    stage = {"name": bad, "state": bad, "seconds": 1.0, "reason": bad, "gate": gate}
    error = {"message": f"{bad} {tmp_path}/x", "cure": f"{bad} {report_run.PLANTED[0]}"}
    more = {
        "config_name": "demo",
        "overrides": [f"title={bad}", f"a={tmp_path}"],
        "sources": [{"name": bad, "path": "/home/me", "sha256": "f"}],
    }
    page = _filled(tmp_path, [stage], status="failed", error=error, parent_run_id=bad, **more)
    found = Page(page)
    assert not {"script", "img"} & set(found.elements)
    assert not [name for _, name, _ in found.attributes if name.startswith("on")]
    assert found.words.count("<script>alert('x')</script>") > 8
    for secret in (str(tmp_path), "/home/me", report_run.PLANTED[0]):
        assert secret not in page


def test_a_check_that_only_warns_is_no_failure(tmp_path: Path) -> None:
    gate = {"passed": True, "on_fail": "stop", "checks": [CHECK | {"advisory": True}, CHECK | {"passed": True}]}
    page = _filled(tmp_path, [{"name": "clean", "gate": gate}])
    words = " ".join(Page(page).words.split())
    assert "1 of 2 checks after 1 stage passed. 1 warning: rows left is 7, allowed is at least 9." in words
    assert 'class="mark failed"' not in page


def test_data_docs_are_linked_where_they_are(tmp_path: Path) -> None:
    gate = {"passed": True, "checks": [CHECK | {"passed": True}], "digest": "ab12"}
    assert "Data Docs" not in _filled(tmp_path, [{"name": "clean", "gate": gate}])
    docs = tmp_path / "gates" / "docs"
    (docs / "validations").mkdir(parents=True)
    for place in ("index.html", "validations/ab12.html"):
        (docs / place).write_text("")
    here = report_path(RUN, tmp_path).parent
    links = [
        link for link in Page(_filled(tmp_path, [{"name": "clean", "gate": gate}])).values("href") if "docs" in link
    ]
    assert [(here / link).resolve() for link in links] == [docs / "index.html", docs / "validations" / "ab12.html"]


@pytest.mark.parametrize(
    ("name", "typed"), [("demo", "winnow run demo --set a=1"), ("/home/me/my own.yaml", "'./my own.yaml' --set a=1")]
)
def test_the_command_is_told_without_folders(tmp_path: Path, name: str, typed: str) -> None:
    selection = {"from_stage": None, "until": "split", "only": None, "force": ["clean"], "verify": True}
    page = _filled(tmp_path, [], config_name=name, overrides=["a=1"], selection=selection)
    assert f"{typed} --until split --force clean" in Page(page).words
    assert "/home" not in page


def test_a_slot_in_a_record_is_text(tmp_path: Path) -> None:
    page = _filled(tmp_path, [{"name": "<!--run:record-->", "state": "ran"}])
    assert page.count("<h3>This run</h3>") == 1
    assert "&lt;!--run:record--&gt;" in page


def test_a_page_without_slots_stays_as_it_is(tmp_path: Path) -> None:
    assert run_page("<p>old</p>", {"stages": []}, tmp_path, TEMPLATE) == "<p>old</p>"


def test_a_run_that_stopped_has_a_page_of_what_it_made(tmp_path: Path) -> None:
    record, upstream = _run(tmp_path)
    for name in ("dedupe", "report"):
        record.stage(name).key = None
    record.stage("dedupe").state = "failed"
    record.stage("report").state = "pending"
    record.status, record.error = "failed", {"message": "dedupe broke", "place": "", "cure": "mend it"}
    assert write_report(record, tmp_path) is None
    words = _words(make_report(record, tmp_path))
    assert "Failed. dedupe broke What to do: mend it" in words
    assert f"{upstream['clean'].manifest['rows']['out']} are left" in words
    assert "2 from the cache" in words


def test_a_run_that_made_nothing_says_so(tmp_path: Path) -> None:
    record = RunRecord(RUN, {}, [], [], [StageRecord(name) for name in STAGES], status="failed")
    with pytest.raises(ConfigError, match="has made nothing to report on"):
        make_report(record, tmp_path)


def test_the_page_of_a_run_whose_artifacts_are_gone_stays(tmp_path: Path) -> None:
    record, upstream = _run(tmp_path)
    path = _written(record, tmp_path)
    for artifact in upstream.values():
        artifact.path.rename(artifact.path.with_suffix(".gone"))
    assert make_report(record, tmp_path) == path


def test_how_a_run_is_shown_is_no_part_of_the_report_s_key(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = report_run.config()
    assert report.references is not None
    before = report.references(run.report, run, tmp_path)
    copy = tmp_path / "template"
    copy.mkdir()
    for file in TEMPLATE.iterdir():
        (copy / file.name).write_bytes(file.read_bytes() + (b" " if file.name == "run.html" else b""))
    monkeypatch.setattr("tasks.report.task.TEMPLATE", copy)
    assert report.references(run.report, run, tmp_path) == before
    (copy / "page.html").write_text("other")
    assert report.references(run.report, run, tmp_path) != before


def test_a_run_that_crashed_names_the_stage(tmp_path: Path) -> None:
    page = _filled(tmp_path, [{"name": "train", "state": "failed", "reason": "crashed"}], status="failed")
    assert "Failed. train: crashed." in " ".join(Page(page).words.split())


@pytest.mark.model
def test_every_run_leaves_its_page(workplace: Workplace, tiny_runs: list[dict[str, Any]]) -> None:
    pages = [_words(report_path(record["run_id"], workplace.data)) for record in tiny_runs]
    for page, record in zip(pages, tiny_runs, strict=True):
        assert record["run_id"] in page
        assert "winnow run tiny" in page
        assert "checks after" in page
    assert f"{sum(stage['state'] == 'cached' for stage in tiny_runs[1]['stages'])} from the cache" in pages[1]
    assert workplace.document("report")["report"] == str(report_path(workplace.runs()[-1]["run_id"], workplace.data))


def _run(data_dir: Path) -> tuple[RunRecord, dict[str, Artifact]]:
    """A run of three data stages and its report, every stage from the cache, judged."""
    run, upstream = report_run.make_run(data_dir, 60, **OFF)
    work = Workspace(run, data_dir, Store(data_dir), dict(upstream))
    upstream["report"] = produce(report, examine(report, work), work)
    stages = [StageRecord(name, state="skipped") for name in STAGES]
    record = RunRecord(RUN, run.model_dump(mode="json", by_alias=True), [], [], stages, status="done")
    for name, artifact in upstream.items():
        entry = record.stage(name)
        entry.key, entry.state, entry.seconds = artifact.key, "cached", 0.1
        entry.gate = judge_gate(name, artifact, work).to_dict()
    return record, upstream


def _filled(data_dir: Path, stages: list[dict[str, Any]], **record: Any) -> str:
    slots = "".join(f"<!--run:{slot}-->" for slot in SLOTS)
    return run_page(slots, {"run_id": RUN, "status": "done", "stages": stages, **record}, data_dir, TEMPLATE)


def _written(record: RunRecord, data_dir: Path) -> Path:
    path = write_report(replace(record), data_dir)
    assert path is not None
    return path


def _words(path: Path | None) -> str:
    assert path is not None
    return " ".join(Page(path.read_text("utf-8")).words.split())
