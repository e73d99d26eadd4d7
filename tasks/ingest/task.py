"""The stage: any source into one row schema, losslessly; what is no row goes to quarantine with file, line and reason.

A record that can be read becomes exactly one row, in the order of the sources and of their files. Fields that the row
schema has no column for go to `meta`, and the record's shape beside them, so that `winnow export` writes the same
record again. A user's own id is such a field: two records of the same id are two rows, and are counted.
"""

from collections.abc import Iterator
from pathlib import Path

import polars as pl

from pipeline_config.data_schema import Ingest, Source
from pipeline_config.schema import Config
from tasks.ingest import locate
from tasks.ingest.facts import facts_of, metrics_of
from tasks.ingest.quarantine import quarantined
from tasks.kernels.progress import track
from tasks.kernels.reading.columns import READ_SCHEMA, UNREAD_SCHEMA, number_repeats
from tasks.kernels.reading.records import Batch, Read
from tasks.kernels.reading.sources import Frames, SourceReader
from tasks.kernels.reading.tables import read_dataset
from tasks.kernels.records.odd import json_safe
from tasks.kernels.rows import ROW_SCHEMA
from tasks.ledger import Decision, quarantine_frame
from tasks.stage import StageInput, stage

_ASSET_BATCH = 1000


def references(config: Ingest, run: Config, data_dir: Path) -> dict[str, str]:
    """Source name → digest of its content; finds what is missing or in no format we know before anything runs.

    Raises:
        SourceError: a file is missing, empty, unreadable, of a kind or in a format that we don't know.
    """
    return locate.references(config, data_dir)


@stage("ingest", libraries=("orjson", "pyarrow", "datasets", "pyyaml", "numba", "numpy"), references=references)
def ingest(given: StageInput[Ingest]) -> Decision:
    """Every record a row or in quarantine."""
    return read_sources(given.config)


def read_sources(config: Ingest) -> Decision:
    """Read every source.

    Returns:
        `assigned` holds all rows in the row schema; one quarantine line for each record that gave none.

    Raises:
        SourceError: a source is missing, can't be read to its end, or is in no format we know.
    """
    limit = int(config.max_record_mb * 1_000_000)
    rows = [pl.DataFrame(schema=READ_SCHEMA)]
    refused = [quarantine_frame()]
    for number, source in enumerate(config.sources):
        source_rows, unread = _one_source(source, f"ingest.sources.{number}", limit)
        rows.append(source_rows)
        refused.append(quarantined(unread, source.name))
    read, quarantine = pl.concat(rows), pl.concat(refused)
    return Decision(
        assigned=read.select(list(ROW_SCHEMA)),
        quarantined=quarantine,
        metrics=metrics_of(read, quarantine),
        facts=facts_of(read, quarantine),
    )


def _one_source(source: Source, place: str, limit: int) -> tuple[pl.DataFrame, pl.DataFrame]:
    """The rows and the unread records of one source, ids numbered among its rows."""
    rows, unread = [pl.DataFrame(schema=READ_SCHEMA)], [pl.DataFrame(schema=UNREAD_SCHEMA | {"file": pl.String})]
    for file, frames in track(_frames(source, place, limit), f"ingest: {source.name}"):
        rows.append(frames.rows)
        unread.append(frames.unread.with_columns(file=pl.lit(file)))
    read = pl.concat(rows)
    numbered = number_repeats(read["row_id"])
    return read.replace_column(read.get_column_index("row_id"), numbered), pl.concat(unread)


def _frames(source: Source, place: str, limit: int) -> Iterator[tuple[str, Frames]]:
    """Base name of the file (or name of the data set), and rows, a batch at a time."""
    defaults = {"task": source.task, "lang": source.lang, "split": source.split}
    reader = SourceReader(source.name, source.format, locate.own_names(source), defaults, source.encoding, limit)
    if source.dataset is not None:
        place = f"{place}.dataset"
        revision = locate.revision_of(source)
        batches = read_dataset(source.dataset, source.subset, source.dataset_split, revision, place)
        for frames in reader.batches(batches, place):
            yield source.dataset.rstrip("/").rsplit("/", 1)[-1], frames
        return
    assert source.path is not None
    if source.path.startswith("asset:"):
        for frames in reader.batches(_asset_batches(source.path), source.path):
            yield source.path, frames
        return
    for path in locate.source_files(source, place):
        for frames in reader.file(path):
            yield path.name, frames


def _asset_batches(name: str) -> Iterator[Batch]:
    from tasks.ingest.packaged import asset_records

    batch = Batch()
    for number, record in enumerate(asset_records(name), 1):
        batch.records.append(Read(number, json_safe(record), None, True))
        if len(batch.records) == _ASSET_BATCH:
            yield batch
            batch = Batch()
    yield batch
