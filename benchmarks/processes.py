"""A command in a process of its own: how long what it timed took, and how much memory it and its children held.

Memory is the sum over the command's session of what each process has for itself plus its share of what it has with
others (`Pss` of Linux), looked at five times a second until the timed part is over; or the process's own peak as the
kernel counted it, if that is more (a short run ends between two looks).
"""

import contextlib
import json
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

_LOOK_EVERY = 0.2  # seconds


class BenchmarkError(Exception):
    """A command failed or took too long; the message has the end of what it said."""


@dataclass(frozen=True)
class Measured:
    """One run.

    Attributes:
        seconds: of the timed part, as the process measured it.
        peak_mb: of the process and all its children together.
        answer: what it found.
    """

    seconds: float
    peak_mb: float
    answer: Any


def run_timed(
    command: Sequence[str],
    source: Path,
    small: Path,
    folder: Path,
    *,
    words: Sequence[str] = (),
    environment: Mapping[str, str] | None = None,
    limit: float = 1800.0,
) -> Measured:
    """Run `command SOURCE SMALL FOLDER *words` (see `peers/timed.py`) in an empty folder, which is removed again.

    Args:
        limit: seconds after which it is ended.

    Raises:
        BenchmarkError: it failed, or was ended.
    """
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    log = folder / "log"
    inherited = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    with log.open("wb") as out:
        process = subprocess.Popen(
            [*command, str(source), str(small), str(folder), *words],
            cwd=folder,
            env={**inherited, "HF_HUB_OFFLINE": "1", "DO_NOT_TRACK": "1", **(environment or {})},
            stdout=out,
            stderr=out,
            start_new_session=True,
        )
    started, peak = time.monotonic(), 0.0
    try:
        while process.poll() is None:
            if not (folder / "stopped").exists():
                peak = max(peak, _session_mb(process.pid))
            if time.monotonic() - started > limit:
                raise BenchmarkError(f"took more than {limit:.0f} s")
            time.sleep(_LOOK_EVERY)
    finally:
        _end(process)
    if process.returncode != 0:
        raise BenchmarkError(log.read_text(encoding="utf-8", errors="replace")[-2000:])
    said = json.loads((folder / "answer.json").read_text(encoding="utf-8"))
    shutil.rmtree(folder)
    return Measured(said["seconds"], max(peak, said["peak_mb"]), said["answer"])


def _session_mb(leader: int) -> float:
    """Memory of all processes of a session."""
    total = 0
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit():
            continue
        try:
            session = int((entry / "stat").read_text().rsplit(")", 1)[1].split()[3])
            if session == leader:
                rollup = (entry / "smaps_rollup").read_text()
                total += next(int(line.split()[1]) for line in rollup.splitlines() if line.startswith("Pss:"))
        except (OSError, ValueError, IndexError, StopIteration):
            continue  # it has ended meanwhile
    return total / 1024


def _end(process: "subprocess.Popen[bytes]") -> None:
    """Nothing of the session stays, whatever happened."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()
