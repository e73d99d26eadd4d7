"""What the gates said in a run: every expectation with what was observed and what is allowed.

A verdict is in no cache key, so this is read from the run record, and where that only counts the checks, from the
verdict's own file `data/gates/<digest>.json`. Read with tolerance: a record of an older or newer form loses details,
never the page.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tasks.report.places import without_folder
from tasks.report.text import shown

_HEX = frozenset("0123456789abcdef")
_SAMPLES = 8  # row ids shown of a failed check


@dataclass(frozen=True)
class Check:
    """One expectation, judged.

    Attributes:
        cure: what to do where it failed.
        samples: ids of rows that show it.
        advisory: a failure only warns.
    """

    expectation: str
    observed: str
    allowed: str
    passed: bool
    cure: str = ""
    samples: tuple[str, ...] = ()
    advisory: bool = False

    @property
    def verdict(self) -> str:
        """passed, warned or failed."""
        return "passed" if self.passed else "warned" if self.advisory else "failed"


@dataclass(frozen=True)
class StageGate:
    """The verdict behind one stage.

    Attributes:
        on_fail: stop or warn; empty where the record does not say.
        reference: the run it was compared with; empty for none.
        docs: place of its page of the Data Docs, below the data folder; empty for none.
        unlisted: checks that are counted in the record and listed nowhere.
    """

    stage: str
    passed: bool
    checks: tuple[Check, ...]
    on_fail: str = ""
    reference: str = ""
    docs: str = ""
    unlisted: int = 0

    @property
    def n(self) -> int:
        """Checks in all."""
        return len(self.checks) + self.unlisted

    @property
    def failed(self) -> tuple[Check, ...]:
        """The checks that did not pass and count."""
        return tuple(check for check in self.checks if check.verdict == "failed")

    @property
    def warned(self) -> tuple[Check, ...]:
        """The checks that did not pass and only warn."""
        return tuple(check for check in self.checks if check.verdict == "warned")

    @property
    def verdict(self) -> str:
        """passed, warned (the run went on) or failed."""
        if self.broken:
            return "warned" if self.on_fail == "warn" else "failed"
        return "warned" if self.warned else "passed"

    @property
    def broken(self) -> bool:
        """Whether a check that counts did not pass."""
        return bool(self.failed) or not self.passed


def stage_gates(record: Mapping[str, Any], data_dir: Path) -> list[StageGate]:
    """The verdicts of a run, in the order of its stages; stages without one are left out.

    Args:
        record: the run record, as written.
    """
    entries = [(str(entry.get("name", "")), entry.get("gate")) for entry in record.get("stages", [])]
    return [_gate(name, gate, data_dir) for name, gate in entries if isinstance(gate, Mapping)]


def verdict_sentence(gates: list[StageGate]) -> str:
    """All gates of a run in one or two sentences; empty for none."""
    if not gates:
        return ""
    n = sum(gate.n for gate in gates)
    warned = [check for gate in gates for check in gate.warned]
    noticed = f" {_many(len(warned), 'warning')}: {_listed(warned)}." if warned else ""
    if not any(gate.broken for gate in gates):
        passed = n - len(warned)
        whole = f"All {n} checks" if passed == n else f"{passed} of {n} checks"
        return (f"{whole} after {_many(len(gates), 'stage')} passed." if n != 1 else "The one check passed.") + noticed
    failed = [check for gate in gates for check in gate.failed]
    stages = list(dict.fromkeys(gate.stage for gate in gates if gate.broken))
    many = f"{max(len(failed), 1)} of {_many(n, 'check')} failed, after {', '.join(stages)}"
    return (f"{many}: {_listed(failed)}." if failed else f"{many}.") + noticed


def data_docs(data_dir: Path, digest: str = "") -> str:
    """Where Great Expectations' pages are below the data folder: of one verdict, or of all; empty for none."""
    if digest and not set(digest) <= _HEX:
        return ""
    place = f"gates/docs/validations/{digest}.html" if digest else "gates/docs/index.html"
    return place if (data_dir / place).is_file() else ""


def _listed(checks: list[Check]) -> str:
    """The first three in words."""
    said = [f"{check.expectation} is {check.observed}, allowed is {check.allowed}" for check in checks[:3]]
    return "; ".join(said) + (f"; and {len(checks) - 3} more" if len(checks) > 3 else "")


def _many(n: int, what: str) -> str:
    return f"{n} {what}" if n == 1 else f"{n} {what}s"


def _gate(stage: str, gate: Mapping[str, Any], data_dir: Path) -> StageGate:
    digest = str(gate.get("digest") or "")
    listed = gate.get("checks")
    if not isinstance(listed, list):
        listed = _kept(digest, data_dir) or _lists(gate.get("failed"))
    checks = tuple(_check(check) for check in listed if isinstance(check, Mapping))
    counted = gate.get("checks")
    n = counted if isinstance(counted, int) and not isinstance(counted, bool) else len(checks)
    return StageGate(
        stage=shown(stage, 40),
        passed=bool(gate.get("passed")),
        checks=checks,
        on_fail=shown(gate.get("on_fail"), 20),
        reference=_reference(gate.get("reference")),
        docs=data_docs(data_dir, digest) if digest else "",
        unlisted=max(0, n - len(checks)),
    )


def _kept(digest: str, data_dir: Path) -> list[Any]:
    """The checks in a verdict's file; none if there is no such file."""
    if not digest or not set(digest) <= _HEX:
        return []
    try:
        verdict = json.loads((data_dir / "gates" / f"{digest}.json").read_text("utf-8"))
    except (OSError, ValueError):
        return []
    return _lists(verdict.get("checks")) if isinstance(verdict, dict) else []


def _check(check: Mapping[str, Any]) -> Check:
    samples = _lists(check.get("row_ids")) or _lists(check.get("samples"))
    return Check(
        expectation=shown(check.get("expectation") or check.get("name"), 160),
        observed=_value(check.get("observed")),
        allowed=shown(check["allowed"], 160) if check.get("allowed") else _between(check),
        passed=bool(check.get("passed")),
        cure=shown(without_folder(str(check.get("cure") or "")), 300),
        samples=tuple(shown(each, 40) for each in samples[:_SAMPLES]),
        advisory=bool(check.get("advisory")),
    )


def _between(check: Mapping[str, Any]) -> str:
    """Bounds in words."""
    low, high = check.get("minimum"), check.get("maximum")
    if low is not None and low == high:
        return f"exactly {_value(low)}"
    parts = [f"at least {_value(low)}"] if low is not None else []
    parts += [f"at most {_value(high)}"] if high is not None else []
    return " and ".join(parts)


def _value(value: Any) -> str:
    if value is None:
        return "not measured"
    if isinstance(value, bool) or not isinstance(value, int | float):
        return shown(value, 160)
    return f"{value:,.0f}" if float(value).is_integer() else f"{value:,.4g}"


def _reference(value: Any) -> str:
    """A run id, whether it stands alone or among others."""
    if isinstance(value, Mapping):
        value = value.get("run_id") or value.get("run")
    return shown(value, 40)


def _lists(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []
