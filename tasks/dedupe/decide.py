"""Which rows go, against which kept row, and why.

Rows are judged in the order of keeping: those that the user put into a validation or test split first (what leaks must
leave train, never the test set), then by the configured priority, then as they came. Raw text and conversations are
judged apart, each by its own unit and threshold.

A copy shares the fate of the first row that says the same: if that one is removed as a near-duplicate, so is the copy,
against the same kept row. So every removal names a row that is kept.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import polars as pl

from pipeline_config.data_schema import Dedupe
from tasks.dedupe.exact import equal_to, other_labels, sayings
from tasks.dedupe.facts import facts, metrics
from tasks.dedupe.near import Near, near_duplicates
from tasks.kernels.text import from_messages
from tasks.ledger import REMOVED_SCHEMA, Decision

_FATE: dict[str, Any] = {
    "position": pl.UInt32,  # in source order
    "repeats": pl.Boolean,  # says the same as an earlier row, to the letter
    "fate": pl.String,  # kept, removed, quarantined
    "rule": pl.String,
    "value": pl.Float64,
    "threshold": pl.Float64,
    "kept_row_id": pl.String,
    "detail": pl.String,
    "other_label": pl.String,  # the row that resembles this one but for the label
    "other_answer": pl.String,  # the row that answers the same prompt otherwise
}
COLUMNS = ("row_id", "source", "label", "split", "messages", "rejected", "tools")


def decide(rows: pl.DataFrame, config: Dedupe, sources: Sequence[str]) -> Decision:
    """Decide which rows repeat a kept one.

    Args:
        rows: `COLUMNS`, in source order.
        config: the section.
        sources: names, the most trusted first (for `priority: source_priority`).

    Returns:
        a line for each removed row, with the kept row and the Jaccard (of a pair the lesser one).
    """
    ordered = _in_order_of_keeping(rows.with_row_index("position"), config, sources)
    raw = pl.col("messages").list.first().struct.field("role").eq_missing("text")
    texts, conversations = ordered.filter(raw), ordered.filter(~raw)
    unit = "pair" if config.unit == "auto" else config.unit
    judged = [
        _judge(group, unit, threshold, config)
        for group, unit, threshold in (
            (conversations, unit, config.threshold),
            (texts, "whole", config.text_threshold),
        )
        if not group.is_empty()
    ]
    fates = pl.concat([pl.DataFrame(schema=_FATE), *(fate for fate, _ in judged)]).sort("position")
    fates = fates.with_columns(rows["row_id"], rows["source"])
    return Decision(
        removed=fates.filter(fate="removed").select(list(REMOVED_SCHEMA)),
        quarantined=fates.filter(fate="quarantined").select(
            pl.col("row_id"),
            pl.col("source"),
            pl.lit(None, pl.Int64).alias("line"),
            pl.lit("conflicting_answer").alias("reason"),
            pl.format("another answer to the prompt of row {}", "other_answer").alias("detail"),
            pl.lit(None, pl.String).alias("excerpt"),
        ),
        metrics=metrics(fates),
        facts=facts(fates, [near for _, near in judged], config),
    )


def _in_order_of_keeping(rows: pl.DataFrame, config: Dedupe, sources: Sequence[str]) -> pl.DataFrame:
    held_out = pl.col("split").fill_null("train") != "train"
    keys = [~held_out] if rows.select(held_out.any()).item() else []
    if config.priority == "longest":
        lengths = pl.col("messages").list.eval(pl.element().struct.field("content").str.len_chars())
        keys.append(-lengths.list.sum().cast(pl.Int64))
    elif config.priority == "source_priority":
        rank = {name: place for place, name in enumerate(sources)}
        keys.append(pl.col("source").replace_strict(rank, default=len(rank), return_dtype=pl.Int64))
    return rows.sort([*keys, "position"]) if keys else rows


def _judge(rows: pl.DataFrame, unit: str, threshold: float, config: Dedupe) -> tuple[pl.DataFrame, Near]:
    """The fate of each row of a group, in the order of keeping."""
    said, rejected = from_messages(rows["messages"]), from_messages(rows["rejected"])
    everyone = np.arange(rows.height)
    says = sayings(rows, said, rejected)
    equal = equal_to(says)
    first = equal if config.exact else everyone
    near = near_duplicates(rows, said, rejected, everyone[first == everyone], unit, threshold, config)
    other_label = near.walked.other_label if config.near else other_labels(says)
    found = pl.DataFrame(
        {"at": near.walked.row, "match": near.walked.match}
        | {part: near.walked.jaccard[:, k] for k, part in enumerate(near.parts)},
        schema={"at": pl.Int64, "match": pl.Int64} | dict.fromkeys(near.parts, pl.Float64),
    )
    one = pl.DataFrame(
        {"position": rows["position"], "first": first, "copy": first != everyone, "repeats": equal != everyone}
        | {"other_label": other_label[first], "other_answer": near.walked.other_answer[first]}
    ).join(found, left_on="first", right_on="at", how="left", maintain_order="left")
    alike = pl.col("match").is_not_null()
    refused = (pl.col("other_answer") >= 0) & (config.conflicting_answer == "quarantine")
    exact = pl.col("copy") & ~alike & ~refused
    least = pl.min_horizontal(near.parts) if near.parts else pl.lit(None, pl.Float64)
    words = ", ".join(f"{part} {{}}" for part in near.parts)
    spelled = pl.format(words, *(pl.col(part).round(4) for part in near.parts)) if len(near.parts) > 1 else None
    ids = rows["row_id"]
    fate = one.select(
        pl.col("position"),
        pl.col("repeats"),
        pl.when(alike | exact).then(pl.lit("removed")).when(refused).then(pl.lit("quarantined"))
        .otherwise(pl.lit("kept")).alias("fate"),
        pl.when(exact).then(pl.lit("exact_duplicate")).when(alike).then(pl.lit("near_duplicate")).alias("rule"),
        pl.when(exact).then(1.0).otherwise(least).alias("value"),
        pl.when(exact).then(1.0).when(alike).then(threshold).alias("threshold"),
        _named(pl.when(exact).then("first").otherwise("match"), ids).alias("kept_row_id"),
        pl.when(alike).then(spelled).cast(pl.String).alias("detail"),
        _named(pl.col("other_label"), ids).alias("other_label"),
        _named(pl.col("other_answer"), ids).alias("other_answer"),
    )  # fmt: skip
    return fate, near


def _named(position: pl.Expr, ids: pl.Series) -> pl.Expr:
    """The id of the row at a position; null for none."""
    return pl.lit(ids).gather(pl.when(position >= 0).then(position))
