"""The data-quality gate behind every stage: bounds held against what the stage counted.

Great Expectations does the judging, on one narrow frame of aggregates and never on text. A verdict depends on the
observed values and the bounds alone, so it is kept in `data/gates/<digest>.json` and an unchanged one is read back
without importing Great Expectations.
"""

import json
import logging
import math
import os
import warnings
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from pipeline_config.errors import GateError
from pipeline_config.fields import Gate
from pipeline_config.schema import DATA_STAGES
from tasks.kernels.digests import canonical_json, json_digest

_FREE_TO_REMOVE = ("select", "balance")  # their task is to leave rows out
_DEFAULT_REMOVED_SHARE = 0.95
_DEFAULT_QUARANTINED_SHARE = 0.5


@dataclass(frozen=True)
class Bound:
    """One expectation: a value that must lie in [minimum, maximum]; None is no bound."""

    name: str
    observed: float
    minimum: float | None
    maximum: float | None
    cure: str


@dataclass(frozen=True)
class Check:
    """One expectation, judged."""

    expectation: str
    observed: float
    allowed: str
    passed: bool
    cure: str


@dataclass(frozen=True)
class Verdict:
    """All expectations of a stage, judged; `digest` names the file it is kept in."""

    passed: bool
    checks: tuple[Check, ...]
    digest: str
    on_fail: str

    def to_dict(self) -> dict[str, Any]:
        """For the run record: the verdict, and only the checks that failed."""
        failed = [asdict(check) for check in self.checks if not check.passed]
        return {"passed": self.passed, "checks": len(self.checks), "failed": failed, "digest": self.digest}

    def error(self, stage: str) -> GateError:
        """The failed checks in words."""
        failed = [check for check in self.checks if not check.passed]
        words = "; ".join(f"{c.expectation} is {_number(c.observed)}, allowed is {c.allowed}" for c in failed)
        return GateError(f"the gate after {stage} failed: {words}", place=stage, cure=failed[0].cure)


def judge(stage: str, rows: Mapping[str, Any], facts: Mapping[str, Any], gate: Gate, data_dir: Path) -> Verdict:
    """Hold a stage's counts and facts against its bounds.

    Args:
        rows: the manifest's row counts.
        facts: the manifest's facts; names that no bound speaks of are ignored.
    """
    bounds = expectations(stage, rows, facts, gate)
    digest = json_digest([stage, [asdict(bound) for bound in bounds]])
    path = data_dir / "gates" / f"{digest}.json"
    results = _remembered(path, len(bounds))
    if results is None:
        results = _validate(stage, bounds)
        _remember(path, stage, bounds, results)
    checks = tuple(
        Check(bound.name, bound.observed, _allowed(bound), passed, bound.cure)
        for bound, passed in zip(bounds, results, strict=True)
    )
    return Verdict(all(results), checks, digest, gate.on_fail)


def expectations(stage: str, rows: Mapping[str, Any], facts: Mapping[str, Any], gate: Gate) -> list[Bound]:
    """The stage's default bounds with the user's in their place."""
    if stage not in DATA_STAGES:
        return [Bound("numbers that are not finite", _not_finite(facts), 0, 0, f"look at the metrics of {stage}")]
    return _row_bounds(stage, rows, gate) + _fact_bounds(stage, facts)


def _row_bounds(stage: str, rows: Mapping[str, Any], gate: Gate) -> list[Bound]:
    removed, added, quarantined = (sum(rows[k].values()) for k in ("removed", "added", "quarantined"))
    rows_in = rows["in"]
    heaviest = max(rows["removed"] | rows["quarantined"], key=(rows["removed"] | rows["quarantined"]).get, default="")
    because = (
        f"the rule {heaviest} took most rows; loosen it under {stage}:" if heaviest else f"look at {stage}'s input"
    )
    max_removed = gate.max_removed_share
    if max_removed is None:
        max_removed = 1.0 if stage in _FREE_TO_REMOVE else _DEFAULT_REMOVED_SHARE
    max_quarantined = gate.max_quarantined_share
    if max_quarantined is None:
        max_quarantined = _DEFAULT_QUARANTINED_SHARE
    bounds = [
        Bound(
            "in + added - out - removed - quarantined",
            rows_in + added - rows["out"] - removed - quarantined, 0, 0, "a row was lost; please report this defect",
        ),
        Bound("rows left", rows["out"], 1 if gate.min_rows is None else gate.min_rows, None,
              f"{because} or set {stage}.gate.min_rows"),
        Bound("share of rows removed", _share(removed, rows_in), None, max_removed,
              f"{because} or set {stage}.gate.max_removed_share"),
        Bound("share of rows quarantined", _share(quarantined, rows_in), None, max_quarantined,
              f"read quarantine.parquet with `winnow explain`, or set {stage}.gate.max_quarantined_share"),
    ]  # fmt: skip
    for rule, most in sorted(gate.max_removed_share_by_rule.items()):
        bounds.append(
            Bound(f"share of rows removed by {rule}", _share(rows["removed"].get(rule, 0), rows_in), None, most,
                  f"loosen {rule}, or set {stage}.gate.max_removed_share_by_rule.{rule}")
        )  # fmt: skip
    return bounds


def _fact_bounds(stage: str, facts: Mapping[str, Any]) -> list[Bound]:
    wanted = (
        ("row_id_duplicates", "row ids that stand twice", "this is a defect of the stage, please report it"),
        ("null_row_ids", "rows without an id", "this is a defect of the stage, please report it"),
        ("leakage", "near-duplicates across splits", "lower split.near_threshold"),
        ("duplicates_left", "removed rows whose duplicate is not kept", "this is a defect of dedupe, please report it"),
    )
    bounds = [Bound(words, float(facts[name]), 0, 0, cure) for name, words, cure in wanted if name in facts]
    if stage == "tokenize" and "trained_tokens" in facts:
        bounds.append(Bound("trained tokens", float(facts["trained_tokens"]), 1, None, "look at the chat template"))
    return bounds


def _validate(stage: str, bounds: list[Bound]) -> list[bool]:
    """Judge with Great Expectations: one row, one column an expectation."""
    os.environ.setdefault("GX_ANALYTICS_ENABLED", "false")
    logging.getLogger("great_expectations").setLevel(logging.ERROR)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import great_expectations as gx
        import pandas as pd

        context = gx.get_context(mode="ephemeral")
        context.variables.progress_bars = {"globally": False}
        frame = pd.DataFrame({f"c{i}": [float(bound.observed)] for i, bound in enumerate(bounds)})
        batch = (
            context.data_sources.add_pandas("facts")
            .add_dataframe_asset(stage)
            .add_batch_definition_whole_dataframe("all")
        )
        suite = gx.ExpectationSuite(
            name=stage,
            expectations=[
                gx.expectations.ExpectColumnValuesToBeBetween(
                    column=f"c{i}", min_value=bound.minimum, max_value=bound.maximum
                )
                for i, bound in enumerate(bounds)
            ],
        )
        context.suites.add(suite)
        definition = gx.ValidationDefinition(name=stage, data=batch, suite=suite)
        context.validation_definitions.add(definition)
        outcome = definition.run(batch_parameters={"dataframe": frame})
    passed = {result.expectation_config.kwargs["column"]: bool(result.success) for result in outcome.results}
    return [passed[f"c{i}"] for i in range(len(bounds))]


def _remembered(path: Path, n: int) -> list[bool] | None:
    try:
        results = [bool(check["passed"]) for check in json.loads(path.read_text("utf-8"))["checks"]]
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return results if len(results) == n else None


def _remember(path: Path, stage: str, bounds: list[Bound], results: list[bool]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    checks = [asdict(bound) | {"passed": passed} for bound, passed in zip(bounds, results, strict=True)]
    temporary = path.with_suffix(f".{os.getpid()}.tmp")
    temporary.write_text(canonical_json({"stage": stage, "passed": all(results), "checks": checks}))
    temporary.replace(path)


def _share(part: int, whole: int) -> float:
    return part / whole if whole else 0.0


def _not_finite(facts: Mapping[str, Any]) -> float:
    return float(sum(1 for value in facts.values() if isinstance(value, float) and not math.isfinite(value)))


def _allowed(bound: Bound) -> str:
    if bound.minimum is not None and bound.minimum == bound.maximum:
        return f"exactly {_number(bound.minimum)}"
    parts = []
    if bound.minimum is not None:
        parts.append(f"at least {_number(bound.minimum)}")
    if bound.maximum is not None:
        parts.append(f"at most {_number(bound.maximum)}")
    return " and ".join(parts)


def _number(value: float) -> str:
    return f"{value:,.0f}" if float(value).is_integer() else f"{value:.3f}"
