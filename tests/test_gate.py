"""A gate stops what its bounds forbid, says what to do, and pays for Great Expectations once."""

import json
import math
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from flows.gate_page import gate_markdown
from pipeline_config.errors import ConfigError, GateError
from pipeline_config.fields import Gate
from pipeline_config.gate_schema import DEFAULTS, DedupeGate, RowGate, SplitGate, TokenizeGate
from pipeline_config.load import load_config
from pipeline_config.schema import DATA_STAGES, STAGES, Config
from tasks.gates.bounds import Reference, Subject
from tasks.gates.finite import finite_manifest
from tasks.gates.judge import judge
from tasks.gates.verdict import Verdict

POPULATION: dict[str, Any] = {
    "rows": 10,
    "mix": {
        "source": {"a": 6, "b": 4},
        "task": {"qa": 9, "chat": 1},
        "label": {"spam": 2, "ham": 6},
        "lang": {"en": 5, "zh": 5},
        "split": {"train": 8, "test": 2},
    },
    "nulls": {"label": 2, "lang": 0},
    "characters": {"quantiles": {"p50": 40, "p99": 900, "max": 1000}, "bins": {"6": 9, "10": 1}},
    "tokens": {"quantiles": {"p50": 10, "p95": 200}, "bins": {"4": 10}},
}
FACTS: dict[str, Any] = {
    "population": POPULATION,
    "row_id_duplicates": 0,
    "null_row_ids": 0,
    "edited_rows": 3,
    "duplicates_left": 0,
    "expected_missed": 0.1,
    "copies_let_be": 1,
    "leakage": 0,
    "leakage_placed_by_user": 2,
    "trained_tokens": 50,
    "truncated_share": 0.2,
}
METRICS = {"tuned.python.rouge_l": 0.25, "loss": 2.0}


def rows(**changes: Any) -> dict[str, Any]:
    base: dict[str, Any] = {
        "in": 20, "out": 10, "removed": {"too_short": 6, "echo": 1}, "changed": {"markup": 3}, "added": {},
        "quarantined": {"not_json": 3},
    }  # fmt: skip
    return base | changes


def gate_of(stage: str, bounds: dict[str, Any]) -> Gate:
    """The gate as a configuration gives it."""
    sources = {"sources": [{"name": "a", "path": "a.jsonl"}, {"name": "b", "path": "b.jsonl"}]}
    needed: dict[str, Any] = {"ingest": sources, "select": {"description": "x"}}
    base: dict[str, Any] = {"tokenize": {}, "train": {}} if stage in ("evaluate", "distill", "compress") else {}
    if stage == "train":
        base = {"tokenize": {}}
    values = base | {"ingest": sources} | {stage: needed.get(stage, {}) | {"gate": bounds}}
    found = Config.model_validate(values).section(stage)
    assert found is not None
    return found.gate


def judged(
    tmp_path: Path,
    stage: str = "quality",
    bounds: dict[str, Any] | None = None,
    counts: dict[str, Any] | None = None,
    facts: dict[str, Any] | None = None,
    reference: Reference | None = None,
) -> Verdict:
    known = FACTS if facts is None else facts
    subject = Subject(stage, counts or rows(), known, METRICS, None, reference)
    return judge(subject, gate_of(stage, bounds or {}), tmp_path)


BOUNDS: list[tuple[str, dict[str, Any], dict[str, Any], str]] = [
    ("quality", {"min_rows": 11}, {"min_rows": 10}, "rows left is 10, allowed is at least 11"),
    ("quality", {"max_rows": 9}, {"max_rows": 10}, "rows left is 10, allowed is at least 1 and at most 9"),
    ("quality", {"min_kept_share": 0.6}, {"min_kept_share": 0.5},
     "share of rows kept is 0.500, allowed is at least 0.600"),
    ("quality", {"max_removed_share": 0.3}, {"max_removed_share": 0.4},
     "share of rows removed is 0.350, allowed is at most 0.300"),
    ("quality", {"max_removed_share_by_rule": {"too_short": 0.2}}, {"max_removed_share_by_rule": {"too_short": 0.3}},
     "share of rows removed by too_short is 0.300, allowed is at most 0.200"),
    ("quality", {"max_quarantined_share": 0.1}, {"max_quarantined_share": 0.15},
     "share of rows quarantined is 0.150, allowed is at most 0.100"),
    ("quality", {"max_quarantined_share_by_reason": {"not_json": 0}},
     {"max_quarantined_share_by_reason": {"not_json": 0.2, "too_long": 0}},
     "share of rows quarantined for not_json is 0.150, allowed is at most 0"),
    ("clean", {"max_edited_share": 0.1}, {"max_edited_share": 0.2},
     "share of rows edited is 0.150, allowed is at most 0.100"),
    ("clean", {"max_edited_share_by_rule": {"markup": 0.1}}, {"max_edited_share_by_rule": {"markup": 0.2}},
     "share of rows edited by markup is 0.150, allowed is at most 0.100"),
    ("quality", {"max_null_share": {"label": 0.1}}, {"max_null_share": {"label": 0.2, "lang": 0}},
     "share of rows without label is 0.200, allowed is at most 0.100"),
    ("quality", {"languages": {"en": {"min": 0.6}}}, {"languages": {"en": {"min": 0.5, "max": 0.5}}},
     "share of language en is 0.500, allowed is at least 0.600"),
    ("quality", {"languages": {"de": {"min": 0.1}}}, {"languages": {"de": {"max": 0}}},
     "share of language de is 0, allowed is at least 0.100"),
    ("quality", {"labels": {"ham": {"max": 0.7}}}, {"labels": {"ham": {"max": 0.75}}},
     "share of label ham is 0.750, allowed is at most 0.700"),
    ("quality", {"tasks": {"chat": {"min": 0.2}}}, {"tasks": {"chat": {"min": 0.1}}},
     "share of task chat is 0.100, allowed is at least 0.200"),
    ("quality", {"sources": {"a": {"max": 0.5}}}, {"sources": {"a": {"max": 0.6}}},
     "share of source a is 0.600, allowed is at most 0.500"),
    ("quality", {"min_labels": 3}, {"min_labels": 2}, "different labels is 2, allowed is at least 3"),
    ("quality", {"min_tasks": 3}, {"min_tasks": 2}, "different tasks is 2, allowed is at least 3"),
    ("quality", {"min_languages": 3}, {"min_languages": 2}, "different languages is 2, allowed is at least 3"),
    ("quality", {"min_sources": 3}, {"min_sources": 2}, "different sources is 2, allowed is at least 3"),
    ("quality", {"characters": {"p50": {"min": 41}}}, {"characters": {"p50": {"min": 40}}},
     "characters of a row, p50 is 40, allowed is at least 41"),
    ("quality", {"characters": {"p99": {"max": 800}}}, {"characters": {"p99": {"max": 900}}},
     "characters of a row, p99 is 900, allowed is at most 800"),
    ("tokenize", {"tokens": {"p95": {"max": 100}}}, {"tokens": {"p95": {"max": 200}}},
     "tokens of a row, p95 is 200, allowed is at most 100"),
    ("tokenize", {"min_trained_tokens": 51}, {"min_trained_tokens": 50},
     "trained tokens is 50, allowed is at least 51"),
    ("tokenize", {"max_truncated_share": 0.1}, {"max_truncated_share": 0.2},
     "share of rows cut to fit is 0.200, allowed is at most 0.100"),
    ("dedupe", {"max_duplicates_left": 0.1}, {"max_duplicates_left": 0.11},
     "share of rows left that repeat another (estimate) is 0.110, allowed is at most 0.100"),
    ("split", {"max_leakage": 1}, {"max_leakage": 2}, "near-duplicates across splits is 2, allowed is at most 1"),
    ("split", {"splits": {"train": {"min": 0.9}}}, {"splits": {"train": {"min": 0.8}, "validation": {"max": 0}}},
     "share of split train is 0.800, allowed is at least 0.900"),
    ("evaluate", {"metrics": {"tuned.python.rouge_l": {"min": 0.3}}},
     {"metrics": {"tuned": {"python": {"rouge_l": {"min": 0.2, "max": 0.3}}}}},
     "tuned.python.rouge_l is 0.250, allowed is at least 0.300"),
    ("train", {"metrics": {"loss": {"max": 1.5}}}, {"metrics": {"loss": {"max": 2}}},
     "loss is 2, allowed is at most 1.500"),
]  # fmt: skip


@pytest.mark.parametrize(("stage", "fails", "holds", "words"), BOUNDS, ids=[words for *_, words in BOUNDS])
def test_each_bound_fails_in_these_words_and_holds(
    tmp_path: Path, stage: str, fails: dict[str, Any], holds: dict[str, Any], words: str
) -> None:
    failed = judged(tmp_path, stage, fails)
    assert [check.words() for check in failed.failed] == [words]
    assert f"set {stage}.gate." in failed.failed[0].cure
    assert judged(tmp_path, stage, holds).passed


ALWAYS: list[tuple[str, dict[str, Any], dict[str, Any], str]] = [
    ("quality", rows(out=9), {}, "in + added - out - removed - quarantined is 1, allowed is exactly 0"),
    ("quality", rows(out=0, removed={"x": 17}), {}, "rows left is 0, allowed is at least 1"),
    ("quality", rows(), {"row_id_duplicates": 1}, "row ids that stand twice is 1, allowed is exactly 0"),
    ("quality", rows(), {"null_row_ids": 1}, "rows without an id is 1, allowed is exactly 0"),
    ("dedupe", rows(), {"duplicates_left": 1}, "removed rows whose duplicate is not kept is 1, allowed is exactly 0"),
    ("dedupe", rows(), {"expected_missed": 0.6},
     "share of rows left that repeat another (estimate) is 0.060, allowed is at most 0.050"),
    ("split", rows(), {"leakage": 2}, "near-duplicates across splits is 2, allowed is at most 0"),
    ("tokenize", rows(), {"trained_tokens": 0}, "trained tokens is 0, allowed is at least 1"),
    ("train", rows(), {"final_loss": math.nan}, "numbers that are not finite is 1, allowed is exactly 0"),
    ("evaluate", rows(), {"loss": {"a": math.inf}}, "numbers that are not finite is 1, allowed is exactly 0"),
]  # fmt: skip


@pytest.mark.parametrize(("stage", "counts", "facts", "words"), ALWAYS, ids=[words for *_, words in ALWAYS])
def test_what_holds_without_a_word_in_the_configuration(
    tmp_path: Path, stage: str, counts: dict[str, Any], facts: dict[str, Any], words: str
) -> None:
    found = judged(tmp_path, stage, counts=counts, facts=facts)
    assert [check.words() for check in found.failed] == [words]
    assert judged(tmp_path, stage, facts=dict.fromkeys(facts, 1 if "trained_tokens" in facts else 0)).passed


def test_a_number_that_is_not_finite_reaches_the_gate_by_name(tmp_path: Path) -> None:
    metrics, facts = finite_manifest({"loss": math.nan, "steps": 2.0}, {"by_split": {"test": math.inf}, "n": 1})
    assert metrics == {"steps": 2.0}
    assert facts == {"by_split": {"test": None}, "n": 1, "not_finite": ["loss", "by_split.test"]}
    failed = judged(tmp_path, "train", facts=facts).failed
    assert [check.words() for check in failed] == ["numbers that are not finite is 2, allowed is exactly 0"]
    assert failed[0].cure == "look at the metrics of train: loss, by_split.test"


def test_names_of_the_users_are_shown_and_never_read_as_markup(tmp_path: Path) -> None:
    name = "<img src=x onerror=alert(1)> & $x {{y}}"
    verdict = judged(tmp_path, bounds={"labels": {name: {"min": 1}}})
    assert f"share of label {name}" in verdict.failed[0].words()
    page = (tmp_path / "gates" / "docs" / "validations" / f"{verdict.digest}.html").read_text()
    assert "<img" not in page
    assert "&lt;img src=x onerror=alert(1)&gt;" in page
    assert "<img" not in gate_markdown("quality", verdict)


def test_every_stage_has_defaults_that_ordinary_rows_keep(tmp_path: Path) -> None:
    assert set(DEFAULTS) == set(DATA_STAGES)
    for stage in STAGES:
        assert judged(tmp_path, stage).passed, stage


def test_stages_whose_task_is_to_leave_rows_out_may(tmp_path: Path) -> None:
    counts = rows(**{"in": 1000}, out=5, removed={"beyond_quota": 995}, quarantined={})
    assert judged(tmp_path, "select", counts=counts).passed
    assert judged(tmp_path, "balance", counts=counts).passed
    assert not judged(tmp_path, "dedupe", counts=counts).passed


def test_an_error_lists_every_failed_expectation_with_a_cure_for_each(tmp_path: Path) -> None:
    verdict = judged(tmp_path, bounds={"min_rows": 11, "languages": {"en": {"min": 0.9}}})
    error = verdict.error("quality")
    assert isinstance(error, GateError)
    assert error.exit_code == 1
    assert "rows left is 10, allowed is at least 11; share of language en is 0.500" in error.message
    assert "too_short took most rows" in error.cure
    assert "quality.gate.min_rows" in error.cure
    assert "quality.gate.languages.en" in error.cure


def test_a_metric_that_is_not_there_fails_and_the_nearest_is_named(tmp_path: Path) -> None:
    verdict = judged(tmp_path, "evaluate", {"metrics": {"tuned.pyhton.rouge_l": {"min": 0}}})
    assert verdict.failed[0].words() == "tuned.pyhton.rouge_l is not measured, allowed is at least 0"
    assert "did you mean 'tuned.python.rouge_l'" in verdict.failed[0].cure


@pytest.mark.parametrize("value", [None, math.nan, math.inf, "many"])
def test_what_is_no_finite_number_fails_a_bound_of_the_users(tmp_path: Path, value: Any) -> None:
    verdict = judged(tmp_path, "tokenize", {"max_truncated_share": 1}, facts={"truncated_share": value})
    assert "share of rows cut to fit is not measured, allowed is at most 1" in [c.words() for c in verdict.failed]


def test_a_truth_value_counts_as_a_number(tmp_path: Path) -> None:
    assert not judged(tmp_path, "quality", facts={"row_id_duplicates": True}).passed
    assert judged(tmp_path, "quality", facts={"row_id_duplicates": False}).passed


def test_an_artifact_without_facts_fails_only_what_the_user_asks(tmp_path: Path) -> None:
    assert judged(tmp_path, facts={}).passed
    verdict = judged(tmp_path, bounds={"languages": {"en": {"min": 0.1}}}, facts={})
    assert verdict.failed[0].words() == "share of language en is not measured, allowed is at least 0.100"
    assert "--force" in verdict.failed[0].cure


def test_an_unchanged_verdict_is_read_back_without_great_expectations(tmp_path: Path) -> None:
    first = judged(tmp_path, bounds={"min_rows": 11})
    assert first.fresh
    script = f"""
import sys
from pathlib import Path
from tests.test_gate import judged
verdict = judged(Path({str(tmp_path)!r}), bounds={{"min_rows": 11}})
assert not verdict.passed and not verdict.fresh
assert not {{"great_expectations", "pandas", "prefect"}} & set(sys.modules)
print(verdict.digest)
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == first.digest


def test_a_changed_bound_is_judged_anew_and_a_damaged_verdict_too(tmp_path: Path) -> None:
    assert judged(tmp_path, "clean", {"min_rows": 10}).passed
    verdict = judged(tmp_path, "clean", {"min_rows": 11})
    assert not verdict.passed
    (tmp_path / "gates" / f"{verdict.digest}.json").write_text("{")
    again = judged(tmp_path, "clean", {"min_rows": 11})
    assert again.fresh
    assert not again.passed


def test_what_happens_on_failure_changes_no_verdict(tmp_path: Path) -> None:
    stops = judged(tmp_path, bounds={"min_rows": 11})
    warns = judged(tmp_path, bounds={"min_rows": 11, "on_fail": "warn"})
    assert (warns.digest, warns.fresh, warns.on_fail) == (stops.digest, False, "warn")
    assert stops.warnings() == []
    assert "rows left is 10, allowed is at least 11" in warns.warnings()[0]


def test_the_run_record_holds_every_check(tmp_path: Path) -> None:
    found = judged(tmp_path, bounds={"min_rows": 11}).to_dict()
    json.dumps(found, allow_nan=False)
    assert (found["passed"], found["on_fail"], found["reference"]) == (False, "stop", None)
    kept = json.loads((tmp_path / "gates" / f"{found['digest']}.json").read_text())
    assert [c["expectation"] for c in found["checks"]] == [c["expectation"] for c in kept["checks"]]
    states = {check["expectation"]: check["passed"] for check in found["checks"]}
    assert (states["rows left"], states["share of rows removed"]) == (False, True)
    left = next(check for check in found["checks"] if check["expectation"] == "rows left")
    assert (left["observed"], left["minimum"], left["allowed"]) == (10, 11, "at least 11")


def test_a_folder_that_cannot_be_written_stops_no_run(tmp_path: Path) -> None:
    (tmp_path / "gates").write_text("a file where the folder should be")
    assert judged(tmp_path).passed


def test_plain_gates_of_a_data_stage_may_be_given_too(tmp_path: Path) -> None:
    assert judge(Subject("quality", rows(), FACTS), Gate(), tmp_path).passed
    assert not judge(Subject("quality", rows(), FACTS), RowGate(min_rows=11), tmp_path).passed


REFUSED = [
    ("quality", {"min_row": 3}, "quality.gate.min_row is not a key that Winnow knows; did you mean 'min_rows'?"),
    ("quality", {"languages": {"en": {"mni": 1}}},
     "quality.gate.languages.en.mni is not a key that Winnow knows; did you mean 'min'?"),
    ("quality", {"max_drift": {"language": 1}},
     "quality.gate.max_drift.language is not a key that Winnow knows; did you mean 'languages'?"),
    ("quality", {"characters": {"p98": {"max": 1}}},
     "quality.gate.characters.p98 is not a key that Winnow knows; did you mean 'p99'?"),
    ("quality", {"max_leakage": 0}, "quality.gate.max_leakage is not a key that Winnow knows"),
    ("quality", {"languages": {"en": {}}}, "a bound needs min, max or both: {min: 0.5}"),
    ("quality", {"languages": {"en": {"min": 0.5, "max": 0.4}}}, "min 0.5 is above max 0.4"),
    ("quality", {"on_fail": "stopp"}, "quality.gate.on_fail is 'stopp': input should be 'stop' or 'warn'"),
    ("quality", {"max_removed_share": 1.5},
     "quality.gate.max_removed_share is 1.5: input should be less than or equal to 1"),
    ("quality", {"max_removed_share_by_rule": {"x": -1}},
     "quality.gate.max_removed_share_by_rule.x is -1: input should be greater than or equal to 0"),
    ("quality", {"max_null_share": {"lnag": 0}}, "input should be 'task', 'label', 'lang'"),
    ("quality", {"sources": {"chta": {"min": 0.1}}},
     "quality.gate.sources: no source is named 'chta'; did you mean 'chat'?"),
    ("quality", {"max_removed_share_by_rule": {"ecoh": 1}}, "quality removes rows by no 'ecoh'; did you mean 'echo'?"),
    ("tokenize", {"labels": {"x": {"min": 1}}}, "tokens have no language, label, source or characters"),
    ("evaluate", {"metrics": {"tuned": {"a": {"loss": {"mni": 1}}}}}, "metrics.tuned.a.loss: 'mni' is no bound"),
]  # fmt: skip


@pytest.mark.parametrize(("stage", "bounds", "words"), REFUSED, ids=[words for *_, words in REFUSED])
def test_a_mistyped_gate_is_refused_before_anything_runs(
    tmp_path: Path, stage: str, bounds: dict[str, Any], words: str
) -> None:
    values = {"ingest": {"sources": [{"name": "chat", "path": "x.jsonl"}]}, stage: {"gate": bounds}}
    (tmp_path / "x.yaml").write_text(json.dumps(values))
    with pytest.raises(ConfigError, match=re.escape(words)):
        load_config(str(tmp_path / "x.yaml"))


def test_a_gate_is_written_out_as_it_was_given(tmp_path: Path) -> None:
    gate = gate_of("quality", {"languages": {"en": {"min": 0.5}}, "max_drift": 0.2})
    written = gate.model_dump(mode="json")
    assert written["languages"] == {"en": {"min": 0.5}}
    assert set(written) == {"on_fail", "languages", "max_drift"}
    assert gate_of("quality", written) == gate


def test_the_manual_names_every_key_and_every_default() -> None:
    manual = (Path(__file__).parent.parent / "docs" / "gates.md").read_text("utf-8")
    for model in (RowGate, DedupeGate, SplitGate, TokenizeGate):
        missing = [name for name in model.model_fields if f"`{name}`" not in manual]
        assert not missing
    for bounds in DEFAULTS.values():
        for key, value in bounds.items():
            line = next(line for line in manual.splitlines() if line.startswith(f"| `{key}`"))
            assert f"{value:g}" in line
