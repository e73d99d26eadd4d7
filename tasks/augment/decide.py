"""Which train rows get a variant, and which variants may stay."""

import random
from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np
import polars as pl

from pipeline_config.data_schema import Augment
from tasks.augment.methods import Method
from tasks.augment.vary import variant_of
from tasks.kernels.draws import draw_bits, unit
from tasks.kernels.likeness import likenesses, nearest, views
from tasks.kernels.progress import track
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
        rows: `row_id`, `source`, `split` and `asks` (whether a user's turn and an answer are there); rows without a
            split count as train.
        config: `share` and `sources`.
        seed: of the draws; each row is drawn by itself, so other rows do not matter.
    """
    train = (pl.col("split").fill_null("train") == "train") & pl.col("asks")
    if config.sources:
        train &= pl.col("source").is_in(config.sources)
    draw = unit(draw_bits(rows["row_id"], seed, "augment"))
    return rows.filter(train & pl.Series(draw < config.share, dtype=pl.Boolean))["row_id"]


def decide(rows: pl.DataFrame, others: pl.DataFrame, methods: Sequence[Method], config: Augment, seed: int) -> Decision:
    """Add a variant of each drawn row.

    Args:
        rows: `row_id`, `lang` (of the user's turns) and `messages` of the drawn rows, in source order.
        others: `whole` and `prompt` (`likeness.views`) of the rows of other splits.
        methods: loaded augmenters.
        config: strength and the likeness to other splits that is too much.
        seed: of the draws.

    Returns:
        added rows with `parent_row_id`, the method as `rule`, and `messages` in which only user's turns differ from the
        parent's. Facts count what was drawn and why it came to nothing: no method for the language, nothing changed,
        or too near to a row of another split.
    """
    bits = draw_bits(rows["row_id"], seed, "variant").tolist()
    lines = []
    came_to_nothing: Counter[str] = Counter()
    drawing = zip(rows.iter_rows(named=True), bits, strict=True)
    for row, row_bits in track(drawing, "augment: variants", total=rows.height):
        variant = variant_of(row["messages"], row["lang"], methods, config.strength, random.Random(row_bits))
        if variant is None:
            came_to_nothing["nothing_changed"] += 1
            continue
        parent = row["row_id"]
        lines.append((added_row_id(parent, "augment", 0), parent, variant.method, variant.messages))
    added = pl.DataFrame(lines, schema=ADDED_SCHEMA, orient="row")
    near = _near_others(added, others, config.near_threshold)
    came_to_nothing["near_other_split"] = int(near.sum())
    kept = added.filter(~near)
    by_method = dict(kept.group_by("rule").len().sort("rule").iter_rows())
    facts = {"drawn": rows.height, "variants": by_method, "came_to_nothing": dict(sorted(came_to_nothing.items()))}
    return Decision(added=kept, metrics={"variants": kept.height}, facts=facts)


def _near_others(added: pl.DataFrame, others: pl.DataFrame, threshold: float) -> pl.Series:
    """Whether a variant resembles a row of another split."""
    found = np.zeros(added.height, dtype=bool)
    if added.height and others.height:
        texts = pl.concat([added.select(*views()), others])
        other_split = pl.Series(np.arange(texts.height) >= added.height)
        for link in likenesses(texts, threshold):
            found[nearest(link, other_split)["row"].to_numpy()] = True
    return pl.Series(found, dtype=pl.Boolean)
