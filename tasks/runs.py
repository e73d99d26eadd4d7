"""The run record: `data/runs/<run_id>.json`, written at start and replaced atomically after each stage."""

import json
import os
import secrets
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from pipeline_config.errors import ConfigError
from tasks.kernels.digests import json_digest


@dataclass
class StageRecord:
    """One stage of a run; `state` is pending, ran, cached, skipped or failed."""

    name: str
    key: str | None = None
    state: str = "pending"
    seconds: float | None = None
    reason: str = ""
    gate: dict[str, Any] | None = None


@dataclass
class RunRecord:
    """What happened in a run, in the order of the stages."""

    run_id: str
    config: dict[str, Any]
    overrides: list[str]
    sources: list[dict[str, Any]]
    stages: list[StageRecord]
    parent_run_id: str | None = None
    status: str = "running"
    pid: int = field(default_factory=os.getpid)
    metrics: dict[str, float] = field(default_factory=dict)
    error: dict[str, str] | None = None

    def stage(self, name: str) -> StageRecord:
        """The record of one stage."""
        return next(record for record in self.stages if record.name == name)

    def to_dict(self) -> dict[str, Any]:
        """As it is written."""
        return asdict(self)

    def save(self, data_dir: Path) -> Path:
        """Replace the file in one step."""
        folder = data_dir / "runs"
        folder.mkdir(parents=True, exist_ok=True)
        path = folder / f"{self.run_id}.json"
        temporary = folder / f".{self.run_id}.{os.getpid()}.tmp"
        with temporary.open("w", encoding="utf-8") as stream:
            json.dump(self.to_dict(), stream, ensure_ascii=False, indent=1)
            stream.flush()
            os.fsync(stream.fileno())
        temporary.replace(path)
        return path


def new_run_id() -> str:
    """`YYYYMMDDTHHMMSS-xxxx`, UTC."""
    return f"{datetime.now(UTC):%Y%m%dT%H%M%S}-{secrets.token_hex(2)}"


def read_run(data_dir: Path, wanted: str | None = None) -> RunRecord:
    """A run by id or prefix; the latest by default.

    Raises:
        ConfigError: there is none, or the prefix means several.
    """
    names = run_ids(data_dir)
    matching = [name for name in names if wanted is None or name.startswith(wanted)]
    if not matching:
        known = f"runs: {', '.join(names[-5:])}" if names else "run `winnow run` first"
        raise ConfigError(f"there is no run {wanted or ''}".rstrip(), place="RUN", cure=known)
    if wanted is not None and len(matching) > 1 and wanted not in matching:
        raise ConfigError(
            f"{wanted!r} means {len(matching)} runs", place="RUN", cure=f"one of {', '.join(matching[-5:])}"
        )
    name = wanted if wanted in matching else matching[-1]
    values = json.loads((data_dir / "runs" / f"{name}.json").read_text("utf-8"))
    values["stages"] = [StageRecord(**record) for record in values["stages"]]
    return RunRecord(**values)


def run_ids(data_dir: Path) -> list[str]:
    """Every run, oldest first."""
    return sorted(path.stem for path in (data_dir / "runs").glob("*.json"))


def source_records(config: Any, digests: dict[str, str]) -> list[dict[str, Any]]:
    """`sources` of the run record: the only place where their paths stand."""
    return [
        {"name": s.name, "path": s.path or s.dataset, "sha256": digests.get(s.name, json_digest(s.name))}
        for s in config.ingest.sources
    ]
