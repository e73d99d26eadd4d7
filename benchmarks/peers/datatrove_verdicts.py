"""What each of datatrove's four filters says of each row by itself: `python datatrove_verdicts.py SOURCE OUT`.

A line a row: filter → the reason it drops the row for (its first), null if it passes. Decisions only; not timed.
"""

import json
import sys
from multiprocessing import Pool
from pathlib import Path

from datatrove.data import Document
from datatrove_filters import FILTERS


def verdicts(line: bytes) -> dict[str, str | None]:
    """Every filter's reason for one record."""
    record = json.loads(line)
    found = {}
    for name, make in FILTERS.items():
        said = _made(name, make).filter(Document(text=record["text"], id=str(record["id"])))
        passed, reason = said if isinstance(said, tuple) else (said, "dropped")
        found[name] = None if passed else reason
    return {"id": record["id"], **found}


_MADE: dict[str, object] = {}


def _made(name: str, make):
    if name not in _MADE:
        _MADE[name] = make()
    return _MADE[name]


if __name__ == "__main__":
    source, out = Path(sys.argv[1]), Path(sys.argv[2])
    with Pool(2) as pool:
        lines = pool.map(verdicts, source.read_bytes().splitlines(), chunksize=200)
    out.write_text("\n".join(json.dumps(line) for line in lines) + "\n", encoding="utf-8")
