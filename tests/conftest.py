"""What every test has: no telemetry, a Prefect home of its own, and a word for what may be missing."""

import fcntl
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.command import Workplace
from tests.prefect_home import STARTED, served

os.environ.setdefault("DO_NOT_TRACK", "1")
os.environ.setdefault("PREFECT_SERVER_ANALYTICS_ENABLED", "false")
os.environ.setdefault("HF_HUB_OFFLINE", "1")
if "PYTEST_XDIST_WORKER" in os.environ:  # torch's threads wait for each other, so two workers with two each crawl
    os.environ.setdefault("OMP_NUM_THREADS", "1")


_TINY = ("test_tiny_run.py", "test_dashboard.py", "test_report_run.py")  # they look at the same two runs
_SECONDS = dict.fromkeys(_TINY, 180) | {
    "test_serve.py": 60, "test_server.py": 60, "test_crash.py": 55, "test_resume_training.py": 55,
    "test_same_bytes.py": 50, "test_cli.py": 45, "test_cache_table.py": 40, "test_gate_run.py": 35, "test_gc.py": 30,
    "test_train.py": 28, "test_notify.py": 25, "test_train_attached.py": 22, "test_selection.py": 20,
    "test_stdlib.py": 20, "test_postgres.py": 20, "test_resume.py": 18, "test_report.py": 15,
    "test_plain_lines.py": 15, "test_train_methods.py": 15, "test_augment.py": 13, "test_dedupe.py": 13,
    "test_models.py": 12, "test_two_runs.py": 10, "test_ingest_bad_input.py": 10,
}  # fmt: skip
"""What a file takes of a core, where that is ten seconds or more."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """What takes longest goes first, so that no worker is left with it at the end."""
    items.sort(key=lambda item: -_SECONDS.get(item.path.name, 0))


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """A worker takes a file at a time, and one of them all files that look at the runs of the tiny recipe."""
    from xdist.scheduler import LoadScopeScheduling

    class ByFile(LoadScopeScheduling):
        def _split_scope(self, nodeid: str) -> str:
            file = nodeid.split("::", 1)[0]
            return "tiny" if file.endswith(_TINY) else file

    return ByFile(config, log)


@pytest.fixture(scope="session")
def needs() -> Callable[[str, bool], None]:
    """`needs(name, there)`: skip with a reason if it is not there, fail where CI requires it."""
    required = os.environ.get("WINNOW_TEST_REQUIRES", "").split(",")

    def check(name: str, there: bool) -> None:
        if not there and name in required:
            pytest.fail(f"{name} is required here and is not installed")
        if not there:
            pytest.skip(f"needs a {name}, which is not installed")

    return check


@pytest.fixture(scope="session")
def workplace(tmp_path_factory: pytest.TempPathFactory, migrated_home: Path) -> Workplace:
    """One data folder and Prefect home for the tests of whole runs: the model is converted once."""
    root = tmp_path_factory.mktemp("workplace")
    shutil.copytree(migrated_home, root / "prefect")
    return Workplace(root / "data", root / "prefect")


@pytest.fixture(scope="session")
def tiny_runs(workplace: Workplace) -> list[dict[str, Any]]:
    """The tiny recipe, run twice: the run records."""
    return [workplace.document("run", "tiny"), workplace.document("run", "tiny")]


@pytest.fixture
def mine(tmp_path: Path) -> Path:
    """A configuration of row-wise stages, with its source beside it."""
    from tests.plain_run import write_config, write_source

    write_source(tmp_path)
    return write_config(tmp_path)


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """A data folder that is not there yet."""
    return tmp_path / "data"


@pytest.fixture(autouse=True)
def nothing_stays() -> Iterator[None]:
    """A test that fails leaves no process behind."""
    yield
    while STARTED:
        process = STARTED.pop()
        if process.poll() is None:
            process.kill()
            process.communicate()


@pytest.fixture(scope="session")
def migrated_home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A Prefect home with an empty database, to be copied: Prefect takes ten seconds to make one, the workers share."""
    root = tmp_path_factory.getbasetemp()
    home = (root.parent if "PYTEST_XDIST_WORKER" in os.environ else root) / "migrated"
    with home.with_suffix(".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not home.exists():
            made = home.with_suffix(".tmp")
            made.mkdir()
            with served(made):
                pass
            made.rename(home)
    return home


@pytest.fixture(scope="session")
def open_server(tmp_path_factory: pytest.TempPathFactory, migrated_home: Path) -> Iterator[tuple[Path, str]]:
    """Home and address of one server for the runs of tests that are not about a server."""
    home = tmp_path_factory.mktemp("served") / "prefect"
    shutil.copytree(migrated_home, home)
    with served(home) as server:
        yield home, server.url


@pytest.fixture
def guest(tmp_path: Path, open_server: tuple[Path, str]) -> Workplace:
    """A data folder of its own; the Prefect server is shared with other tests, and its database not to be looked at."""
    return Workplace(tmp_path / "data", *open_server)


@pytest.fixture(scope="session")
def chromium(needs: Callable[[str, bool], None]) -> str:
    """The path of a headless-capable Chromium."""
    path = shutil.which("chromium") or shutil.which("chromium-browser") or ""
    needs("browser", bool(path))
    return path


@pytest.fixture
def one_thread() -> Iterator[None]:
    """A model of a few small layers is slower on several threads, above all on a busy machine."""
    import torch

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)
