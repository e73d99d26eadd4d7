"""What a gate is asked: a bound is a number that a stage left, the range it must lie in, and what to do otherwise."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from tasks.artifact import Artifact

Which = Literal["removed", "quarantined", "changed", "null", "value", "not_value", "longest", "shortest", "named"]


@dataclass(frozen=True)
class Reference:
    """What drift is measured against: an earlier run's artifact of the same stage.

    Attributes:
        run_id: the run; not part of what is judged, since several runs may share an artifact.
        digest: of the artifact.
        population: its facts.
    """

    run_id: str
    digest: str
    population: Mapping[str, Any]


@dataclass(frozen=True)
class Subject:
    """A stage's output, as its manifest describes it.

    Attributes:
        rows: the manifest's row counts.
        facts: the manifest's facts; names that no bound speaks of are ignored.
        metrics: the manifest's metrics.
        artifact: where samples of rows are looked up if a bound fails; None: nowhere.
        reference: what drift is measured against; None: there is nothing yet.
        run_id: the run it is judged in, for the command that shows a row; no part of what is judged.
    """

    stage: str
    rows: Mapping[str, Any]
    facts: Mapping[str, Any]
    metrics: Mapping[str, float] = field(default_factory=dict)
    artifact: "Artifact | None" = None
    reference: Reference | None = None
    run_id: str = ""

    def total(self, kind: str) -> int:
        """Rows `removed`, `added` or `quarantined`, over all rules."""
        return int(sum(self.rows[kind].values()))

    def share_in(self, count: int) -> float:
        """A count as a share of the rows in."""
        return count / self.rows["in"] if self.rows["in"] else 0.0


@dataclass(frozen=True)
class Sample:
    """Which rows show what is wrong: `which` of them, of the rule, reason or value `name` (in `column`).

    Attributes:
        ids: the row ids themselves, for `named`.
    """

    which: Which
    name: str | None = None
    column: str = ""
    ids: Sequence[str] = ()


@dataclass(frozen=True)
class Bound:
    """One expectation.

    Attributes:
        name: what is measured, in words.
        observed: None if it was not measured, or is no number: that fails.
        minimum, maximum: None is no bound.
        key: the key below `<stage>.gate` that sets the bound; "" for what can't be loosened.
        advice: what else may help, in words.
        sample: which rows to name if it fails.
        advisory: it warns and never stops.
    """

    name: str
    observed: float | None
    minimum: float | None
    maximum: float | None
    key: str = ""
    advice: str = ""
    sample: Sample | None = None
    advisory: bool = False
