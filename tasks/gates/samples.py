"""Row ids that show what a failed bound is about: a few, by id alone. Looked up only when a bound fails."""

from typing import TYPE_CHECKING

from tasks.artifact import Artifact
from tasks.gates.bounds import Sample

if TYPE_CHECKING:
    import polars as pl

MOST = 5


def sample_ids(artifact: Artifact, sample: Sample) -> tuple[str, ...]:
    """At most five row ids: the first in the ledger's order, or the longest or shortest rows.

    Args:
        artifact: the stage's output.
        sample: which rows.
    """
    import polars as pl

    if sample.which == "named":
        return tuple(sample.ids[:MOST])
    ledgers = {"removed": ("removed", "rule"), "quarantined": ("quarantine", "reason"), "changed": ("changed", "rule")}
    if sample.which in ledgers:
        name, why = ledgers[sample.which]
        lines = artifact.ledger(name)
        wanted = lines if sample.name is None else lines.filter(pl.col(why) == sample.name)
        found = wanted.select("row_id").unique(maintain_order=True)
        return tuple(found.head(MOST).collect()["row_id"].drop_nulls().to_list())
    rows = artifact.rows()
    known = rows.collect_schema().names()
    if sample.which in ("longest", "shortest"):
        return _extreme(rows, known, sample)
    if sample.column not in known:
        return ()
    column, value = pl.col(sample.column), pl.lit(sample.name, pl.String)
    conditions = {"null": column.is_null(), "value": column == value, "not_value": column != value}
    shown = rows.select("row_id", sample.column).filter(conditions[sample.which])
    return tuple(shown.head(MOST).collect()["row_id"].to_list())


def _extreme(rows: "pl.LazyFrame", known: list[str], sample: Sample) -> tuple[str, ...]:
    import polars as pl

    from tasks.gates.facts import characters

    length = pl.col("n_tokens") if "n_tokens" in known else characters()
    measured = rows.select("row_id", length.alias("length")).collect()
    ordered = measured.sort("length", descending=sample.which == "longest", maintain_order=True)
    return tuple(ordered.head(MOST)["row_id"].to_list())
