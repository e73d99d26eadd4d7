"""`winnow serve` and the work pool: schedules that really run, one at a time, and catch up once."""

import json
import os
import shutil
import signal
import subprocess
import sys
import urllib.request
from pathlib import Path
from typing import Any

import pytest

from flows.cli import main
from tests.command import Workplace
from tests.prefect_home import STARTED, free_port, query, small_config, wait_until

ROOT = Path(__file__).parent.parent


@pytest.fixture
def place(tmp_path: Path, migrated_home: Path) -> Workplace:
    shutil.copytree(migrated_home, tmp_path / "prefect")
    return Workplace(tmp_path / "data", tmp_path / "prefect")


def _start(place: Workplace, *words: str) -> "subprocess.Popen[str]":
    command = [sys.executable, "-m", "flows.cli", *words]
    process = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=place.environment()
    )
    STARTED.append(process)
    return process


def _serve(place: Workplace, config: Path, port: int, *schedule: str) -> "subprocess.Popen[str]":
    return _start(place, "serve", str(config), *schedule, "--port", str(port), "--data-dir", str(place.data))


def _end(process: "subprocess.Popen[str]") -> str:
    """Ctrl-C; what it said on standard error."""
    process.send_signal(signal.SIGINT)
    _, told = process.communicate(timeout=60)
    assert process.returncode == 0, told
    return told


def _ask(port: int, path: str, body: dict[str, Any]) -> Any:
    data, kind = json.dumps(body).encode(), {"Content-Type": "application/json"}
    with urllib.request.urlopen(urllib.request.Request(f"http://127.0.0.1:{port}/api{path}", data, kind)) as answer:
        return json.load(answer)


def _states(place: Workplace) -> list[tuple[str, str, str]]:
    """State, its message and the flow run's tags, of the deployment's runs in the order they were due."""
    return query(
        place.home,
        "select s.name, coalesce(s.message, ''), f.tags from flow_run f join flow_run_state s on s.id = f.state_id"
        " where f.deployment_id is not null order by f.expected_start_time",
    )


@pytest.mark.parametrize(
    ("words", "place_of_error", "cure"),
    [
        (["--cron", "every night"], "--cron", "five fields"),
        (["--cron", "0 2 * * *", "--timezone", "Asia/Shangai"], "--timezone", "did you mean 'Asia/Shanghai'?"),
        (["--cron", "0 2 * * *", "--interval", "60"], "--cron, --interval", "either a cron line or an interval"),
        ([], "--cron, --interval", "winnow serve --cron"),
        (["--interval", "0"], "--interval", "1 to 31,622,400"),
    ],
)
def test_a_wrong_schedule_is_exit_2_with_a_cure(
    tmp_path: Path,
    words: list[str],
    place_of_error: str,
    cure: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    given = ["winnow", "serve", str(small_config(tmp_path)), *words, "--data-dir", str(tmp_path / "data")]
    monkeypatch.setattr("sys.unraisablehook", sys.unraisablehook)  # main() sets its own
    monkeypatch.setattr("sys.argv", given)
    monkeypatch.setattr("os.environ", {**os.environ, "PREFECT_HOME": str(tmp_path / "prefect")})
    monkeypatch.delitem(os.environ, "PREFECT_API_URL", raising=False)
    with pytest.raises(SystemExit, match="2"):
        main()
    said = capsys.readouterr().err
    assert said.startswith(f"error: {place_of_error}:")
    assert cure in said


@pytest.mark.server
def test_a_schedule_runs_by_itself_one_at_a_time_and_makes_up_for_missed_runs_once(
    place: Workplace, tmp_path: Path
) -> None:
    config, port = small_config(tmp_path), free_port()
    serving = _serve(place, config, port, "--interval", "1")
    wait_until(lambda: any(name == "Completed" for name, _, _ in _states(place)), serving)
    assert "Traceback" not in _end(serving)
    assert place.runs()[0]["status"] == "done"
    states = _states(place)
    assert all('"scheduled"' in tags for name, _, tags in states if name == "Completed")
    assert ("Cancelled", "Deployment concurrency limit reached.") in [each[:2] for each in states]  # no overlap
    assert query(place.home, "select paused from deployment") == [(0,)]  # it goes on when it is served again

    due = "select count(*) from flow_run where state_name = 'Scheduled' and auto_scheduled"
    overdue = due + " and expected_start_time < strftime('%Y-%m-%d %H:%M:%f', 'now')"
    wait_until(lambda: query(place.home, overdue)[0][0] >= 3)
    before = len(place.runs())
    serving = _serve(place, config, port, "--cron", "0 2 1 1 *", "--timezone", "Asia/Shanghai")
    wait_until(lambda: sum(run["status"] == "done" for run in place.runs()) > before, serving)
    missed = [message for name, message, _ in _states(place) if name == "Cancelled" and message.startswith("missed")]
    assert len(missed) >= 2
    [deployment] = _ask(port, "/deployments/filter", {})
    assert deployment["name"] == "small"
    [schedule] = deployment["schedules"]
    assert (schedule["schedule"]["cron"], schedule["schedule"]["timezone"]) == ("0 2 1 1 *", "Asia/Shanghai")
    wait_until(lambda: query(place.home, due)[0][0] > 0, serving)
    [(first,)] = query(place.home, "select min(expected_start_time) from flow_run where state_name = 'Scheduled'")
    assert "-12-31 18:00:00" in first  # two at night of 1 January in Shanghai
    assert "Traceback" not in _end(serving)
    assert len(place.runs()) == before + 1  # one run for all that were missed
    assert {run["status"] for run in place.runs()} <= {"done", "interrupted"}


def _found(place: Workplace) -> str:
    """The server that a run would use."""
    program = "from flows.server import find_server; server = find_server(); print(server and server.address)"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, env=place.environment())
    return done.stdout.strip()


@pytest.mark.server
def test_runs_beside_a_dashboard_share_its_server_until_it_ends_or_is_killed(place: Workplace) -> None:
    for number in (signal.SIGINT, signal.SIGKILL):
        assert _found(place) == "None"
        port = free_port()
        dashboard = _start(place, "dashboard", "--port", str(port))
        assert dashboard.stdout is not None
        assert f"127.0.0.1:{port}" in dashboard.stdout.readline()
        assert _found(place) == f"http://127.0.0.1:{port}"
        dashboard.send_signal(number)
        dashboard.communicate(timeout=60)
    assert _found(place) == "None"


@pytest.mark.server
def test_the_deployments_of_prefect_yaml_run_in_a_process_pool(place: Workplace, tmp_path: Path) -> None:
    config, port = small_config(tmp_path), free_port()
    dashboard = _start(place, "dashboard", "--port", str(port))
    variables = place.environment(PREFECT_API_URL=f"http://127.0.0.1:{port}/api")

    def prefect(*commands: list[str]) -> None:
        words = [sys.executable, "-c", _COMMANDS, json.dumps(commands)]
        done = subprocess.run(words, capture_output=True, text=True, env=variables, cwd=ROOT, timeout=300)
        assert done.returncode == 0, done.stdout + done.stderr

    assert dashboard.stdout is not None
    assert f"127.0.0.1:{port}" in dashboard.stdout.readline()  # printed once it answers
    values = ["-p", f'config="{config}"', "-p", f'data_dir="{place.data}"']
    prefect(
        ["work-pool", "create", "winnow", "--type", "process"],
        ["--no-prompt", "deploy", "--all"],
        ["deployment", "run", "winnow/demo", *values],
    )
    prefect(["worker", "start", "--pool", "winnow", "--run-once", "--install-policy", "never"])
    wait_until(lambda: [run["status"] for run in place.runs()] == ["done"], dashboard)
    _end(dashboard)


_COMMANDS = """
import json, sys
from prefect.cli import app

for words in json.loads(sys.argv[1]):  # in one process: each would import Prefect for itself
    sys.argv = ["prefect", *words]
    try:
        app()
    except SystemExit as end:
        if end.code:
            raise
"""
