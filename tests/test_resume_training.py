"""Training that is killed goes on from its last checkpoint as if nothing had been: same data, same losses, same bytes.

Each case is killed at random batches (seeded), while a checkpoint is half written, when it is written but not yet
sealed, when it is sealed and the older one still there, and when training is over but nothing published; every attempt
goes on from what the one before left.
"""

import hashlib
import json
import random
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from pipeline_config.errors import StageError
from tasks.kernels.checkpoints import clear_checkpoints, drop_older, last_checkpoint, whole_checkpoint

COMMON = {"per_device_train_batch_size": 2, "gradient_accumulation_steps": 2, "packed_length": 64, "precision": "fp32"}
CASES: dict[str, dict[str, Any]] = {
    "lora": {
        "stage": "train",
        "section": COMMON
        | {"method": "lora", "lora": {"lora_dropout": 0.2}, "lr_scheduler_type": "cosine", "warmup_ratio": 0.2}
        | {"learning_rate": 0.01, "max_steps": 16, "save_steps": 3, "eval_steps": 4},
    },
    "full": {
        "stage": "train",
        "section": COMMON
        | {"method": "full", "lr_scheduler_type": "linear", "optim": "adam", "packing": False}
        | {"learning_rate": 0.003, "max_steps": 20, "save_steps": 3, "eval_steps": 4},
    },
    "early stopping": {
        "stage": "train",
        "section": COMMON
        | {"method": "full", "learning_rate": 0.03, "num_train_epochs": 60, "eval_steps": 3}
        | {"early_stopping": {"patience": 2}},
    },
    "distill": {
        "stage": "distill",
        "section": {"small": COMMON | {"layers": 2, "learning_rate": 0.01, "max_steps": 16, "save_steps": 3}},
    },
}


def kills(case: str) -> list[tuple[str, int]]:
    draw = random.Random(case)
    moments = ("saving", "sealing", "sealed", "publishing")
    return [("batch", draw.randint(8, 12)), ("batch", draw.randint(4, 9)), *((moment, 1) for moment in moments)]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Each case trained undisturbed and killed six times."""
    place = tmp_path_factory.mktemp("killed")
    cases = json.dumps({name: case | {"kills": kills(name)} for name, case in CASES.items()})
    command = [sys.executable, "-m", "tests.killed_training", cases, str(place)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=900)
    assert done.returncode == 0, done.stderr
    (place / "stderr").write_text(done.stderr)
    return place


def digests(folder: Path) -> dict[str, str]:
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


@pytest.mark.parametrize("case", CASES)
def test_a_training_that_is_killed_again_and_again_ends_as_one_that_never_was(folder: Path, case: str) -> None:
    whole, broken = folder / case / "whole", folder / case / "broken"
    attempts = json.loads((broken / "attempts.json").read_text())
    errors = (folder / "stderr").read_text()
    assert [attempt["status"] for attempt in attempts] == [9] * len(kills(case)) + [0], errors
    first, second = (json.loads(next((place / "out").rglob("history.json")).read_text()) for place in (whole, broken))
    assert second == first, "losses differ"
    assert digests(broken / "out") == digests(whole / "out")
    begun = [attempt["steps"][0] for attempt in attempts if attempt["steps"]]
    assert begun[0] == 0
    assert begun == sorted(begun)
    assert len(set(begun)) >= 4, f"attempts began at {begun}"
    computed = json.loads((whole / "attempts.json").read_text())[0]["steps"]
    assert {step for attempt in attempts for step in attempt["steps"]} == set(computed)


def checkpoint(work: Path, step: int) -> Path:
    folder = work / f"checkpoint-{step}"
    with whole_checkpoint(folder, "train"):
        (folder / "deep").mkdir(parents=True)
        (folder / "model").write_bytes(b"x" * step)
        (folder / "deep" / "state").write_bytes(b"y")
    return folder


def test_the_newest_checkpoint_is_the_one_of_the_latest_step_whatever_the_clock_said(tmp_path: Path) -> None:
    import os

    folders = [checkpoint(tmp_path, step) for step in (9, 10)]
    os.utime(folders[1], (0, 0))
    assert last_checkpoint(tmp_path) == folders[1]
    drop_older(folders[1], None)
    assert [path.name for path in tmp_path.iterdir()] == ["checkpoint-10"]


@pytest.mark.parametrize("harm", ["truncated", "deleted", "unsealed", "seal half written", "added"])
def test_a_half_checkpoint_is_never_used_and_goes(tmp_path: Path, harm: str) -> None:
    older, newer = checkpoint(tmp_path, 4), checkpoint(tmp_path, 8)
    if harm == "truncated":
        (newer / "model").write_bytes(b"x")
    elif harm == "deleted":
        (newer / "deep" / "state").unlink()
    elif harm == "unsealed":
        (newer / "whole.json").unlink()
    elif harm == "seal half written":
        (newer / "whole.json").write_text('{"files": {"mod')
    else:
        (newer / "optimizer.pt").write_bytes(b"z")
    assert last_checkpoint(tmp_path) == older
    assert not newer.exists()


def test_a_full_disk_while_saving_is_a_clear_error_and_leaves_the_checkpoint_before(tmp_path: Path) -> None:
    import torch

    older = checkpoint(tmp_path, 4)
    folder = tmp_path / "checkpoint-8"

    def save() -> None:
        with whole_checkpoint(folder, "train"):
            folder.mkdir()
            (folder / "optimizer.pt").symlink_to("/dev/full")
            torch.save({"a": torch.zeros(10_000)}, folder / "optimizer.pt")

    with pytest.raises(StageError, match="checkpoint can't be written") as caught:
        save()
    assert "free some space" in caught.value.cure
    assert not folder.exists()
    assert last_checkpoint(tmp_path) == older


def test_checkpoints_of_students_go_with_the_others(tmp_path: Path) -> None:
    checkpoint(tmp_path, 4)
    checkpoint(tmp_path / "small", 4)
    (tmp_path / "lock").touch()
    clear_checkpoints(tmp_path)
    assert [path.name for path in tmp_path.rglob("*") if path.name != "small"] == ["lock"]
