"""A Decision applied to rows: what goes on, in source order, and the files that say so."""

from pathlib import Path

import polars as pl

from pipeline_config.errors import DataError
from tasks.artifact import Artifact, write_frame, write_parts
from tasks.gates.facts import narrow_columns, population
from tasks.key import writes_text
from tasks.ledger import ADDED_SCHEMA, Decision, check_equation, counts

_POSITION = "__position"
_NAMED = "__named"


def write_decision(
    stage: str, decision: Decision, before: Artifact | None, folder: Path
) -> tuple[dict[str, object], dict[str, object]]:
    """Write rows (or the thin decision) and the ledgers into a folder.

    Returns:
        the manifest's row counts, and the facts that every data stage has.

    Raises:
        DataError: the decision speaks of rows that are not there, or the row equation does not hold.
    """
    if stage == "ingest":
        assert decision.assigned is not None
        rows = decision.assigned
        rows_in = rows.height + decision.quarantined.height
    else:
        assert before is not None
        source = before.rows().collect() if writes_text(stage) else _thin(before, decision)
        rows_in = source.height
        _check_known(stage, decision, source)
        rows = (
            decision.assigned if stage == "tokenize" and decision.assigned is not None else _applied(source, decision)
        )
    totals = counts(decision, rows_in, rows.height)
    check_equation(stage, totals)
    if writes_text(stage):
        write_parts(rows, folder)
    else:
        write_frame(rows, folder / "decision.parquet")
    write_frame(decision.removed, folder / "removed.parquet")
    write_frame(decision.changed, folder / "changed.parquet")
    write_frame(decision.quarantined, folder / "quarantine.parquet")
    if decision.added is not None and decision.added.height:
        write_frame(decision.added.select(list(ADDED_SCHEMA)), folder / "added.parquet")
    facts = {
        "row_id_duplicates": rows.height - rows["row_id"].n_unique(),
        "null_row_ids": rows["row_id"].null_count(),
        "edited_rows": decision.changed["row_id"].n_unique(),
        "population": population(_counted_columns(rows, before)),
    }
    return totals, facts


def _counted_columns(rows: pl.DataFrame, before: Artifact | None) -> pl.DataFrame:
    """What the gate counts of the rows that go on; of a thin decision, what it does not hold its text artifact does."""
    own = narrow_columns(rows.lazy())
    if "n_tokens" in rows.columns:
        return own.with_columns(rows["n_tokens"])
    if "text_row" not in rows.columns or before is None:
        return own
    text = narrow_columns(before.text().own_rows())
    places = rows["text_row"]
    gathered = [text[name].gather(places) for name in text.columns if name not in own.columns]
    return pl.DataFrame([*own.get_columns(), *gathered])


def _thin(before: Artifact, decision: Decision) -> pl.DataFrame:
    """`row_id`, `text_row`, the columns assigned so far, and as they stand those that are assigned now."""
    lines = before.own_rows()
    if before.writes_text:
        lines = lines.select("row_id").with_row_index("text_row").select("row_id", "text_row")
    thin = lines.collect()
    named = [] if decision.assigned is None else decision.assigned.columns
    if decision.added is not None:
        named = [*named, "parent_row_id"]
    rows = before.rows()
    missing = [name for name in rows.collect_schema().names() if name in named and name not in thin.columns]
    return thin.with_columns(rows.select(missing).collect().get_columns()) if missing else thin


def _check_known(stage: str, decision: Decision, source: pl.DataFrame) -> None:
    gone = pl.concat([decision.removed["row_id"], decision.quarantined["row_id"]])
    if gone.n_unique() != gone.len():
        twice = gone.filter(gone.is_duplicated())[0]
        raise DataError(f"row {twice} goes twice", place=stage, cure="this is a defect of the stage, please report it")
    unknown = gone.filter(~gone.is_in(source["row_id"].implode()))
    if unknown.len():
        raise DataError(
            f"row {unknown[0]} goes, but never came in",
            place=stage,
            cure="this is a defect of the stage, please report it",
        )


def _applied(source: pl.DataFrame, decision: Decision) -> pl.DataFrame:
    gone = pl.concat([decision.removed["row_id"], decision.quarantined["row_id"]])
    rows = source.filter(~pl.col("row_id").is_in(gone.implode()))
    if decision.assigned is not None and decision.assigned.width > 1:
        rows = _assign(rows, decision.assigned)
    if decision.added is not None and decision.added.height:
        rows = _insert(rows, decision.added)
    return rows


def _assign(rows: pl.DataFrame, assigned: pl.DataFrame) -> pl.DataFrame:
    """Put assigned columns in place; rows that are not named keep what they have."""
    new = [name for name in assigned.columns if name != "row_id"]
    fresh = assigned.rename({name: f"{name}__new" for name in new}).with_columns(pl.lit(True).alias(_NAMED))
    joined = rows.join(fresh, on="row_id", how="left", maintain_order="left")
    columns = []
    for name in new:
        value = pl.col(f"{name}__new")
        if name in rows.columns:
            value = pl.when(pl.col(_NAMED)).then(value).otherwise(pl.col(name))
        columns.append(value.alias(name))
    return joined.with_columns(columns).select(rows.columns + [name for name in new if name not in rows.columns])


def _insert(rows: pl.DataFrame, added: pl.DataFrame) -> pl.DataFrame:
    """Put each added row behind its parent; what it does not say itself, the parent says."""
    placed = rows.with_row_index(_POSITION)
    parents = placed.drop("parent_row_id").rename({"row_id": "parent_row_id"})
    own = [name for name in added.columns if name in rows.columns]
    inherited = [name for name in parents.columns if name not in own]
    children = added.select(own).join(
        parents.select("parent_row_id", *inherited), on="parent_row_id", how="left", maintain_order="left"
    )
    if children[_POSITION].null_count():
        raise DataError(
            "an added row has no parent among the rows that stay", place="added", cure="this is a defect of the stage"
        )
    together = pl.concat([placed, children], how="diagonal_relaxed")
    return together.sort(_POSITION, maintain_order=True).drop(_POSITION)
