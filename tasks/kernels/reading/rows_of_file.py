"""The rows of one small file, for a stage that needs a seed set or the like."""

from pathlib import Path

import polars as pl

from pipeline_config.errors import SourceError
from tasks.kernels.reading.columns import number_repeats
from tasks.kernels.reading.files import kind_of
from tasks.kernels.reading.sources import SourceReader
from tasks.kernels.rows import ROW_SCHEMA


def read_rows(path: Path, name: str = "", record_format: str = "auto") -> pl.DataFrame:
    """The rows of one file, of any kind and format; records that can't be read are left out.

    Args:
        path: the file.
        name: source name in the rows (default: the file's name without suffixes).
        record_format: a key of `formats.REQUIRED`, or `auto`.

    Returns:
        rows in the row schema.

    Raises:
        SourceError: no such file, no kind of file we know, or no format we know.
    """
    if not path.is_file() or kind_of(path) is None:
        what = "this kind of file can't be read" if path.exists() else "there is no such file"
        raise SourceError(what, place=str(path), cure="give a .jsonl, .json, .csv, .tsv, .txt or .parquet file")
    frames = SourceReader(name or path.name.split(".", 1)[0], record_format).file(path)
    rows = pl.concat([frame.rows for frame in frames]).select(list(ROW_SCHEMA))
    return rows.with_columns(number_repeats(rows["row_id"]))
