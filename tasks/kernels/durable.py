"""Files and folders that are there whole or not at all, and outlive a power cut.

What is written goes to a temporary place first, is flushed (fsync: the files, then their folder), renamed, and the
rename is flushed too. A temporary folder is held by a lock on the folder itself, which the system lets go of when its
process dies, however that happens: so a later run knows what is left over from what another process is still writing,
and no process id is trusted.
"""

import contextlib
import ctypes
import errno
import fcntl
import os
import re
import secrets
import shutil
from collections.abc import Iterator
from pathlib import Path

_MARK = ".tmp"
_TRIES = 100
_NO_ROOM = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS}
_OCCUPIED = {errno.ENOTEMPTY, errno.EEXIST, errno.ENOTDIR}
_HERE, _EXCHANGE = -100, 2  # AT_FDCWD, RENAME_EXCHANGE of <linux/fs.h>
_OS_ERROR = re.compile(r"\(os error (\d+)\)")  # how libraries written in Rust (Polars, safetensors) report one

_PARTLY = re.compile(r"requested and \d+ written")  # numpy, which gives no number


def sync(path: Path) -> None:
    """Flush one file or folder to the disk (fsync)."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def sync_tree(folder: Path) -> None:
    """Flush every file below a folder, then the folders, the folder itself last."""
    inside = sorted(folder.rglob("*"))
    for path in inside:
        if path.is_file():
            sync(path)
    for path in reversed(inside):
        if path.is_dir():
            sync(path)
    sync(folder)


def make_folder(folder: Path) -> None:
    """Make a folder and what is missing above it, so that none of them is lost in a power cut."""
    if folder.is_dir():
        return
    make_folder(folder.parent)
    folder.mkdir(exist_ok=True)
    sync(folder.parent)


def write_whole(path: Path, text: str) -> None:
    """Write a text file in one step: a reader sees the old one or the new one."""
    make_folder(path.parent)
    temporary = path.with_name(f".{path.name}-{secrets.token_hex(6)}{_MARK}")
    try:
        with temporary.open("w", encoding="utf-8") as stream:
            fcntl.flock(stream, fcntl.LOCK_EX)  # so that `sweep` leaves it alone
            stream.write(text)
            stream.flush()
            os.fsync(stream.fileno())
            temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
    sync(path.parent)


@contextlib.contextmanager
def temporary_folder(parent: Path, name: str) -> Iterator[Path]:
    """A new folder in `parent`, held until it is left; what is then still in its place is removed.

    Args:
        parent: made if missing; leftovers of dead processes in it are removed.
    """
    make_folder(parent)
    sweep(parent)
    for _ in range(_TRIES):
        folder = parent / f".{name}-{secrets.token_hex(6)}{_MARK}"
        folder.mkdir()
        handle = _hold(folder)
        if handle is not None:
            break
    else:
        raise OSError(errno.EBUSY, "temporary folders vanish as soon as they are made", str(parent))
    try:
        yield folder
    finally:
        _remove(folder)
        os.close(handle)


def sweep(parent: Path) -> None:
    """Remove the temporaries in a folder that no living process holds."""
    for path in parent.glob(f".*{_MARK}*"):
        handle = _hold(path)
        if handle is not None:
            _remove(path)
            os.close(handle)


def put_in_place(temporary: Path, final: Path) -> None:
    """Make a temporary folder the final one, in one step; what was in its place is removed after.

    Where the file system can't exchange two folders, the one in the way is moved aside first, and back again if the
    new one can't take its place.
    """
    aside = temporary.with_name(f"{temporary.name}.old")
    for _ in range(_TRIES):  # another process may put its own there, or take it away, at any moment
        try:
            temporary.rename(final)
            break
        except OSError as error:
            if error.errno not in _OCCUPIED:
                if aside.exists() and not final.exists():
                    aside.rename(final)
                raise
        if _exchange(temporary, final):
            break
        with contextlib.suppress(FileNotFoundError):
            final.rename(aside)
    try:
        sync(final.parent)
    finally:
        _remove(aside)


def is_held(path: Path) -> bool:
    """Whether a living process holds a lock file for itself; not if the file is gone."""
    try:
        with path.open() as handle:
            fcntl.flock(handle, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except FileNotFoundError:
        return False
    except BlockingIOError:
        return True
    return False


def no_room(error: BaseException) -> str:
    """Why nothing could be written (`No space left on device`), if that is what an error says; else the empty text."""
    code = error.errno if isinstance(error, OSError) else None
    found = _OS_ERROR.search(str(error))
    if code is None and found:
        code = int(found.group(1))
    if code is None and _PARTLY.search(str(error)):
        return "the disk took only a part"
    return os.strerror(code) if code in _NO_ROOM else ""


def _hold(path: Path) -> int | None:
    """A handle that locks a file or folder; None if another process holds it, or it is gone."""
    try:
        handle = os.open(path, os.O_RDONLY | os.O_NOFOLLOW)
    except OSError:
        return None
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if os.fstat(handle).st_ino == path.stat().st_ino:
            return handle
    except OSError:
        pass
    os.close(handle)
    return None


def _exchange(one: Path, other: Path) -> bool:
    """Swap two folders in one step (Linux's renameat2); False where that can't be done."""
    try:
        swap = ctypes.CDLL(None).renameat2
    except (AttributeError, OSError):
        return False
    return bool(swap(_HERE, os.fsencode(one), _HERE, os.fsencode(other), _EXCHANGE) == 0)


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)
