"""`winnow dashboard`, looked at in a real browser: the run, its cached tasks, its artifacts."""

import signal
import subprocess
import sys
import urllib.request
from typing import Any

import pytest

from tests.browser import browser
from tests.command import Workplace
from tests.prefect_home import free_port

pytestmark = [pytest.mark.model, pytest.mark.server, pytest.mark.browser]


def wait_until_served(url: str, process: "subprocess.Popen[str]") -> None:
    for _ in range(600):
        assert process.poll() is None, "the dashboard ended by itself"
        try:
            with urllib.request.urlopen(url, timeout=0.2):
                return
        except OSError:
            signal.sigtimedwait([], 0.1)
    raise TimeoutError(url)


def test_the_dashboard_shows_runs_states_and_artifacts(
    workplace: Workplace, tiny_runs: list[dict[str, Any]], chromium: str
) -> None:
    port = free_port()
    command = [sys.executable, "-m", "flows.cli", "dashboard", "--port", str(port)]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, text=True, env=workplace.environment())
    try:
        wait_until_served(f"http://127.0.0.1:{port}/api/health", process)
        with browser() as window:
            window.open(f"http://127.0.0.1:{port}/runs")
            name = f"tiny {tiny_runs[-1]['run_id']}"
            window.wait_for("Flow runs", name, "Completed")
            window.click(name)
            window.wait_for("15 Task runs", "Finished in state Cached", "evaluate", "report")
            window.click("Artifacts")
            window.wait_for("winnow-run", "MARKDOWN")
    finally:
        process.send_signal(signal.SIGINT)
        process.wait(timeout=60)
