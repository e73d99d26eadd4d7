"""A judged gate, in the words of the run record, of the error that stops a run, and of a warning."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from pipeline_config.errors import GateError


@dataclass(frozen=True)
class Check:
    """One expectation, judged.

    Attributes:
        expectation: what was measured, in words.
        observed: None: it was not measured, or is no finite number.
        allowed: the range, in words.
        minimum, maximum: the same as numbers.
        samples: up to five ids of rows that show a failure.
        cure: what to type or change.
        advisory: a failure warns and never stops; the gate counts as passed.
    """

    expectation: str
    observed: float | None
    allowed: str
    passed: bool
    minimum: float | None = None
    maximum: float | None = None
    samples: tuple[str, ...] = ()
    cure: str = ""
    advisory: bool = False

    def words(self) -> str:
        """Expectation, observed, allowed, rows."""
        rows = f" (rows {', '.join(self.samples)})" if self.samples else ""
        return f"{self.expectation} is {number(self.observed)}, allowed is {self.allowed}{rows}"


@dataclass(frozen=True)
class Verdict:
    """All expectations of a stage, judged.

    Attributes:
        digest: names the file it is kept in, `data/gates/<digest>.json`.
        reference: the run that drift was measured against.
        fresh: judged now, not read back.
    """

    stage: str
    checks: tuple[Check, ...]
    digest: str
    on_fail: str
    reference: str | None = None
    fresh: bool = False

    @property
    def passed(self) -> bool:
        """Whether all held that may stop a run."""
        return not self.failed

    @property
    def failed(self) -> tuple[Check, ...]:
        """Failed checks that count."""
        return tuple(check for check in self.checks if not check.passed and not check.advisory)

    @property
    def noticed(self) -> tuple[Check, ...]:
        """Failed checks that only warn."""
        return tuple(check for check in self.checks if not check.passed and check.advisory)

    def to_dict(self) -> dict[str, Any]:
        """For the run record: the verdict and every check."""
        return {
            "passed": self.passed,
            "on_fail": self.on_fail,
            "checks": [asdict(check) | {"samples": list(check.samples)} for check in self.checks],
            "warnings": [check.words() for check in self.noticed],
            "digest": self.digest,
            "reference": self.reference,
        }

    def error(self, stage: str) -> GateError:
        """Every failed check in words, and what to do about each."""
        words = "; ".join(check.words() for check in self.failed) + self._against(self.failed)
        cures = list(dict.fromkeys(check.cure for check in self.failed if check.cure))
        return GateError(f"the gate after {stage} failed: {words}", place=stage, cure="\n  ".join(cures))

    def warnings(self) -> list[str]:
        """What the user should read although the run goes on."""
        lines = [f"{self.stage}: {check.words()}{self._against([check])}; {check.cure}" for check in self.noticed]
        if self.failed and self.on_fail == "warn":
            lines.append(f"{self.error(self.stage)}")
        return lines

    def _against(self, checks: Sequence[Check]) -> str:
        drifted = any(check.expectation.startswith("drift of") for check in checks)
        return f"; drift is measured against run {self.reference}" if drifted and self.reference else ""


def cure_of(stage: str, key: str, advice: str, look: str) -> str:
    """What to type next: look at a row (`look` is the command), then mend the cause or loosen the bound."""
    parts = [f"look at one: {look}"] if look else []
    parts += [advice.rstrip(":;. ")] if advice else []
    text = "; ".join(parts)
    if not key:
        return text
    return f"{text}, or set {stage}.gate.{key}" if text else f"set {stage}.gate.{key}"


def allowed(minimum: float | None, maximum: float | None) -> str:
    """A range in words."""
    if minimum is not None and minimum == maximum:
        return f"exactly {number(minimum)}"
    parts = []
    if minimum is not None:
        parts.append(f"at least {number(minimum)}")
    if maximum is not None:
        parts.append(f"at most {number(maximum)}")
    return " and ".join(parts)


def number(value: float | None) -> str:
    """A figure as a message shows it."""
    if value is None:
        return "not measured"
    if float(value).is_integer():
        return f"{value:,.0f}"
    return f"{value:.3f}" if abs(value) >= 0.001 else f"{value:.2g}"
