"""Which train rows get a variant, and which variants may stay."""

import random
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import polars as pl

from pipeline_config.data_schema import Augment
from tasks.augment.methods import Method
from tasks.augment.vary import variant_of
from tasks.kernels.draws import draw_bits, unit
from tasks.kernels.language import detect, sample
from tasks.kernels.likeness import likenesses, nearest, views
from tasks.kernels.progress import track
from tasks.kernels.rows import MESSAGE, added_row_id, joined
from tasks.ledger import Decision

_SURE = 0.5  # score of a language from which it counts as told
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
            split count as train. `task`, where tasks have budgets.
        config: `share`, `budgets` and `sources`.
        seed: of the draws; each row is drawn by itself, so other rows do not matter.
    """
    train = (pl.col("split").fill_null("train") == "train") & pl.col("asks")
    if config.sources:
        train &= pl.col("source").is_in(config.sources)
    draw = unit(draw_bits(rows["row_id"], seed, "augment"))
    share = pl.lit(config.share)
    if config.budgets:
        share = pl.col("task").replace_strict(config.budgets, default=config.share, return_dtype=pl.Float64)
    return rows.filter(train & (pl.Series(draw, dtype=pl.Float64) < share))["row_id"]


def decide(
    rows: pl.DataFrame,
    others: pl.DataFrame,
    methods: Sequence[Method],
    config: Augment,
    seed: int,
    alike: Callable[[pl.Series, pl.Series], np.ndarray] | None = None,
) -> Decision:
    """Add a variant of each drawn row.

    Args:
        rows: `row_id`, `lang` (of the user's turns) and `messages` of the drawn rows, in source order.
        others: `whole` and `prompt` (`likeness.views`) of the rows of other splits.
        methods: loaded augmenters.
        config: strength and the likeness to other splits that is too much.
        seed: of the draws.
        alike: the cosine of each text to another, by the encoder; asked for with `min_similarity`.

    Returns:
        added rows with `parent_row_id`, the method as `rule`, and `messages` in which only user's turns differ from the
        parent's. Facts count what was drawn and why it came to nothing: no method for the language, nothing changed,
        too near to a row of another split, in another language now, or too far from what was meant.
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
    asked = rows.select(pl.col("row_id").alias("parent_row_id"), _asked().alias("before"))
    pairs = added.select("parent_row_id", _asked().alias("after")).join(
        asked, on="parent_row_id", how="left", maintain_order="left"
    )
    changed = ~near & _other_language(pairs)
    came_to_nothing["language_changed"] = int(changed.sum())
    near |= changed
    if config.min_similarity is not None and alike is not None:
        far = ~near & pl.Series(alike(pairs["before"], pairs["after"]) < config.min_similarity, dtype=pl.Boolean)
        came_to_nothing["meaning_changed"] = int(far.sum())
        near |= far
    kept = added.filter(~near)
    by_method = dict(kept.group_by("rule").len().sort("rule").iter_rows())
    facts = {"drawn": rows.height, "variants": by_method, "came_to_nothing": dict(sorted(came_to_nothing.items()))}
    return Decision(added=kept, metrics={"variants": kept.height}, facts=facts)


def _asked() -> pl.Expr:
    return joined("messages", ("user",))


def _other_language(pairs: pl.DataFrame) -> pl.Series:
    """Whether what was surely one language is surely another now."""
    before, after = (detect(pairs.select(sample(pl.col(name)).alias(name))[name]) for name in ("before", "after"))
    sure = (before["score"] >= _SURE) & (after["score"] >= _SURE)
    return (sure & (before["lang"] != after["lang"])).fill_null(value=False)


def _near_others(added: pl.DataFrame, others: pl.DataFrame, threshold: float) -> pl.Series:
    """Whether a variant resembles a row of another split."""
    found = np.zeros(added.height, dtype=bool)
    if added.height and others.height:
        texts = pl.concat([added.select(*views()), others])
        other_split = pl.Series(np.arange(texts.height) >= added.height)
        for link in likenesses(texts, threshold):
            found[nearest(link, other_split)["row"].to_numpy()] = True
    return pl.Series(found, dtype=pl.Boolean)
