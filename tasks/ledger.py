"""Every row accounted for: the row schema, the ledgers, and the Decision that a stage returns.

A stage is a pure function to a `Decision`; `apply` turns it into the rows that go on and the ledgers that say
why the others did not, and holds the row equation: in + added = out + removed + quarantined.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import polars as pl

from pipeline_config.errors import DataError
from tasks.kernels.rows import ROW_SCHEMA

REMOVED_SCHEMA: dict[str, Any] = {
    "row_id": pl.String,
    "rule": pl.String,
    "value": pl.Float64,
    "threshold": pl.Float64,
    "kept_row_id": pl.String,
    "detail": pl.String,
}
CHANGED_SCHEMA: dict[str, Any] = {
    "row_id": pl.String,
    "rule": pl.String,
    "before": pl.String,  # xxh3-64 of the row's text before this rule, 16 hex digits
    "after": pl.String,
    "spans": pl.List(pl.List(pl.Int32)),  # [message index, start, end] in characters of the text before the rule
}
QUARANTINE_SCHEMA: dict[str, Any] = {
    "row_id": pl.String,
    "source": pl.String,
    "line": pl.Int64,
    "reason": pl.String,
    "detail": pl.String,
    "excerpt": pl.String,  # at most 2 kB, personal data masked
}
ADDED_SCHEMA: dict[str, Any] = {"row_id": pl.String, "parent_row_id": pl.String, "rule": pl.String}
EXCERPT_BYTES = 2048


def removed_frame(lines: Sequence[Mapping[str, Any]] | None = None) -> pl.DataFrame:
    """A removal ledger; columns left out of a line are null."""
    return pl.DataFrame(list(lines or []), schema=REMOVED_SCHEMA)


def changed_frame(lines: Sequence[Mapping[str, Any]] | None = None) -> pl.DataFrame:
    """An edit ledger; one line for each row and rule that edited it."""
    return pl.DataFrame(list(lines or []), schema=CHANGED_SCHEMA)


def quarantine_frame(lines: Sequence[Mapping[str, Any]] | None = None) -> pl.DataFrame:
    """A quarantine ledger."""
    return pl.DataFrame(list(lines or []), schema=QUARANTINE_SCHEMA)


def added_frame(rows: Sequence[Mapping[str, Any]] | None = None) -> pl.DataFrame:
    """Rows that a stage adds, in the row schema; columns left out are null."""
    return pl.DataFrame(list(rows or []), schema=ROW_SCHEMA)


@dataclass(frozen=True)
class Decision:
    """What a stage decided, row by row.

    Attributes:
        removed: one line a removed row (`REMOVED_SCHEMA`).
        quarantined: one line a quarantined row (`QUARANTINE_SCHEMA`).
        changed: one line for each row and rule that edited it (`CHANGED_SCHEMA`).
        assigned: `row_id` and columns to put in place of the row's own, or beside them (`score_*`);
            rows that are not named keep what they have. Text columns only from a stage that writes text.
        added: new rows in the row schema, with `parent_row_id` and the column `rule` (why added). A stage that
            writes no text gives only `row_id`, `parent_row_id` and `rule`: the text is the parent's.
            An added row stands behind its parent.
        metrics: numbers for the run record, by name without the stage.
        facts: what the gate judges, beyond the counts that the wrapper adds.
    """

    removed: pl.DataFrame = field(default_factory=removed_frame)
    quarantined: pl.DataFrame = field(default_factory=quarantine_frame)
    changed: pl.DataFrame = field(default_factory=changed_frame)
    assigned: pl.DataFrame | None = None
    added: pl.DataFrame | None = None
    metrics: Mapping[str, float] = field(default_factory=dict)
    facts: Mapping[str, Any] = field(default_factory=dict)


def first_rule_wins(removed: pl.DataFrame) -> pl.DataFrame:
    """Keep each row's first removal line, in the order given."""
    return removed.unique("row_id", keep="first", maintain_order=True)


def counts(decision: Decision, rows_in: int, rows_out: int) -> dict[str, Any]:
    """The manifest's `rows`: totals and counts by rule."""
    return {
        "in": rows_in,
        "out": rows_out,
        "removed": _by(decision.removed, "rule"),
        "changed": _by(decision.changed, "rule"),
        "added": {} if decision.added is None else _by(decision.added, "rule"),
        "quarantined": _by(decision.quarantined, "reason"),
    }


def check_equation(stage: str, rows: Mapping[str, Any]) -> None:
    """Raise DataError unless in + added = out + removed + quarantined."""
    added, removed, quarantined = (sum(rows[k].values()) for k in ("added", "removed", "quarantined"))
    if rows["in"] + added != rows["out"] + removed + quarantined:
        raise DataError(
            f"{rows['in']} rows in + {added} added is not {rows['out']} out + {removed} removed + "
            f"{quarantined} quarantined",
            place=stage,
            cure="a row was lost or counted twice; this is a defect of the stage, please report it",
        )


def _by(frame: pl.DataFrame, column: str) -> dict[str, int]:
    if frame.is_empty():
        return {}
    grouped = frame.group_by(column).len().sort(column)
    return dict(zip(grouped[column].to_list(), grouped["len"].to_list(), strict=True))


@dataclass(frozen=True)
class Output:
    """What a model stage leaves beside the files it wrote: numbers for the run record, and what its gate judges."""

    metrics: Mapping[str, float] = field(default_factory=dict)
    facts: Mapping[str, Any] = field(default_factory=dict)
