"""The one flow: every stage in order. A table of contents; the stages stand in `tasks/`."""

from typing import Any, Literal

from prefect import flow
from prefect.client.schemas.objects import State
from prefect.states import Completed, Failed

from flows.flow_run import as_flow_run, introduce, state_of
from flows.notify import tell
from flows.runner import Runner, quiet_loggers
from tasks.augment.task import augment
from tasks.balance.task import balance
from tasks.clean.task import clean
from tasks.compress.task import compress
from tasks.dedupe.task import dedupe
from tasks.distill.task import distill
from tasks.evaluate.task import evaluate
from tasks.ingest.task import ingest
from tasks.quality.task import quality
from tasks.report.task import report
from tasks.select.task import select
from tasks.split.task import split
from tasks.tokenize.task import tokenize
from tasks.toxicity.task import toxicity
from tasks.train.task import train

StageName = Literal[
    "ingest", "clean", "dedupe", "toxicity", "quality", "select", "split", "balance", "augment", "tokenize",
    "train", "distill", "compress", "evaluate", "report",
]  # fmt: skip

PIPELINE = (
    ingest, clean, dedupe, toxicity, quality, select, split, balance, augment, tokenize,
    train, distill, compress, evaluate, report,
)  # fmt: skip


@flow(
    name="winnow",
    flow_run_name="{config}",
    validate_parameters=True,
    persist_result=False,
    log_prints=False,
    on_completion=[tell],
    on_failure=[tell],
    on_crashed=[tell],
)
def pipeline(
    config: str = "demo",
    overrides: list[str] | None = None,
    data_dir: str | None = None,
    from_stage: StageName | None = None,
    until: StageName | None = None,
    only: StageName | None = None,
    force: list[StageName] | None = None,
    run_id: str | None = None,
    resume: str | None = None,
    verify: bool = False,
    study: str | None = None,
) -> State[Any]:
    """Raw text and instruction data to a fine-tuned, distilled, evaluated model.

    Args:
        config: recipe name or path of a YAML file.
        overrides: `a.b=v`, as after `--set`.
        data_dir: where artifacts and runs are kept (default `$WINNOW_DATA`, else `./data`).
        from_stage: take everything above this stage from the cache.
        until: stop after this stage.
        only: this stage alone, everything above it from the cache.
        force: stages to run although they are cached.
        run_id: id of the run record (default: new).
        resume: id of a run to go on with: its configuration in place of `config`, its bounds where none are given.
        verify: read cached artifacts in full before they are believed.
        study: the cross-validation or search that this run is a part of.
    """
    quiet_loggers()
    try:
        with (
            as_flow_run(),
            Runner.open(
                config,
                overrides,
                data_dir,
                from_stage=from_stage,
                until=until,
                only=only,
                force=force,
                run_id=run_id,
                resume=resume,
                verify=verify,
                study=study,
            ) as run,
        ):
            introduce(run.record, config, run.work.data_dir)
            for stage in PIPELINE:
                run.step(stage)
            run.close()
    except Exception as error:
        return state_of(error)
    return Completed(message=run.summary()) if run.error is None else Failed(message=run.summary())
