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
from tasks.artifact import Artifact, Store, locked
from tasks.code import CodeDigests
from tasks.kernels.checkpoints import clear_checkpoints
from tasks.key import key_of, key_parts, parents, row_artifact
from tasks.reasons import why_cached, why_depends, why_run, why_skipped
from tasks.scores import are_known, scores_of

if TYPE_CHECKING:
    from tasks.gates.verdict import Verdict as GateVerdict
    from tasks.stage import Stage

LOG = logging.getLogger("winnow")
MEANWHILE = "another run made it meanwhile"


@dataclass(frozen=True)
class Verdict:
    """What would happen to a stage: run, cached, depends or skipped, why, and under which key.

    Attributes:
        parts: what the key is made of.
        modules: module → digest of the stage's code in it.
        inputs: the artifacts that the stage reads.
    """

    name: str
    verdict: str
    reason: str
    key: str | None = None
    artifact: Artifact | None = None
    parts: Mapping[str, Any] = field(default_factory=dict)
    modules: Mapping[str, str] = field(default_factory=dict)
    inputs: tuple[Artifact, ...] = ()


@dataclass
class Workspace:
    """What the stages of one run share.

    Attributes:
        upstream: what has been published so far, by stage.
        previous: stage → key in the run before, to say what changed.
        force: stages that run although they are cached.
        taken: stages that another run made while this one waited to make them.
    """

    config: Config
    data_dir: Path
    store: Store
    upstream: dict[str, Artifact] = field(default_factory=dict)
    previous: Mapping[str, str] = field(default_factory=dict)
    force: frozenset[str] = frozenset()
    taken: set[str] = field(default_factory=set)

    @cached_property
    def codes(self) -> CodeDigests:
        """Code digests of the stages."""
        return CodeDigests(self.data_dir)


def examine(stage: "Stage", work: Workspace, blocked: str = "") -> Verdict:
    """What would happen to a stage now.

    Args:
        blocked: the first stage above that has to run before; empty: none.
    """
    name, section = stage.name, work.config.section(stage.name)
    if section is None:
        return Verdict(name, "skipped", why_skipped(name, work))
    if blocked:
        return Verdict(name, "depends", why_depends(name, blocked, work))
    references = stage.references(section, work.config, work.data_dir) if stage.references else {}
    inputs = tuple(parents(name, work.upstream))
    code = work.codes.code((stage.run.__module__, stage.run.__name__))
    parts = key_parts(name, code.digest, stage.libraries, references, work.config, list(inputs))
    key = key_of(parts)
    found = None if name in work.force else work.store.find(name, key, LOG.warning)
    if found is not None:
        return Verdict(name, "cached", why_cached(name, found, work), key, found, parts, code.modules, inputs)
    verdict = Verdict(
        name, "run", why_run(name, parts, code.modules, inputs, work), key, None, parts, code.modules, inputs
    )
    if are_known(stage, verdict, work):
        return replace(verdict, reason=f"{verdict.reason}; its scores are known")
    return verdict


def produce(stage: "Stage", verdict: Verdict, work: Workspace) -> Artifact:
    """Run a stage and publish its artifact; a second run that wants the same waits, takes it and notes that."""
    assert verdict.key is not None
    folder = work.data_dir / "work" / stage.name / verdict.key
    with locked(folder):
        if stage.name not in work.force:
            found = work.store.find(stage.name, verdict.key)
            if found is not None:
                work.taken.add(stage.name)
                return found
        artifact = work.store.publish(stage.name, verdict.key, lambda out: _fill(stage, verdict, work, out, folder))
        clear_checkpoints(folder)
        return artifact


def judge_gate(stage: str, artifact: Artifact, work: Workspace, run_id: str = "") -> "GateVerdict":
    """Hold an artifact's facts against the bounds of its stage; done in every run (`run_id`), cached or not."""
    from tasks.gates.bounds import Subject
    from tasks.gates.judge import judge
    from tasks.gates.reference import find_reference

    section = work.config.section(stage)
    assert section is not None
    manifest = artifact.manifest
    reference = find_reference(artifact, work.config, work.data_dir) if stage in DATA_STAGES else None
    subject = Subject(stage, manifest["rows"], manifest["facts"], manifest["metrics"], artifact, reference, run_id)
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
        "modules": dict(verdict.modules),
        "parents": [{"stage": a.stage, "key": a.key, "digest": a.digest} for a in verdict.inputs],
        "versions": verdict.parts["versions"],
        "references": verdict.parts["references"],
        "rows": rows,
        "facts": facts,
        "metrics": metrics,
    }


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
