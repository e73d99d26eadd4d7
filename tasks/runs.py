"""The run record: `data/runs/<run_id>.json`, written at start and replaced atomically after each stage.

A record that says *running* while no living process holds its run (`presence.py`) is of one that was killed; the next
run writes that into it.
"""

import contextlib
import itertools
import json
import os
import re
import shlex
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from pipeline_config.errors import ArtifactError, ConfigError
from tasks.kernels.digests import json_digest
from tasks.kernels.durable import write_whole
from tasks.key import default_folder
from tasks.presence import is_running

_DIED = "its process died (killed, out of memory, or the machine stopped)"
_SECOND = "%Y%m%dT%H%M%S"
_ID = re.compile(r"\d{8}T\d{6}-[0-9a-f]{4}")


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
    """What happened in a run, in the order of the stages.

    Attributes:
        config: as resolved, every default included and paths absolute: enough to go on without the YAML.
        config_name: the recipe, or the absolute path of the YAML file.
        config_digest: of what that file and its ancestors said, overrides left out.
        selection: the bounds and forced stages that were asked for.
        parent_run_id: the run that this one goes on with.
        study: the cross-validation or search that this run is a part of.
        seconds: since the start, when the record was last written.
        error: why it did not finish (`type, message, place, cure`), and `resume`: the command that goes on with it.
    """

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
    config_name: str = ""
    config_digest: str = ""
    selection: dict[str, Any] = field(default_factory=dict)
    seconds: float = 0.0
    flow_run_id: str | None = None
    study: str | None = None

    def stage(self, name: str) -> StageRecord:
        """The record of one stage."""
        return next(record for record in self.stages if record.name == name)

    def to_dict(self) -> dict[str, Any]:
        """As it is written."""
        return asdict(self)

    def save(self, data_dir: Path) -> Path:
        """Replace the file in one step.

        Raises:
            ArtifactError: it can't be written (disk full).
        """
        path = data_dir / "runs" / f"{self.run_id}.json"
        try:
            write_whole(path, json.dumps(self.to_dict(), ensure_ascii=False, indent=1))
        except OSError as error:
            raise ArtifactError(
                f"the run record can't be written: {error.strerror or error}",
                place=str(path),
                cure=f"free some space, then type: {resume_command(self.run_id, data_dir)}",
            ) from error
        return path


def new_run_id(data_dir: Path | None = None) -> str:
    """`YYYYMMDDTHHMMSS-xxxx`, UTC; the last part counts 65,536ths of the second, so that ids sort as runs began.

    Args:
        data_dir: the new id is later than every one there, even where the clock was set back since.
    """
    now = datetime.now(UTC)
    new = f"{now:%Y%m%dT%H%M%S}-{now.microsecond * 65_536 // 1_000_000:04x}"
    known = [name for name in run_ids(data_dir) if _ID.fullmatch(name)] if data_dir else []
    return new if not known or new > known[-1] else _after(known[-1])


def read_run(data_dir: Path, wanted: str | None = None) -> RunRecord:
    """A run by id or prefix, or `latest`, `latest~1` (the one before) and so on; the latest by default.

    The runs of a search or cross-validation are not counted there, unless there are no others.

    Raises:
        ConfigError: there is none, the prefix means several, or its record can't be read.
    """
    names = run_ids(data_dir)
    back = re.fullmatch(r"latest(?:~(\d+))?", wanted or "latest")
    if back:
        matching = _latest(data_dir, names, int(back[1] or 0))
    else:
        matching = [name for name in names if name == wanted] or [n for n in names if n.startswith(str(wanted))]
    if not matching:
        known = f"runs: {', '.join(names[-5:])}" if names else "type: winnow run"
        raise ConfigError(f"there is no run {wanted or ''}".rstrip(), place="RUN", cure=known)
    if len(matching) > 1:
        raise ConfigError(
            f"{wanted!r} means {len(matching)} runs", place="RUN", cure=f"one of {', '.join(matching[-5:])}"
        )
    try:
        values = json.loads((data_dir / "runs" / f"{matching[0]}.json").read_text("utf-8"))
        stages = [StageRecord(**_known(StageRecord, record)) for record in values["stages"]]
        return RunRecord(**_known(RunRecord, values) | {"stages": stages})
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ConfigError(
            f"the record of run {matching[0]} can't be read ({type(error).__name__})",
            place=f"runs/{matching[0]}.json",
            cure=f"name another run ({command_in(data_dir, 'winnow', 'status')} lists them), or remove that file",
        ) from None


def _latest(data_dir: Path, names: list[str], back: int) -> list[str]:
    """The run that so many are newer than, of those that belong to no study; as a list of one, or none."""
    own = (name for name in reversed(names) if not _study_of(data_dir, name))
    found = list(itertools.islice(own, back + 1))
    return found[back:] if found else names[: len(names) - back][-1:]


def _study_of(data_dir: Path, name: str) -> str | None:
    try:
        study: str | None = json.loads((data_dir / "runs" / f"{name}.json").read_text("utf-8")).get("study")
    except (OSError, ValueError, AttributeError):
        return None  # whoever asks for it is told
    return study


def settle_dead_runs(data_dir: Path) -> None:
    """Write it into the records of runs whose process was killed, so that none says *running* for ever."""
    for lock in (data_dir / "runs").glob(".*.lock"):
        run_id = lock.name.removeprefix(".").removesuffix(".lock")
        if run_id not in run_ids(data_dir) or is_running(data_dir, run_id):
            continue
        with contextlib.suppress(ConfigError):  # a record that can't be read is left as it is
            record = read_run(data_dir, run_id)  # only now: it may have come to its end before the look at its lock
            if record.status == "running":
                _mark_dead(record, data_dir)
                record.save(data_dir)
            lock.unlink(missing_ok=True)


def resume_command(run_id: str, data_dir: Path) -> str:
    """What to type to go on with a run."""
    return command_in(data_dir, "winnow", "resume", run_id)


def explain_command(row_id: str, run_id: str, data_dir: Path) -> str:
    """What to type to read a row's life in a run, whichever run is the newest by then."""
    return command_in(data_dir, "winnow", "explain", row_id, *([run_id] if run_id else []))


def command_in(data_dir: Path, *words: str) -> str:
    """A command as one can paste it, with `--data-dir` where the folder is not the one taken by default."""
    return shlex.join(words if default_folder() == data_dir else [*words, "--data-dir", str(data_dir)])


def run_ids(data_dir: Path) -> list[str]:
    """Every run, oldest first."""
    return sorted(path.stem for path in (data_dir / "runs").glob("*.json"))


def source_records(config: Any, digests: dict[str, str]) -> list[dict[str, Any]]:
    """`sources` of the run record: the only place where their paths stand."""
    return [
        {"name": s.name, "path": s.path or s.dataset, "sha256": digests.get(s.name, json_digest(s.name))}
        for s in config.ingest.sources
    ]


def _mark_dead(record: RunRecord, data_dir: Path) -> None:
    place = ""
    for stage in record.stages:
        if stage.state == "pending" and stage.reason == "running":
            stage.state, stage.reason, place = "failed", _DIED, stage.name
    record.status = "failed"
    command = resume_command(record.run_id, data_dir)
    error = {"type": "StageError", "message": _DIED, "place": place, "cure": f"type: {command}"}
    record.error = error | {"resume": command}


def _after(run_id: str) -> str:
    """The next id: one 65,536th of a second later."""
    second, part = datetime.strptime(run_id[:15], _SECOND), int(run_id[16:], 16) + 1
    return f"{second + timedelta(seconds=part >> 16):{_SECOND}}-{part & 0xFFFF:04x}"


def _known(kind: type, values: dict[str, Any]) -> dict[str, Any]:
    """Only what this version knows: a record of a later one can still be read."""
    return {name: value for name, value in values.items() if name in kind.__dataclass_fields__}  # type: ignore[attr-defined]
