"""The row of another run that a row was removed against (`dedupe.against`): which run keeps it, and its text."""

from pathlib import Path
from typing import Any

import polars as pl

from pipeline_config.errors import WinnowError
from tasks.artifact import Artifact, read_manifest
from tasks.runs import read_run, run_ids

_NAMED = 3  # runs


def kept_elsewhere(artifact: Artifact, detail: str | None, row_id: str) -> tuple[str, dict[str, Any] | None]:
    """Where a kept row is that is none of this run's.

    Args:
        artifact: of dedupe.
        detail: what its ledger says of the removal.

    Returns:
        the runs that keep the row, in words, empty if this run does; `row_id` and `messages`, if they are still there.
    """
    for above in artifact.manifest["facts"].get("against", []):
        if f"kept by dedupe/{above['key'][:12]}" in (detail or ""):
            folder = _folder(artifact, above)
            words = f"kept by {_runs(folder)}" if folder.is_dir() else "its artifact is gone"
            return words, _row(folder, row_id)
    return "", None


def _folder(artifact: Artifact, above: dict[str, Any]) -> Path:
    """The artifact beside this one, or where it was when it was named."""
    here = artifact.path.parent / above["key"]
    return here if here.is_dir() else Path(above["folder"])


def _runs(folder: Path) -> str:
    """The runs that used an artifact, newest first."""
    data_dir, found = folder.parents[2], []
    for run_id in reversed(run_ids(data_dir)):
        try:
            if read_run(data_dir, run_id).stage("dedupe").key == folder.name:
                found.append(run_id)
        except (WinnowError, OSError, ValueError, TypeError):
            continue
    more = f" and {len(found) - _NAMED} more" if len(found) > _NAMED else ""
    return f"run {', '.join(found[:_NAMED])}{more}" if found else f"the artifact {folder}"


def _row(folder: Path, row_id: str) -> dict[str, Any] | None:
    try:
        own = Artifact(folder, read_manifest(folder))
        places = own.own_rows().filter(pl.col("row_id") == row_id).select("text_row").collect()["text_row"]
        if places.is_empty():
            return None
        return own.text().own_rows().slice(places[0], 1).select("row_id", "messages").collect().to_dicts()[0]
    except (OSError, ValueError, pl.exceptions.PolarsError):
        return None
