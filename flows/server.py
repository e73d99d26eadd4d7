"""Where a command finds Prefect's API: the server that is set, the dashboard that is open, or one of its own.

Prefect starts a temporary server itself, but only after it has imported all of the server's code into the client, and
it leaves that server behind when it is killed. Ours starts first, imports beside the client, and ends with us. A
dashboard writes its address into Prefect's folder, so that runs beside it share its server, and the SQLite database
has one writer.
"""

import atexit
import fcntl
import http.client
import json
import os
import re
import socket
import ssl
import subprocess
import sys
import tempfile
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from flows.writable import check_writable
from pipeline_config.errors import ConfigError

_NOTE = "winnow-dashboard.json"
_SECONDS_TO_ANSWER = 10.0  # for a server that is up already


def prefect_defaults() -> None:
    """Quiet and private unless the user says otherwise."""
    os.environ.setdefault("PREFECT_LOGGING_HANDLERS_CONSOLE_LEVEL", "CRITICAL")
    os.environ.setdefault("PREFECT_SERVER_LOGGING_LEVEL", "ERROR")
    os.environ.setdefault("PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS", "120")


@dataclass
class Server:
    """An API and, if it is our own, its process.

    Attributes:
        url: ends in `/api`.
        process: None for a server that somebody else runs.
    """

    url: str
    process: "subprocess.Popen[bytes] | None" = None
    log: IO[bytes] | None = None

    @property
    def address(self) -> str:
        """What a browser opens."""
        return self.url.removesuffix("/api")

    def wait(self) -> None:
        """Return once the API answers.

        Raises:
            ConfigError: it never will.
        """
        own = self.process is not None
        seconds = float(os.environ["PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS"]) if own else _SECONDS_TO_ANSWER
        if _answers(self.url, seconds, here=own):
            return
        if not own:
            raise ConfigError(
                f"no Prefect server answers at {self.url}",
                place="PREFECT_API_URL",
                cure="start that server, or unset PREFECT_API_URL to use one on this machine",
            )
        raise ConfigError(
            f"Prefect's server did not start: {self._last_words()}",
            place=f"PREFECT_HOME {prefect_home()}",
            cure="see the reason above; `prefect server start` shows all of it",
        )

    def lives(self, seconds: float) -> bool:
        """Whether our own server still runs after a while."""
        assert self.process is not None
        with suppress(subprocess.TimeoutExpired):
            self.process.wait(timeout=seconds)
        return self.process.poll() is None

    def close(self) -> None:
        """End our own server, and wait until it has written what it was told."""
        if self.process is not None:
            assert self.process.stdin is not None
            with suppress(OSError):
                self.process.stdin.close()
            try:
                self.process.wait(timeout=10)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
        if self.log is not None:
            self.log.close()

    def _last_words(self) -> str:
        assert self.process is not None
        assert self.log is not None
        with suppress(subprocess.TimeoutExpired):
            self.process.wait(timeout=1)
        self.log.seek(0)
        lines = [line.strip() for line in self.log.read().decode(errors="replace").splitlines()]
        raised = [line for line in lines if re.match(r"[\w.]+(Error|Exception|Refused)\b", line)]
        return raised[-1][:300] if raised else f"it ended with code {self.process.poll()}"


def prefect_api() -> Server:
    """The API for as long as this process lives; `Server.wait` says when it can be used.

    To be called before Prefect is imported: the server starts meanwhile, and Prefect reads `PREFECT_API_URL` once.

    Raises:
        ConfigError: Prefect's folder can't be written.
    """
    prefect_defaults()
    server = find_server()
    if server is None:
        check_home()
        server = start_server()
    use_here(server)
    return server


def find_server() -> Server | None:
    """The server that is set, else that of an open dashboard or schedule on this database."""
    url = _url_of_settings()
    return Server(url) if url is not None else _open_dashboard()


def use_here(server: Server) -> None:
    """Make a server this process's and its children's API, and end it, if it is our own, last of all."""
    os.environ["PREFECT_API_URL"] = server.url
    atexit.register(server.close)  # registered before Prefect's own: its last logs and events are sent by then


def start_server(port: int = 0, *, dashboard: bool = False) -> Server:
    """Start a Prefect server on loopback that ends with this process.

    Args:
        port: 0 takes a free one.
        dashboard: with user interface and scheduler.

    Raises:
        ConfigError: the port is taken.
    """
    with socket.socket() as listening:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listening.bind(("127.0.0.1", port))
        except OSError as error:
            raise ConfigError(
                f"port {port} can't be used: {error.strerror}", place="--port", cure=f"try --port {port + 1}"
            ) from error
        listening.listen(128)
        url = f"http://127.0.0.1:{listening.getsockname()[1]}/api"
        program = str(Path(__file__).with_name("local_server.py"))
        command = [sys.executable, "-P", program, str(listening.fileno()), *(["--dashboard"] if dashboard else [])]
        log = tempfile.TemporaryFile()  # noqa: SIM115 (read if the server fails, closed with it)
        process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=log,
            env=os.environ | {"PREFECT_UI_API_URL": url},
            pass_fds=[listening.fileno()],
            start_new_session=True,  # Ctrl-C in a terminal is ours to handle, not its
        )
    return Server(url, process, log)


@contextmanager
def announced(server: Server) -> Iterator[None]:
    """Let the runs beside a dashboard find it; the lock on the note says that the dashboard lives."""
    path = prefect_home() / _NOTE
    with path.open("a+") as note:
        try:
            fcntl.flock(note, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:  # another dashboard on this database: the runs know that one
            yield
            return
        note.truncate(0)
        note.write(json.dumps({"url": server.url}))
        note.flush()
        yield
        path.unlink(missing_ok=True)


def prefect_home() -> Path:
    """The folder of Prefect's database and settings."""
    return Path(os.environ.get("PREFECT_HOME") or "~/.prefect").expanduser()


def check_home() -> None:
    """Raise ConfigError if Prefect's folder can't be written; Prefect itself finds out after two minutes."""
    check_writable(prefect_home(), place="PREFECT_HOME", cure="set PREFECT_HOME to a folder that you may write to")


def _open_dashboard() -> Server | None:
    """The server of a `winnow dashboard` or `winnow serve` that runs on this database."""
    try:
        with (prefect_home() / _NOTE).open("r") as note:
            try:
                fcntl.flock(note, fcntl.LOCK_SH | fcntl.LOCK_NB)
            except OSError:
                url = str(json.load(note)["url"])
                return Server(url) if _answers(url, _SECONDS_TO_ANSWER, here=True) else None
    except (OSError, ValueError, KeyError):
        return None
    return None  # nobody holds the lock: it was killed


def _url_of_settings() -> str | None:
    """The address in Prefect's settings. Prefect is asked, which takes a second, only where a file may name one."""
    if "PREFECT_API_URL" in os.environ:
        return os.environ["PREFECT_API_URL"] or None
    profiles = Path(os.environ.get("PREFECT_PROFILES_PATH") or prefect_home() / "profiles.toml")
    said = "PREFECT_PROFILE" in os.environ or Path("prefect.toml").exists()
    said = said or any(
        _mentions(path, word)
        for path, word in ((profiles, "API"), (Path(".env"), "PREFECT_"), (Path("pyproject.toml"), "[tool.prefect"))
    )
    if not said:
        return None
    from prefect.settings import PREFECT_API_URL

    url: str | None = PREFECT_API_URL.value()
    return url


def _mentions(path: Path, word: str) -> bool:
    try:
        return word in path.read_text("utf-8", errors="replace")
    except OSError:
        return False


def _answers(url: str, seconds: float, *, here: bool = False) -> bool:
    """Whether anything at all speaks HTTP at a Prefect API; a refusal to say is an answer too.

    Args:
        here: on this machine, so never through a proxy.
    """
    opener = urllib.request.build_opener(*([urllib.request.ProxyHandler({})] if here else []))
    try:
        opener.open(f"{url}/health", timeout=seconds).close()
    except urllib.error.HTTPError as error:
        error.close()
        return error.code < 500
    except urllib.error.URLError as error:
        return isinstance(error.reason, ssl.SSLError)  # Prefect knows certificates that we don't
    except (OSError, http.client.HTTPException, ValueError):
        return False
    return True
