"""Tokenised rows for other trainers, which so learn from the same tokens: ids, and labels (-100: not learned).

A trainer that is given text renders and masks it by its own rules; given these it has nothing left to decide. `trl` is
a file that `SFTTrainer` takes as already processed. `llamafactory` is a folder for its `tokenized_path`: the layout of
`datasets.save_to_disk`, written by hand and without a schema of features, since releases of `datasets` spell that in
ways that older ones can't read.
"""

import json
import logging
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import polars as pl

from pipeline_config.errors import ConfigError
from tasks.kernels.packing import IGNORED
from tasks.kernels.records.containers import container_of, replacing, write_records

TOKEN_FORMATS = ("trl", "llamafactory", "parquet")
_SPLITS = ("train", "validation")  # what LLaMA-Factory reads of a folder


def export_tokens(
    tokens: pl.LazyFrame, record_format: str, out: Path, split: str | None, *, say: Callable[[str], None] | None = None
) -> int:
    """Write tokenised rows for another trainer.

    Args:
        tokens: what `tokenize` publishes.
        record_format: one of `TOKEN_FORMATS`; `parquet` writes the rows as they are, every column.
        out: a file (`trl`: .jsonl, .json or .parquet), or the folder to make (`llamafactory`).
        split: only rows of this split; None: `train` for trl, train and validation for llamafactory.
        say: is told, a sentence at a time, what could not be expressed (default: a logged warning).

    Returns:
        how many rows were written.

    Raises:
        ConfigError: no such format, or a name that can't be written to.
    """
    say = say or logging.getLogger("winnow").warning
    if record_format not in TOKEN_FORMATS:
        raise ConfigError(
            f"tokenised rows have no format {record_format!r}",
            place="--format",
            cure=f"one of {', '.join(TOKEN_FORMATS)}",
        )
    if record_format == "parquet":
        frame = (tokens if split is None else tokens.filter(pl.col("split") == split)).collect()
        with replacing(out) as temporary:
            frame.write_parquet(temporary, compression="zstd", statistics=False)
        return frame.height
    wanted = [split] if split else list(_SPLITS if record_format == "llamafactory" else _SPLITS[:1])
    rows = tokens.filter(pl.col("split").is_in(wanted)).collect()
    if weighted := rows.filter(pl.col("weight").fill_null(1.0) != 1.0).height:
        say(f"rows with a weight, which {record_format} has no place for: {weighted}")
    if record_format == "trl":
        _write_file(_labelled(rows), out)
    else:
        _write_folder({name: _labelled(rows.filter(pl.col("split") == name)) for name in wanted}, out)
    return rows.height


def _labelled(rows: pl.DataFrame) -> pl.DataFrame:
    """`input_ids, labels` of each row, in order."""
    label = pl.when("loss_mask").then("input_ids").otherwise(pl.lit(IGNORED, pl.Int32)).alias("labels")
    flat = rows.select("input_ids", "loss_mask").with_row_index("__row").explode("input_ids", "loss_mask")
    return flat.with_columns(label).group_by("__row", maintain_order=True).agg("input_ids", "labels").drop("__row")


def _write_file(rows: pl.DataFrame, out: Path) -> None:
    suffix = container_of(out)
    if suffix in (".csv", ".tsv"):
        raise ConfigError(
            "a table of cells can't hold lists of ids", place="--out", cure="name a .jsonl or .parquet file"
        )
    if suffix == ".parquet":
        with replacing(out) as temporary:
            rows.write_parquet(temporary, compression="zstd", statistics=False)
    else:
        write_records(rows.iter_rows(named=True), out)


def _write_folder(splits: dict[str, pl.DataFrame], out: Path) -> None:
    """A `DatasetDict` on disk; a folder that is there is never written over."""
    if out.exists() or not out.parent.is_dir():
        raise ConfigError(
            f"{out} is there already" if out.exists() else f"there is no folder {out.parent}",
            place="--out",
            cure="name a folder to be made, in one that is there",
        )
    filled = {name: rows for name, rows in splits.items() if rows.height}
    temporary = out.with_name(f".{out.name}.tmp")
    shutil.rmtree(temporary, ignore_errors=True)
    try:
        for name, rows in filled.items():
            _write_split(temporary / name, name, rows)
        temporary.mkdir(exist_ok=True)
        (temporary / "dataset_dict.json").write_text(json.dumps({"splits": list(filled)}))
        temporary.rename(out)
    except OSError as error:
        raise ConfigError(
            f"{out} can't be written: {error.strerror or error}",
            place="--out",
            cure="name a folder that you may write to",
        ) from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _write_split(folder: Path, name: str, rows: pl.DataFrame) -> None:
    import pyarrow as pa

    ids = pl.element() * 0 + 1
    rows = rows.with_columns(pl.col("input_ids").list.eval(ids.cast(pl.Int8)).alias("attention_mask"))
    types = {"input_ids": pa.int32(), "attention_mask": pa.int8(), "labels": pa.int32()}
    table = rows.select(list(types)).to_arrow().cast(pa.schema([(key, pa.list_(kind)) for key, kind in types.items()]))
    folder.mkdir(parents=True)
    file = "data-00000-of-00001.arrow"
    with pa.OSFile(str(folder / file), "wb") as sink, pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table, max_chunksize=1000)
    state: dict[str, Any] = {
        "_data_files": [{"filename": file}],
        "_fingerprint": "winnow",
        "_format_columns": None,
        "_format_kwargs": {},
        "_format_type": None,
        "_output_all_columns": False,
        "_split": name,
    }
    (folder / "state.json").write_text(json.dumps(state))
    (folder / "dataset_info.json").write_text("{}")
