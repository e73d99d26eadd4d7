"""What the length limit costs: rows that can't be shortened go, and too many of them end the run.

Limits of the train rows alone: a share of the learned tokens, and a share of the rows of each task, since a task of few
and long rows may vanish without a trace in the sum. `drop` was asked for, and has no limits.
"""

from typing import Any, NamedTuple

import polars as pl

from pipeline_config.errors import DataError
from pipeline_config.sets_schema import Tokenize

_RAISED_AT_MOST = 4  # times the 99.5th percentile


class Lost(NamedTuple):
    """What goes with the removed train rows.

    Attributes:
        tokens: share of the learned tokens, in [0, 1].
        task: the task that loses the largest share of its rows; None: rows without one.
        of_task: that share, in [0, 1].
        rows: how many go.
        longest: tokens of the longest of them; 0 if none.
    """

    tokens: float
    task: str | None
    of_task: float
    rows: int
    longest: int

    def too_much(self, config: Tokenize) -> bool:
        """Whether it is over a limit."""
        return self.tokens > config.max_lost_tokens or self.of_task > config.max_lost_of_task


def lost(tokens: pl.DataFrame, gone: pl.Series) -> Lost:
    """What would go with some rows.

    Args:
        tokens: `row_id, split, task, n_tokens, n_trained` of all rows.
        gone: ids of the rows removed.
    """
    train = _train(tokens).with_columns(pl.col("row_id").is_in(gone.implode()).alias("gone"))
    removed = train.filter("gone")
    if removed.is_empty():
        return Lost(0.0, None, 0.0, 0, 0)
    by_task = train.group_by("task").agg(pl.col("gone").mean()).sort("gone", "task", descending=[True, False])
    learned: Any = removed["n_trained"].sum() / max(1, int(train["n_trained"].sum()))
    task, share = by_task.row(0)
    return Lost(float(learned), task, float(share), removed.height, int(removed["n_tokens"].to_numpy().max()))


def raised_length(tokens: pl.DataFrame, start: int, context: int | None, config: Tokenize) -> int:
    """The smallest length that keeps to the limits even if every longer row goes; at most four times `start`.

    Lengths have long tails, so that the half per cent of the longest rows easily holds more than half a per cent of
    the learned tokens; a handful of giants, though, shall not set the length of all.

    Args:
        tokens: `split, task, n_tokens, n_trained` of all rows.
        start: the 99.5th percentile or the context; the least that is given back.
    """
    highest = min(_RAISED_AT_MOST * start, context or _RAISED_AT_MOST * start)
    train = _train(tokens).sort("n_tokens", descending=True)
    learned, place = pl.col("n_trained").cast(pl.Int64), pl.int_range(1, pl.len() + 1).over("task")
    over = train.filter(
        (learned.cum_sum() > config.max_lost_tokens * learned.sum())
        | (place > config.max_lost_of_task * pl.len().over("task"))
    )
    least = 0 if over.is_empty() else int(over["n_tokens"].to_numpy().max())
    return max(start, min(least, highest))


def check_lost(found: Lost, length: int | None, config: Tokenize) -> None:
    """Stop if more would be lost than is allowed.

    Raises:
        DataError: it is too much.
    """
    if config.on_too_long == "drop" or not found.too_much(config):
        return
    limits = f"limits {config.max_lost_tokens:.2%} and {config.max_lost_of_task:.2%}"
    task = f"of task {found.task}" if found.task is not None else "without a task"
    raise DataError(
        f"{found.rows} train rows are over {length} tokens and can't be shortened: {found.tokens:.2%} of the learned "
        f"tokens and {found.of_task:.2%} of the rows {task} would be lost ({limits})",
        place="tokenize.on_too_long",
        cure=f"raise tokenize.max_length (the longest has {found.longest} tokens), allow more in "
        "tokenize.max_lost_tokens and tokenize.max_lost_of_task, or set tokenize.on_too_long: drop",
    )


def _train(tokens: pl.DataFrame) -> pl.DataFrame:
    return tokens.filter((pl.col("split") == "train") & (pl.col("n_trained") > 0))
