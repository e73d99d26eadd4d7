"""Which rows go, against which kept row, and why.

Rows are judged in the order of keeping (`order.py`), behind those that other runs kept. Raw text and conversations are
judged apart, each by its own unit and threshold.

A copy shares the fate of the first row that says the same: if that one is removed as a near-duplicate, so is the copy,
against the same kept row. So every removal names a row that is kept.
"""

from collections.abc import Callable, Sequence

import numpy as np
import polars as pl

from pipeline_config.data_schema import Dedupe
from tasks.dedupe.everyone import COLUMNS, Everyone, everyone
from tasks.dedupe.exact import SAYING, first_equal, other_labels
from tasks.dedupe.facts import facts, metrics
from tasks.dedupe.index import GROUPS, Group, Index, as_index
from tasks.dedupe.order import is_own
from tasks.dedupe.passages import Passages
from tasks.dedupe.rounds import Rounds, threshold_of
from tasks.dedupe.semantic import Encode
from tasks.kernels.candidates import Int64s
from tasks.ledger import REMOVED_SCHEMA, Decision

__all__ = ["COLUMNS", "decide"]


def decide(
    rows: pl.LazyFrame,
    config: Dedupe,
    sources: Sequence[str],
    against: Sequence[Index] = (),
    keep: Callable[[Group, pl.DataFrame], None] | None = None,
    encode: Encode | None = None,
) -> Decision:
    """Decide which rows repeat a kept one.

    Args:
        rows: `COLUMNS` and `order.order_columns`, in source order.
        config: the section.
        sources: names, the most trusted first (for `priority: source_priority`).
        against: what other runs kept.
        keep: given the index of what is kept, part by part.
        encode: texts to unit vectors, where `semantic` is on.

    Returns:
        a line for each removed row, with the kept row and the Jaccard or cosine (of a pair the lesser one).

    Raises:
        ConfigError: more bands than permutations, or no row with the number that the priority asks for.
    """
    own_order = is_own(rows, config)
    passages = Passages(rows, whole=not own_order)
    people = everyone(passages, config, sources, against, own_order=own_order)
    says = people.lines.select(list(SAYING))
    equal = first_equal(says)
    number = np.arange(equal.size)
    first = equal if config.exact else number
    active = (first == number) & people.lines["compared"].to_numpy()
    active[: people.given] = False
    rounds = Rounds(rows, passages, people, active, config, encode)
    rounds.run(against)
    if not config.near:
        rounds.other_label = other_labels(says)
    fates = _fates(people, first, equal, rounds, config)
    mine = fates.slice(people.given).with_columns(pl.Series("place", people.places)).sort("place")
    if keep is not None:
        kept = (fates["fate"] == "kept").to_numpy().copy()
        kept[: people.given] = False
        for group in GROUPS:
            meant = rounds.meanings[group].kept if group in rounds.meanings else None
            for part in as_index(group, people.lines, kept, rounds.walks.get(group), meant):
                keep(group, part)
    return Decision(
        removed=mine.filter(fate="removed").select(list(REMOVED_SCHEMA)),
        quarantined=mine.filter(fate="quarantined").select(
            pl.col("row_id"),
            pl.col("source"),
            pl.lit(None, pl.Int64).alias("line"),
            pl.lit("conflicting_answer").alias("reason"),
            pl.format("another answer to the prompt of row {}", "other_answer").alias("detail"),
            pl.lit(None, pl.String).alias("excerpt"),
        ),
        metrics=metrics(mine, rounds.near),
        facts=facts(mine, rounds.near, config, people.lines["row_id"].head(people.given)),
    )


def _fates(people: Everyone, first: Int64s, equal: Int64s, rounds: Rounds, config: Dedupe) -> pl.DataFrame:
    """The fate of each row, in the order of keeping.

    Returns:
        `row_id`, `source`, `repeats` (says the same as an earlier row, to the letter), `fate` (kept, removed,
        quarantined), `rule`, `value`, `threshold`, `kept_row_id`, `detail`, `other_label` (the row that resembles
        this one but for the label), `other_answer` (the row that answers the same prompt otherwise).
    """
    number, ids = np.arange(first.size), people.lines["row_id"]
    bounds = {name: threshold_of(group, config) for group, name in zip(GROUPS, (False, True), strict=True)}
    details = pl.concat([pl.DataFrame(schema={"at": pl.Int64, "detail": pl.String}), *rounds.details])
    one = pl.DataFrame(
        {"first": first, "copy": first != number, "repeats": equal != number}
        | {"match": rounds.match[first], "found": rounds.value[first], "semantic": rounds.semantic[first]}
        | {"other_label": rounds.other_label[first], "other_answer": rounds.other_answer[first]}
    ).join(details.unique("at", keep="last"), left_on="first", right_on="at", how="left", maintain_order="left")
    by_meaning = None if config.semantic is None else config.semantic.threshold
    bound = pl.when("semantic").then(by_meaning).otherwise(people.lines["raw"].replace_strict(bounds))
    alike = pl.col("match") >= 0
    refused = (pl.col("other_answer") >= 0) & (config.conflicting_answer == "quarantine")
    exact = pl.col("copy") & ~alike & ~refused
    kept = pl.when(exact).then("first").when(alike).then("match")
    keeper = pl.format("kept by {}", _named(kept, people.lines["keeper"]))
    rule = pl.when("semantic").then(pl.lit("semantic")).otherwise(pl.lit("near_duplicate"))
    return one.select(
        ids,
        people.lines["source"],
        pl.col("repeats"),
        pl.when(alike | exact).then(pl.lit("removed")).when(refused).then(pl.lit("quarantined"))
        .otherwise(pl.lit("kept")).alias("fate"),
        pl.when(exact).then(pl.lit("exact_duplicate")).when(alike).then(rule).alias("rule"),
        pl.when(exact).then(1.0).when(alike).then("found").alias("value"),
        pl.when(exact).then(1.0).when(alike).then(bound).alias("threshold"),
        _named(kept, ids).alias("kept_row_id"),
        pl.concat_str(pl.when(alike).then("detail"), keeper, separator="; ", ignore_nulls=True)
        .replace("", None).alias("detail"),
        _named(pl.col("other_label"), ids).alias("other_label"),
        _named(pl.col("other_answer"), ids).alias("other_answer"),
    )  # fmt: skip


def _named(position: pl.Expr, names: pl.Series) -> pl.Expr:
    """The name of the row at a position; null for none."""
    return pl.lit(names).gather(pl.when(position >= 0).then(position))
