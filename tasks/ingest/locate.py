"""Where a source's records are: found and looked at before anything runs, so a mistake costs a second and not a run.

Nothing heavy is imported here: `winnow plan` asks for these digests too.
"""

import glob
import json
import logging
import os
import re
from functools import partial
from pathlib import Path
from typing import Any

from pipeline_config.data_schema import Ingest, Source
from pipeline_config.errors import SourceError
from pipeline_config.suggest import did_you_mean
from tasks.kernels.digests import FileDigests, json_digest
from tasks.kernels.reading.files import kind_of, name_says, sample
from tasks.kernels.reading.formats import REQUIRED, absent_names, fields_of, is_record, likeliest, unknown_format
from tasks.kernels.reading.streams import COMPRESSIONS

LOG = logging.getLogger("winnow")
_ENOUGH = 20  # records none of which has a format's fields: the format is wrong, not the records


def check_sources(config: Ingest, data_dir: Path) -> None:
    """Find every file of every source, and look at its first records.

    Raises:
        SourceError: a file is missing, empty, unreadable, of a kind or in a format that we don't know; or a field is
            given a name that the source's format does not have.
    """
    for place, source in _placed(config):
        _check_field_names(source, place)
        if _is_asset(source):
            _asset_digest(source, data_dir)
        elif source.dataset is not None:
            dataset_folder(source, place)
        else:
            for path in source_files(source, place):
                _check_records(path, source, place)


def references(config: Ingest, data_dir: Path) -> dict[str, str]:
    """Source name → digest of its content: files in the order of their paths, of whose names only the kind counts.

    Raises:
        SourceError: as `check_sources`.
    """
    check_sources(config, data_dir)
    digests = FileDigests(data_dir)
    found = {source.name: _digest(source, place, digests, data_dir) for place, source in _placed(config)}
    digests.save()
    return found


def source_files(source: Source, place: str) -> list[Path]:
    """The files of a source, sorted by path; empty ones that a pattern matched beside others are left out.

    Raises:
        SourceError: there is none, one is no file that can be read, or all are empty.
    """
    assert source.path is not None
    paths = [Path(source.path)]
    if glob.has_magic(source.path) and not paths[0].exists():
        matches = sorted(glob.glob(source.path, recursive=True))  # noqa: PTH207
        paths = [Path(name) for name in matches if Path(name).is_file()]
    if not paths:
        raise SourceError(f"no file matches {source.path}", place=place, cure="check the folder and the pattern")
    for path in paths:
        _check_file(path, place)
    filled = [path for path in paths if path.stat().st_size]
    if not filled:
        raise _empty(paths[0], place)
    return filled


def dataset_folder(source: Source, place: str) -> Path | None:
    """The folder of a local data set; None for a name on the hub.

    Raises:
        SourceError: it is a path, and there is no such folder.
    """
    assert source.dataset is not None
    path = Path(source.dataset)
    if path.is_dir():
        _check_split(path, source, place)
        return path
    if path.is_absolute() or source.dataset.startswith((".", "~")):
        raise SourceError(
            f"there is no folder {source.dataset}",
            place=f"{place}.dataset",
            cure="give a folder that save_to_disk wrote, a folder of data files, or a name on the hub",
        )
    return None


def _check_split(folder: Path, source: Source, place: str) -> None:
    """Raise SourceError if a data set that `save_to_disk` wrote has no such split."""
    try:
        there = json.loads((folder / "dataset_dict.json").read_text("utf-8"))["splits"]
    except (OSError, ValueError, KeyError, TypeError):
        return  # one data set without splits, or plain files
    wanted = re.split(r"[\[+]", source.dataset_split, maxsplit=1)[0]
    if wanted not in (*there, "all"):
        raise SourceError(
            f"the data set has no split {wanted!r}{did_you_mean(wanted, there)}",
            place=f"{place}.dataset_split",
            cure=f"there are: {', '.join(there)}",
        )


def own_names(source: Source) -> dict[str, str]:
    """Our field → the record's."""
    return {str(ours): theirs for ours, theirs in source.fields.items()}


def _check_field_names(source: Source, place: str) -> None:
    known = fields_of(source.format)
    for ours in own_names(source):
        if ours not in known:
            raise SourceError(
                f"the format {source.format} has no field {ours}",
                place=f"{place}.fields.{ours}",
                cure=f"it has {', '.join(known)}; or name another format",
            )
    named = own_names(source)
    read: dict[str, str] = {}  # the record's field → ours
    for ours in REQUIRED.get(source.format, ()):
        theirs = named.get(ours, ours)
        if theirs in read:
            raise SourceError(
                f"the record's field {theirs!r} would be read as {read[theirs]} and as {ours}",
                place=f"{place}.fields",
                cure=f"give {ours} the name of another field",
            )
        read[theirs] = ours


def _placed(config: Ingest) -> list[tuple[str, Source]]:
    return [(f"ingest.sources.{number}", source) for number, source in enumerate(config.sources)]


def _is_asset(source: Source) -> bool:
    return source.path is not None and source.path.startswith("asset:")


def _asset_digest(source: Source, data_dir: Path) -> str:
    from tasks.ingest.packaged import asset_digest

    assert source.path is not None
    return asset_digest(source.path, data_dir)


def _check_file(path: Path, place: str) -> None:
    if path.is_dir():
        cure = f"give a pattern such as {path.name}/*.jsonl; a data set's folder goes under `dataset`"
        raise SourceError(f"{path} is a folder", place=f"{place}.path", cure=cure)
    if not path.is_file():
        raise SourceError(f"there is no file {path}", place=f"{place}.path", cure="check the path")
    if kind_of(path) is None:
        raise SourceError(
            f"{path.name} is no kind of file we know by its name",
            place=f"{place}.path",
            cure=".jsonl, .ndjson, .json, .csv, .tsv or .txt (each also with .gz or .zst), or .parquet",
        )
    if not os.access(path, os.R_OK):
        raise SourceError(f"{path} can't be read", place=f"{place}.path", cure="give yourself the right to read it")


def _empty(path: Path, place: str) -> SourceError:
    return SourceError(f"{path} is empty", place=f"{place}.path", cure="give a file with records in it")


def _check_records(path: Path, source: Source, place: str) -> None:
    if kind_of(path) == "parquet":
        _check_parquet(path, place)
        return
    fields = own_names(source)
    try:
        records = sample(path, source.encoding, partial(is_record, source.format, fields))
    except SourceError as error:
        error.place = f"{place}.path"
        raise
    fits = any(is_record(source.format, fields, record) for record in records)
    absent = absent_names(records, fields)
    if fits:  # the format's own fields are there; another may stand in later records, unless its name is mistyped
        there = _keys(records)
        mistyped = {ours: theirs for ours, theirs in absent.items() if did_you_mean(theirs, there)}
        for ours, theirs in absent.items() - mistyped.items():
            LOG.warning("%s.fields.%s: none of the first records has the field %r", place, ours, theirs)
        absent = mistyped
    if absent:
        raise _no_such_field(records, absent, place)
    if source.format == "auto":
        if records and likeliest(records, fields) is None:
            raise unknown_format(records, str(path))
    elif len(records) >= _ENOUGH and not fits:
        raise _wrong_format(records, source, fields, place)


def _wrong_format(records: list[Any], source: Source, fields: dict[str, str], place: str) -> SourceError:
    wanted = ", ".join(fields.get(field, field) for field in REQUIRED[source.format])
    found = next((", ".join(list(record)[:12]) for record in records if isinstance(record, dict)), "none")
    return SourceError(
        f"the format {source.format} needs the fields {wanted}; the records have {found}",
        place=f"{place}.format",
        cure=f"name another format, or say with `{place}.fields` what the fields are called here",
    )


def _keys(records: list[Any]) -> list[str]:
    return list(dict.fromkeys(key for record in records if isinstance(record, dict) for key in record))


def _no_such_field(records: list[Any], absent: dict[str, str], place: str) -> SourceError:
    there = _keys(records)
    ours, theirs = next(iter(absent.items()))
    return SourceError(
        f"no record has the field {theirs!r}{did_you_mean(theirs, there)}",
        place=f"{place}.fields.{ours}",
        cure=f"the records have {', '.join(there[:12])}",
    )


def _check_parquet(path: Path, place: str) -> None:
    with path.open("rb") as stream:
        head = stream.read(4)
        stream.seek(max(path.stat().st_size - 4, 0))
        tail = stream.read(4)
    if head != b"PAR1" or tail != b"PAR1" or Path(path.stem).suffix in COMPRESSIONS:
        raise SourceError(
            f"{path.name} is no complete Parquet file",
            place=f"{place}.path",
            cure="the file is damaged or was copied in part; fetch it again",
        )


def _digest(source: Source, place: str, digests: FileDigests, data_dir: Path) -> str:
    if _is_asset(source):
        return _asset_digest(source, data_dir)
    if source.dataset is None:
        return json_digest([[*name_says(path), digests.of(path)] for path in source_files(source, place)])
    folder = dataset_folder(source, place)
    if folder is not None:
        return digests.of_folder(folder)
    return json_digest([source.dataset, revision_of(source)])


def revision_of(source: Source) -> str | None:
    """The commit of a hub data set that lies in the local cache, so that two runs read the same one.

    The revision asked for where none is there yet; none for a local folder.
    """
    if source.dataset is None or Path(source.dataset).is_dir():
        return source.revision
    cache = os.environ.get("HF_HUB_CACHE") or Path(os.environ.get("HF_HOME") or "~/.cache/huggingface") / "hub"
    folder = Path(cache).expanduser() / f"datasets--{source.dataset.replace('/', '--')}"
    try:
        return (folder / "refs" / (source.revision or "main")).read_text().strip()
    except OSError:
        return source.revision
