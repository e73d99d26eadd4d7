"""Publishing, interrupted at every step: an error of the system, or a SIGKILL, just before each call that changes disk.

After each: what is visible is whole or not there; the next run puts the same bytes there and clears what was left.
"""

import contextlib
import errno
import io
import os
import shutil
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from pipeline_config.errors import ArtifactError
from tasks.artifact import Store
from tasks.kernels import durable
from tasks.kernels.digests import FileDigests
from tasks.kernels.durable import put_in_place, sweep, temporary_folder, write_whole

KEY = "k" * 64
CALLS: dict[str, tuple[Any, str]] = {
    "mkdir": (os, "mkdir"),
    "write": (io, "open"),
    "fsync": (os, "fsync"),
    "rename": (os, "rename"),
    "exchange": (durable, "_exchange"),
    "remove": (shutil, "rmtree"),
}


def fill(out: Path) -> dict[str, Any]:
    (out / "decision.parquet").write_bytes(b"decision" * 500)
    (out / "model").mkdir()
    (out / "model" / "weights").write_bytes(b"weights" * 500)
    return {"stage": "clean", "key": KEY, "parents": []}


@contextmanager
def interrupted(call: str, at: int, how: Callable[[], None]) -> Iterator[list[int]]:
    """Do `how` in place of the `at`-th call; give the number of calls so far."""
    module, name = CALLS[call]
    real, seen = getattr(module, name), [0]

    def instead(*args: Any, **kwargs: Any) -> Any:
        if call == "write" and "w" not in str(args[1:2]):
            return real(*args, **kwargs)
        seen[0] += 1
        if seen[0] == at:
            how()
        return real(*args, **kwargs)

    setattr(module, name, instead)
    try:
        yield seen
    finally:
        setattr(module, name, real)


def fail() -> None:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def kill() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def prepare(data: Path, before: str) -> None:
    if before == "nothing":
        return
    path = Store(data).publish("clean", KEY, fill).path
    if before == "damaged":
        (path / "model" / "weights").write_bytes(b"half")


def contents(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


def leftovers(data: Path) -> list[str]:
    return [str(p.relative_to(data)) for p in data.rglob("*") if ".tmp" in p.name]


def count_calls(data: Path, call: str, before: str) -> int:
    prepare(data, before)
    with interrupted(call, 0, fail) as seen:
        Store(data).publish("clean", KEY, fill)
    return seen[0]


def check_after(data: Path, before: str, undisturbed: dict[str, bytes], place: str) -> None:
    found = Store(data).find("clean", KEY)
    if found is not None:
        assert contents(found.path) == undisturbed, place
    else:
        assert before != "whole", f"{place}: the artifact that was there is gone"
    assert contents(Store(data).publish("clean", KEY, fill).path) == undisturbed, place
    assert Store(data).find("clean", KEY) is not None, place
    assert [name for name in leftovers(data) if name.startswith("artifacts")] == [], place
    Store(data).sweep()  # as at the start of every run
    assert leftovers(data) == [], place
    assert [p.name for p in (data / "artifacts" / "clean").iterdir()] == [KEY], place


@pytest.mark.parametrize("swaps", [True, False])
@pytest.mark.parametrize("before", ["nothing", "damaged", "whole"])
@pytest.mark.parametrize("call", CALLS)
def test_an_error_at_any_step_leaves_nothing_half(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: str, before: str, swaps: bool
) -> None:
    """Also where the file system can't swap two folders. What is only remembered may fail to be written, in silence."""
    monkeypatch.setattr(FileDigests, "save", lambda self: None)
    if not swaps:
        monkeypatch.setattr(durable, "_exchange", lambda one, other: False)
    undisturbed = contents(Store(tmp_path / "undisturbed").publish("clean", KEY, fill).path)
    for at in range(1, count_calls(tmp_path / "count", call, before) + 1):
        data = tmp_path / str(at)
        prepare(data, before)
        place = f"{call} {at}, before: {before}"
        with interrupted(call, at, fail):
            if call == "remove":
                with contextlib.suppress(OSError, ArtifactError):
                    Store(data).publish("clean", KEY, fill)
            else:
                with pytest.raises(ArtifactError, match="No space left") as caught:
                    Store(data).publish("clean", KEY, fill)
                assert "free some space" in caught.value.cure, place
        if call != "remove":
            assert leftovers(data) == [], place
        check_after(data, before, undisturbed, place)


@pytest.mark.parametrize("before", ["nothing", "damaged", "whole"])
@pytest.mark.parametrize("call", CALLS)
def test_a_kill_at_any_step_leaves_nothing_half(tmp_path: Path, call: str, before: str) -> None:
    undisturbed = contents(Store(tmp_path / "undisturbed").publish("clean", KEY, fill).path)
    for at in range(1, count_calls(tmp_path / "count", call, before) + 1):
        data = tmp_path / str(at)
        prepare(data, before)
        child = os.fork()
        if child == 0:
            with interrupted(call, at, kill):
                Store(data).publish("clean", KEY, fill)
            os._exit(0)
        assert os.waitpid(child, 0)[1] == signal.SIGKILL, f"{call} {at}"
        check_after(data, before, undisturbed, f"{call} {at}, before: {before}")


def test_temporaries_of_the_living_are_left_alone(tmp_path: Path) -> None:
    with temporary_folder(tmp_path, "ours") as ours:
        (tmp_path / ".dead-123.tmp").mkdir()
        (tmp_path / ".dead-123.tmp" / "part").write_text("half")
        (tmp_path / ".record.json-1.tmp").write_text("half")
        child = os.fork()
        if child == 0:  # another process sweeps, and so does the next writer
            sweep(tmp_path)
            with temporary_folder(tmp_path, "theirs") as theirs:
                os._exit(0 if ours.is_dir() and theirs.is_dir() else 1)
        assert os.waitpid(child, 0)[1] == 0
        assert [p.name for p in tmp_path.iterdir() if p != ours and "theirs" not in p.name] == []
    sweep(tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_two_who_publish_the_same_at_once_both_succeed(tmp_path: Path) -> None:
    """A run with another threshold wants the same scores: no lock is common to both."""
    children = []
    for _ in range(4):
        child = os.fork()
        if child == 0:
            try:
                for _ in range(50):
                    Store(tmp_path).publish("clean", KEY, fill)
            except BaseException:
                os._exit(1)
            os._exit(0)
        children.append(child)
    missing = 0
    while children:
        missing += not (tmp_path / "artifacts" / "clean" / KEY / "manifest.json").exists() and len(children) < 4
        done, status = os.waitpid(-1, os.WNOHANG)
        if done:
            assert status == 0
            children.remove(done)
    assert missing == 0, "an artifact that was there was gone for a moment"
    assert Store(tmp_path).find("clean", KEY) is not None
    assert leftovers(tmp_path) == []


def test_a_folder_that_cannot_be_replaced_stays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Moved aside for a new one that can't come: it is put back."""
    monkeypatch.setattr(durable, "_exchange", lambda one, other: False)
    final = tmp_path / "final"
    final.mkdir()
    (final / "x").write_text("old")
    with (
        temporary_folder(tmp_path, "new") as new,
        interrupted("rename", 3, fail),
        pytest.raises(OSError, match="space"),
    ):
        put_in_place(new, final)
    assert (final / "x").read_text() == "old"
    assert [p.name for p in tmp_path.iterdir()] == ["final"]


def test_a_text_file_is_replaced_in_one_step(tmp_path: Path) -> None:
    path = tmp_path / "record.json"
    write_whole(path, "old")
    for call in ("write", "fsync"):
        with interrupted(call, 1, fail), pytest.raises(OSError, match="space"):
            write_whole(path, "new")
        assert path.read_text() == "old"
        assert [p.name for p in tmp_path.iterdir()] == ["record.json"]
    write_whole(path, "new")
    assert path.read_text() == "new"
