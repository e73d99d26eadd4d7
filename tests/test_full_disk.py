"""Disks that are full or can't be written: a clear error, nothing half left, and the same run again is whole."""

import os
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from pipeline_config.errors import ArtifactError
from tasks.runs import RunRecord
from tests.command import Workplace
from tests.plain_run import write_config, write_source
from tests.test_two_runs import run

Mount = Callable[[Path, str], None]


@pytest.fixture
def mount() -> Iterator[Mount]:
    """Mount a memory disk with options of mount(8), or skip where that is not permitted."""
    mounted: list[Path] = []

    def do(folder: Path, options: str) -> None:
        folder.mkdir(exist_ok=True, parents=True)
        command = ["mount", "-t", "tmpfs", "-o", options, "winnow-test", str(folder)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            pytest.skip(f"no disk may be mounted here: {done.stderr.strip()[-200:]}")
        mounted.append(folder)

    yield do
    for folder in reversed(mounted):
        subprocess.run(["umount", str(folder)], check=True)


def stopped_by(data: Path, config: Path) -> ArtifactError | None:
    try:
        run(data, config)
    except ArtifactError as error:
        return error
    return None


def test_a_disk_that_fills_up_at_any_write_leaves_nothing_half(tmp_path: Path, mount: Mount) -> None:
    """The same run with more and more room, until it comes through."""
    write_source(tmp_path)
    config = write_config(tmp_path)
    run(tmp_path / "alone", config)
    data, room, stopped = tmp_path / "data", 16, set()
    mount(data, f"size={room}k")
    while (error := stopped_by(data, config)) is not None:
        assert "No space left" in error.message
        assert "free some space" in error.cure
        assert [path for path in (data / "artifacts").rglob("*") if ".tmp" in path.name] == []
        stopped.add(error.place)
        room += 4
        assert room < 10_000
        subprocess.run(["mount", "-o", f"remount,size={room}k", str(data)], check=True)
    assert len(stopped) == 4, stopped
    whole, found = (
        {str(path.relative_to(folder)): path.read_bytes() for path in folder.glob("artifacts/*/*/*.parquet")}
        for folder in (tmp_path / "alone", data)
    )
    assert found == whole


@pytest.mark.parametrize("what", ["artifacts is a file", "a stage's folder is a file", "runs is a file"])
def test_a_place_that_cannot_be_written_is_found_before_anything_runs(tmp_path: Path, what: str) -> None:
    """Permissions would not bind root; a file in a folder's place binds everybody."""
    write_source(tmp_path)
    config = write_config(tmp_path)
    place = Workplace(tmp_path / "data", tmp_path / "prefect")
    name = {"a": "artifacts", "r": "runs"}[what[0]]
    blocked = place.data / ("artifacts/dedupe" if "stage" in what else name)
    blocked.parent.mkdir(parents=True)
    blocked.write_text("")
    done = place.winnow("run", str(config))
    assert done.returncode == 2
    assert f"{blocked} can't be written" in done.stderr
    assert "name a folder that you may write to" in done.stderr
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "prefect").exists()


def test_a_disk_mounted_read_only_is_found_before_anything_runs(tmp_path: Path, mount: Mount) -> None:
    write_source(tmp_path)
    config = write_config(tmp_path)
    place = Workplace(tmp_path / "data", tmp_path / "prefect")
    mount(place.data / "artifacts", "ro,size=64k")
    done = place.winnow("run", str(config))
    assert done.returncode == 2
    assert "can't be written: Read-only file system" in done.stderr
    assert [path.name for path in place.data.iterdir() if path.is_file()] == []


def test_a_record_on_a_full_disk_is_a_clear_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(handle: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    (tmp_path / "runs").mkdir()
    with pytest.raises(ArtifactError, match="No space left") as caught:
        RunRecord("20260101T000000-aaaa", {}, [], [], []).save(tmp_path)
    assert caught.value.exit_code == 1
    assert list((tmp_path / "runs").iterdir()) == []
