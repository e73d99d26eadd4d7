"""Conversations that a file of the user's fixes: benchmarks that nobody may learn, and a test set that stays the same.

Such files are read by the readers of ingest. A benchmark's items stand beside the rows as placed test rows do, and go
no further. A frozen test set names its rows by what they say, so they are found again whatever the row ids have become.
"""

from pathlib import Path

import polars as pl

from pipeline_config.errors import ConfigError, DataError, SourceError
from pipeline_config.sets_schema import Split
from tasks.kernels.digests import FileDigests, json_digest
from tasks.kernels.reading.files import name_says
from tasks.split.place import TEST

SAID = "said"  # column: 128 bits of what a row says, as text
_ITEM = "benchmark item "


def file_digests(config: Split, data_dir: Path) -> dict[str, str]:
    """Digests of the files, for the key.

    Raises:
        SourceError: there is no such file.
        ConfigError: the frozen file is not what `frozen_digest` says.
    """
    named = {f"decontaminate_against.{n}": path for n, path in enumerate(config.decontaminate_against)}
    if config.frozen is not None:
        named["frozen"] = config.frozen
    digests, found = FileDigests(data_dir), {}
    for place, name in named.items():
        path = Path(name)
        if not path.is_file():
            raise SourceError(f"there is no file {name}", place=f"split.{place}", cure="check the path")
        digest = digests.of(path)
        if place == "frozen" and config.frozen_digest not in (None, digest):
            raise ConfigError(
                f"the frozen test set has changed: its sha256 is {digest}",
                place="split.frozen_digest",
                cure="put the file back as it was, or write the new digest here if the change is wanted",
            )
        found[place] = json_digest([*name_says(path), path.name, digest])
    digests.save()
    return found


def benchmark_rows(config: Split) -> pl.DataFrame:
    """`name` (of the file), `whole`, `prompt` and `answer` of the items of every benchmark."""
    from tasks.kernels.likeness import views
    from tasks.kernels.reading.rows_of_file import read_rows
    from tasks.kernels.rows import answer_text

    schema = dict.fromkeys(("name", "whole", "prompt", "answer"), pl.String)
    frames = [pl.DataFrame(schema=schema)]
    for number, path in enumerate(config.decontaminate_against):
        rows = read_rows(Path(path)).select(
            pl.lit(Path(path).name).alias("name"), *views(), answer_text().alias("answer")
        )
        if rows.is_empty():
            raise SourceError(
                f"{path} holds no record that can be read",
                place=f"split.decontaminate_against.{number}",
                cure="give a file of benchmark items in any format that ingest reads",
            )
        frames.append(rows)
    return pl.concat(frames)


def said(messages: pl.Series) -> pl.Series:
    """What a conversation says, in 128 bits; equal up to case and white space."""
    from tasks.kernels.text import digests, from_messages

    parts = digests(from_messages(messages))
    both = pl.DataFrame({"a": parts[:, 0], "b": parts[:, 1]})
    return both.select(pl.concat_str("a", "b", separator="-").alias(SAID)).to_series()


def frozen_rows(said_now: pl.Series, path: str) -> pl.Series:
    """Which rows stand in the frozen test set, Boolean.

    Raises:
        DataError: a conversation of the frozen set is not among the rows any more.
    """
    from tasks.kernels.reading.rows_of_file import read_rows

    frozen = said(read_rows(Path(path))["messages"]).unique()
    missing = frozen.filter(~frozen.is_in(said_now.implode()))
    if len(missing):
        raise DataError(
            f"{len(missing)} of the {len(frozen)} conversations of the frozen test set are not among the rows",
            place="split.frozen",
            cure="see which stage removed or edited them (winnow explain), or give that file as a source with "
            "split: test",
        )
    return said_now.is_in(frozen.implode())


def as_rows(benchmarks: pl.DataFrame | None) -> pl.DataFrame:
    """The items as if they were placed test rows; their ids are no row ids."""
    if benchmarks is None:
        return pl.DataFrame(schema=dict.fromkeys(("row_id", "split", "whole", "prompt", "answer"), pl.String))
    number = pl.int_range(1, pl.len() + 1).over("name")
    return benchmarks.select(
        pl.concat_str(pl.lit(_ITEM), number, pl.lit(" of "), "name").alias("row_id"),
        pl.concat_str(pl.lit(f"{TEST}:"), "name").alias("split"),
        "whole",
        "prompt",
        "answer",
    )


def with_items(removed: pl.DataFrame, items: pl.DataFrame) -> pl.DataFrame:
    """Lines that name a benchmark's item say so in their detail; only rows stand in `kept_row_id`."""
    if items.is_empty():
        return removed
    item = pl.col("kept_row_id").str.starts_with(_ITEM).fill_null(value=False)
    return removed.with_columns(
        pl.when(item)
        .then(pl.concat_str("detail", pl.lit(" ("), "kept_row_id", pl.lit(")")))
        .otherwise("detail")
        .alias("detail"),
        pl.when(~item).then("kept_row_id").alias("kept_row_id"),
    )
