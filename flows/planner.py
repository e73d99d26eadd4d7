"""What a run would do: each stage's verdict, and the range of stages that was asked for."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path

from pipeline_config.errors import ConfigError, WinnowError
from pipeline_config.schema import STAGES, Config
from pipeline_config.suggest import did_you_mean
from tasks.artifact import Store
from tasks.execute import Verdict, Workspace, examine
from tasks.kernels.model_check import ModelKind, check_model
from tasks.runs import read_run, run_ids
from tasks.stage import Stage


@dataclass(frozen=True)
class Selection:
    """Which stages may run. None: no bound.

    Attributes:
        from_stage: everything above it must be cached.
        until: nothing below it is looked at.
        only: both at once.
        force: run although cached.
        verify: believe no artifact without reading all of it.
    """

    from_stage: str | None = None
    until: str | None = None
    only: str | None = None
    force: tuple[str, ...] = ()
    verify: bool = False

    def check(self) -> None:
        """Raise ConfigError for a stage that does not exist, or bounds that leave nothing."""
        for option, name in (("--from", self.from_stage), ("--until", self.until), ("--only", self.only)):
            check_stage(option, name)
        for name in self.force:
            check_stage("--force", name)
        if self.only and (self.from_stage or self.until):
            raise ConfigError("--only stands alone", place="--only", cure="leave out --from and --until")
        if self.first > self.last:
            raise ConfigError(
                f"{self.from_stage} comes after {self.until}", place="--from, --until", cure="swap the two stages"
            )

    @property
    def first(self) -> int:
        """Index of the first stage that may run."""
        name = self.only or self.from_stage
        return STAGES.index(name) if name else 0

    @property
    def last(self) -> int:
        """Index of the last stage that is looked at."""
        name = self.only or self.until
        return STAGES.index(name) if name else len(STAGES) - 1

    @property
    def below(self) -> str:
        """Why a stage behind the last one is left out."""
        return f"below {'--only' if self.only else '--until'} {STAGES[self.last]}"

    def side(self, stage: str) -> str:
        """Where a stage lies that may not run."""
        if STAGES.index(stage) > self.last:
            return self.below
        return f"above {'--only' if self.only else '--from'} {STAGES[self.first]}"

    def widened(self, command: str) -> str:
        """The command whose bounds let every forced stage run, and nothing be missing above it.

        Args:
            command: the run command without bounds.
        """
        last = max(self.last, *(STAGES.index(name) for name in self.force))
        words = [] if last == len(STAGES) - 1 else ["--until", STAGES[last]]
        for name in self.force:
            words += ["--force", name]
        return " ".join([command, *words, *(["--verify"] if self.verify else [])])

    def may_run(self, stage: str) -> bool:
        """Whether a stage may be computed."""
        return self.first <= STAGES.index(stage) <= self.last


def check_stage(option: str, name: str | None) -> None:
    """Raise ConfigError for a stage that does not exist; None is no stage."""
    if name is not None and name not in STAGES:
        raise ConfigError(
            f"there is no stage {name!r}{did_you_mean(name, STAGES)}", place=option, cure=f"stages: {', '.join(STAGES)}"
        )


def load_stage(name: str) -> Stage:
    """The declaration of one stage."""
    stage: Stage = getattr(import_module(f"tasks.{name}.task"), name)
    return stage


def workspace(config: Config, data_dir: Path, force: Iterable[str] = (), *, verify: bool = False) -> Workspace:
    """What the stages of a run share, before any of them ran."""
    store = Store(data_dir, verify)
    return Workspace(config, data_dir, store, previous=_previous_keys(data_dir), force=frozenset(force))


def preflight(config: Config, data_dir: Path) -> None:
    """Find missing sources and unusable models before anything runs (exit 2)."""
    for name, kind, place in _models(config):
        check_model(name, kind, place=place)
    for name in STAGES:
        section = config.section(name)
        if section is None:
            continue
        stage = load_stage(name)
        if stage.references is not None:
            stage.references(section, config, data_dir)


def make_plan(work: Workspace, selection: Selection) -> list[Verdict]:
    """Every stage's verdict, in order; stages outside the selection are skipped."""
    verdicts: list[Verdict] = []
    blocked = ""
    for name in STAGES:
        if STAGES.index(name) > selection.last:
            verdicts.append(Verdict(name, "skipped", selection.below))
            continue
        verdict = examine(load_stage(name), work, blocked)
        verdicts.append(verdict)
        if verdict.artifact is not None:
            work.upstream[name] = verdict.artifact
        blocked = blocked or (name if verdict.verdict == "run" else "")
    work.store.digests.save()
    return verdicts


def check_range(verdicts: list[Verdict], selection: Selection, command: str) -> None:
    """Raise ConfigError if a stage above the selection would have to run.

    Args:
        command: the run command without bounds, to say what to type.
    """
    for verdict in verdicts:
        above = STAGES.index(verdict.name) < selection.first
        if above and verdict.verdict in ("run", "depends"):
            raise ConfigError(
                f"{verdict.name} is not cached ({verdict.reason}), and --from and --only never run it",
                place=f"--from/--only {STAGES[selection.first]}",
                cure=f"type: {command} --until {STAGES[selection.first - 1]}",
            )


def check_forced(selection: Selection, config: Config, command: str) -> None:
    """Raise ConfigError for a forced stage that would not be run: without a section, or outside of the bounds.

    Args:
        command: the run command without bounds, to say what to type.
    """
    present = [name for name in STAGES if config.section(name) is not None]
    for name in selection.force:
        if name not in present:
            raise ConfigError(
                f"{name} has no section in this configuration, so it can't be forced{did_you_mean(name, present)}",
                place=f"--force {name}",
                cure=f"leave it out, or name a stage of this recipe: {', '.join(present)}",
            )
    for name in selection.force:
        if not selection.may_run(name):
            raise ConfigError(
                f"{name} lies {selection.side(name)}, where nothing is run, so it can't be forced",
                place=f"--force {name}",
                cure=f"leave out --force {name}, or type: {selection.widened(command)}",
            )


def _previous_keys(data_dir: Path) -> Mapping[str, str]:
    """Stage → key in the newest runs, so that a plan can say what changed since."""
    keys: dict[str, str] = {}
    for run_id in reversed(run_ids(data_dir)[-5:]):
        try:
            record = read_run(data_dir, run_id)
        except (WinnowError, OSError, ValueError, TypeError):
            continue
        for stage in record.stages:
            if stage.key and stage.state in ("ran", "cached"):
                keys.setdefault(stage.name, stage.key)
    return keys


def _models(config: Config) -> list[tuple[str, ModelKind, str]]:
    """Every model that a run will load: its name, what it must be, and the key that names it."""
    found: list[tuple[str, ModelKind, str]] = []
    if config.toxicity is not None and config.toxicity.model is not None:
        found.append((config.toxicity.model.model, "classifier", "toxicity.model.model"))
    if config.quality is not None:
        given = config.quality.models(config.model)
        found += [(name, kind, f"quality.{score}.model") for score, (name, kind) in given.items()]
    for name in ("tokenize", "train"):
        own = getattr(config.section(name), "model", None)
        if config.section(name) is not None:
            found.append((own, "causal", f"{name}.model") if own else (config.model, "causal", "model"))
    if config.train is not None and config.train.teacher is not None:
        found.append((config.train.teacher, "causal", "train.teacher"))
    if config.dedupe is not None and config.dedupe.semantic is not None:
        found.append((config.dedupe.semantic.encoder, "encoder", "dedupe.semantic.encoder"))
    if config.select is not None:
        found.append((config.select.encoder, "encoder", "select.encoder"))
    if config.evaluate is not None and "bertscore_f1" in config.evaluate.metrics:
        found.append((config.evaluate.encoder, "encoder", "evaluate.encoder"))
    return list(dict.fromkeys(found))
