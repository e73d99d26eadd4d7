"""Which train rows get a variant, and which variants may stay."""

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import polars as pl

from pipeline_config.sets_schema import Augment
from tasks.augment.check import first_failing
from tasks.augment.vary import Variant
from tasks.kernels.draws import draw_bits, unit
from tasks.kernels.rows import MESSAGE, added_row_id
from tasks.ledger import Decision

ADDED_SCHEMA: dict[str, Any] = {
    "row_id": pl.String,
    "parent_row_id": pl.String,
    "rule": pl.String,
    "messages": pl.List(MESSAGE),
}


def drawn(rows: pl.DataFrame, config: Augment, seed: int) -> pl.Series:
    """The ids of the rows that are to get a variant, in source order.

    Args:
        rows: `row_id`, `source`, `task`, `split` and `asks` (whether a user's turn and an answer are there); rows
            without a split count as train.
        config: `share`, `budgets` and `sources`.
        seed: of the draws; each row is drawn by itself, so other rows do not matter.
    """
    train = (pl.col("split").fill_null("train") == "train") & pl.col("asks")
    if config.sources:
        train &= pl.col("source").is_in(config.sources)
    draw = unit(draw_bits(rows["row_id"], seed, "augment"))
    share = pl.col("task").replace_strict(config.budgets, default=config.share, return_dtype=pl.Float64)
    return rows.with_columns(pl.Series("draw", draw)).filter(train & (pl.col("draw") < share))["row_id"]


def decide(
    rows: pl.DataFrame,
    made: Sequence[Variant | None],
    others: pl.DataFrame,
    config: Augment,
    data_dir: Path,
) -> Decision:
    """Add the variants that may stay.

    Args:
        rows: `row_id` and `messages` of the drawn rows, in source order.
        made: what came of each.
        others: `whole` and `prompt` (`likeness.views`) of the rows of other splits.
        config: what a variant is checked for.
        data_dir: where the encoder is.

    Returns:
        added rows with `parent_row_id`, the method as `rule`, and `messages` in which only user's turns differ from the
        parent's. Facts count what was drawn and why it came to nothing: no method for the language or nothing changed,
        or one of `check.REASONS`.
    """
    places = [place for place, variant in enumerate(made) if variant is not None]
    lines = [
        (added_row_id(parent, "augment", 0), parent, variant.method, variant.messages)
        for parent, variant in zip(rows["row_id"], made, strict=True)
        if variant is not None
    ]
    variants = pl.DataFrame(lines, schema=ADDED_SCHEMA, orient="row")
    failing = first_failing(variants, rows[places], others, config, data_dir)
    kept = variants.filter(failing.is_null())
    nothing = {"nothing_changed": len(made) - len(lines)} | Counter(failing.drop_nulls())
    facts = {
        "drawn": rows.height,
        "variants": dict(kept.group_by("rule").len().sort("rule").iter_rows()),
        "came_to_nothing": {reason: n for reason, n in sorted(nothing.items()) if n},
    }
    return Decision(added=kept, metrics={"variants": kept.height}, facts=facts)
