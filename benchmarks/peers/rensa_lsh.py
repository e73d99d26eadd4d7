"""rensa: sketches of word 5-grams, its LSH deduplicator at 0.7, first kept; candidates checked on signatures only."""

import json
import re
from pathlib import Path

from rensa import RMinHashDeduplicator
from timed import ids_of, measure

WORDS = re.compile(r"\w+")


def shingles(text: str) -> list[str]:
    """Runs of five words; of a shorter text the whole."""
    words = WORDS.findall(text.lower())
    return [" ".join(words[k : k + 5]) for k in range(max(1, len(words) - 4))]


def run(source: Path, folder: Path) -> None:
    """Read, sketch and look up row by row, write."""
    found = RMinHashDeduplicator(threshold=0.7, num_perm=128, use_lsh=True)
    lines = source.read_bytes().splitlines(keepends=True)
    keep = found.add_pairs((str(n), shingles(json.loads(line)["text"])) for n, line in enumerate(lines))
    (folder / "kept.jsonl").write_bytes(b"".join(line for line, kept in zip(lines, keep, strict=True) if kept))


if __name__ == "__main__":
    measure(run, lambda folder: ids_of([folder / "kept.jsonl"]))
