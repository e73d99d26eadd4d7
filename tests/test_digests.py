"""File digests: read once, believed only while nothing says that a file may have changed."""

import os
import time
from pathlib import Path

import pytest

from tasks.kernels import digests
from tasks.kernels.digests import FileDigests, sha256_file

LONG_AGO = time.time() - 1000


@pytest.fixture
def read(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The names of the files whose bytes were read; files count as settled as soon as they are written."""
    names: list[str] = []

    def reading(path: Path) -> str:
        names.append(path.name)
        return sha256_file(path)

    monkeypatch.setattr(digests, "sha256_file", reading)
    monkeypatch.setattr(digests, "SETTLE_NS", -(10**12))
    return names


def write(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


def test_a_file_is_read_once_until_its_stamp_changes(tmp_path: Path, read: list[str]) -> None:
    path = write(tmp_path / "outside" / "a", "one")
    for _ in range(2):
        known = FileDigests(tmp_path / "data")
        known.of(path)
        known.save()
    assert read == ["a"]
    os.utime(path, (LONG_AGO, LONG_AGO))
    assert known.of(path) == sha256_file(path)
    write(path, "two")
    os.utime(path, (LONG_AGO, LONG_AGO))  # same size and time stamp: the inode's own time tells
    assert known.of(path) == sha256_file(path)
    assert read == ["a", "a", "a"]


def test_a_file_that_may_still_change_is_read_again(tmp_path: Path) -> None:
    path = write(tmp_path / "a", "one")
    known = FileDigests(tmp_path)
    known.of(path)
    known.save()
    assert not (tmp_path / "file_digests.json").exists()


def test_moving_the_data_folder_forgets_nothing_inside_it(tmp_path: Path, read: list[str]) -> None:
    write(tmp_path / "data" / "artifacts" / "part", "rows")
    known = FileDigests(tmp_path / "data")
    before = known.of(tmp_path / "data" / "artifacts" / "part")
    known.save()
    (tmp_path / "data").rename(tmp_path / "moved")
    assert FileDigests(tmp_path / "moved").of(tmp_path / "moved" / "artifacts" / "part") == before
    assert read == ["part"]


def test_two_that_save_in_turn_keep_what_the_other_learned(tmp_path: Path, read: list[str]) -> None:
    paths = [write(tmp_path / name, name) for name in "ab"]
    both = [FileDigests(tmp_path), FileDigests(tmp_path)]
    for known, path in zip(both, paths, strict=True):
        known.of(path)
    for known in both:
        known.save()
    for path in paths:
        FileDigests(tmp_path).of(path)
    assert read == ["a", "b"]


@pytest.mark.parametrize("left", ["", "{", "[]", '{"a": 1}'])
def test_a_broken_memory_is_no_memory(tmp_path: Path, left: str) -> None:
    write(tmp_path / "file_digests.json", left)
    path = write(tmp_path / "b", "text")
    assert FileDigests(tmp_path).of(path) == sha256_file(path)
