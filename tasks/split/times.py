"""When a row was made, and from when on rows belong to the test set.

A model is used on what comes after its training data; a test set drawn from among it says too much. So with a time
field the newest rows are the test set, and nothing later than the cut-off is learnt.
"""

import polars as pl

from pipeline_config.errors import DataError

PLACE = "split.time_by"
_FORMATS = ("%+", "%Y-%m-%dT%H:%M:%S%.f", "%Y-%m-%d %H:%M:%S%.f", "%Y-%m-%d", "%Y/%m/%d", "%Y-%m", "%Y")


def as_times(values: pl.Series, place: str = PLACE) -> pl.Series:
    """Times that compare: numbers as they are, dates as seconds since 1970 (without a zone: UTC).

    Args:
        values: text of each value; all numbers, or all ISO dates.

    Raises:
        DataError: a value is missing, or neither a number nor a date.
    """
    numbers = values.cast(pl.Float64, strict=False).fill_nan(None)
    if numbers.null_count() == 0 and not all(values.str.contains(r"^(19|20)\d\d$")):
        return numbers.alias("time")
    seconds = pl.Series("time", [None] * len(values), dtype=pl.Float64)
    for written in _FORMATS:
        text = values + "-01-01" if written == "%Y" else values + "-01" if written == "%Y-%m" else values
        full = "%Y-%m-%d" if written in ("%Y", "%Y-%m") else written
        read = text.str.strptime(pl.Datetime("us", "UTC" if written == "%+" else None), full, strict=False)
        seconds = seconds.fill_null(read.dt.epoch("us").cast(pl.Float64) / 1e6)
    if bad := seconds.null_count():
        raise DataError(
            f"{bad} of {len(values)} rows have no time that can be read",
            place=place,
            cure="give every record a number or an ISO date there (2026-11-23, 2026-11-23T21:40:00Z)",
        )
    return seconds


def chosen_cutoff(times: pl.Series, test: float) -> float | None:
    """The latest time that is learnt, so that about the wanted share of the rows is later; None without rows."""
    latest = times.sort()
    if latest.is_empty():
        return None
    learnt = min(len(latest), max(1, round(len(latest) * (1.0 - test))))
    return float(latest[learnt - 1])
