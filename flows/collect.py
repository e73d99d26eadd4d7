"""`winnow gc`: keep what the newest runs use, give the rest of the disk back.

Kept are the records of the newest runs, of the newest that is done (failures since must not cost the last result) and
of every running one, the artifacts they name (and the text that a thin
decision points into), scores made from the same inputs, verdicts of their gates, and the work folders of stages they
did not finish. For a running run its plan is asked as well, so that what it is about to find in the cache stays.

What goes is renamed out of sight while no run may look anything up (`presence.collecting`), and deleted after. A run
that started in between finds all or nothing of an artifact, and computes what is gone. Converted models stay: no record
says who needs them. Files that are not recognised are left alone.
"""

import os
import re
import secrets
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from flows.overview import folder_bytes
from flows.planner import Selection, make_plan, workspace
from flows.resume import recorded_config
from pipeline_config.errors import ArtifactError, ConfigError, WinnowError
from pipeline_config.schema import STAGES
from tasks.artifact import Store, manifest_if_any
from tasks.gates.docs import data_docs_index, write_index
from tasks.kernels.durable import is_held
from tasks.presence import collecting, running
from tasks.runs import RunRecord, read_run, run_ids

_DIGEST = re.compile(r"[0-9a-f]{64}")
_RUN = re.compile(r"\d{8}T\d{6}-[0-9a-f]{4}")
_TRASH = ".collected-"
Key = tuple[str, str]  # stage, key


@dataclass(frozen=True)
class Item:
    """Something to give back.

    `kind`: run record, report, artifact, score table, gate verdict, work folder, temporary.
    """

    kind: str
    path: Path
    bytes: int


@dataclass
class Needs:
    """What the kept runs need.

    Attributes:
        runs: ids of the kept runs.
        running: those of them that a process works on.
        last_done: the newest run that is done, if it is kept although it is older than the newest ones.
        keys: the artifacts.
        unfinished: stages that a kept run may go on with.
        verdicts: digests of gates.
        busy: stages that a running run is at; nobody knows yet which scores they need.
    """

    runs: set[str] = field(default_factory=set)
    running: set[str] = field(default_factory=set)
    last_done: str | None = None
    keys: set[Key] = field(default_factory=set)
    unfinished: set[Key] = field(default_factory=set)
    verdicts: set[str] = field(default_factory=set)
    busy: set[str] = field(default_factory=set)


def collect(data_dir: Path, keep: int, *, dry_run: bool) -> tuple[list[Item], Needs]:
    """Remove what the newest runs do not use.

    Args:
        keep: how many of the newest runs keep everything, at least 1; running ones and the newest done one are kept
            beside them.
        dry_run: only say what would go.

    Returns:
        what went (or would go), and what it was judged by.

    Raises:
        ConfigError: fewer than one run is to be kept.
        ArtifactError: something can't be moved away.
    """
    if keep < 1:
        raise ConfigError(f"{keep} runs can't be kept", place="--keep", cure="keep at least one: --keep 1")
    if not (data_dir / "runs").is_dir():
        return [], Needs()
    expected = _expected(data_dir)
    with collecting(data_dir):
        needs = _needs(data_dir, keep)
        needs.keys |= expected
        needs.keys |= _texts(data_dir, needs.keys)
        items = [Item(kind, path, folder_bytes(path)) for kind, path in _doomed(data_dir, needs)]
        trash = None if dry_run else _moved_away(items, data_dir)
    if trash is not None:
        shutil.rmtree(trash, ignore_errors=True)
        if data_docs_index(data_dir) is not None:
            write_index(data_dir / "gates")
    return items, needs


def _needs(data_dir: Path, keep: int) -> Needs:
    needs = Needs()
    names = run_ids(data_dir)
    needs.running = running(data_dir)
    records = [record for name in names if (record := _readable(data_dir, name)) is not None]
    newest = {record.run_id for record in records if record.run_id not in needs.running}
    needs.runs = needs.running | set(sorted(newest)[-keep:]) | (set(names) - {record.run_id for record in records})
    last_done = max((record.run_id for record in records if record.status == "done"), default=None)
    if last_done is not None and last_done not in needs.runs:
        needs.last_done = last_done
        needs.runs.add(last_done)
    for record in records:
        if record.run_id not in needs.runs:
            continue
        for entry in record.stages:
            if entry.key is None:
                continue
            needs.keys.add((entry.name, entry.key))
            if entry.state in ("pending", "failed"):
                needs.unfinished.add((entry.name, entry.key))
                needs.busy |= {entry.name} if record.run_id in needs.running else set()
            digest = (entry.gate or {}).get("digest")
            needs.verdicts |= {str(digest)} if digest else set()
    return needs


def _expected(data_dir: Path) -> set[Key]:
    """What running runs are going to find in the cache, as far as their plans can tell."""
    found: set[Key] = set()
    for name in running(data_dir) & set(run_ids(data_dir)):
        record = _readable(data_dir, name)
        if record is None:
            continue
        try:
            verdicts = make_plan(workspace(recorded_config(record), data_dir), Selection())
        except (WinnowError, OSError):
            continue
        found |= {(verdict.name, verdict.key) for verdict in verdicts if verdict.artifact and verdict.key}
    return found


def _texts(data_dir: Path, keys: set[Key]) -> set[Key]:
    """The text artifacts that thin decisions point into; after an early cut-off another run may have written them.

    And what the batches of kept runs were held against, so that the next one can be held against all of them.
    """
    found: set[Key] = set()
    store = Store(data_dir)
    for stage, key in keys:
        folder = store.folder(stage, key)
        if (folder / "decision.parquet").exists():
            parents = manifest_if_any(folder).get("parents") or []
            found |= {(parents[-1]["stage"], parents[-1]["key"])} if parents else set()
        if stage == "dedupe":
            found |= {(stage, above["key"]) for above in manifest_if_any(folder).get("facts", {}).get("against", [])}
    return found


def _doomed(data_dir: Path, needs: Needs) -> Iterator[tuple[str, Path]]:
    """Everything that nobody needs; records first, so that a gc that is killed leaves no record without artifacts."""
    for name in run_ids(data_dir):
        if name not in needs.runs:
            yield "run record", data_dir / "runs" / f"{name}.json"
    for path in sorted((data_dir / "reports").glob("*")):
        if _RUN.fullmatch(path.name) and path.name not in needs.runs:
            yield "report", path
    used = [manifest_if_any(Store(data_dir).folder(*key)) for key in needs.keys]
    for stage in STAGES:
        for path in _folders(data_dir / "artifacts" / stage):
            if (stage, path.name) not in needs.keys:
                yield "artifact", path
        for path in _folders(data_dir / "artifacts" / stage / "scores"):
            if stage not in needs.busy and not any(_made_for(manifest_if_any(path), stage, other) for other in used):
                yield "score table", path
        for path in _folders(data_dir / "work" / stage):
            if (stage, path.name) not in needs.unfinished and not is_held(path / "lock"):
                yield "work folder", path
        for path in _folders(data_dir / "work" / stage / "scores"):
            if stage not in needs.busy and not is_held(path / "lock"):
                yield "work folder", path
    for path in sorted((data_dir / "gates").rglob("*")):
        if path.is_file() and _DIGEST.fullmatch(path.stem) and path.stem not in needs.verdicts and not needs.running:
            yield "gate verdict", path
    yield from (("temporary", path) for path in _leftovers(data_dir, needs))


def _stamp(path: Path) -> float | None:
    """When a file was last written; None if it has gone meanwhile."""
    try:
        return path.stat().st_mtime
    except OSError:
        return None


def _leftovers(data_dir: Path, needs: Needs) -> Iterator[Path]:
    """What killed processes left half-written; while a run is on, only its own starting point can tell old from new."""
    began = [stamp for name in needs.running if (stamp := _stamp(data_dir / "runs" / f".{name}.lock")) is not None]
    for pattern in (
        ".*.tmp*",
        "*.tmp",
        "artifacts/*/.*.tmp*",
        "artifacts/*/scores/.*.tmp*",
        "runs/.*.tmp*",
        "gates/*.tmp*",
        "gates/docs/**/.*.tmp",
    ):
        for path in sorted(data_dir.glob(pattern)):
            stamp = _stamp(path)
            if stamp is not None and (not began or stamp < min(began)):
                yield path
    for path in sorted((data_dir / "runs").glob(".*.lock")):
        name = path.name.removeprefix(".").removesuffix(".lock")
        if name != "collection" and name not in needs.running:
            yield path
    yield from sorted(data_dir.glob(f"{_TRASH}*"))


def _made_for(scores: Mapping[str, Any], stage: str, artifact: Mapping[str, Any]) -> bool:
    """Whether a stage's artifact was, or could have been, decided from these scores."""
    return (
        artifact.get("stage") == stage
        and scores.get("inputs") == [parent["digest"] for parent in artifact["parents"]]
        and _within(scores.get("references"), artifact["references"])
        and _within(scores.get("config"), artifact["config"])
    )


def _within(part: Any, whole: Any) -> bool:
    if isinstance(part, dict) and isinstance(whole, dict):
        return all(name in whole and _within(value, whole[name]) for name, value in part.items())
    return bool(part == whole)


def _moved_away(items: list[Item], data_dir: Path) -> Path:
    trash = data_dir / f"{_TRASH}{secrets.token_hex(4)}"
    trash.mkdir()
    for n, item in enumerate(items):
        try:
            item.path.rename(trash / str(n))
        except FileNotFoundError:
            continue
        except OSError as error:
            raise ArtifactError(
                f"it can't be removed: {error.strerror or error}",
                place=os.fspath(item.path),
                cure="make the data folder writable, then type the same command again",
            ) from error
    return trash


def _folders(parent: Path) -> list[Path]:
    return sorted(path for path in parent.glob("*") if _DIGEST.fullmatch(path.name) and path.is_dir())


def _readable(data_dir: Path, run_id: str) -> RunRecord | None:
    try:
        return read_run(data_dir, run_id)
    except ConfigError:
        return None
