"""Checkpoints of a training run: the newest whole one is gone on from; a half one never is.

A checkpoint is whole once it is sealed: its files are flushed to the disk, and a list of them with their sizes is put
beside them in one step. Older ones go only after that, by the step they were made at: times depend on the clock.
"""

import json
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from pipeline_config.errors import StageError
from tasks.kernels.durable import no_room, sync, sync_tree, write_whole

_SEAL = "whole.json"


@contextmanager
def whole_checkpoint(folder: Path, place: str) -> Iterator[None]:
    """Let a checkpoint be written into a folder, then seal it; one that fails is removed.

    Raises:
        StageError: it can't be written (disk full).
    """
    shutil.rmtree(folder, ignore_errors=True)
    try:
        yield
        sync_tree(folder)
        write_whole(folder / _SEAL, json.dumps({"files": _sizes(folder)}, indent=0, sort_keys=True))
    except BaseException as error:
        shutil.rmtree(folder, ignore_errors=True)
        if not isinstance(error, Exception):
            raise
        raise StageError(
            f"a checkpoint can't be written to {folder.parent}: {no_room(error) or error}",
            place=place,
            cure="free some space or choose another --data-dir, then run the same command again",
        ) from error
    sync(folder.parent)


def last_checkpoint(work: Path) -> Path | None:
    """The newest whole checkpoint of a folder; halves left by a kill are removed."""
    whole = []
    for folder in work.glob("checkpoint-*"):
        if _is_whole(folder):
            whole.append(folder)
        else:
            shutil.rmtree(folder, ignore_errors=True)
    return max(whole, key=_step, default=None)


def drop_older(newest: Path, best: str | None) -> None:
    """Remove the checkpoints before the newest one, but for the best."""
    for folder in newest.parent.glob("checkpoint-*"):
        if folder.name != newest.name and folder.name != Path(best or "").name:
            shutil.rmtree(folder, ignore_errors=True)


def clear_checkpoints(work: Path) -> None:
    """Remove the checkpoints of a stage that is published: a forced run of the same settings starts from the beginning.

    Args:
        work: the stage's work folder; a stage that trains several models has a folder for each in it.
    """
    for folder in [*work.glob("checkpoint-*"), *work.glob("*/checkpoint-*")]:
        shutil.rmtree(folder, ignore_errors=True)


def _is_whole(folder: Path) -> bool:
    try:
        return bool(json.loads((folder / _SEAL).read_text("utf-8"))["files"] == _sizes(folder))
    except (OSError, ValueError, KeyError, TypeError):
        return False


def _sizes(folder: Path) -> dict[str, int]:
    files = [path for path in folder.rglob("*") if path.is_file() and path.name != _SEAL]
    return {path.relative_to(folder).as_posix(): path.stat().st_size for path in files}


def _step(folder: Path) -> int:
    return int(folder.name.rpartition("-")[2])
