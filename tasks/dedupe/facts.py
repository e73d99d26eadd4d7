"""What dedupe counted: for the run record, and for the gate to judge."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import polars as pl

from pipeline_config.data_schema import Dedupe
from tasks.dedupe.near import Near

_NAMED = 20  # row ids of a list in the facts


def metrics(fates: pl.DataFrame, near: Sequence[Near]) -> dict[str, float]:
    """Numbers for the run record.

    `rows_in_crowded_bands`: rows whose keys many kept rows share, found through the index of rare shingles instead,
    which loses nothing. `capped_buckets`: buckets of which only a part was looked at; there is no cap.
    """
    clusters = _clusters(fates)
    kept = fates.filter(fate="kept")
    return {
        "removed_share": fates.filter(fate="removed").height / max(1, fates.height),
        "conflicting_answer": float(fates.filter(pl.col("fate") != "removed")["other_answer"].count()),
        "conflicting_label": float(kept["other_label"].count()),
        "clusters": float(clusters.height),
        "largest_cluster": _quantile(clusters, 1),
        "rows_in_crowded_bands": float(_crowded(near)),
        "capped_buckets": 0.0,
    }


def facts(fates: pl.DataFrame, near: Sequence[Near], config: Dedupe, others: pl.Series) -> dict[str, Any]:
    """What the gate judges, and what a reader of the manifest wants to know.

    `duplicates_left` counts removals whose kept row is not kept. `expected_missed` is the Horvitz-Thompson estimate of
    rows whose kept likeness the bands never showed, from those they did: each stands for 1 / recall(J) rows.
    `copies_let_be`: exact copies that stay because `exact` is off. `others`: ids of the rows that other runs kept.
    """
    clusters = _clusters(fates)
    quantiles = {f"p{q}": _quantile(clusters, q / 100) for q in (50, 90, 99)}
    kept = fates.filter(fate="kept")["row_id"]
    stay = pl.concat([kept, others])
    orphans = fates.filter((pl.col("fate") == "removed") & ~pl.col("kept_row_id").is_in(stay.implode()))
    copies = fates.filter((pl.col("fate") == "kept") & pl.col("repeats"))
    found = {
        "duplicates_left": orphans.height,
        "copies_let_be": copies.height,
        "copied_rows": copies.head(_NAMED)["row_id"].to_list(),
        "cluster_size": quantiles | {"max": _quantile(clusters, 1)},
        "bands": [one.bands._asdict() | {"parts": list(one.parts), "recall": one.recall} for one in near if one.parts],
        "expected_missed": round(sum(_missed(one) for one in near), 3),
        "candidates": sum(int(one.walked.examined[0]) for one in near),
        "compared": sum(int(one.walked.examined[1]) for one in near),
        "rows_in_crowded_bands": _crowded(near),
        "capped_buckets": 0,
    }
    if config.conflicting_answer == "report":
        conflicts = fates.filter((pl.col("fate") == "kept") & pl.col("other_answer").is_not_null())
        found["conflicting_answers"] = [
            list(pair) for pair in conflicts.head(_NAMED).select("row_id", "other_answer").iter_rows()
        ]
    return found


def _clusters(fates: pl.DataFrame) -> pl.DataFrame:
    """Kept rows with copies, and how many rows each stands for, itself included."""
    removed = fates.filter(fate="removed").group_by("kept_row_id", maintain_order=True)
    return removed.agg((pl.len() + 1).alias("size"))


def _quantile(clusters: pl.DataFrame, share: float) -> float:
    return clusters["size"].quantile(share, "higher") or 1.0


def _crowded(near: Sequence[Near]) -> int:
    return sum(int(one.walked.examined[2]) for one in near)


def _missed(near: Near) -> float:
    least = near.walked.jaccard.min(axis=1) if near.walked.row.size else np.empty(0)
    shown = np.array([near.bands.recall(float(value)) for value in np.unique(least)])
    counts = np.unique(least, return_counts=True)[1]
    return float((counts * (1 / shown - 1)).sum()) if shown.size else 0.0
