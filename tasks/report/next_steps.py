"""What to look at next: the few things in a run that a person should see with their own eyes, most pressing first.

Nothing here judges a run good or bad; the gates do that. Each step names a number and the place on the page.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from tasks.report.counts import StageCounts, total
from tasks.report.models import Finding
from tasks.report.story import rows_read, trained_rows
from tasks.report.text import number, share

MOST = 4
_BY_DESIGN = ("select", "split", "balance")  # their task is to leave rows out
_MUCH = 0.05  # of the rows read; a rule that takes more should be looked at
_FEW_ROWS = 100
_RISE = 1.01  # a validation loss that ends this much above its lowest has turned

Points = Sequence[tuple[float, float]]  # step, value


@dataclass(frozen=True)
class Step:
    """A sentence, and the id on the page that shows more."""

    text: str
    anchor: str


def next_steps(
    stages: Sequence[StageCounts],
    facts: Mapping[str, Mapping[str, Any]],
    findings: Sequence[Finding],
    validation: Mapping[str, Points],
) -> list[Step]:
    """At most `MOST` steps; none where nothing stands out.

    Args:
        facts: each stage's facts, from its manifest.
        validation: model → validation losses over the steps.
    """
    steps = [
        *_uneven(stages),
        *_worse(findings),
        *_turned(validation),
        *_few(stages, facts),
        *_heavy(stages),
        *_quarantined(stages),
        *_unclear(findings, facts),
    ]
    return steps[:MOST]


def _uneven(stages: Sequence[StageCounts]) -> list[Step]:
    names = [stage.name for stage in stages if not stage.balanced]
    return [Step(f"Rows do not add up in {', '.join(names)}; please report this.", "rows")] if names else []


def _worse(findings: Sequence[Finding]) -> list[Step]:
    worse = [finding for finding in findings if finding.verdict == "worse"]
    if not worse:
        return []
    places = list(dict.fromkeys(f"{finding.model} on {finding.test_set}" for finding in worse))
    return [Step(f"Worse than the base: {', '.join(places)}. Read what the models say there.", "models")]


def _turned(validation: Mapping[str, Points]) -> list[Step]:
    """Models whose validation loss rose again before the end."""
    steps = []
    for model, points in validation.items():
        if len(points) < 2:
            continue
        step, lowest = min(points, key=lambda point: point[1])
        last = points[-1][1]
        if last > lowest * _RISE:
            said = f"The validation loss of {model} was lowest at step {number(step)} ({number(lowest, 2)})"
            steps.append(Step(f"{said} and ended at {number(last, 2)}: fewer epochs may do better.", "training"))
    return steps


def _few(stages: Sequence[StageCounts], facts: Mapping[str, Mapping[str, Any]]) -> list[Step]:
    trained = trained_rows(stages, facts)
    if trained is None or trained >= _FEW_ROWS:
        return []
    return [Step(f"Only {number(trained)} {_rows(trained)} to learn from. See where the others went.", "rows")]


def _heavy(stages: Sequence[StageCounts]) -> list[Step]:
    """The rule that took most rows, of the stages that judge rows."""
    read = rows_read(stages)
    rules = [(n, stage.name, rule) for stage in stages if stage.name not in _BY_DESIGN for rule, n in stage.removed]
    n, stage, rule = max(rules, default=(0, "", ""))
    if not read or n < _MUCH * read:
        return []
    said = f"The rule “{rule}” of {stage} took {number(n)} {_rows(n)}, {share(n, read)} of what was read"
    return [Step(f"{said}. Look at a few of them: were they bad?", f"why-{stage}")]


def _quarantined(stages: Sequence[StageCounts]) -> list[Step]:
    held = [(stage, total(stage.quarantined)) for stage in stages if stage.quarantined]
    return [
        Step(f"{number(n)} {'record' if n == 1 else 'records'} went to quarantine in {stage.name}; each says why.",
             f"why-{stage.name}")
        for stage, n in held[:1]
    ]  # fmt: skip


def _unclear(findings: Sequence[Finding], facts: Mapping[str, Mapping[str, Any]]) -> list[Step]:
    unclear = [finding for finding in findings if finding.verdict == "unclear"]
    if not unclear:
        return []
    sizes = [int(n) for n in facts.get("evaluate", {}).get("examples", {}).values()]
    now = f" (now {number(min(sizes))})" if sizes else ""
    verb = "is" if len(unclear) == 1 else "are"
    many = f"{len(unclear)} of {len(findings)} comparisons with the base {verb} within chance"
    return [Step(f"{many}; more test rows{now} narrow the intervals.", "models")]


def _rows(n: int) -> str:
    return "row" if n == 1 else "rows"
