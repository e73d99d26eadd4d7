"""Requests over a network: what fails for the moment is tried again, what fails for good is not."""

import threading
import urllib.error
import urllib.request
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from types import SimpleNamespace
from typing import Any

import pytest

from pipeline_config.errors import ModelError
from tasks.kernels import flaky, hub
from tasks.kernels.flaky import passing, patiently


class _Handler(BaseHTTPRequestHandler):
    server: Any

    def do_GET(self) -> None:
        status = self.server.statuses.pop(0)
        if status == 0:  # hangs up without an answer
            self.connection.close()
            return
        self.send_response(status)
        self.send_header("Content-Length", "2")
        self.end_headers()
        self.wfile.write(b"ok")

    def log_message(self, *words: object) -> None:
        return


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    monkeypatch.setattr(flaky, "_WAITS", (0.0, 0.0, 0.0))
    with HTTPServer(("127.0.0.1", 0), _Handler) as found:
        found.statuses = []  # type: ignore[attr-defined]
        thread = threading.Thread(target=found.serve_forever, kwargs={"poll_interval": 0.05})
        thread.start()
        yield found
        found.shutdown()
        thread.join()


def fetch(server: Any) -> bytes:
    def request() -> bytes:
        with urllib.request.urlopen(f"http://127.0.0.1:{server.server_port}/", timeout=10) as answer:
            return bytes(answer.read())

    return patiently(request, "the file")


@pytest.mark.parametrize("statuses", [[503, 429, 200], [0, 0, 200], [504, 200]])
def test_a_busy_server_is_asked_again_until_it_answers(
    server: Any, caplog: pytest.LogCaptureFixture, statuses: list[int]
) -> None:
    server.statuses = [*statuses, 200]
    with caplog.at_level("WARNING", "winnow"):
        assert fetch(server) == b"ok"
    assert server.statuses == [200]
    assert len(caplog.records) == len(statuses) - 1


def test_a_server_that_stays_busy_fails_after_four_tries(server: Any) -> None:
    server.statuses = [503] * 9
    with pytest.raises(urllib.error.HTTPError) as raised:
        fetch(server)
    raised.value.close()
    assert len(server.statuses) == 5


def test_a_refusal_is_final(server: Any) -> None:
    server.statuses = [404, 200]
    with pytest.raises(urllib.error.HTTPError) as raised:
        fetch(server)
    raised.value.close()
    assert server.statuses == [200]
    server.shutdown()
    assert not passing(ConnectionRefusedError())
    assert not passing(ConnectionError("offline mode is enabled"))


def test_the_hub_is_asked_again_when_it_is_busy(monkeypatch: pytest.MonkeyPatch) -> None:
    import huggingface_hub

    monkeypatch.setattr(flaky, "_WAITS", (0.0, 0.0, 0.0))
    asked: list[str] = []

    def model_info(self: object, name: str, timeout: float) -> Any:
        asked.append(name)
        if len(asked) < 3:
            raise _BusyError(503)
        return SimpleNamespace(sha="abc", siblings=[], config=None)

    monkeypatch.setattr(huggingface_hub.HfApi, "model_info", model_info)
    assert hub.published("owner/model", "model").commit == "abc"
    assert asked == ["owner/model"] * 3

    monkeypatch.setattr(huggingface_hub, "snapshot_download", _refuse)
    with pytest.raises(ModelError, match="BusyError"):
        hub.download("owner/model", "model")


class _BusyError(Exception):
    def __init__(self, status: int) -> None:
        super().__init__("the hub says no")
        self.response = SimpleNamespace(status_code=status)


def _refuse(*words: object, **more: object) -> str:
    raise _BusyError(403)
