"""Typed tables: Parquet files, and data sets that the `datasets` library knows by name or folder.

Both come as Arrow batches and leave as Python records. Values that JSON can't say (dates, decimals, bytes, NaN) are
kept exactly (`records/odd.py`); tables without such a type are not searched for them. In a data set every record has
every field, null where it had none: that is how the library stores them.
"""

from collections.abc import Iterable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from pipeline_config.errors import SourceError
from tasks.kernels.flaky import patiently
from tasks.kernels.reading.cells import Table, can_be_scanned
from tasks.kernels.reading.records import Batch, Read
from tasks.kernels.reading.streams import damaged
from tasks.kernels.records.odd import json_safe

_BATCH_ROWS = 4096
_MOST_BYTES = 1 << 30
_FIRST_ROWS = 128
WORTH_SCANNING = _BATCH_ROWS
"""Rows from which on loading the compiled kernels pays."""


def read_parquet(path: Path) -> Iterator[Batch | Table]:
    """The rows of a Parquet file."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        with pq.ParquetFile(path) as file:
            yield from _batches(file.iter_batches(batch_size=_BATCH_ROWS))
    except (pa.ArrowException, OSError) as error:
        raise damaged(path, error) from error


def read_dataset(
    name: str, subset: str | None, split: str, revision: str | None, place: str
) -> Iterator[Batch | Table]:
    """The rows of a data set: a folder that `save_to_disk` wrote, a folder of data files, or a name on the hub.

    Raises:
        SourceError: there is no such data set or split, or the hub can't be reached.
    """
    dataset = _load(name, subset, split, revision, place)
    yield from _batches(dataset.with_format("arrow").iter(batch_size=_BATCH_ROWS))


def saved_to_disk(folder: Path) -> bool:
    """Whether a folder was written by `datasets`' `save_to_disk`."""
    return (folder / "state.json").is_file() or (folder / "dataset_dict.json").is_file()


def _load(name: str, subset: str | None, split: str, revision: str | None, place: str) -> Any:
    import datasets

    try:
        if saved_to_disk(Path(name)):
            dataset = datasets.load_from_disk(name)
            return dataset[split] if isinstance(dataset, datasets.DatasetDict) else dataset
        fetch = partial(datasets.load_dataset, name, subset, split=split, revision=revision)
        return patiently(fetch, f"fetching the data set {name}")
    except Exception as error:  # the library raises its own, the hub client's and the network's
        first_line = str(error).strip().split("\n")[0]
        raise SourceError(
            f"the data set {name!r}, split {split!r}, can't be loaded ({type(error).__name__}: {first_line})",
            place=place,
            cure="give the folder of a data set that is on this machine, or check name, split, subset and the network",
        ) from error


def _batches(tables: Iterable[Any]) -> Iterator[Batch | Table]:
    before = 0
    for table in tables:
        rows = table
        if before == 0 and _is_plain(table):  # the first rows are read exactly: they tell the format
            yield Batch(_exactly(rows.slice(0, _FIRST_ROWS), range(1, _FIRST_ROWS + 1)))
            before, rows = min(_FIRST_ROWS, table.num_rows), table.slice(_FIRST_ROWS)
        if _is_plain(table):
            whole = rows.combine_chunks().to_batches() if hasattr(rows, "combine_chunks") else [rows]
            yield from (Table(before + 1, batch, _exactly) for batch in whole)
        else:
            yield Batch(_exactly(rows, range(before + 1, before + rows.num_rows + 1)))
        before += rows.num_rows


def _exactly(table: Any, numbers: Sequence[int]) -> list[Read]:
    """The records of a table, made one by one."""
    may_be_odd = any(_can_be_odd(field.type) for field in table.schema)
    rows = zip(numbers, table.to_pylist(), strict=False)
    return [Read(number, json_safe(row) if may_be_odd else row, None, may_be_odd) for number, row in rows]


def _is_plain(table: Any) -> bool:
    """Whether a table is worth reading as cells, and can be."""
    import pyarrow as pa

    if table.num_rows < WORTH_SCANNING or table.nbytes > _MOST_BYTES or not can_be_scanned(table.schema):
        return False
    try:
        table.validate(full=True)
    except pa.ArrowInvalid:
        return False
    return True


def _can_be_odd(kind: Any) -> bool:
    import pyarrow.types as types

    if types.is_struct(kind):
        return any(_can_be_odd(field.type) for field in kind)
    if types.is_list(kind) or types.is_large_list(kind) or types.is_fixed_size_list(kind):
        return _can_be_odd(kind.value_type)
    is_plain = types.is_string(kind) or types.is_large_string(kind) or types.is_boolean(kind) or types.is_null(kind)
    return not (is_plain or types.is_integer(kind))
