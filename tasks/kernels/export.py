"""Rows out again, for any other trainer: the inverse of reading.

A row whose record came in the asked format leaves in the shape that it had, equal to what came in where no stage edited
it; other rows are written in that format's plain form, with the record's other fields behind it. What a format has no
place for is counted and said. `original` gives every row back in its own source's shape.
"""

import logging
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import polars as pl

from pipeline_config.errors import ConfigError, DataError
from tasks.kernels.records.containers import replacing, write_records
from tasks.kernels.records.plain import Inexpressible, Lost
from tasks.kernels.records.restore import convert, restore
from tasks.kernels.records.shape import Conversation

FORMATS = ("messages", "alpaca", "sharegpt", "text", "parquet", "original")
_COLUMNS = ("messages", "rejected", "tools", "meta")
_BATCH_ROWS = 5000
_LOSSES = {
    "message_weights": "rows with weights of single messages, which {format} has no place for",
    "tool_calls_as_text": "tool calls that are no JSON, written as text",
    "tools_not_json": "rows with tool definitions that are no JSON, left out of them",
    "roles": "conversations without the roles of their turns, which {format} has no place for",
    "tools": "rows without their tool definitions, which {format} has no place for",
    "rejected_answers": "preference pairs without the rejected answer, which {format} has no place for",
    "shape_of_edited_turns": "rows edited out of their record's shape, written in the plain one",
    "raw_text": "rows of raw text left out, as they are no conversations (use --format text)",
    "tool_turns": "rows with tool turns left out, which {format} has no place for (use messages or sharegpt)",
    "turns_not_in_pairs": "rows left out whose turns are not question and answer in turn",
    "rejected_turns": "preference pairs left out whose rejected half is several turns",
    "no_answer_at_the_end": "rows left out that do not end with an answer",
    "no_rejected_answer": "rows left out that have no rejected answer",
    "no_known_shape": "rows that came from no record, written as messages or text",
}


def export_rows(rows: pl.LazyFrame, record_format: str, out: Path, *, say: Callable[[str], None] | None = None) -> int:
    """Write rows to a file.

    Args:
        rows: rows of any data stage that holds text (`messages`, `rejected`, `tools`, `meta`).
        record_format: one of `FORMATS`; `parquet` writes the rows as they are, every column.
        out: the file; its name decides between JSON Lines, JSON, CSV and Parquet.
        say: is told, a sentence at a time, what could not be expressed (default: a logged warning).

    Returns:
        how many records were written.

    Raises:
        ConfigError: no such format, or a file name that says nothing.
        DataError: the rows hold no text.
    """
    if record_format not in FORMATS:
        raise ConfigError(f"no format {record_format!r}", place="--format", cure=f"one of {', '.join(FORMATS)}")
    if record_format == "parquet":
        return _as_they_are(rows, out)
    missing = [column for column in _COLUMNS if column not in rows.collect_schema().names()]
    if missing:
        raise DataError(
            f"the rows have no column {missing[0]}",
            place="export",
            cure="export a stage that holds text, such as clean or augment",
        )
    lost: Lost = Counter()
    count = write_records(_records(rows, record_format, lost), out)
    for name in sorted(lost):
        (say or logging.getLogger("winnow").warning)(f"{_LOSSES[name].format(format=record_format)}: {lost[name]}")
    return count


def _as_they_are(rows: pl.LazyFrame, out: Path) -> int:
    frame = rows.collect()
    with replacing(out) as temporary:
        frame.write_parquet(temporary, compression="zstd", statistics=False)
    return frame.height


def _records(rows: pl.LazyFrame, record_format: str, lost: Lost) -> Iterator[dict[str, Any]]:
    narrow = rows.select(_COLUMNS)
    for batch in narrow.collect_batches(maintain_order=True, chunk_size=_BATCH_ROWS):
        for row in batch.iter_rows(named=True):
            try:
                yield _record(Conversation.of_row(row), record_format, lost)
            except Inexpressible as reason:
                lost[str(reason)] += 1


def _record(row: Conversation, record_format: str, lost: Lost) -> dict[str, Any]:
    own_format = row.shape.get("format")
    if record_format == "original":
        if own_format is not None:
            return restore(row, lost)
        lost["no_known_shape"] += 1
        is_text = any(role == "text" for role, _, _ in row.messages)
        return convert(row, "text" if is_text else "messages", lost)
    if own_format == record_format:
        return restore(row, lost, renamed=False)
    return convert(row, record_format, lost)
