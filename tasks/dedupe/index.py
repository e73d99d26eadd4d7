"""What a run kept, for a later batch to be held against without reading its text again.

    index-conversation-00000.arrow   index-text-00000.arrow   …     beside `decision.parquet`, ledgers apart

One line a kept row: `row_id`, `source`, what it says in digests (`exact.SAYING`), and the shingle hashes that exact
verification needs: `values`, those of all parts one behind the other, and `size_<part>` for each. Signatures are made
again, which takes a tenth of the time of reading them. Nothing is compressed: hashes can't be. The files are in no
digest of the artifact, since no later stage reads them; the key of a run that does holds their own.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

import numpy as np
import polars as pl

from tasks.dedupe.exact import SAYING
from tasks.dedupe.near import Nearness, by_part
from tasks.dedupe.semantic import Meaning
from tasks.kernels.candidates import Int64s
from tasks.kernels.text import Sets

Group = Literal["conversation", "text"]
GROUPS: tuple[Group, ...] = ("conversation", "text")
_PART_ROWS = 131_072
_SIZE = "size_"
Bools = np.ndarray[tuple[int], np.dtype[np.bool_]]


def as_index(
    group: Group, everyone: pl.DataFrame, kept: Bools, walk: Nearness | None, meant: Meaning | None
) -> Iterator[pl.DataFrame]:
    """The index of the kept rows of a group, in the order of keeping, part by part.

    Args:
        everyone: `row_id`, `source` and `SAYING` of all rows.
        kept: which of them are kept.
        walk: that of the group; None if it has no rows.
        meant: what they mean, if that was asked.
    """
    if walk is None:
        return
    chosen = np.flatnonzero(kept & (everyone["raw"].to_numpy() == (group == "text")))
    for start in range(0, chosen.size, _PART_ROWS):
        numbers = chosen[start : start + _PART_ROWS]
        values, sizes = walk.sets_of(numbers)
        named = {f"{_SIZE}{part}": pl.Series(sizes[:, k], dtype=pl.UInt32) for k, part in enumerate(walk.parts)}
        lines = everyone[numbers].select("row_id", "source", *SAYING)
        lines = lines.with_columns(_lists("values", values, sizes.sum(axis=1)), **named)
        yield lines if meant is None else lines.with_columns(_meaning(numbers, meant))


def _meaning(numbers: Int64s, meant: Meaning) -> list[pl.Series]:
    """The vectors, part behind part, and the digits of rows; null for one that takes no part."""
    at = pl.DataFrame({"number": meant.rows}).with_row_index("at")
    place = pl.DataFrame({"number": numbers}).join(at, on="number", how="left", maintain_order="left")["at"]
    there = place.drop_nulls().to_numpy()
    sizes = np.where(place.is_null().to_numpy(), 0, meant.vectors[0].size if meant.rows.size else 0)
    return [_lists("vectors", meant.vectors[there].ravel(), sizes), meant.digits.gather(place).alias("digits")]


def write_index(folder: Path, group: Group, part: pl.DataFrame) -> None:
    """Write the next part of a group's index into a folder."""
    number = len(list(folder.glob(f"index-{group}-*.arrow")))
    part.rechunk().write_ipc(folder / f"index-{group}-{number:05}.arrow", compression="uncompressed")


class Index:
    """The index of one artifact.

    Attributes:
        rows: how many rows it holds.
    """

    def __init__(self, folder: Path, keeper: str) -> None:
        self._files = {group: sorted(folder.glob(f"index-{group}-*.arrow")) for group in GROUPS}
        self._keeper = keeper
        self.rows = sum(_height(file) for files in self._files.values() for file in files)

    def lines(self, columns: list[str]) -> pl.DataFrame:
        """All rows: `row_id`, `source`, `SAYING`, `compared` (always), `keeper`, as far as they are wanted."""
        files = [file for group in GROUPS for file in self._files[group]]
        own = [pl.read_ipc(file, columns=["row_id", "source", *SAYING]) for file in files]
        empty = pl.DataFrame(schema={"row_id": pl.String, "source": pl.String} | SAYING)
        known = {"compared": pl.lit(True), "keeper": pl.lit(self._keeper)}
        return pl.concat([empty, *own]).with_columns(**known).select(columns)

    def sets(self, group: Group) -> Iterator[tuple[Int64s, dict[str, Sets]]]:
        """The rows of a group that have sets, by their places in `lines`, and their sets by part; file by file."""
        for begin, file in self._placed(group):
            frame = pl.read_ipc(file)
            parts = [name.removeprefix(_SIZE) for name in frame.columns if name.startswith(_SIZE)]
            sizes = np.stack([frame[f"{_SIZE}{part}"].to_numpy().astype(np.int64) for part in parts], axis=1)
            places = np.flatnonzero(sizes.sum(axis=1))
            values = frame["values"].explode(empty_as_null=False).to_numpy()
            yield places + begin, by_part(parts, values, sizes[places])

    def meanings(self, group: Group, parts: int) -> Iterator[Meaning]:
        """What the rows of a group mean, of those that have vectors, by their places in `lines`; file by file."""
        for begin, file in self._placed(group):
            frame = pl.read_ipc(file, columns=["vectors", "digits"]).with_row_index("place").drop_nulls("digits")
            vectors = frame["vectors"].explode(empty_as_null=False).to_numpy()
            shaped = np.array(vectors, np.float32).reshape(frame.height, parts, -1) if frame.height else vectors
            if frame.height:
                yield Meaning(frame["place"].to_numpy().astype(np.int64) + begin, shaped, frame["digits"])

    def _placed(self, group: Group) -> Iterator[tuple[int, Path]]:
        """A group's files, and the place in `lines` where each begins."""
        begin = 0
        for name in GROUPS:
            for file in self._files[name]:
                if name == group:
                    yield begin, file
                begin += _height(file)


def _height(file: Path) -> int:
    return int(pl.scan_ipc(file).select(pl.len()).collect().item())


def _lists(name: str, values: np.ndarray[Any, Any], sizes: Int64s) -> pl.Series:
    import pyarrow as pa

    offsets = np.zeros(sizes.size + 1, np.int64)
    np.cumsum(sizes, out=offsets[1:])
    return pl.Series(name, pa.LargeListArray.from_arrays(pa.array(offsets), pa.array(values)))
