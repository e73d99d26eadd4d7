"""A gate stops what its bounds forbid, says what to do, and pays for Great Expectations once."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from pipeline_config.errors import GateError
from pipeline_config.fields import Gate
from tasks.gate import judge


def rows(**changes: Any) -> dict[str, Any]:
    base: dict[str, Any] = {"in": 10, "out": 10, "removed": {}, "changed": {}, "added": {}, "quarantined": {}}
    return base | changes


def test_good_rows_pass(tmp_path: Path) -> None:
    assert judge("quality", rows(), {"row_id_duplicates": 0}, Gate(), tmp_path).passed


def test_removing_every_row_fails_and_names_rule_observed_allowed_and_cure(tmp_path: Path) -> None:
    verdict = judge("quality", rows(out=0, removed={"too_short": 9, "echo": 1}), {}, Gate(), tmp_path)
    assert not verdict.passed
    error = verdict.error("quality")
    assert isinstance(error, GateError)
    assert "rows left is 0, allowed is at least 1" in error.message
    assert "too_short" in error.cure
    assert "quality.gate.min_rows" in error.cure


@pytest.mark.parametrize(
    ("counts", "facts", "gate"),
    [
        (rows(out=9), {}, {}),
        (rows(out=4, removed={"x": 6}), {}, {"max_removed_share": 0.5}),
        (rows(out=8, removed={"x": 2}), {}, {"max_removed_share_by_rule": {"x": 0.1}}),
        (rows(out=4, quarantined={"not_json": 6}), {}, {}),
        (rows(), {}, {"min_rows": 11}),
        (rows(), {"row_id_duplicates": 1}, {}),
        (rows(), {"leakage": 2}, {}),
    ],
)
def test_each_bound_can_fail(
    tmp_path: Path, counts: dict[str, Any], facts: dict[str, Any], gate: dict[str, Any]
) -> None:
    assert not judge("split", counts, facts, Gate(**gate), tmp_path).passed


def test_stages_whose_task_is_to_leave_rows_out_may(tmp_path: Path) -> None:
    counts = rows(**{"in": 1000}, out=5, removed={"beyond_quota": 995})
    assert judge("select", counts, {}, Gate(), tmp_path).passed
    assert not judge("dedupe", counts, {}, Gate(), tmp_path).passed


def test_an_unchanged_verdict_is_read_back_without_great_expectations(tmp_path: Path) -> None:
    first = judge("quality", rows(out=0, removed={"x": 10}), {}, Gate(), tmp_path)
    script = f"""
import sys
from pathlib import Path
from pipeline_config.fields import Gate
from tasks.gate import judge
counts = {rows(out=0, removed={"x": 10})!r}
verdict = judge("quality", counts, {{}}, Gate(), Path({str(tmp_path)!r}))
assert not verdict.passed
assert "great_expectations" not in sys.modules
print(verdict.digest)
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == first.digest


def test_a_changed_bound_is_judged_anew_and_a_damaged_verdict_too(tmp_path: Path) -> None:
    assert judge("clean", rows(), {}, Gate(min_rows=10), tmp_path).passed
    verdict = judge("clean", rows(), {}, Gate(min_rows=11), tmp_path)
    assert not verdict.passed
    (tmp_path / "gates" / f"{verdict.digest}.json").write_text("{")
    assert not judge("clean", rows(), {}, Gate(min_rows=11), tmp_path).passed
