"""What each stage did to the rows, from the manifests alone: the funnel and the table."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from pipeline_config.schema import DATA_STAGES, STAGES
from tasks.report.text import words

Counts = list[tuple[str, int]]  # rule in words, rows; most first


@dataclass(frozen=True)
class StageCounts:
    """One stage as its manifest tells it.

    Attributes:
        rows_in, rows_out: rows before and after; None for a stage that does not work on rows.
        removed, quarantined, edited, added: rows (edited: edits) by rule.
        seconds: wall clock when the artifact was made.
        peak_mb: peak resident memory then, MB.
    """

    name: str
    rows_in: int | None
    rows_out: int | None
    removed: Counts
    quarantined: Counts
    edited: Counts
    added: Counts
    seconds: float
    peak_mb: float

    @property
    def gone(self) -> int:
        """Rows removed or quarantined."""
        return total(self.removed) + total(self.quarantined)

    @property
    def balanced(self) -> bool:
        """Whether in + added = out + removed + quarantined."""
        return (self.rows_in or 0) + total(self.added) == (self.rows_out or 0) + self.gone


@dataclass(frozen=True)
class Band:
    """One stage of the funnel; widths are shares of the widest stage, in per cent.

    Attributes:
        kept: rows that came in and went on.
        added: rows that joined.
        removed, quarantined: rows that left, right of those.
    """

    stage: StageCounts
    kept: float
    added: float
    removed: float
    quarantined: float

    @property
    def out(self) -> float:
        """Width of what goes on."""
        return self.kept + self.added


def stage_counts(manifests: Mapping[str, Mapping[str, Any]]) -> list[StageCounts]:
    """Every stage that is there, in the order of the DAG."""
    return [_counts(name, manifests[name]) for name in STAGES if name in manifests]


def funnel(stages: list[StageCounts]) -> list[Band]:
    """The data stages as bands of a funnel."""
    data = [stage for stage in stages if stage.rows_in is not None]
    widest = max((max(stage.rows_in or 0, stage.rows_out or 0) for stage in data), default=0) or 1
    return [_band(stage, 100 / widest) for stage in data]


def total(counts: Counts) -> int:
    """Rows over all rules."""
    return sum(n for _, n in counts)


def _band(stage: StageCounts, scale: float) -> Band:
    added = total(stage.added)
    return Band(
        stage,
        kept=((stage.rows_out or 0) - added) * scale,
        added=added * scale,
        removed=total(stage.removed) * scale,
        quarantined=total(stage.quarantined) * scale,
    )


def _counts(name: str, manifest: Mapping[str, Any]) -> StageCounts:
    rows = manifest["rows"]
    on_rows = name in DATA_STAGES
    return StageCounts(
        name=name,
        rows_in=rows["in"] if on_rows else None,
        rows_out=rows["out"] if on_rows else None,
        removed=_most_first(rows["removed"]),
        quarantined=_most_first(rows["quarantined"]),
        edited=_most_first(rows["changed"]),
        added=_most_first(rows["added"]),
        seconds=float(manifest.get("seconds", 0.0)),
        peak_mb=float(manifest.get("peak_rss_mb", 0.0)),
    )


def _most_first(by_rule: Mapping[str, int]) -> Counts:
    return [(words(rule), n) for rule, n in sorted(by_rule.items(), key=lambda item: (-item[1], item[0]))]
