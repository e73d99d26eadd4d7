"""What every test has: no telemetry, a Prefect home of its own, and a word for what may be missing."""

import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.command import Workplace
from tests.prefect_home import STARTED

os.environ.setdefault("DO_NOT_TRACK", "1")
os.environ.setdefault("PREFECT_SERVER_ANALYTICS_ENABLED", "false")
os.environ.setdefault("HF_HUB_OFFLINE", "1")
if "PYTEST_XDIST_WORKER" in os.environ:  # torch's threads wait for each other, so two workers with two each crawl
    os.environ.setdefault("OMP_NUM_THREADS", "1")


_TINY = ("test_tiny_run.py", "test_dashboard.py", "test_report_run.py")  # they look at the same two runs
_SLOW = (*_TINY, "test_crash.py", "test_resume_training.py", "test_serve.py", "test_same_bytes.py", "test_cli.py")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """What takes longest goes first, so that no worker is left with it at the end."""
    items.sort(key=lambda item: _SLOW.index(item.path.name) if item.path.name in _SLOW else len(_SLOW))


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
    """A Prefect home with an empty database, to be copied: Prefect takes ten seconds to make one."""
    home = tmp_path_factory.mktemp("migrated")
    program = "from flows.server import *; prefect_defaults(); s = start_server(); s.wait(); s.close()"
    subprocess.run([sys.executable, "-c", program], env={**os.environ, "PREFECT_HOME": str(home)}, check=True)
    return home


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
