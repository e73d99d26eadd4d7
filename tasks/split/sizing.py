"""How many rows a test set takes, from the interval that it should give, and from when on rows are its own."""

import math

import polars as pl

from pipeline_config.errors import DataError
from pipeline_config.sets_schema import Split, TestSet
from tasks.split.place import TEST, is_test
from tasks.split.times import as_times, chosen_cutoff


def sized(rows: pl.DataFrame, config: Split, filled: frozenset[str]) -> tuple[Split, float | None]:
    """The configuration with every width turned into a share of these rows, and the cut-off in time."""
    if isinstance(config.test, dict):
        shares = {
            name: each if each.width is None else each.model_copy(update={"size": _share(rows, each, config, name)})
            for name, each in config.test.items()
        }
        if sum(each.size for each in shares.values() if not each.sources) + config.validation >= 1:
            raise DataError("the test sets leave no row to train", place="split.test", cure="allow wider intervals")
        return config.model_copy(update={"test": shares}), None
    if config.width is not None:
        one = TestSet(width=config.width)
        config = config.model_copy(update={"test": _share(rows, one, config, TEST)})
    if config.time_by is None:
        return config, None
    if config.cutoff is not None:
        return config, float(as_times(pl.Series([str(config.cutoff)]), "split.cutoff")[0])
    return config, chosen_cutoff(rows["time"], 0.0 if TEST in filled else float(config.test))  # type: ignore[arg-type]


def _share(rows: pl.DataFrame, wanted: TestSet, config: Split, name: str) -> float:
    assert wanted.width is not None
    free = rows.filter(pl.col("split").is_null())
    free = free.filter(pl.col("source").is_in(wanted.sources)) if wanted.sources else free
    needed = rows_for_width(wanted.width)
    if free.is_empty():
        return wanted.size
    share = needed / free.height
    if share + config.validation >= 1:
        raise DataError(
            f"an interval {wanted.width:g} wide takes {needed} test rows, and there are {free.height} rows in all",
            place="split.width" if name == TEST else f"split.test.{name}.width",
            cure=f"allow a wider interval (0.1: {rows_for_width(0.1)} rows, 0.2: {rows_for_width(0.2)})",
        )
    return share


def rows_for_width(width: float) -> int:
    """Rows from which a 95 % interval of a rate is at most this wide, whatever the rate: (1.96 / width)^2 at a half."""
    return math.ceil((1.959963984540054 / width) ** 2)


def late_rows(rows: pl.DataFrame, splits: pl.Series, cutoff: float) -> pl.DataFrame:
    """Rows after the cut-off that were drawn to what is learnt, since their group was placed there by the user."""
    late = rows.with_columns(splits.alias("to")).filter(
        pl.col("split").is_null() & ~is_test(pl.col("to")) & (pl.col("time") > cutoff)
    )
    return late.select(
        "row_id",
        pl.lit("after_cutoff").alias("rule"),
        pl.col("time").alias("value"),
        pl.lit(cutoff, dtype=pl.Float64).alias("threshold"),
        pl.lit(None, dtype=pl.String).alias("kept_row_id"),
        pl.format("hangs together with {}", "to").alias("detail"),
    )
