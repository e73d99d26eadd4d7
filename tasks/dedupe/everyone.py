"""All rows that are held against each other, in few bytes each: those that other runs kept, then this run's."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import polars as pl

from pipeline_config.data_schema import Dedupe
from tasks.dedupe.exact import SAYING, sayings, says_something
from tasks.dedupe.index import Index
from tasks.dedupe.near import PARTS, unit_of
from tasks.dedupe.order import in_order, order_columns, order_keys
from tasks.dedupe.passages import Passages
from tasks.kernels.candidates import Int64s

COLUMNS = ("row_id", "source", "label", "split", "messages", "rejected", "tools")
_SCHEMA = {"row_id": pl.String, "source": pl.String} | SAYING | {"compared": pl.Boolean, "keeper": pl.String}


class Everyone(NamedTuple):
    """All rows; a row's number is its place here.

    Attributes:
        lines: `row_id`, `source`, `SAYING`, whether the row is `compared` by shingles, and the artifact that keeps it
            (`keeper`; null for this run's).
        given: how many, the first, other runs kept.
        places: of each of the others, its place among this run's rows.
    """

    lines: pl.DataFrame
    given: int
    places: Int64s


def everyone(
    passages: Passages, config: Dedupe, sources: Sequence[str], against: Sequence[Index], *, own_order: bool
) -> Everyone:
    """Read this run's rows and put all in the order of keeping.

    Args:
        own_order: whether that of this run's rows is their own.

    Raises:
        ConfigError: no row has the number that the priority asks for.
    """
    unit = unit_of(config)
    lines, keys = [pl.DataFrame(schema=_SCHEMA)], []
    for frame, passage in passages.read([*COLUMNS, *order_columns(config)]):
        compared = pl.lit(True)
        if unit in ("prompt", "answer"):
            compared = pl.col("raw") | pl.Series(says_something(frame["messages"], passage.said, PARTS[unit][unit]))
        known = {"compared": compared, "keeper": pl.lit(None, pl.String)}
        lines.append(
            sayings(frame, passage).with_columns(frame["row_id"], frame["source"], **known).select(list(_SCHEMA))
        )
        if not own_order:
            keys.append(order_keys(frame, config))
    mine = pl.concat(lines)
    places = np.arange(mine.height)
    if keys:
        places = in_order(pl.concat(keys), config, sources).to_numpy().astype(np.int64)
        mine = mine[places]
    theirs = pl.concat([pl.DataFrame(schema=_SCHEMA), *(index.lines(list(_SCHEMA)) for index in against)])
    return Everyone(pl.concat([theirs, mine]).rechunk(), theirs.height, places)
