"""Which split a group of rows goes to: the user's, else the one its draw falls on.

The draw of a group is a point in [0, 1). Test sets take their shares from the left, in the order of the configuration,
the validation set its share from the right; train is between them. So a row's split depends on its own group alone:
there are no quotas to fill, and nothing moves when other rows come or go. The price is that shares are met on average,
within a few square roots, not to the row.
"""

import polars as pl

from pipeline_config.sets_schema import Split, TestSet

TRAIN, VALIDATION, TEST = "train", "validation", "test"


def is_test(split: pl.Expr) -> pl.Expr:
    """Whether a split is a test set, named or not."""
    return (split == TEST) | split.str.starts_with(f"{TEST}:")


def test_sets(config: Split, filled: frozenset[str]) -> dict[str, TestSet]:
    """Split name → test set to draw.

    Args:
        filled: splits that a source fills by itself; a plain share is not drawn into those on top.
    """
    if isinstance(config.test, dict):
        return {f"{TEST}:{name}": test_set for name, test_set in config.test.items()}
    if config.test == 0 or TEST in filled:
        return {}
    return {TEST: TestSet(size=config.test)}


def placed(groups: pl.DataFrame, config: Split, filled: frozenset[str], cutoff: float | None = None) -> pl.Series:
    """The split of each group's unplaced rows.

    Args:
        groups: one line a group: `draw` in [0, 1), `sources` (list of the sources its rows come from) and `given` (list
            of the splits that its placed rows have).
        config: shares and test sets.
        filled: splits that a source fills by itself.
        cutoff: groups whose `time`, that of their latest row, is later are the test set; no other is drawn into it.

    Returns:
        String, in the order given. A group with placed rows goes where they are: to a test set before validation before
        train. A group is drawn into a test set only if all of its rows may be.
    """
    given = pl.col("given")
    given_test = given.list.eval(pl.element().filter(is_test(pl.element()))).list.min()
    inherited = (
        pl.when(given.list.len() == 0)
        .then(None)
        .when(given_test.is_not_null())
        .then(given_test)
        .when(given.list.contains(VALIDATION))
        .then(pl.lit(VALIDATION))
        .otherwise(pl.lit(TRAIN))
    )
    validation = 0.0 if VALIDATION in filled else config.validation
    drawn = pl.when(pl.col("draw") >= 1.0 - validation).then(pl.lit(VALIDATION)).otherwise(pl.lit(TRAIN))
    edge = pl.lit(0.0)
    intervals = []
    for name, test_set in test_sets(config, filled).items():
        share = pl.when(_may(test_set)).then(test_set.size).otherwise(0.0)
        intervals.append((edge, edge + share, name))
        edge = edge + share
    if cutoff is not None:
        intervals = []
        drawn = pl.when(pl.col("time") > cutoff).then(pl.lit(TEST)).otherwise(drawn)
    for start, end, name in intervals:
        inside = (pl.col("draw") >= start) & (pl.col("draw") < end)
        drawn = pl.when(inside).then(pl.lit(name)).otherwise(drawn)
    return groups.select(pl.coalesce(inherited, drawn).alias("split")).to_series()


def _may(test_set: TestSet) -> pl.Expr:
    if not test_set.sources:
        return pl.lit(True)
    return pl.col("sources").list.set_difference(test_set.sources).list.len() == 0
