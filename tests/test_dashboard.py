"""The dashboard of a schedule, looked at in a real browser: runs, cached tasks, artifacts, lineage, the schedule.

`WINNOW_SCREENSHOTS=docs/images` renews the pictures of the documentation.
"""

import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.browser import Browser, browser
from tests.command import Workplace
from tests.prefect_home import free_port, query, wait_until

pytestmark = [pytest.mark.model, pytest.mark.server, pytest.mark.browser]


def keep(window: Browser, name: str) -> None:
    if folder := os.environ.get("WINNOW_SCREENSHOTS"):
        window.screenshot(Path(folder) / f"{name}.png")


def test_the_dashboard_shows_runs_states_artifacts_lineage_and_schedule(
    workplace: Workplace, tiny_runs: list[dict[str, Any]], chromium: str
) -> None:
    port = free_port()
    words = ["serve", "tiny", "--cron", "0 2 * * *", "--timezone", "Asia/Shanghai", "--port", str(port)]
    command = [sys.executable, "-m", "flows.cli", *words, "--data-dir", str(workplace.data)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=workplace.environment())
    try:
        assert process.stdout is not None
        assert "serving winnow/tiny, at '0 2 * * *' Asia/Shanghai" in process.stdout.readline()
        deployment = process.stdout.readline().removeprefix("dashboard: ").strip()
        root = f"http://127.0.0.1:{port}"
        name, flow_run = f"tiny {tiny_runs[-1]['run_id']}", tiny_runs[-1]["flow_run_id"]
        lineage = query(
            workplace.home,
            f"select id from artifact where key = 'winnow-run' and replace(flow_run_id, '-', '') ="
            f" '{flow_run.replace('-', '')}'",
        )[0][0]
        with browser() as window:
            window.open(f"{root}/runs")
            window.wait_for("Flow runs", name, "Completed", "manual")
            window.click(name)
            window.wait_for("15 Task runs", "Finished in state Cached", "evaluate", "report")
            keep(window, "dashboard")
            window.click("Artifacts")
            window.wait_for("winnow-run", "MARKDOWN")
            window.open(f"{root}/v2/artifacts/artifact/{lineage}")
            window.wait_for("compress", "cached", "Report:", "Data Docs of the gates:")
            wait_until(lambda: int(window.ask("return document.querySelectorAll('svg g.node').length")) == 15)
            window.ask("document.querySelector('svg g.node').scrollIntoView()")
            keep(window, "dashboard-lineage")
            window.open(f"{root}/artifacts/key/winnow-dedupe-rows")
            window.wait_for("winnow-dedupe-rows", "rows in and out of dedupe")
            window.open(deployment)
            window.wait_for("tiny", "At 02:00 AM every day", "Next Run", "06:00:00 PM")  # the browser's zone is UTC
            keep(window, "dashboard-schedule")
    finally:
        process.send_signal(signal.SIGINT)
        process.communicate(timeout=60)
    assert process.returncode == 0
