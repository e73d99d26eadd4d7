"""One stage of one run, without Prefect: look it up, or make it; then judge its gate.

A stage is *cached* if the artifact of its key is there and verified, *run* otherwise, *depends* when a stage above
must run first so that its inputs are not known yet.
"""

import logging
import time
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline_config.errors import StageError
from pipeline_config.schema import DATA_STAGES, Config
from tasks.artifact import Artifact, Store, locked, read_manifest
from tasks.code import CodeDigests
from tasks.kernels.checkpoints import clear_checkpoints
from tasks.key import key_of, key_parts, parents, row_artifact
from tasks.scores import scores_of

if TYPE_CHECKING:
    from tasks.gates.verdict import Verdict as GateVerdict
    from tasks.stage import Stage

LOG = logging.getLogger("winnow")


@dataclass(frozen=True)
class Verdict:
    """What would happen to a stage: run, cached, depends or skipped, why, and under which key."""

    name: str
    verdict: str
    reason: str
    key: str | None = None
    artifact: Artifact | None = None
    parts: Mapping[str, Any] = field(default_factory=dict)
    inputs: tuple[Artifact, ...] = ()


@dataclass
class Workspace:
    """What the stages of one run share.

    Attributes:
        upstream: what has been published so far, by stage.
        previous: stage → key in the run before, to say what changed.
        force: stages that run although they are cached.
    """

    config: Config
    data_dir: Path
    store: Store
    upstream: dict[str, Artifact] = field(default_factory=dict)
    previous: Mapping[str, str] = field(default_factory=dict)
    force: frozenset[str] = frozenset()

    @cached_property
    def codes(self) -> CodeDigests:
        """Code digests of the stages."""
        return CodeDigests(self.data_dir)


def examine(stage: "Stage", work: Workspace, blocked: bool = False) -> Verdict:
    """What would happen to a stage now.

    Args:
        blocked: a stage above has to run first.
    """
    section = work.config.section(stage.name)
    if section is None:
        return Verdict(stage.name, "skipped", "no section in the configuration")
    if blocked:
        return Verdict(stage.name, "depends", "a stage above runs first")
    references = stage.references(section, work.config, work.data_dir) if stage.references else {}
    inputs = parents(stage.name, work.upstream)
    code = work.codes.of((stage.run.__module__, stage.run.__name__))
    parts = key_parts(stage.name, code, stage.libraries, references, work.config, inputs)
    key = key_of(parts)
    artifact = None
    if stage.name not in work.force:
        artifact = work.store.find(stage.name, key, LOG.warning)
    if artifact is not None:
        return Verdict(stage.name, "cached", "same inputs, configuration and code", key, artifact, parts, tuple(inputs))
    reason = "forced" if stage.name in work.force else _what_changed(stage.name, parts, work)
    return Verdict(stage.name, "run", reason, key, None, parts, tuple(inputs))


def produce(stage: "Stage", verdict: Verdict, work: Workspace) -> Artifact:
    """Run a stage and publish its artifact; a second run that wants the same waits and takes it."""
    assert verdict.key is not None
    folder = work.data_dir / "work" / stage.name / verdict.key
    with locked(folder):
        if stage.name not in work.force:
            found = work.store.find(stage.name, verdict.key)
            if found is not None:
                return found
        artifact = work.store.publish(stage.name, verdict.key, lambda out: _fill(stage, verdict, work, out, folder))
        clear_checkpoints(folder)
        return artifact


def judge_gate(stage: str, artifact: Artifact, work: Workspace) -> "GateVerdict":
    """Hold an artifact's facts against the bounds of its stage; done in every run, cached or not."""
    from tasks.gates.bounds import Subject
    from tasks.gates.judge import judge
    from tasks.gates.reference import find_reference

    section = work.config.section(stage)
    assert section is not None
    manifest = artifact.manifest
    reference = find_reference(artifact, work.config, work.data_dir) if stage in DATA_STAGES else None
    subject = Subject(stage, manifest["rows"], manifest["facts"], manifest["metrics"], artifact, reference)
    return judge(subject, section.gate, work.data_dir)


def _fill(stage: "Stage", verdict: Verdict, work: Workspace, out: Path, folder: Path) -> dict[str, Any]:
    """Run the stage's function, write its files into `out`, and give the manifest."""
    import polars as pl

    from tasks.apply import write_decision
    from tasks.gates.finite import finite_manifest
    from tasks.ledger import Decision
    from tasks.stage import StageInput

    started = time.perf_counter()
    _reset_peak_memory()
    section = work.config.section(stage.name)
    before = row_artifact(stage.name, work.upstream)
    given: StageInput[Any] = StageInput(
        config=section,
        run=work.config,
        seed=work.config.stage_seed(stage.name),
        rows=before.rows() if before is not None else pl.LazyFrame(),
        scores=None,
        upstream=dict(work.upstream),
        out=out,
        work=folder,
        data_dir=work.data_dir,
    )
    if stage.score is not None:
        given = replace(given, scores=scores_of(stage, verdict, work, given))
    result = stage.run(given)
    rows: dict[str, Any] = {"in": 0, "out": 0, "removed": {}, "changed": {}, "added": {}, "quarantined": {}}
    facts = dict(result.facts)
    if isinstance(result, Decision):
        rows, more = write_decision(stage.name, result, before, out)
        facts |= more
    elif stage.name in DATA_STAGES:
        raise StageError(f"{stage.name} gave no Decision", place=stage.name)
    metrics, facts = finite_manifest(result.metrics, facts)
    return {
        "stage": stage.name,
        "key": verdict.key,
        "format": verdict.parts["format"],
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "seconds": round(time.perf_counter() - started, 3),
        "peak_rss_mb": _peak_memory_mb(),
        "config": verdict.parts["config"],
        "code": verdict.parts["code"],
        "parents": [{"stage": a.stage, "key": a.key, "digest": a.digest} for a in verdict.inputs],
        "versions": verdict.parts["versions"],
        "references": verdict.parts["references"],
        "rows": rows,
        "facts": facts,
        "metrics": metrics,
    }


def _what_changed(stage: str, parts: Mapping[str, Any], work: Workspace) -> str:
    """What differs from the artifact that the run before used, in words."""
    old_key = work.previous.get(stage)
    if old_key is None:
        return "not run before"
    try:
        old = read_manifest(work.store.folder(stage, old_key))
    except (OSError, ValueError):
        return "its last artifact is gone"
    if old.get("key") == key_of(dict(parts)):
        return "its artifact is damaged"
    words = _differences(old["config"], parts["config"])
    words += [f"{what} changed" for what in _changed_names(old["references"], parts["references"])]
    words += _differences(old["versions"], parts["versions"])
    if old["code"] != parts["code"]:
        words.append("its code changed")
    if old["format"] != parts["format"]:
        words.append("the artifact format changed")
    if stage != "report" and [p["digest"] for p in old["parents"]] != list(parts["inputs"]):
        words.append("its input changed")
    return ", ".join(words) or "its input changed"


def _changed_names(old: Mapping[str, Any], new: Mapping[str, Any]) -> list[str]:
    return [name for name in sorted({*old, *new}) if old.get(name) != new.get(name)]


def _differences(old: Any, new: Any, path: str = "") -> list[str]:
    """`a.b 0.7 -> 0.8` for every leaf that differs."""
    if isinstance(old, dict) and isinstance(new, dict):
        found: list[str] = []
        for name in sorted({*old, *new}):
            found += _differences(old.get(name), new.get(name), f"{path}.{name}" if path else str(name))
        return found
    if isinstance(old, list) and isinstance(new, list):
        if len(old) != len(new):
            return [f"{path} {len(old)} entries -> {len(new)} entries"]
        return [
            word for i, pair in enumerate(zip(old, new, strict=True)) for word in _differences(*pair, f"{path}.{i}")
        ]
    return [] if old == new else [f"{path} {old} -> {new}"]


def _reset_peak_memory() -> None:
    try:
        Path("/proc/self/clear_refs").write_text("5")
    except OSError:
        return


def _peak_memory_mb() -> float:
    """Peak resident memory since the reset, in MB; the process's whole peak where the reset can't be had."""
    try:
        for line in Path("/proc/self/status").read_text().splitlines():
            if line.startswith("VmHWM:"):
                return round(int(line.split()[1]) / 1024, 1)
    except OSError:
        pass
    import resource

    return round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024, 1)
