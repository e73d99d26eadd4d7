"""Notifications: what a webhook is told of runs that end, and that its address stays a secret."""

import json
import shutil
import signal
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from flows.notify import post
from tests.command import Workplace, database_text
from tests.prefect_home import free_port, served, small_config, start_run, wait_until


class Webhook(ThreadingHTTPServer):
    """A local server that keeps what it is sent."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.messages: list[dict[str, Any]] = []
        self.url = f"http://127.0.0.1:{self.server_port}/hooks/THE-SECRET-TOKEN"


class _Handler(BaseHTTPRequestHandler):
    server: Webhook

    def do_POST(self) -> None:
        self.server.messages.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
        self.send_response(500 if self.path.endswith("broken") else 204)
        self.end_headers()

    def log_message(self, *words: object) -> None:
        return


@pytest.fixture
def webhook() -> Iterator[Webhook]:
    with Webhook() as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
        thread.start()
        yield server
        server.shutdown()
        thread.join()


@pytest.mark.server
def test_a_webhook_is_told_of_a_kill_a_gate_and_a_finished_run_and_its_address_is_kept_nowhere(
    webhook: Webhook, migrated_home: Path, tmp_path: Path
) -> None:
    shutil.copytree(migrated_home, tmp_path / "prefect")
    with served(tmp_path / "prefect") as server:
        place = Workplace(tmp_path / "data", tmp_path / "prefect", server.url)
        said = _four_runs(place, webhook, tmp_path)

    crash, gate, end = webhook.messages
    runs = [run["run_id"] for run in place.runs()]
    assert [crash["status"], gate["status"], end["status"]] == ["crashed", "failed", "done"]
    assert [crash["run_id"], gate["run_id"], end["run_id"]] == runs[:3]
    assert gate["error"]["type"] == "GateError"
    assert gate["resume"] == f"winnow resume {runs[1]} --data-dir {place.data}"
    assert crash["resume"] == f"winnow resume {runs[0]} --data-dir {place.data}"
    assert (end["resume"], end["error"]) == (None, None)
    assert end["text"] == f"winnow small {runs[2]}: done. {end['message']}"
    kept = database_text(place.home) + "".join(path.read_text() for path in (place.data / "runs").glob("*.json"))
    assert runs[2] in kept
    assert "THE-SECRET-TOKEN" not in kept + said


def _four_runs(place: Workplace, webhook: Webhook, folder: Path) -> str:
    """A run that is killed, one that a gate stops, one that is done, one that tells of failures only; their words."""
    config, marker = small_config(folder), folder / "marker"
    told: dict[str, str] = {"WINNOW_NOTIFY_URL": webhook.url}

    killed = start_run(place, "wait", marker, config, **told)
    wait_until(marker.exists, killed)
    killed.send_signal(signal.SIGKILL)
    killed.communicate(timeout=60)
    stopped = place.winnow("run", str(config), "--set", "clean.gate.min_rows=4", **told)
    assert stopped.returncode == 1, stopped.stderr
    done = place.winnow("run", str(config), **told)
    assert done.returncode == 0, done.stderr
    quiet = place.winnow("run", str(config), WINNOW_NOTIFY_ON="failed,crashed", **told)
    assert quiet.returncode == 0, quiet.stderr
    return stopped.stdout + stopped.stderr + done.stdout + done.stderr + quiet.stdout + quiet.stderr


def test_a_webhook_that_fails_is_a_warning_that_does_not_name_it(
    webhook: Webhook, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level("WARNING", "winnow"):
        assert not post(f"{webhook.url}/broken", {"status": "done"})
        assert not post(f"http://127.0.0.1:{free_port()}/THE-SECRET-TOKEN", {"status": "done"})
        assert not post("no address, THE-SECRET-TOKEN", {"status": "done"})
    assert [record.levelname for record in caplog.records] == ["WARNING"] * 3
    assert "refused with status 500" in caplog.text
    assert "THE-SECRET-TOKEN" not in caplog.text
