"""The only file that turns a function into a Prefect task.

A stage is declared with `@stage`; `run_as_task` shows one step of a run to Prefect: a cached stage ends in the state
`Cached`, a failed one in `Failed` with the message and no traceback. Prefect's own result cache is not used, so that
two caches can't disagree.
"""

import traceback
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from pipeline_config.errors import WinnowError
from pipeline_config.fields import Section
from pipeline_config.schema import Config

if TYPE_CHECKING:
    import polars as pl

    from tasks.artifact import Artifact
    from tasks.ledger import Decision, Output
    from tasks.runs import StageRecord

S = TypeVar("S", bound=Section)


@dataclass(frozen=True)
class StageInput(Generic[S]):
    """What a stage is given.

    Attributes:
        config: the stage's section.
        run: the whole configuration.
        seed: the stage's seed.
        rows: rows of the previous data stage, in source order (an empty frame for ingest).
        scores: what `score` gave, if the stage has one.
        upstream: every artifact above, by stage.
        out: temporary folder; what a model stage writes there is published.
        work: folder kept across crashes for this key.
        data_dir: where artifacts, runs and converted models are.
    """

    config: S
    run: Config
    seed: int
    rows: "pl.LazyFrame"
    scores: "pl.DataFrame | None"
    upstream: "Mapping[str, Artifact]"
    out: Path
    work: Path
    data_dir: Path


@dataclass(frozen=True)
class Apart:
    """Further scores of a stage, under a key of their own, so that they and the others change without each other.

    Attributes:
        run: gives `row_id` and the scores, one line a row.
        fields: the only fields of the section that it reads. Of the references only those are its own whose names
            begin with the name that the scores are declared under; that is also the field that turns them on.
    """

    run: "Callable[[StageInput[Any]], pl.DataFrame]"
    fields: tuple[str, ...]


@dataclass(frozen=True)
class Stage:
    """A stage as declared: its function and what shapes its key."""

    name: str
    run: "Callable[[StageInput[Any]], Decision | Output]"
    libraries: tuple[str, ...]
    score: "Callable[[StageInput[Any]], pl.DataFrame] | None"
    references: Callable[[Any, Config, Path], dict[str, str]] | None
    reads: tuple[str, ...] = ()
    apart: Mapping[str, Apart] = field(default_factory=dict)


def stage(
    name: str,
    *,
    libraries: tuple[str, ...] = (),
    score: "Callable[[StageInput[Any]], pl.DataFrame] | None" = None,
    reads: tuple[str, ...] = (),
    apart: Mapping[str, Apart] | None = None,
    references: Callable[[Any, Config, Path], dict[str, str]] | None = None,
) -> "Callable[[Callable[[StageInput[Any]], Decision | Output]], Stage]":
    """Declare a stage.

    Args:
        libraries: distributions whose version shapes the output.
        score: row-local, expensive scores; may read only the section's scoring fields. Called with the rows whose
            scores are not known yet; gives one line a row, or none.
        reads: the columns that `score` sees beside `row_id`; a row with the same ones is not scored again.
        apart: optional field of the section → the scores that it turns on; they read the same columns.
        references: digests of files, models and templates outside the row flow that shape the output.
    """

    def declare(run: "Callable[[StageInput[Any]], Decision | Output]") -> Stage:
        return Stage(name, run, libraries, score, references, reads, apart or {})

    return declare


def run_as_task(name: str, step: "Callable[[], StageRecord]") -> "StageRecord":
    """Run one step of a run as a Prefect task.

    Args:
        step: runs the stage and returns its record, or raises.

    Raises:
        Exception: what the step raised. Prefect is told its type and place, never its words: they may quote a row.
    """
    from prefect import task
    from prefect.cache_policies import NO_CACHE
    from prefect.client.schemas.objects import State
    from prefect.states import Completed, Crashed, Failed

    failure: list[Exception] = []
    done: list[StageRecord] = []

    # No tags: for each tag Prefect asks the server for a concurrency slot, a third of a second a task.
    @task(name=name, task_run_name=name, cache_policy=NO_CACHE, persist_result=False)
    def shown() -> State[Any]:
        try:
            record = step()
        except WinnowError as error:
            failure.append(error)
            return Failed(message=error.message)
        except Exception as error:
            failure.append(error)
            return Crashed(message=where(error))
        done.append(record)
        state = "Cached" if record.state == "cached" else "Completed"
        return Completed(name=state, message=record.reason)

    state = shown(return_state=True)
    if failure:
        raise failure[0]
    if not done:
        state.result()
    return done[0]


def where(error: BaseException) -> str:
    """An error's type and the line that raised it, without its message."""
    frames = traceback.extract_tb(error.__traceback__)
    place = f" at {Path(frames[-1].filename).name}:{frames[-1].lineno}" if frames else ""
    return f"{type(error).__name__}{place}"
