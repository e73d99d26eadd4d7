"""What drift is measured against: the newest finished run on the same sources whose stage left other rows."""

import json
from functools import lru_cache
from pathlib import Path
from typing import Any

from pipeline_config.schema import Config
from tasks.artifact import Artifact, read_manifest
from tasks.gates.bounds import Reference
from tasks.runs import run_ids

_LOOKED_AT = 200  # finished runs, the newest


def find_reference(artifact: Artifact, config: Config, data_dir: Path) -> Reference | None:
    """The reference of a stage's output.

    A run counts if it is done, read a source of the same name, and used an artifact of this stage with another digest
    that is still there. Where the newest run used this very artifact, what that run was compared with is taken over,
    so that a long row of cached runs costs one look.
    """
    names = {source.name for source in config.ingest.sources}
    for run_id in reversed(run_ids(data_dir)[-_LOOKED_AT:]):
        run = _finished(data_dir / "runs" / f"{run_id}.json")
        entry = _entry(run, artifact.stage)
        if entry is None or not names & {source.get("name") for source in run.get("sources", [])}:
            continue
        if entry["key"] != artifact.key:
            found = _other(run_id, entry["key"], artifact, data_dir)
        else:
            found = _taken_over(entry, artifact, data_dir)
        if found is not None:
            return found
    return None


def _taken_over(entry: dict[str, Any], artifact: Artifact, data_dir: Path) -> Reference | None:
    run_id = (entry.get("gate") or {}).get("reference")
    if not isinstance(run_id, str):
        return None
    before = _entry(_finished(data_dir / "runs" / f"{run_id}.json"), artifact.stage)
    return None if before is None else _other(run_id, before["key"], artifact, data_dir)


def _other(run_id: str, key: str, artifact: Artifact, data_dir: Path) -> Reference | None:
    """An artifact that a run used, if it is there, holds other rows, and tells what they are."""
    try:
        manifest = read_manifest(data_dir / "artifacts" / artifact.stage / key)
        digest, population = str(manifest["digest"]), manifest["facts"]["population"]
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return None if digest == artifact.digest else Reference(run_id, digest, population)


def _finished(path: Path) -> dict[str, Any]:
    try:
        return _read(path, path.stat().st_mtime_ns)
    except (OSError, ValueError):
        return {}


@lru_cache(maxsize=8)
def _read(path: Path, stamp: int) -> dict[str, Any]:
    """The parts of a finished run's record that matter here; {} for any other run."""
    run = json.loads(path.read_text("utf-8"))
    if not isinstance(run, dict) or run.get("status") != "done":
        return {}
    return {"stages": run.get("stages", []), "sources": run.get("sources", [])}


def _entry(run: dict[str, Any], stage: str) -> dict[str, Any] | None:
    for entry in run.get("stages", []):
        if entry.get("name") == stage and entry.get("key") and entry.get("state") in ("ran", "cached"):
            found: dict[str, Any] = entry
            return found
    return None
