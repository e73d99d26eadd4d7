"""Progress bars on standard error; silent when it is no terminal."""

import sys
from collections.abc import Iterable, Iterator
from typing import TypeVar

T = TypeVar("T")


def track(items: Iterable[T], label: str, total: int | None = None) -> Iterator[T]:
    """Pass the items on, drawing a bar with the time left."""
    from tqdm import tqdm

    yield from tqdm(items, desc=label, total=total, file=sys.stderr, disable=not sys.stderr.isatty(), leave=False)
