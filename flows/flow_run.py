"""The flow run as Prefect shows it: its name and tags, the logs it keeps, and the state it ends in."""

import logging
import re
import sys
import traceback
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from prefect.client.orchestration import get_client
from prefect.client.schemas.objects import State
from prefect.context import FlowRunContext
from prefect.exceptions import TerminationSignal
from prefect.logging.handlers import APILogHandler
from prefect.states import Crashed, Failed

from flows.crashed import running_flow
from pipeline_config.errors import WinnowError
from tasks.runs import RunRecord
from tasks.stage import where

_LIBRARIES = ("transformers", "datasets", "peft", "accelerate", "huggingface_hub", "torch", "great_expectations")
_LONGEST = 200  # characters of a library's message
_QUOTED = re.compile(r"""(['"`]).*?\1""")


@contextmanager
def as_flow_run() -> Iterator[None]:
    """Hold the note that says that this process works on the flow run, and send the logs to Prefect."""
    with ExitStack() as stack:
        stack.enter_context(running_flow(str(_flow_run().id)))
        stack.enter_context(_logs_in_prefect())
        yield


def introduce(record: RunRecord, config: str, data_dir: Path) -> None:
    """Name and tag the flow run: what ran, under which run id, on which data, by hand or by schedule.

    One request. Tags of a context or a deployment would reach the tasks too, and each costs a task a third of a second.
    """
    flow_run = _flow_run()
    record.flow_run_id = str(flow_run.id)
    name = Path(config).stem
    tags = {name, data_dir.resolve().name, "scheduled" if flow_run.auto_scheduled else "manual"}
    with get_client(sync_client=True) as client:
        client.update_flow_run(flow_run.id, name=f"{name} {record.run_id}", tags=sorted(tags | set(flow_run.tags)))


def state_of(error: Exception) -> State[Any]:
    """How a flow that raised ends: bad input failed; anything else crashed, with its traceback on standard error.

    Prefect is told the type and place of an unexpected error, never its words: they may quote a row.
    """
    if isinstance(error, WinnowError):
        place = f"{error.place}: " if error.place else ""
        return Failed(message=f"{place}{error.message}")
    traceback.print_exception(error, file=sys.stderr)
    return Crashed(message=where(error))


def stopped_by_signal(kind: type[BaseException] | None) -> bool:
    """Whether Ctrl-C or SIGTERM ended a run."""
    return kind is not None and issubclass(kind, (KeyboardInterrupt, TerminationSignal))


class _RunLogs(APILogHandler):
    """Sends what is logged inside the run; a library's thread stands in no run."""

    def emit(self, record: logging.LogRecord) -> None:
        if FlowRunContext.get() is not None:
            super().emit(record)


class _LibraryLogs(_RunLogs):
    """A library's message cut to its first line, without what it quotes: no row's text goes into Prefect."""

    def prepare(self, record: logging.LogRecord) -> dict[str, Any]:
        line = (record.getMessage().strip().splitlines() or [""])[0]
        copy = logging.makeLogRecord(record.__dict__)
        copy.msg, copy.args, copy.exc_info, copy.exc_text = _QUOTED.sub("…", line)[:_LONGEST], None, None, None
        return super().prepare(copy)


@contextmanager
def _logs_in_prefect() -> Iterator[None]:
    own, others = _RunLogs(logging.INFO), _LibraryLogs(logging.WARNING)
    pairs = [(logging.getLogger("winnow"), own), *((logging.getLogger(name), others) for name in _LIBRARIES)]
    for logger, handler in pairs:
        logger.addHandler(handler)
    try:
        yield
    finally:
        for logger, handler in pairs:
            logger.removeHandler(handler)


def _flow_run() -> Any:
    context = FlowRunContext.get()
    assert context is not None
    assert context.flow_run is not None
    return context.flow_run
