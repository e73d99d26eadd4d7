"""Prefect as it stands in its database, and runs that wait or fail where a test wants them to."""

import json
import os
import signal
import socket
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from flows.server import Server, prefect_defaults, start_server
from tests.command import Workplace

STARTED: "list[subprocess.Popen[str]]" = []
"""What a test started and, if it fails, leaves running; `conftest.py` ends it."""

_PROGRAM = """
import dataclasses, pathlib, signal, sys
import tasks.ingest.task as module
mode, marker = sys.argv[1:3]
real = module.ingest.run
def ingest(given):
    pathlib.Path(marker).touch()
    if mode == "track":
        import tasks.kernels.progress as progress
        progress._SHORT = progress._BETWEEN = 0
        list(progress.track(range(4), "a long loop", 4))
        return real(given)
    if mode == "raise":
        raise RuntimeError("the row says SECRET-ROW-TEXT")
    while True:
        signal.pause()
ingest.__module__ = "tasks.ingest.task"
module.ingest = dataclasses.replace(module.ingest, run=ingest)
sys.argv = ["winnow", *sys.argv[3:]]
from flows.cli import main
main()
"""


def small_config(folder: Path) -> Path:
    """A configuration of two stages over three rows, and its source."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "rows.jsonl").write_text("".join(json.dumps({"text": f"Row {n} of three."}) + "\n" for n in range(3)))
    path = folder / "small.yaml"
    path.write_text("ingest: {sources: [{name: rows, path: rows.jsonl, format: text}]}\nclean: {}\n")
    return path


def start_run(place: Workplace, mode: str, marker: Path, config: Path, **variables: str) -> "subprocess.Popen[str]":
    """A run whose ingest waits for ever (`wait`), raises an error that quotes a row (`raise`), or loops (`track`)."""
    words = [sys.executable, "-c", _PROGRAM, mode, str(marker), "run", str(config), "--data-dir", str(place.data)]
    environment = place.environment(**variables)
    process = subprocess.Popen(words, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, env=environment)
    STARTED.append(process)
    return process


@contextmanager
def served(home: Path) -> Iterator[Server]:
    """A server on this home, for runs that are not about one; once it is closed, the database has all of it."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "environ", {**os.environ, "PREFECT_HOME": str(home)})
        prefect_defaults()
        server = start_server()
        try:
            server.wait()
        except BaseException:
            server.close()
            raise
    try:
        yield server
    finally:
        server.close()


def free_port() -> int:
    """A port of loopback that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def query(home: Path, statement: str) -> list[tuple[Any, ...]]:
    """Rows of Prefect's SQLite database."""
    connection = sqlite3.connect(home / "prefect.db", timeout=30)
    try:
        return connection.execute(statement).fetchall()
    finally:
        connection.close()


def wait_until(true: Callable[[], bool], process: "subprocess.Popen[str] | None" = None, seconds: float = 120) -> None:
    """Look ten times a second until it is true; fail at once when the process has ended."""
    for _ in range(int(seconds * 10)):
        if true():
            return
        if process is not None and process.poll() is not None:
            raise AssertionError(f"the process ended by itself: {process.communicate()}")
        signal.sigtimedwait([], 0.1)
    raise TimeoutError(f"not within {seconds} s")


def is_gone(pid: int) -> bool:
    """Whether no process has this id."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    return False
