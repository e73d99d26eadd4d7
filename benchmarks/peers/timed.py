"""One tool in a process of its own: a small file first (imports, compiled kernels), then the file that is timed.

Called as `python TOOL.py SOURCE SMALL FOLDER`. Writes `FOLDER/answer.json`: seconds from the call to its last byte
written, peak memory of this process (MB; the one who called adds what other processes took), and the answer. Knows
nothing but the standard library, so that every environment can run it.
"""

import json
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any


def measure(
    run: Callable[[Path, Path], Any], answer: Callable[[Path], Any], prepare: Callable[[Path], Path] | None = None
) -> None:
    """Run a tool as the command line says.

    Args:
        run: takes the file and an empty folder to work in; file to file.
        answer: takes that folder; for duplicates, the ids of the rows that were kept. Not timed.
        prepare: brings the file into the form that the tool wants. Not timed.
    """
    source, small, folder = (Path(word).resolve() for word in sys.argv[1:4])
    if prepare is not None:
        source, small = prepare(source), prepare(small)
    for name, file in (("warm", small), ("timed", source)):
        (folder / name).mkdir(parents=True)
        started, processor = time.perf_counter(), time.process_time()
        run(file, folder / name)
        seconds, processor = time.perf_counter() - started, time.process_time() - processor
    measured = {"seconds": seconds, "processor": processor, "peak_mb": _peak_mb()}
    (folder / "stopped").touch()
    measured["answer"] = answer(folder / "timed")
    (folder / "answer.json").write_text(json.dumps(measured), encoding="utf-8")


def halves(source: Path) -> Path:
    """A folder with the file's lines in two files, for tools that give each worker a file."""
    folder = source.with_suffix(".halves")
    if not folder.exists():
        lines = source.read_bytes().splitlines(keepends=True)
        folder.mkdir()
        middle = (len(lines) + 1) // 2
        for number, part in enumerate((lines[:middle], lines[middle:])):
            (folder / f"{number}.jsonl").write_bytes(b"".join(part))
    return folder


def ids_of(files: list[Path]) -> list[int]:
    """The `id` of each record of some JSONL files."""
    return [int(json.loads(line)["id"]) for file in sorted(files) for line in file.read_bytes().splitlines()]


def _peak_mb() -> float:
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) / 1024
    return 0.0
