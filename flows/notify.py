"""A word to a webhook when a run ends: a state-change hook of the flow.

The address is a secret (whoever has it may post), so it comes from the environment, `WINNOW_NOTIFY_URL`, and stands in
no configuration, record, log or key. `WINNOW_NOTIFY_ON` names the ends to tell of, all of them unless it is set. What
is sent is JSON: counts, states and the command to go on with, never the text of a row. A webhook that does not answer
costs five seconds and a warning, never the run.
"""

import http.client
import json
import logging
import os
import shlex
import urllib.error
import urllib.request
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tasks.runs import RunRecord, read_run, run_ids

if TYPE_CHECKING:
    from prefect.client.schemas.objects import FlowRun, State

ENDS = ("done", "failed", "crashed", "interrupted")
_SECONDS = 5.0
_NEWEST = 50  # records that are looked through for the one of a flow run
LOG = logging.getLogger("winnow")


def tell(flow: Any, flow_run: "FlowRun", state: "State[Any]") -> None:
    """Post how a flow run ended, if somebody wants to know; Prefect calls it with the end state."""
    url = os.environ.get("WINNOW_NOTIFY_URL")
    if not url:
        return
    message = message_of(flow_run, state)
    wanted = os.environ.get("WINNOW_NOTIFY_ON", ",".join(ENDS))
    if message["status"] in [word.strip() for word in wanted.split(",")]:
        post(url, message)


def message_of(flow_run: "FlowRun", state: "State[Any]") -> dict[str, Any]:
    """What is posted. `text` says it in one line, as chat services show it."""
    parameters = flow_run.parameters
    data_dir = Path(parameters.get("data_dir") or os.environ.get("WINNOW_DATA") or "data").absolute()
    record = _record(data_dir, str(flow_run.id))
    status = {"COMPLETED": "done", "FAILED": "failed"}.get(state.type.value, "crashed")
    if status == "crashed" and record is not None and record.status == "interrupted":
        status = "interrupted"
    error = None if status == "done" else (record and record.error) or {"message": state.message or ""}
    name = flow_run.name if record is None else f"{Path(str(parameters.get('config'))).stem} {record.run_id}"
    message = {
        "status": status,
        "name": name,
        "run_id": None if record is None else record.run_id,
        "flow_run_id": str(flow_run.id),
        "config": parameters.get("config"),
        "message": state.message,
        "error": error,
        "resume": None,
    }
    if status != "done" and record is not None:
        message["resume"] = shlex.join(["winnow", "resume", record.run_id, "--data-dir", str(data_dir)])
    message["text"] = f"winnow {name}: {status}. {state.message or ''}".strip()
    return message


def post(url: str, message: dict[str, Any]) -> bool:
    """Send a message; whether it was taken. The warning does not name the address."""
    body = json.dumps(message, ensure_ascii=False).encode()
    try:
        request = urllib.request.Request(url, body, {"Content-Type": "application/json", "User-Agent": "winnow"})
        urllib.request.urlopen(request, timeout=_SECONDS).close()
    except urllib.error.HTTPError as error:
        error.close()
        LOG.warning("the notification was refused with status %d", error.code)
        return False
    except (OSError, ValueError, http.client.HTTPException) as error:
        LOG.warning("the notification could not be sent: %s", type(error).__name__)
        return False
    return True


def _record(data_dir: Path, flow_run_id: str) -> RunRecord | None:
    for run_id in reversed(run_ids(data_dir)[-_NEWEST:]):
        try:
            record = read_run(data_dir, run_id)
        except (OSError, ValueError, TypeError):
            continue
        if record.flow_run_id == flow_run_id:
            return record
    return None
