"""Checkpoints of a training run: the newest whole one, and none once the run is over."""

import json
import shutil
from pathlib import Path

_STATE = "trainer_state.json"  # written last into a checkpoint: one without it is half a checkpoint


def last_checkpoint(work: Path) -> Path | None:
    """The newest whole checkpoint of a folder; halves left by a kill are removed."""
    whole: dict[int, Path] = {}
    for folder in work.glob("checkpoint-*"):
        try:
            whole[int(json.loads((folder / _STATE).read_text())["global_step"])] = folder
        except (OSError, ValueError, KeyError):
            shutil.rmtree(folder, ignore_errors=True)
    return whole[max(whole)] if whole else None


def clear_checkpoints(work: Path) -> None:
    """Remove the checkpoints of a run that is over: a forced run of the same settings starts from the beginning."""
    for folder in work.glob("checkpoint-*"):
        shutil.rmtree(folder, ignore_errors=True)
