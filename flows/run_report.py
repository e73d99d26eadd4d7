"""Where the report of a run is: `data/reports/<run_id>/report.html`, the cached page with this run's gates and times.

It is written when a run ends, and by `winnow report`, which also makes one for a run that stopped before its report
stage, from the artifacts that there are.
"""

import os
from pathlib import Path

from pipeline_config.errors import ConfigError
from tasks.artifact import Artifact, Store, read_manifest
from tasks.runs import RunRecord, command_in

PAGE = "report.html"


def report_path(run_id: str, data_dir: Path) -> Path:
    """Where a run's page is, or would be."""
    return data_dir / "reports" / run_id / PAGE


def write_report(record: RunRecord, data_dir: Path) -> Path | None:
    """Write a run's page from the page that its report stage published; None where it published none."""
    entry = record.stage("report")
    if not entry.key or entry.state not in ("ran", "cached", "failed"):
        return None
    try:
        page = (Store(data_dir).folder("report", entry.key) / PAGE).read_text("utf-8")
    except OSError:
        return None
    return _write(page, record, data_dir)


def make_report(record: RunRecord, data_dir: Path) -> Path:
    """A run's page: as published, else as it was written, else from what the run made.

    Raises:
        ConfigError: nothing that the run made is left.
    """
    written = write_report(record, data_dir)
    if written is not None:
        return written
    path = report_path(record.run_id, data_dir)
    if path.exists() and record.status == "done":
        return path
    made = _artifacts(record, data_dir)
    if not made:
        raise ConfigError(
            f"run {record.run_id} has made nothing to report on",
            place="RUN",
            cure=f"{command_in(data_dir, 'winnow', 'status', record.run_id)} shows how far it came; name another run, "
            "or run it again",
        )
    from flows.resume import recorded_config
    from tasks.report.task import page_of

    return _write(page_of(recorded_config(record), made, data_dir), record, data_dir)


def _artifacts(record: RunRecord, data_dir: Path) -> dict[str, Artifact]:
    """Every artifact that the run made or took from the cache, but the report."""
    found = {}
    for entry in record.stages:
        if entry.key and entry.name != "report" and entry.state in ("ran", "cached", "failed"):
            folder = Store(data_dir).folder(entry.name, entry.key)
            try:
                found[entry.name] = Artifact(folder, read_manifest(folder))
            except (OSError, ValueError):
                continue
    return found


def _write(page: str, record: RunRecord, data_dir: Path) -> Path:
    """Fill in what belongs to the run, and replace the file in one step."""
    from tasks.report.run_page import run_page
    from tasks.report.task import TEMPLATE

    path = report_path(record.run_id, data_dir)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_suffix(f".{os.getpid()}.tmp")
    temporary.write_text(run_page(page, record.to_dict(), data_dir, TEMPLATE), "utf-8")
    temporary.replace(path)
    return path
