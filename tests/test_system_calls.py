"""What reaches the disk, in which order: the system's calls as strace sees them, not as the code means them."""

import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

PUBLISH = """
import sys
from pathlib import Path
import polars as pl
from tasks.artifact import Store, write_frame

def fill(out):
    write_frame(pl.DataFrame({"n": list(range(50_000))}), out / "decision.parquet")
    (out / "model").mkdir()
    (out / "model" / "weights").write_bytes(b"w" * 100_000)
    return {"stage": "clean", "key": "k" * 64, "parents": []}

data = Path(sys.argv[1])
store = Store(data)
for _ in range(int(sys.argv[2])):
    store.publish("clean", "k" * 64, fill)
"""
RECORD = """
import sys
from pathlib import Path
from tasks.runs import RunRecord

RunRecord("20260101T000000-aaaa", {}, [], [], []).save(Path(sys.argv[1]))
"""
CALL = re.compile(r"^\d*\s*(?P<name>write|pwrite64|writev|fsync|fdatasync|rename|renameat|renameat2)\((?P<rest>.*)")
PATH = re.compile(r"\d+<(?P<path>/[^>]*)>")
NAMES = re.compile(r'"(?P<name>[^"]*)"')

Event = tuple[str, str, str]  # write, sync or rename; the path; for a rename, where to


@pytest.fixture
def trace(needs: Callable[[str, bool], None], tmp_path: Path) -> Callable[..., list[Event]]:
    """Run a script under strace and give what it wrote, flushed and renamed below a folder, in order."""
    tracer = shutil.which("strace")
    needs("strace", tracer is not None)
    allowed = subprocess.run([str(tracer), "-o", "/dev/null", "true"], capture_output=True, text=True, check=False)
    if allowed.returncode:
        pytest.skip(f"strace may not trace here: {allowed.stderr.strip()[-200:]}")

    def run(script: str, *arguments: str) -> list[Event]:
        log, data = tmp_path / "log", tmp_path / "data"
        data.mkdir()
        calls = "trace=write,pwrite64,writev,fsync,fdatasync,rename,renameat,renameat2"
        command = [str(tracer), "-f", "-y", "-s", "4096", "-e", calls, "-o", str(log), sys.executable, "-c", script]
        subprocess.run([*command, str(data), *arguments], check=True, timeout=120)
        return [event for line in log.read_text().splitlines() for event in _events(line, data)]

    return run


def _events(line: str, data: Path) -> list[Event]:
    found = CALL.match(line)
    if found is None or " = -1 " in line:
        return []
    name, rest = found["name"], found["rest"]
    if name.startswith("rename"):
        one, other = (match["name"] for match in NAMES.finditer(rest))
        return [("rename", _below(one, data), _below(other, data))]
    target = PATH.match(rest)
    if target is None or not target["path"].startswith(f"{data}"):
        return []
    return [("sync" if "sync" in name else "write", _below(target["path"], data), "")]


def _below(path: str, data: Path) -> str:
    return Path(path).relative_to(data).as_posix()


def last(events: list[Event], kind: str, path: str) -> int:
    return max(n for n, event in enumerate(events) if event[:2] == (kind, path))


def first(events: list[Event], kind: str, path: str) -> int:
    return min(n for n, event in enumerate(events) if event[:2] == (kind, path))


@pytest.mark.parametrize("times", [1, 2])
def test_an_artifact_is_on_disk_before_it_is_visible(trace: Callable[..., list[Event]], times: int) -> None:
    """Data, then fsync of each file, of each folder, rename, fsync of the parent; the second time it is a swap."""
    events = trace(PUBLISH, str(times))
    renames = [n for n, event in enumerate(events) if event[2] == f"artifacts/clean/{'k' * 64}"]
    assert len(renames) == times
    renamed = renames[-1]
    temporary = events[renamed][1]
    files = {path for kind, path, _ in events if kind == "write" and path.startswith(f"{temporary}/")}
    names = {path.removeprefix(f"{temporary}/") for path in files}
    assert names == {"decision.parquet", "model/weights", "manifest.json"}
    folder = last(events, "sync", temporary)
    for file in files:
        assert last(events, "write", file) < first(events, "sync", file) < folder, file
    assert first(events, "sync", f"{temporary}/model/weights") < first(events, "sync", f"{temporary}/model") < folder
    assert folder < renamed < last(events, "sync", "artifacts/clean")
    assert ("sync", "artifacts", "") in events, "the stage's own folder is new too"
    assert ("sync", ".", "") in events


def test_a_run_record_is_on_disk_before_it_is_visible(trace: Callable[..., list[Event]]) -> None:
    events = trace(RECORD)
    record = "runs/20260101T000000-aaaa.json"
    renamed = next(n for n, event in enumerate(events) if event[2] == record)
    temporary = events[renamed][1]
    assert last(events, "write", temporary) < first(events, "sync", temporary) < renamed < last(events, "sync", "runs")
