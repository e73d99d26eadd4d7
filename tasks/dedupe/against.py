"""What `dedupe.against` names: artifacts of earlier runs whose kept rows stand before this run's.

A name is a run id, an artifact's key (of either the beginning is enough), or an artifact's folder, relative to the data
folder. An artifact that was itself held against others brings them along, so that a chain of batches is named by its
last one. Nothing is copied and nothing is shared: an index is read, and never written again.
"""

import unicodedata
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from pipeline_config.data_schema import Dedupe
from pipeline_config.errors import ConfigError, WinnowError
from tasks.artifact import Artifact, Store, read_manifest
from tasks.kernels.digests import json_digest
from tasks.kernels.models import model_digest
from tasks.runs import command_in, read_run

PLACE = "dedupe.against"
_FORMAT = 1


def index_terms(config: Dedupe, data_dir: Path) -> dict[str, Any]:
    """What an index is made with; two runs can only be compared in equal terms."""
    semantic = None
    if config.semantic is not None:
        semantic = [model_digest(config.semantic.encoder, data_dir), config.semantic.max_length]
    return {
        "semantic": semantic,
        "format": _FORMAT,
        "near": config.near,
        "shingle": config.shingle if config.near else None,
        "unit": ("pair" if config.unit == "auto" else config.unit) if config.near else None,
        "unicode": unicodedata.unidata_version,
    }


def keepers(config: Dedupe, data_dir: Path) -> list[Artifact]:
    """The artifacts that a run is held against, in the order named, each followed by those it was held against.

    Raises:
        ConfigError: there is no such artifact, it is damaged, holds no index, or one made in other terms.
    """
    found: dict[str, Artifact] = {}
    for name in config.against:
        for artifact in _chain(_find(name, data_dir), name):
            found.setdefault(artifact.key, artifact)
    for artifact in found.values():
        _check(artifact, index_terms(config, data_dir))
    return list(found.values())


def index_digest(artifacts: Sequence[Artifact]) -> str:
    """A digest of what the artifacts' indexes hold, and of the names that the ledger tells."""
    files = [[artifact.key, [[file["path"], file["sha256"]] for file in _files(artifact)]] for artifact in artifacts]
    return json_digest(files)


def keeper_name(artifact: Artifact) -> str:
    """How the ledger names an artifact."""
    return f"dedupe/{artifact.key[:12]}"


def _files(artifact: Artifact) -> list[dict[str, Any]]:
    return [file for file in artifact.manifest["files"] if file["path"].startswith("index-")]


def _chain(artifact: Artifact, name: str) -> Iterator[Artifact]:
    """An artifact and, depth first, those it was held against."""
    yield artifact
    for above in artifact.manifest["facts"].get("against", []):
        store = Store(artifact.path.parents[2])
        found = store.find("dedupe", above["key"])
        if found is None and above.get("folder"):
            found = Store(Path(above["folder"]).parents[2]).find("dedupe", above["key"])
        if found is None:
            raise ConfigError(
                f"{name} was held against dedupe/{above['key'][:12]}, which is gone or damaged",
                place=PLACE,
                cure="run that batch again, or name the batches that are left and run this chain from there",
            )
        yield from _chain(found, name)


def _find(name: str, data_dir: Path) -> Artifact:
    folder = (data_dir / name).resolve()
    if "/" in name or folder.is_dir():
        return _of_folder(name, folder)
    keys = sorted(path.name for path in (data_dir / "artifacts" / "dedupe").glob(f"{name}*") if len(path.name) == 64)
    if len(name) >= 6 and len(keys) == 1:
        return _verified(name, Store(data_dir), keys[0])
    if len(keys) > 1:
        raise ConfigError(f"{name} means {len(keys)} artifacts", place=PLACE, cure="give more of its key")
    try:
        record = read_run(data_dir, name)
    except WinnowError as error:
        raise ConfigError(
            f"there is no run and no artifact {name} in {data_dir}",
            place=PLACE,
            cure=f"{command_in(data_dir, 'winnow', 'status')} lists the runs; "
            "another data folder's artifact is named by its path",
        ) from error
    entry = record.stage("dedupe")
    if entry.key is None or entry.state not in ("ran", "cached"):
        raise ConfigError(
            f"run {record.run_id} has no rows that dedupe kept (dedupe: {entry.state})",
            place=PLACE,
            cure="name a run whose dedupe is done",
        )
    return _verified(name, Store(data_dir), entry.key)


def _of_folder(name: str, folder: Path) -> Artifact:
    try:
        manifest = read_manifest(folder)
    except (OSError, ValueError):
        manifest = {}
    if manifest.get("stage") != "dedupe":
        what = f"is an artifact of {manifest['stage']}" if manifest.get("stage") else "is no artifact"
        raise ConfigError(
            f"{name} {what} ({folder})",
            place=PLACE,
            cure="name a run, or the folder artifacts/dedupe/<key> of one; paths are relative to the data folder",
        )
    return _verified(name, Store(folder.parents[2]), folder.name)


def _verified(name: str, store: Store, key: str) -> Artifact:
    found = store.find("dedupe", key)
    if found is None:
        raise ConfigError(
            f"the artifact of {name} is gone or damaged (dedupe/{key[:12]})",
            place=PLACE,
            cure="run it again, with the same configuration, and name that run",
        )
    store.digests.save()
    return found


def _check(artifact: Artifact, wanted: dict[str, Any]) -> None:
    terms = artifact.manifest["facts"].get("index")
    name = keeper_name(artifact)
    if terms is None:
        raise ConfigError(
            f"{name} holds no index", place=PLACE, cure="run it again with dedupe.index: true, and name that run"
        )
    for term, value in wanted.items():
        if value is None or (term == "near" and not value):
            continue  # this run does not ask for it
        if terms.get(term) != value:
            given, mine = ("another encoder", "its own") if term == "semantic" else (terms.get(term), value)
            raise ConfigError(
                f"{name} was made with {term} {given}, this run has {mine}",
                place=PLACE,
                cure=f"set dedupe.{term} as it was there, or run that batch again with the settings of this one",
            )
