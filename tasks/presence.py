"""Who is at work in a data folder: locks that the kernel frees when their process dies, however it dies.

A run holds `runs/.<run_id>.lock` from its record's first line to its last, so a record that says `running` without that
lock belongs to a run that was killed. A process id would not do: it is given to somebody else, and another machine on
the same folder can't ask for it.

`noting` is shared by runs for the moment in which they look an artifact up and note its key in their record;
`collecting` is held alone while `winnow gc` reads the records and moves away what none of them names. So nothing goes
between the look and the note, and a run never waits longer than a few renames.
"""

import fcntl
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tasks.kernels.durable import is_held

_COLLECTION = ".collection.lock"


class Presence:
    """A run's lock, held until `leave` or the end of the process."""

    def __init__(self, data_dir: Path, run_id: str) -> None:
        self.path = _lock_file(data_dir, run_id)
        with noting(data_dir):  # else gc could take the file for a dead run's between these two lines
            self._handle = self.path.open("w")
            fcntl.flock(self._handle, fcntl.LOCK_EX)

    def leave(self) -> None:
        """Give the lock back and remove its file."""
        self.path.unlink(missing_ok=True)
        self._handle.close()


def is_running(data_dir: Path, run_id: str) -> bool:
    """Whether a living process, on any machine that shares the folder's locks, holds the run."""
    return is_held(_lock_file(data_dir, run_id))


def running(data_dir: Path) -> set[str]:
    """Ids of all runs at work, those whose record is not written yet among them."""
    names = [path.name.removeprefix(".").removesuffix(".lock") for path in (data_dir / "runs").glob(".*.lock")]
    return {name for name in names if f".{name}.lock" != _COLLECTION and is_running(data_dir, name)}


@contextmanager
def noting(data_dir: Path) -> Iterator[None]:
    """Held by a run while it looks an artifact up and notes its key."""
    with _held(data_dir, fcntl.LOCK_SH):
        yield


@contextmanager
def collecting(data_dir: Path) -> Iterator[None]:
    """Held by gc while it decides what no record names, and moves it away."""
    with _held(data_dir, fcntl.LOCK_EX):
        yield


@contextmanager
def _held(data_dir: Path, kind: int) -> Iterator[None]:
    path = data_dir / "runs" / _COLLECTION
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a") as handle:
        fcntl.flock(handle, kind)
        yield


def _lock_file(data_dir: Path, run_id: str) -> Path:
    return data_dir / "runs" / f".{run_id}.lock"
