"""One run: steps through the stages, keeps the run record true at every moment, and says how it went."""

import logging
import time
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from types import TracebackType

from flows.dashboard import ProgressShown, draw_run, draw_stage, outcome
from flows.flow_run import stopped_by_signal
from flows.gate_page import settle
from flows.planner import Selection, check_forced, load_stage, preflight, workspace
from flows.resume import recorded_config, remaining_selection, run_command, unfinished_run, written_digest
from flows.run_report import report_path, write_report
from pipeline_config.errors import ConfigError, WinnowError
from pipeline_config.load import full_name, load_config
from pipeline_config.schema import STAGES, Config
from tasks.execute import LOG, MEANWHILE, Workspace, examine, judge_gate, produce
from tasks.kernels.progress import watched
from tasks.key import data_folder
from tasks.presence import Presence, noting
from tasks.runs import RunRecord, StageRecord, new_run_id, resume_command, settle_dead_runs, source_records
from tasks.stage import Stage, run_as_task


class Runner:
    """A run in progress."""

    def __init__(self, work: Workspace, record: RunRecord, selection: Selection, presence: Presence) -> None:
        self.work = work
        self.record = record
        self.selection = selection
        self.presence = presence
        self.started = time.perf_counter()
        self.error: WinnowError | None = None

    @classmethod
    def open(
        cls,
        config: str,
        overrides: list[str] | None = None,
        data_dir: str | None = None,
        *,
        from_stage: str | None = None,
        until: str | None = None,
        only: str | None = None,
        force: Sequence[str] | None = None,
        run_id: str | None = None,
        resume: str | None = None,
        verify: bool = False,
        study: str | None = None,
    ) -> "Runner":
        """Load and check everything that can be checked before the first stage, and write the run record.

        Args:
            study: the cross-validation or search that the run is a part of.
            resume: a run whose recorded configuration stands in for `config`, and its bounds where none are given.
        """
        folder = data_folder(data_dir)
        selection = Selection(from_stage, until, only, tuple(force or ()), verify)
        selection.check()
        origin = None if resume is None else unfinished_run(folder, resume)
        if origin is None:
            loaded = load_config(config, tuple(overrides or ()))
        else:
            loaded = recorded_config(origin, overrides or ())
            bounded = replace(selection, verify=False) != Selection()
            selection = selection if bounded else remaining_selection(origin, verify=verify)
        preflight(loaded, folder)
        record = RunRecord(
            run_id=run_id or new_run_id(folder),
            config=_shown_config(loaded),
            overrides=[*([] if origin is None else origin.overrides), *(overrides or ())],
            sources=source_records(loaded, _source_digests(loaded, folder)),
            stages=[StageRecord(name) for name in STAGES],
            parent_run_id=None if origin is None else origin.run_id,
            config_name=full_name(config) if origin is None else origin.config_name,
            config_digest=written_digest(config) if origin is None else origin.config_digest,
            selection=asdict(selection),
            study=study,
        )
        if origin is None:
            check_forced(selection, loaded, run_command(record, folder))
        presence = Presence(folder, record.run_id)
        record.save(folder)
        settle_dead_runs(folder)
        work = workspace(loaded, folder, selection.force, verify=selection.verify)
        work.store.sweep()
        return cls(work, record, selection, presence)

    def __enter__(self) -> "Runner":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if stopped_by_signal(kind):
            self.record.status = "interrupted"
        elif kind is not None or self.error is not None:
            self.record.status = "failed"
        else:
            self.record.status = "done"
        for stage in self.record.stages:
            if stage.state == "pending" and self.record.status != "done" and stage.reason == "running":
                stage.state, stage.reason = (
                    "failed",
                    "interrupted" if self.record.status == "interrupted" else "crashed",
                )
        if self.record.status != "done":
            told = self.record.error or _unexpected(self.record, kind)
            self.record.error = told | {"resume": resume_command(self.record.run_id, self.work.data_dir)}
        self._save()
        self._write_report()
        self.work.store.digests.save()
        self.presence.leave()

    def step(self, stage: Stage) -> None:
        """Take one stage: skipped, cached, run, or failed. After a failure the rest stays pending."""
        if self.error is not None:
            return
        entry = self.record.stage(stage.name)
        outside = STAGES.index(stage.name) > self.selection.last
        if outside or self.work.config.section(stage.name) is None:
            entry.state, entry.reason = (
                "skipped",
                self.selection.below if outside else "no section in the configuration",
            )
            self._save()
            return
        try:
            run_as_task(stage.name, lambda: self._take(stage, entry))
        except WinnowError as error:
            self.error = error
            entry.state, entry.reason = "failed", error.message
            self.record.error = error.to_dict()
        self._save()

    def summary(self) -> str:
        """One line for the state that Prefect shows."""
        states = [stage.state for stage in self.record.stages]
        if self.error is not None:
            return self.error.message
        return f"{states.count('ran')} stages ran, {states.count('cached')} cached (run {self.record.run_id})"

    def _take(self, stage: Stage, entry: StageRecord) -> StageRecord:
        started = time.perf_counter()
        entry.reason = "running"
        with noting(self.work.data_dir):
            verdict = examine(stage, self.work)
            entry.key = verdict.key
            self._save()
        artifact, reason, ran = verdict.artifact, verdict.reason, False
        if artifact is None:
            if not self.selection.may_run(stage.name):
                raise ConfigError(
                    f"{stage.name} is not cached ({verdict.reason})",
                    place="--from/--only",
                    cure=f"type: {run_command(self.record, self.work.data_dir)} --until {stage.name}",
                )
            LOG.info("%s: %s", stage.name, verdict.reason)
            with watched(ProgressShown(stage.name)):
                artifact = produce(stage, verdict, self.work)
            ran = stage.name not in self.work.taken
            reason = reason if ran else MEANWHILE
            LOG.info("%s", outcome(artifact.manifest) if ran else f"{stage.name}: {reason}")
        self.work.upstream[stage.name] = artifact
        for name, value in artifact.manifest["metrics"].items():
            self.record.metrics[f"{stage.name}.{name}"] = value
        gate = judge_gate(stage.name, artifact, self.work, self.record.run_id)
        entry.gate = gate.to_dict()
        entry.seconds = round(time.perf_counter() - started, 3)
        entry.reason = reason
        settle(gate, self.work.data_dir)
        entry.state = "ran" if ran else "cached"
        if ran:
            draw_stage(artifact, reason)
        return entry

    def close(self) -> None:
        """Leave the lineage in the dashboard."""
        report = report_path(self.record.run_id, self.work.data_dir) if "report" in self.work.upstream else None
        draw_run(self.record, self.work.upstream, report, self.work.data_dir)

    def _save(self) -> None:
        self.record.seconds = round(time.perf_counter() - self.started, 3)
        self.record.save(self.work.data_dir)

    def _write_report(self) -> None:
        """The page of this run, behind the record: a run is no failure because its page can't be written."""
        try:
            write_report(self.record, self.work.data_dir)
        except Exception as error:
            LOG.warning("the report of this run can't be written: %s: %s", type(error).__name__, error)


def quiet_loggers() -> None:
    """Our own messages on standard error, once, without the server's."""
    logger = logging.getLogger("winnow")
    if not any(isinstance(handler, logging.StreamHandler) for handler in logger.handlers):
        handler = logging.StreamHandler()
        handler.setFormatter(logging.Formatter("%(message)s"))
        logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    logger.propagate = False


def _unexpected(record: RunRecord, kind: type[BaseException] | None) -> dict[str, str]:
    """An end that no stage told of: Ctrl-C, a crash. Its message may hold a row's text, so only its kind is kept."""
    stage = next((entry.name for entry in record.stages if entry.state == "failed"), "")
    if record.status == "interrupted":
        return {"type": "Interrupted", "message": "the run was interrupted", "place": stage, "cure": ""}
    name = "Error" if kind is None else kind.__name__
    cure = "the log has the details; please report it if it comes again"
    return {"type": name, "message": f"a stage crashed ({name})", "place": stage, "cure": cure}


def _shown_config(config: Config) -> dict[str, object]:
    return config.model_dump(mode="json", by_alias=True)


def _source_digests(config: Config, data_dir: Path) -> dict[str, str]:
    references = load_stage("ingest").references
    return references(config.ingest, config, data_dir) if references is not None else {}
