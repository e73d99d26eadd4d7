"""An artifact is there whole and verified, or not at all."""

import json
import os
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from pipeline_config.errors import ArtifactError
from tasks.artifact import Store, write_frame, write_parts


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


@pytest.mark.parametrize("step", ["fill", "fsync", "rename"])
def test_a_failure_while_publishing_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: str) -> None:
    def full(*args: object, **kwargs: object) -> None:
        raise OSError(28, "No space left on device")

    store = Store(tmp_path)
    if step == "fsync":
        monkeypatch.setattr(os, "fsync", full)
    if step == "rename":
        monkeypatch.setattr(Path, "rename", full)
    with pytest.raises(ArtifactError, match="No space left") as caught:
        store.publish("clean", "k" * 64, full if step == "fill" else fill)  # type: ignore[arg-type]
    assert "free some space" in caught.value.cure
    monkeypatch.undo()
    assert list((tmp_path / "artifacts" / "clean").iterdir()) == []
    assert store.find("clean", "k" * 64) is None


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
    chunked = pl.concat([frame[:100], frame[100:]], rechunk=False)
    write_frame(frame, tmp_path / "a.parquet")
    write_frame(chunked, tmp_path / "b.parquet")
    assert (tmp_path / "a.parquet").read_bytes() == (tmp_path / "b.parquet").read_bytes()
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
