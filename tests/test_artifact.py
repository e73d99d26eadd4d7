"""An artifact is there whole and verified, or not at all."""

import json
import os
import time
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from pipeline_config.errors import ArtifactError, StageError
from tasks.artifact import Store, read_manifest, write_frame, write_parts
from tasks.kernels import digests
from tasks.kernels.digests import sha256_file


def fill(out: Path) -> dict[str, Any]:
    write_frame(pl.DataFrame({"row_id": ["a", "b"], "n": [1, 2]}), out / "part-00000.parquet")
    write_frame(pl.DataFrame({"row_id": ["c"]}), out / "removed.parquet")
    return {"stage": "clean", "key": "k" * 64, "parents": []}


def published(tmp_path: Path) -> tuple[Store, Path]:
    store = Store(tmp_path)
    return store, store.publish("clean", "k" * 64, fill).path


def test_what_is_published_is_found_again_by_a_new_process(tmp_path: Path) -> None:
    store, path = published(tmp_path)
    store.digests.save()
    found = Store(tmp_path).find("clean", "k" * 64)
    assert found is not None
    assert found.path == path
    assert found.rows().collect()["n"].to_list() == [1, 2]


def store_manifest(path: Path) -> list[dict[str, Any]]:
    files: list[dict[str, Any]] = read_manifest(path)["files"]
    return files


@pytest.mark.parametrize("name", ["part-00000.parquet", "removed.parquet", "manifest.json"])
@pytest.mark.parametrize("harm", ["truncate", "delete", "alter"])
def test_a_damaged_artifact_is_a_miss_that_names_the_file(tmp_path: Path, name: str, harm: str) -> None:
    store, path = published(tmp_path)
    store.digests.save()
    file = path / name
    content = file.read_bytes()
    if harm == "delete":
        file.unlink()
    elif harm == "truncate":
        file.write_bytes(content[:-3])
    else:
        file.write_bytes(content[:20] + bytes([content[20] ^ 1]) + content[21:])
    warnings: list[str] = []
    assert Store(tmp_path).find("clean", "k" * 64, warnings.append) is None
    assert len(warnings) == 1
    assert name in warnings[0] or "manifest" in warnings[0]


def test_a_damaged_artifact_is_replaced(tmp_path: Path) -> None:
    store, path = published(tmp_path)
    (path / "part-00000.parquet").unlink()
    store.publish("clean", "k" * 64, fill)
    assert store.find("clean", "k" * 64) is not None
    assert [p.name for p in path.parent.iterdir()] == ["k" * 64]


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"null", b"\xff\xfe", b'{"stage": "clean"}'])
def test_a_manifest_that_is_none_is_a_miss_that_names_it(tmp_path: Path, content: bytes) -> None:
    store, path = published(tmp_path)
    (path / "manifest.json").write_bytes(content)
    warnings: list[str] = []
    assert store.find("clean", "k" * 64, warnings.append) is None
    assert "manifest.json" in warnings[0]


def test_a_file_that_was_put_into_an_artifact_is_a_miss_that_names_it(tmp_path: Path) -> None:
    """`part-00001.parquet` would be read as rows."""
    store, path = published(tmp_path)
    (path / "part-00001.parquet").write_bytes((path / "part-00000.parquet").read_bytes())
    warnings: list[str] = []
    assert store.find("clean", "k" * 64, warnings.append) is None
    assert "part-00001.parquet" in warnings[0]


@pytest.mark.parametrize("in_the_way", ["file", "empty folder", "folder"])
def test_whatever_is_in_an_artifacts_place_is_replaced(tmp_path: Path, in_the_way: str) -> None:
    store = Store(tmp_path)
    place = store.folder("clean", "k" * 64)
    if in_the_way == "file":
        place.parent.mkdir(parents=True)
        place.write_text("x")
    else:
        place.mkdir(parents=True)
    if in_the_way == "folder":
        (place / "x").write_text("x")
    assert store.find("clean", "k" * 64) is None
    store.publish("clean", "k" * 64, fill)
    assert store.find("clean", "k" * 64) is not None
    assert [p.name for p in place.parent.iterdir()] == ["k" * 64]


def test_an_artifact_is_verified_without_reading_it_unless_asked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store, _ = published(tmp_path)
    store.digests.save()
    read: list[str] = []
    monkeypatch.setattr(digests, "sha256_file", lambda file: read.append(file.name) or sha256_file(file))
    assert Store(tmp_path).find("clean", "k" * 64) is not None
    assert read == []
    assert Store(tmp_path, verify=True).find("clean", "k" * 64) is not None
    assert sorted(read) == ["part-00000.parquet", "removed.parquet"]


def test_other_bytes_behind_the_same_size_and_times_are_found_when_asked_and_for_good(tmp_path: Path) -> None:
    """A disk that forgets a bit changes no time; the memo is made to look as if nothing had changed."""
    store, path = published(tmp_path)
    file = path / "part-00000.parquet"
    content = bytearray(file.read_bytes())
    content[10] ^= 1
    stat = file.stat()
    file.write_bytes(content)
    os.utime(file, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    store.digests.remember(file, next(f["sha256"] for f in store_manifest(path) if f["path"] == file.name))
    store.digests.save()
    assert Store(tmp_path).find("clean", "k" * 64) is not None, "the test's own premise"
    warnings: list[str] = []
    asked = Store(tmp_path, verify=True)
    assert asked.find("clean", "k" * 64, warnings.append) is None
    assert "part-00000.parquet has other bytes" in warnings[0]
    asked.digests.save()
    assert Store(tmp_path).find("clean", "k" * 64) is None


def test_two_processes_remember_their_digests_side_by_side(tmp_path: Path) -> None:
    one, other = Store(tmp_path), Store(tmp_path)
    (tmp_path / "a").write_text("a")
    (tmp_path / "b").write_text("b")
    other.digests.of(tmp_path / "b")  # both have read the memo before either writes it
    one.digests.remember(tmp_path / "a", "digest of a")
    other.digests.remember(tmp_path / "b", "digest of b")
    one.digests.save()
    other.digests.save()
    again = Store(tmp_path).digests
    assert [again.of(tmp_path / name) for name in "ab"] == ["digest of a", "digest of b"]


@pytest.mark.parametrize("content", ["", "[1]", '{"x": 1}', '{"x": [1, 2, 3]}', "{"])
def test_a_damaged_memo_is_forgotten(tmp_path: Path, content: str) -> None:
    _, path = published(tmp_path)
    (tmp_path / "file_digests.json").write_text(content)
    store = Store(tmp_path)
    assert store.find("clean", "k" * 64) is not None
    store.digests.remember(path / "manifest.json", "x")
    store.digests.save()
    assert Store(tmp_path).find("clean", "k" * 64) is not None


def test_a_clock_that_was_set_back_fools_no_memo(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Files are then of the future: their digests are remembered like those of old ones, and a change is seen."""
    file = tmp_path / "a"
    file.write_text("one")
    day_ago = time.time_ns() - 86_400_000_000_000
    monkeypatch.setattr(time, "time_ns", lambda: day_ago)
    first = Store(tmp_path).digests
    value = first.of(file)
    first.save()
    read: list[Path] = []
    monkeypatch.setattr(digests, "sha256_file", lambda path: read.append(path) or sha256_file(path))
    assert Store(tmp_path).digests.of(file) == value
    assert read == []
    file.write_text("two")
    os.utime(file, ns=(day_ago, day_ago))
    assert Store(tmp_path).digests.of(file) != value


@pytest.mark.parametrize("writer", ["polars", "json", "numpy"])
def test_a_full_disk_is_a_clear_error_whoever_writes(tmp_path: Path, writer: str) -> None:
    """Each library reports it in its own way; /dev/full is a disk without room."""

    def full(out: Path) -> dict[str, Any]:
        import numpy as np

        (out / "data").symlink_to("/dev/full")
        frame = pl.DataFrame({"a": list(range(10_000))})
        if writer == "polars":
            write_frame(frame, out / "data")
        elif writer == "json":
            (out / "data").write_text(frame.write_json())
        else:
            np.arange(100_000).tofile(out / "data")
        return {}

    store = Store(tmp_path)
    with pytest.raises(ArtifactError, match=r"can't be written: (No space left|the disk took)") as caught:
        store.publish("clean", "k" * 64, full)
    assert "free some space" in caught.value.cure
    assert caught.value.exit_code == 1
    assert list((tmp_path / "artifacts" / "clean").iterdir()) == []


def test_an_input_that_vanishes_is_not_blamed_on_the_disk(tmp_path: Path) -> None:
    def read(out: Path) -> dict[str, Any]:
        (tmp_path / "gone.jsonl").read_text()
        return {}

    with pytest.raises(StageError, match=r"gone\.jsonl"):
        Store(tmp_path).publish("clean", "k" * 64, read)


def test_the_digest_covers_data_and_no_ledger(tmp_path: Path) -> None:
    store = Store(tmp_path)
    first = store.publish("clean", "a" * 64, fill)

    def other_ledger(out: Path) -> dict[str, Any]:
        manifest = fill(out)
        write_frame(pl.DataFrame({"row_id": ["d"]}), out / "removed.parquet")
        return manifest

    def other_rows(out: Path) -> dict[str, Any]:
        manifest = fill(out)
        write_frame(pl.DataFrame({"row_id": ["a"], "n": [1]}), out / "part-00000.parquet")
        return manifest

    assert store.publish("clean", "b" * 64, other_ledger).digest == first.digest
    assert store.publish("clean", "c" * 64, other_rows).digest != first.digest


def test_equal_frames_give_equal_bytes_and_no_rows_give_one_part(tmp_path: Path) -> None:
    frame = pl.DataFrame({"row_id": [f"{i:016x}" for i in range(50_000)], "x": list(range(50_000))})
    frame = frame.with_columns(texts=pl.concat_list(pl.col("row_id").repeat_by(9).list.join(" ")))
    chunked = pl.concat([frame[:100], frame[100:]], rechunk=False)
    part = pl.concat([frame, frame]).rechunk()[50_000:]
    written = []
    for same in (frame, chunked, part):
        write_frame(same, tmp_path / "a.parquet")
        written.append((tmp_path / "a.parquet").read_bytes())
    assert written[0] == written[1] == written[2]
    write_parts(frame.clear(), tmp_path)
    assert pl.read_parquet(tmp_path / "part-00000.parquet").height == 0


def test_a_file_changed_after_hashing_is_seen_although_size_and_mtime_are_the_same(tmp_path: Path) -> None:
    store, path = published(tmp_path)
    store.digests.save()
    file = path / "part-00000.parquet"
    stat = file.stat()
    content = bytearray(file.read_bytes())
    content[10] ^= 1
    file.write_bytes(content)
    os.utime(file, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    assert Store(tmp_path).find("clean", "k" * 64) is None


def test_the_manifest_lists_every_file_with_its_digest(tmp_path: Path) -> None:
    _, path = published(tmp_path)
    manifest = json.loads((path / "manifest.json").read_text())
    assert [file["path"] for file in manifest["files"]] == ["part-00000.parquet", "removed.parquet"]
    assert all(len(file["sha256"]) == 64 for file in manifest["files"])


def test_what_is_published_reads_as_what_is_found_down_to_the_order_of_keys(tmp_path: Path) -> None:
    """The report shows configurations: it must not tell a stage that just ran from a cached one."""
    store = Store(tmp_path)
    new = store.publish("clean", "k" * 64, lambda out: fill(out) | {"config": {"b": 1, "a": (2, 3)}})
    found = store.find("clean", "k" * 64)
    assert found is not None
    assert json.dumps(new.manifest) == json.dumps(found.manifest)
