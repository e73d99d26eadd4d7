"""The page of one run: the report's page with what belongs to that run alone put into its slots.

The report is an artifact, cached by its content; what the gates said, which stages were cached and how long this run
took is in no cache key. So the artifact's page has slots (HTML comments; escaped text can't hold one) that a run fills:
the page in the cache is never stale, and a run that changes nothing but a gate's bound makes nothing again.
"""

import re
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from tasks.report.gates import data_docs, stage_gates, verdict_sentence
from tasks.report.places import is_path, without_folder
from tasks.report.story import duration
from tasks.report.templates import environment
from tasks.report.text import number, shown

SLOTS = ("notice", "verdict", "nav", "gates", "record")
_SLOT = re.compile(r"<!--run:([a-z]+)-->")
_STATES = {
    "done": "done",
    "running": "not over yet",
    "failed": "failed",
    "interrupted": "interrupted",
}


@dataclass(frozen=True)
class StageLine:
    """How one stage went in this run; times and reasons as text."""

    name: str
    state: str
    seconds: str
    reason: str


def run_page(page: str, record: Mapping[str, Any], data_dir: Path, template: Path, up: str = "../..") -> str:
    """The artifact's page with the run's own parts.

    Args:
        page: the page as the report stage published it; slots that it lacks stay out.
        record: the run record, as written.
        template: the folder of `run.html`.
        up: the data folder as seen from the page, for the links to the Data Docs.
    """
    parts = environment(template).get_template("run.html").module
    run = _run(record, data_dir, up)
    filled = {slot: str(getattr(parts, slot)(run)) for slot in SLOTS}
    return _SLOT.sub(lambda found: filled.get(found[1], ""), page)


def _run(record: Mapping[str, Any], data_dir: Path, up: str) -> dict[str, Any]:
    gates = stage_gates(record, data_dir)
    status = str(record.get("status", ""))
    stages = [entry for entry in record.get("stages", []) if isinstance(entry, Mapping)]
    error = record.get("error") or {}
    home = str(data_dir)
    return {
        "id": shown(record.get("run_id"), 60),
        "parent": shown(record.get("parent_run_id"), 60),
        "started": _started(str(record.get("run_id", ""))),
        "status": _STATES.get(status, shown(status, 40)),
        "over": status != "running",
        "done": status == "done",
        "where": _where(stages),
        "error": shown(str(error.get("message", "")).replace(home, "data"), 600),
        "cure": shown(without_folder(str(error.get("cure", ""))).replace(home, "data"), 400),
        "gates": gates,
        "verdict": verdict_sentence(gates),
        "passed": all(gate.verdict == "passed" for gate in gates),
        "stages": [_line(entry) for entry in stages],
        "counted": _counted([str(entry.get("state")) for entry in stages]),
        "seconds": duration(sum(entry.get("seconds") or 0.0 for entry in stages)),
        "command": _command(record, home),
        "resume": shown(without_folder(str(error.get("resume", ""))), 400),
        "sources": [
            (shown(source.get("name"), 60), str(source.get("sha256", ""))[:12]) for source in record.get("sources", [])
        ],
        "up": up,
        "data_docs": data_docs(data_dir),
    }


def _line(entry: Mapping[str, Any]) -> StageLine:
    seconds = entry.get("seconds")
    return StageLine(
        shown(entry.get("name"), 40),
        shown(entry.get("state"), 20),
        "" if seconds is None else number(seconds, 1),
        shown(entry.get("reason"), 300),
    )


def _where(stages: Sequence[Mapping[str, Any]]) -> str:
    """The stage that failed, and how; empty for none."""
    failed = [f"{entry.get('name')}: {entry.get('reason')}" for entry in stages if entry.get("state") == "failed"]
    return shown(failed[0].rstrip("."), 300) if failed else ""


def _counted(states: Sequence[str]) -> str:
    """`4 ran, 9 from the cache, 2 skipped`."""
    words = (("ran", "ran"), ("cached", "from the cache"), ("skipped", "skipped"), ("failed", "failed"),
             ("pending", "not reached"))  # fmt: skip
    counts = [(states.count(state), said) for state, said in words if state in states]
    return ", ".join(f"{n} {said}" for n, said in counts)


def _command(record: Mapping[str, Any], home: str) -> str:
    """What was typed, without folders; empty where the record does not say."""
    name = str(record.get("config_name") or "")
    if not name:
        return ""
    words = ["winnow", "run", f"./{Path(name).name}" if is_path(name) or "/" in name else name]
    for each in record.get("overrides", []):
        words += ["--set", shown(each.replace(home, "data"), 200)]
    for option, value in (record.get("selection") or {}).items():
        stages = value if isinstance(value, list | tuple) else [value] if isinstance(value, str) else []
        for stage in stages:
            words += [f"--{option.removesuffix('_stage')}", shown(stage, 40)]
    return shlex.join(words)


def _started(run_id: str) -> str:
    """The time that a run id tells, UTC; empty for another kind of id."""
    try:
        return f"{datetime.strptime(run_id[:15], '%Y%m%dT%H%M%S'):%Y-%m-%d %H:%M} UTC"
    except ValueError:
        return ""
