"""Digests: of JSON values, of files (remembered), of folders."""

import contextlib
import hashlib
import json
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from tasks.kernels.durable import write_whole

SETTLE_NS = 2_000_000_000  # a file changed less than 2 s before it was hashed is hashed again
_CHUNK = 1 << 20


def canonical_json(value: Any) -> str:
    """JSON with sorted keys and no white space: equal values give equal text."""
    return json.dumps(value, sort_keys=True, ensure_ascii=False, separators=(",", ":"), allow_nan=False)


def json_digest(value: Any) -> str:
    """sha256 of the canonical JSON, 64 hex digits."""
    return hashlib.sha256(canonical_json(value).encode("utf-8", "surrogatepass")).hexdigest()


def sha256_file(path: Path) -> str:
    """sha256 of a file's bytes."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def write_memo(path: Path, value: Any) -> None:
    """Keep what may be computed again, atomically; where nothing can be written, nothing is remembered."""
    with contextlib.suppress(OSError):
        write_whole(path, canonical_json(value))


def file_stamp(path: Path) -> list[int]:
    """(size, mtime_ns, ctime_ns, inode): what changes when a file's content does."""
    stat = path.stat()
    return [stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns, stat.st_ino]


class FileDigests:
    """sha256 of files, remembered by (size, mtime_ns, ctime_ns, inode) in one JSON file of the data folder.

    Files below the data folder are remembered by their place in it, so that moving it as a whole forgets nothing.
    """

    def __init__(self, data_dir: Path) -> None:
        self._data_dir = data_dir.absolute()
        self._path = data_dir / "file_digests.json"
        self._known: dict[str, list[Any]] | None = None
        self._learned: dict[str, list[Any]] = {}

    def of(self, path: Path, afresh: bool = False) -> str:
        """The digest of one file; read again only if its stamp changed or was too fresh to trust.

        Args:
            afresh: read it again whatever is remembered.
        """
        known = self._load()
        stamp = file_stamp(path)
        entry = known.get(self._name(path))
        same = entry is not None and entry[0] == stamp
        if entry is not None and same and not afresh:
            return str(entry[1])
        value = sha256_file(path)
        now = time.time_ns()  # a clock that was set back leaves files of the future: those are as settled as old ones
        settled = min(abs(now - stamp[1]), abs(now - stamp[2])) > SETTLE_NS
        if (settled or same) and file_stamp(path) == stamp:
            self.remember(path, value)
        return value

    def remember(self, path: Path, value: str) -> None:
        """Note the digest of a file that this process wrote and nobody else can have changed since."""
        self._learned[self._name(path)] = self._load()[self._name(path)] = [file_stamp(path), value]

    def of_many(self, paths: Iterable[Path]) -> str:
        """One digest over files in the order given; their names do not count."""
        return json_digest([self.of(path) for path in paths])

    def of_folder(self, folder: Path) -> str:
        """One digest over every file below a folder, by relative name and content."""
        files = sorted(path for path in folder.rglob("*") if path.is_file())
        return json_digest([[path.relative_to(folder).as_posix(), self.of(path)] for path in files])

    def save(self) -> None:
        """Add what was learned to what others have written since, atomically; a reader never sees half of it."""
        if self._learned:
            write_memo(self._path, self._read() | self._learned)
            self._learned = {}

    def _name(self, path: Path) -> str:
        absolute = path.absolute()
        inside = absolute.is_relative_to(self._data_dir)
        return absolute.relative_to(self._data_dir).as_posix() if inside else str(absolute)

    def _load(self) -> dict[str, list[Any]]:
        if self._known is None:
            self._known = self._read()
        return self._known

    def _read(self) -> dict[str, list[Any]]:
        try:
            found = json.loads(self._path.read_text("utf-8"))
        except (OSError, ValueError):
            return {}
        entries = found.items() if isinstance(found, dict) else ()
        return {name: entry for name, entry in entries if isinstance(entry, list) and len(entry) == 2}
