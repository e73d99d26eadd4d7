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
    wanted: str | None = None
    for run_id in reversed(run_ids(data_dir)[-_LOOKED_AT:]):
        if wanted is not None and run_id != wanted:
            continue
        run = _finished(data_dir / "runs" / f"{run_id}.json")
        entry = _entry(run, artifact.stage)
        if entry is None or not names & {source.get("name") for source in run.get("sources", [])}:
            continue
        then = artifact.manifest if entry["key"] == artifact.key else _manifest(data_dir, artifact.stage, entry["key"])
        if then is None:
            continue
        if then["digest"] != artifact.digest:
            population = then["facts"].get("population")
            if population is None:
                continue
            return Reference(run_id, str(then["digest"]), population)
        wanted = wanted or (entry.get("gate") or {}).get("reference")
    return None


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


def _manifest(data_dir: Path, stage: str, key: str) -> dict[str, Any] | None:
    try:
        manifest = read_manifest(data_dir / "artifacts" / stage / key)
        return manifest if manifest["digest"] and manifest["facts"] is not None else None
    except (OSError, ValueError, KeyError, TypeError):
        return None
