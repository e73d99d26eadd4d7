"""Several runs that belong together: the folds of a cross-validation, the trials of a search.

Each is an ordinary run with overrides of its own, so that what they share is computed once and taken from the cache.
What they are together is kept in `data/studies/<study_id>.json`, replaced after each of them.
"""

import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from flows.planner import preflight
from pipeline_config.errors import ArtifactError, ConfigError
from pipeline_config.load import full_name, load_config
from tasks.kernels.durable import write_whole
from tasks.runs import new_run_id, read_run

Starter = Callable[..., None]


@dataclass
class Part:
    """One run of a study.

    Attributes:
        name: `fold 0`, `trial 3`.
        overrides: beyond the study's own.
        status: pending, running, done, failed or interrupted.
        error: why it failed (`type, message, place, cure`).
    """

    name: str
    overrides: list[str]
    run_id: str | None = None
    status: str = "pending"
    seconds: float = 0.0
    metrics: dict[str, float] = field(default_factory=dict)
    error: dict[str, str] | None = None


@dataclass
class Study:
    """Runs that belong together.

    Attributes:
        kind: crossvalidate or search.
        settings: what else was asked for.
        summary: what they say together, filled in at the end.
    """

    study_id: str
    kind: str
    config_name: str
    overrides: list[str]
    settings: dict[str, Any]
    parts: list[Part]
    status: str = "running"
    summary: dict[str, Any] = field(default_factory=dict)

    @classmethod
    def begin(
        cls, kind: str, name: str, overrides: Sequence[str], settings: dict[str, Any], parts: list[Part], data_dir: Path
    ) -> "Study":
        """A new study; its id is of a run's form, and earlier than those of its runs."""
        study = cls(new_run_id(data_dir), kind, full_name(name), list(overrides), settings, parts)
        study.save(data_dir)
        return study

    def path(self, data_dir: Path) -> Path:
        """Where it is kept."""
        return data_dir / "studies" / f"{self.study_id}.json"

    def save(self, data_dir: Path) -> None:
        """Replace the file in one step.

        Raises:
            ArtifactError: it can't be written (disk full).
        """
        path = self.path(data_dir)
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            write_whole(path, json.dumps(asdict(self), ensure_ascii=False, indent=1))
        except OSError as error:
            raise ArtifactError(
                f"the record of the study can't be written: {error.strerror or error}",
                place=str(path),
                cure="free some space; the same command goes on from the cache",
            ) from error

    def run(self, part: Part, start: Starter, data_dir: Path) -> None:
        """Run one part, and keep how it went.

        Args:
            start: runs the flow.

        Raises:
            KeyboardInterrupt, SystemExit: it was interrupted; that is in the record.
        """
        part.run_id, part.status = new_run_id(data_dir), "running"
        self.save(data_dir)
        given = {"config": self.config_name, "overrides": [*self.overrides, *part.overrides]}
        try:
            start(**given, data_dir=str(data_dir), run_id=part.run_id, study=self.study_id)
            self._look(part, data_dir)
            if part.status == "interrupted":
                raise KeyboardInterrupt
        except (KeyboardInterrupt, SystemExit):
            part.status = self.status = "interrupted"
            raise
        finally:
            self.save(data_dir)

    def close(self, summary: dict[str, Any], data_dir: Path) -> bool:
        """Keep what the parts say together.

        Returns:
            whether it ended by itself or was interrupted; False: by an error, which the command tells.
        """
        was_ended = self.status != "running"
        if not was_ended:
            self.status = "failed"
        self.summary = summary
        self.save(data_dir)
        return was_ended

    def _look(self, part: Part, data_dir: Path) -> None:
        """Take over what the run's record says."""
        try:
            record = read_run(data_dir, part.run_id)
        except ConfigError:  # it ended before it had a record
            part.status, part.error = "failed", {"message": "it did not begin; see the log above", "place": ""}
            return
        part.status, part.seconds, part.error = record.status, record.seconds, record.error
        part.metrics = dict(record.metrics)


def check_part(name: str, overrides: Sequence[str], data_dir: Path) -> None:
    """Find what is wrong with a part before any of them runs (exit 2).

    Raises:
        ConfigError, SourceError, ModelError: as a run would.
    """
    preflight(load_config(name, tuple(overrides)), data_dir)
