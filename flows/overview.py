"""Every run of a data folder on one page, and what takes up its disk."""

import os
from collections import Counter
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from pipeline_config.errors import ConfigError
from tasks.artifact import Store, read_manifest
from tasks.presence import is_running
from tasks.runs import RunRecord, read_run, resume_command, run_ids

FOLDERS = ("artifacts", "models", "work", "gates", "reports", "runs")


def overview(data_dir: Path) -> dict[str, Any]:
    """All runs, newest first, and the sizes of the data folder's parts.

    Returns:
        `runs`: `run_id, status, started, seconds, config, parent_run_id, stages {state: n}, bytes` (of every artifact
        that the run names; runs share artifacts, so these add up to more than the folder holds), `missing` (artifacts
        that are gone) and `resume` (what to type; null where nothing is left to do). `status` is `killed` for a run
        that was never closed and that nobody works on. `sizes`: bytes by folder, and `total`.
    """
    known: dict[tuple[str, str], int | None] = {}
    return {
        "runs": [_line(data_dir, run_id, known) for run_id in reversed(run_ids(data_dir))],
        "sizes": sizes(data_dir),
    }


def sizes(data_dir: Path) -> dict[str, int]:
    """Bytes by folder, and `total` with everything else in it."""
    found = {name: folder_bytes(data_dir / name) for name in FOLDERS}
    return found | {"total": folder_bytes(data_dir)}


def folder_bytes(path: Path | str) -> int:
    """Bytes of a file, or of all files below a folder; links are not followed, what vanishes meanwhile is nothing."""
    total = 0
    try:
        if not Path(path).is_dir():
            return os.lstat(path).st_size
        with os.scandir(path) as entries:
            for entry in entries:
                inside = entry.is_dir(follow_symlinks=False)
                total += folder_bytes(entry.path) if inside else entry.stat(follow_symlinks=False).st_size
    except OSError:
        return total
    return total


def bytes_in_words(n: float) -> str:
    """`1.4 MB`; powers of 1000."""
    for unit in ("B", "kB", "MB", "GB"):
        if n < 1000:
            return f"{n:,.0f} {unit}" if unit == "B" else f"{n:,.1f} {unit}"
        n /= 1000
    return f"{n:,.1f} TB"


def status_of(record: RunRecord, data_dir: Path) -> str:
    """The record's status, `killed` where its process is gone."""
    if record.status == "running" and not is_running(data_dir, record.run_id):
        return "killed"
    return record.status


def started(run_id: str) -> str | None:
    """When a run began, from its id, as ISO 8601 in UTC."""
    try:
        return datetime.strptime(run_id[:15], "%Y%m%dT%H%M%S").replace(tzinfo=UTC).isoformat()
    except ValueError:
        return None


def _line(data_dir: Path, run_id: str, known: dict[tuple[str, str], int | None]) -> dict[str, Any]:
    try:
        record = read_run(data_dir, run_id)
    except ConfigError:
        return {"run_id": run_id, "status": "unreadable", "started": started(run_id)}
    held = [_artifact_bytes(data_dir, e.name, e.key, known) for e in record.stages if e.key and e.state != "pending"]
    status = status_of(record, data_dir)
    return {
        "run_id": run_id,
        "status": status,
        "started": started(run_id),
        "seconds": record.seconds,
        "config": record.config_name,
        "parent_run_id": record.parent_run_id,
        "stages": dict(Counter(entry.state for entry in record.stages)),
        "bytes": sum(n for n in held if n is not None),
        "missing": held.count(None),
        "resume": None if status in ("done", "running") else resume_command(run_id, data_dir),
    }


def _artifact_bytes(data_dir: Path, stage: str, key: str, known: dict[tuple[str, str], int | None]) -> int | None:
    if (stage, key) not in known:
        try:
            files = read_manifest(Store(data_dir).folder(stage, key))["files"]
            known[stage, key] = sum(int(file["bytes"]) for file in files)
        except (OSError, ValueError, KeyError, TypeError):
            known[stage, key] = None
    return known[stage, key]
