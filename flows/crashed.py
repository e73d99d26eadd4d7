"""Flow runs whose process was killed, shown as crashed instead of running for ever.

Prefect learns of a crash from the crashing process. One that is killed says nothing, so each run holds a lock on a note
in Prefect's folder: a note that nobody holds is of a process that is gone. Runs of other machines leave no notes here,
and living ones hold theirs, so neither is touched.
"""

import fcntl
import logging
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from flows.notify import tell
from flows.server import prefect_home

_GONE = "its process is gone: killed, out of memory, or the machine stopped"


@contextmanager
def running_flow(flow_run_id: str) -> Iterator[None]:
    """Hold the note of a flow run for as long as this process works on it."""
    path = _notes() / flow_run_id
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        note = path.open("w")
    except OSError:  # a server elsewhere, and no folder of Prefect's here
        yield
        return
    with note:
        fcntl.flock(note, fcntl.LOCK_EX)
        yield
        path.unlink(missing_ok=True)


def mark_crashed() -> int:
    """Tell Prefect of every flow run whose process is gone; returns how many there were.

    A server that refuses is a warning: the notes stay, and the next command tries again.
    """
    gone = [path for path in _found() if _nobody_holds(path)]
    if not gone:
        return 0
    from httpx import HTTPError
    from prefect.client.orchestration import get_client

    try:
        with get_client(sync_client=True) as client:
            return sum(_mark(client, path) for path in gone)
    except HTTPError as error:
        logging.getLogger("winnow").warning("runs that crashed could not be marked: %s", type(error).__name__)
        return 0


def _mark(client: object, path: Path) -> bool:
    from uuid import UUID

    from prefect.client.orchestration import SyncPrefectClient
    from prefect.client.schemas.filters import FlowRunFilter, FlowRunFilterId
    from prefect.client.schemas.objects import State
    from prefect.client.schemas.sorting import TaskRunSort
    from prefect.exceptions import ObjectNotFound
    from prefect.states import Crashed

    assert isinstance(client, SyncPrefectClient)
    marked = False
    with suppress(ObjectNotFound, ValueError):  # another server's run, or no note of ours
        flow_run_id = UUID(path.name)
        flow_run = client.read_flow_run(flow_run_id)
        if flow_run.state is not None and not flow_run.state.is_final():
            of_run = FlowRunFilter(id=FlowRunFilterId(any_=[flow_run_id]))
            # the synchronous client sends null for a sort and a limit that are not given, which the server refuses
            for task in client.read_task_runs(flow_run_filter=of_run, sort=TaskRunSort.ID_DESC, limit=200):
                if task.state is not None and not task.state.is_final():
                    client.set_task_run_state(task.id, Crashed(message=_GONE), force=True)
            crashed: State[Any] = Crashed(message=_GONE)
            client.set_flow_run_state(flow_run_id, crashed, force=True)
            tell(None, flow_run, crashed)
            marked = True
    path.unlink(missing_ok=True)
    return marked


def _nobody_holds(path: Path) -> bool:
    try:
        with path.open("r") as note:
            fcntl.flock(note, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except OSError:
        return False
    return True


def _found() -> list[Path]:
    with suppress(OSError):
        return sorted(_notes().iterdir())
    return []


def _notes() -> Path:
    return prefect_home() / "winnow-running"
