"""Variants of many rows, in several processes: the augmenters are Python, and hold its lock.

Every row has a draw of its own, so how the rows are shared out changes nothing but the time.
"""

import multiprocessing
import os
import random
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

import polars as pl

from pipeline_config.sets_schema import Augment
from tasks.augment.methods import Method, load_all
from tasks.augment.vary import Variant, variant_of
from tasks.kernels.draws import draw_bits
from tasks.kernels.progress import track

_CHUNK = 250  # rows handed to a process at once
_WORTH_IT = 4 * _CHUNK  # rows below which starting processes takes longer than the work


def variants(rows: pl.DataFrame, config: Augment, seed: int, data_dir: Path) -> list[Variant | None]:
    """A variant of each row, or None.

    Args:
        rows: `row_id`, `lang` (of the user's turns) and `messages`.
        config: methods, strength and workers.
        seed: of the draws.
        data_dir: where converted models are.
    """
    if rows.is_empty():
        return []
    bits = draw_bits(rows["row_id"], seed, "variant").tolist()
    work = list(zip(rows["lang"].to_list(), rows["messages"].to_list(), bits, strict=True))
    chunks = [work[start : start + _CHUNK] for start in range(0, len(work), _CHUNK)]
    found: list[Variant | None] = []
    for part in track(_results(chunks, config, data_dir), "augment: variants", total=len(chunks)):
        found += part
    return found


def _results(chunks: list[list[Any]], config: Augment, data_dir: Path) -> Iterator[list[Variant | None]]:
    workers = min(_workers(config, sum(map(len, chunks))), len(chunks))
    if workers == 1:
        methods = load_all(config, data_dir)
        yield from (_vary(chunk, methods, config.strength) for chunk in chunks)
        return
    context = multiprocessing.get_context("spawn")  # a fork would share the threads' locks of Polars and torch
    with ProcessPoolExecutor(workers, context, _start, (config, data_dir)) as pool:
        yield from pool.map(_vary_there, chunks)


def _workers(config: Augment, rows: int) -> int:
    if config.workers is not None:
        return config.workers
    if rows < _WORTH_IT or "contextual" in config.methods:  # a model has the threads already
        return 1
    return os.cpu_count() or 1


def _vary(chunk: list[Any], methods: Sequence[Method], strength: float) -> list[Variant | None]:
    return [variant_of(messages, lang, methods, strength, random.Random(bits)) for lang, messages, bits in chunk]


_HERE: dict[str, Any] = {}  # of a worker process: its methods, loaded once


def _start(config: Augment, data_dir: Path) -> None:
    _HERE["methods"], _HERE["strength"] = load_all(config, data_dir), config.strength


def _vary_there(chunk: list[Any]) -> list[Variant | None]:
    return _vary(chunk, _HERE["methods"], _HERE["strength"])
