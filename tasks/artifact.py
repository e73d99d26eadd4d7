"""Content-addressed artifacts: one folder a key, published whole or not at all, believed only if verified.

    data/artifacts/<stage>/<key>/   manifest.json · part-*.parquet (text) or decision.parquet · removed.parquet
                                    changed.parquet · quarantine.parquet · model/ adapter/

Text is written by few stages; the others publish `decision.parquet`: one line a kept row with its place in the text
artifact and the columns assigned since. `Artifact.rows()` joins the two, lazily.
"""

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline_config.errors import ArtifactError, StageError, WinnowError
from tasks.kernels.digests import FileDigests, canonical_json, json_digest, sha256_file
from tasks.kernels.durable import no_room, put_in_place, sweep, sync_tree, temporary_folder

if TYPE_CHECKING:
    import polars as pl

FORMAT = 2  # raise when the wrapper writes other bytes for the same decision
ROW_GROUP = 16_384
PART_ROWS = 131_072
LEDGERS = ("removed", "changed", "quarantine", "added")
INDEX = "index-"  # what a later run's dedupe reads, and no stage of this run
MANIFEST = "manifest.json"


@dataclass(frozen=True)
class Artifact:
    """A published stage output.

    Attributes:
        path: its folder.
        manifest: as written (design: files).
    """

    path: Path
    manifest: dict[str, Any]

    @property
    def stage(self) -> str:
        """The stage that published it."""
        return str(self.manifest["stage"])

    @property
    def key(self) -> str:
        """Its cache key, 64 hex digits."""
        return str(self.manifest["key"])

    @property
    def digest(self) -> str:
        """sha256 over its data files, ledgers and manifest left out."""
        return str(self.manifest["digest"])

    @property
    def writes_text(self) -> bool:
        """Whether it holds rows itself, not only decisions about them."""
        return not (self.path / "decision.parquet").exists()

    def ledger(self, name: str) -> "pl.LazyFrame":
        """`removed`, `changed` or `quarantine`; `added` only where rows were added."""
        import polars as pl

        return pl.scan_parquet(self.path / f"{name}.parquet", glob=False)

    def text(self) -> "Artifact":
        """The artifact that holds the text of these rows: itself or a parent."""
        if self.writes_text:
            return self
        parent = self.manifest["parents"][-1]
        folder = self.path.parent.parent / parent["stage"] / parent["key"]
        return Artifact(folder, read_manifest(folder))

    def own_rows(self) -> "pl.LazyFrame":
        """The lines this artifact holds itself: whole rows, or `row_id`, `text_row` and assigned columns."""
        import polars as pl

        if self.writes_text:
            parts = sorted(self.path.glob("part-*.parquet"))
            return pl.concat([pl.scan_parquet(part, glob=False) for part in parts])
        return pl.scan_parquet(self.path / "decision.parquet", glob=False)

    def rows(self) -> "pl.LazyFrame":
        """Every kept row with all its columns, in source order."""
        import polars as pl

        if self.writes_text:
            return self.own_rows()
        decision = self.own_rows()
        text = self.text().own_rows()
        columns = text.collect_schema().names()
        own = [name for name in decision.collect_schema().names() if name != "text_row"]
        kept = [name for name in columns if name not in own]
        joined = decision.join(
            text.select(kept).with_row_index("text_row"), on="text_row", how="left", maintain_order="left"
        )
        return joined.select([pl.col(name) for name in columns] + [pl.col(n) for n in own if n not in columns])


class Store:
    """The artifacts below one data folder.

    Attributes:
        verify: read every file in full before an artifact is believed; else a file whose size, times and inode are
            as they were when its digest was computed is not read again.
    """

    def __init__(self, data_dir: Path, verify: bool = False) -> None:
        self.data_dir = data_dir
        self.verify = verify
        self.digests = FileDigests(data_dir)

    def folder(self, stage: str, key: str) -> Path:
        """Where an artifact is, or would be."""
        return self.data_dir / "artifacts" / stage / key

    def find(self, stage: str, key: str, warn: Callable[[str], None] = lambda text: None) -> Artifact | None:
        """The verified artifact of a key; None, with a warning, if it is missing or damaged."""
        folder = self.folder(stage, key)
        if not folder.exists():
            return None
        try:
            manifest = read_manifest(folder)
            problem = self._problem(folder, manifest, stage, key)
        except (OSError, ValueError, KeyError, TypeError) as error:
            problem = f"{MANIFEST} can't be read ({type(error).__name__})"
        if problem:
            warn(f"artifact {stage}/{key[:12]} is damaged: {problem}; it is built again")
            return None
        return Artifact(folder, manifest)

    def _problem(self, folder: Path, manifest: dict[str, Any], stage: str, key: str) -> str:
        if (manifest["stage"], manifest["key"]) != (stage, key):
            return f"{MANIFEST} belongs to another artifact"
        if manifest.get("manifest_digest") != manifest_digest(manifest):
            return f"{MANIFEST} was altered"
        known = {MANIFEST, *(file["path"] for file in manifest["files"])}
        for path in folder.rglob("*"):
            if path.relative_to(folder).as_posix() not in known and not path.is_dir():
                return f"{path.relative_to(folder).as_posix()} does not belong to it"
        for file in manifest["files"]:
            path = folder / file["path"]
            if not path.is_file():
                return f"{file['path']} is missing"
            if path.stat().st_size != file["bytes"]:
                return f"{file['path']} has {path.stat().st_size} bytes, not {file['bytes']}"
            if self.digests.of(path, afresh=self.verify) != file["sha256"]:
                return f"{file['path']} has other bytes than were written"
        return ""

    def sweep(self) -> None:
        """Remove what killed processes left half-written, wherever it is below the data folder."""
        found = [path for depth in ("", "*/", "*/*/", "*/*/*/") for path in self.data_dir.glob(f"{depth}.*.tmp*")]
        for folder in {path.parent for path in found}:
            sweep(folder)

    def publish(self, stage: str, key: str, fill: Callable[[Path], dict[str, Any]]) -> Artifact:
        """Fill a temporary folder, then make it the artifact in one step.

        Args:
            fill: writes the files into the folder it is given and returns the manifest without `files` and `digest`.

        Raises:
            ArtifactError: the files can't be written (disk full, read-only); nothing is left behind.
            StageError: `fill` met another error of the operating system.
        """
        final = self.folder(stage, key)
        filling = False
        try:
            with temporary_folder(final.parent, key[:12]) as temporary:
                filling = True
                manifest = fill(temporary)
                filling = False
                manifest["files"] = _list_files(temporary)
                manifest["digest"] = content_digest(manifest["files"])
                manifest["manifest_digest"] = manifest_digest(manifest)
                (temporary / MANIFEST).write_text(canonical_json(manifest), encoding="utf-8")
                sync_tree(temporary)
                put_in_place(temporary, final)
        except WinnowError:
            raise
        except Exception as error:
            reason = no_room(error)
            if not reason and filling:
                if not isinstance(error, OSError):
                    raise
                raise StageError(f"{type(error).__name__}: {error}", place=stage) from error
            raise ArtifactError(
                f"the artifact can't be written: {reason or getattr(error, 'strerror', None) or error}",
                place=f"{stage} ({final.parent})",
                cure="free some space or choose another --data-dir, then run the same command again",
            ) from error
        for file in manifest["files"]:
            self.digests.remember(final / file["path"], file["sha256"])
        self.digests.save()  # now, not at the end of the run: a killed one's artifacts need no second reading
        return Artifact(final, read_manifest(final))  # as every later run reads it, down to the order of its keys


def read_manifest(folder: Path) -> dict[str, Any]:
    """A manifest as written; OSError or ValueError if there is none."""
    manifest: dict[str, Any] = json.loads((folder / MANIFEST).read_text("utf-8"))
    return manifest


def manifest_if_any(folder: Path) -> dict[str, Any]:
    """A manifest, or an empty one where none can be read."""
    try:
        return read_manifest(folder)
    except (OSError, ValueError):
        return {}


def content_digest(files: list[dict[str, Any]]) -> str:
    """The digest of the data files alone: sorted path and sha256."""
    ledgers = {f"{name}.parquet" for name in LEDGERS}
    read = [file for file in files if file["path"] not in ledgers and not file["path"].startswith(INDEX)]
    return json_digest([[file["path"], file["sha256"]] for file in read])


def manifest_digest(manifest: dict[str, Any]) -> str:
    """sha256 over everything else in a manifest, so that a half-written or edited one is seen."""
    return json_digest({name: value for name, value in manifest.items() if name != "manifest_digest"})


def write_frame(frame: "pl.DataFrame", path: Path) -> None:
    """The one writer: row-group size and compression fixed, so that equal frames give equal bytes.

    Each row group is gathered first. polars sizes the pages of a list column by all that its buffers hold, so a slice
    of a larger frame would come out in many small pages: nearly twice the bytes in twice the time, and other bytes
    for other slices.
    """
    import numpy as np
    import polars as pl

    starts = range(0, frame.height, ROW_GROUP)
    groups = [frame[np.arange(start, min(start + ROW_GROUP, frame.height))] for start in starts]
    pl.concat(groups or [frame], rechunk=False).write_parquet(
        path, compression="zstd", compression_level=3, row_group_size=ROW_GROUP, statistics=True, use_pyarrow=False
    )


def write_parts(frame: "pl.DataFrame", folder: Path) -> None:
    """Rows as `part-00000.parquet` and on, `PART_ROWS` each; one empty part for no rows."""
    for n, start in enumerate(range(0, max(frame.height, 1), PART_ROWS)):
        write_frame(frame.slice(start, PART_ROWS), folder / f"part-{n:05}.parquet")


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Hold a folder's lock; a second run on the same key waits."""
    import fcntl

    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "lock").open("w") as handle:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield


def _list_files(folder: Path) -> list[dict[str, Any]]:
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return [
        {"path": path.relative_to(folder).as_posix(), "bytes": path.stat().st_size, "sha256": sha256_file(path)}
        for path in files
    ]
