"""How far a long loop is: a bar on standard error, silent when that is no terminal, and whoever else watches.

The stages count here and nowhere else. Who shows it elsewhere (Prefect's dashboard) enters `watched`; kernels know
nothing of it. A watcher is told nothing of a loop in its first seconds, then at most every two seconds, and of its end.
"""

import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

T = TypeVar("T")
Watcher = Callable[[str, int, int], None]
"""Called with a label, how many are done, and how many there are."""

_SHORT = 4.0  # seconds: a loop that is over by then is not worth telling of
_BETWEEN = 2.0
_watchers: list[tuple[Watcher, int]] = []


@contextmanager
def watched(watcher: Watcher) -> Iterator[None]:
    """Tell a watcher of the loops that this thread runs meanwhile."""
    _watchers.append((watcher, threading.get_ident()))
    try:
        yield
    finally:
        _watchers.pop()


class Bar:
    """The progress of one loop.

    Args:
        total: how many there are; None if nobody knows, and then no watcher is told.
        initial: how many were done before this process began.
    """

    def __init__(self, label: str, total: int | None = None, initial: int = 0) -> None:
        from tqdm import tqdm

        self._bar: Any = tqdm(
            total=total,
            initial=initial,
            desc=label,
            file=sys.stderr,
            disable=not sys.stderr.isatty(),
            leave=False,
        )
        self._label, self._total, self._done = label, total, initial
        self._next = time.monotonic() + _SHORT
        self._told = False

    def advance(self) -> None:
        """One more is done."""
        self._bar.update(1)
        self._done += 1
        if time.monotonic() >= self._next:
            self._tell()

    def note(self, text: str) -> None:
        """Words beside the bar."""
        self._bar.set_postfix_str(text, refresh=False)

    def close(self) -> None:
        """The loop is over."""
        self._bar.close()
        if self._told:
            self._tell()

    def _tell(self) -> None:
        self._next, self._told = time.monotonic() + _BETWEEN, True
        if self._total and _watchers and _watchers[-1][1] == threading.get_ident():
            _watchers[-1][0](self._label, self._done, self._total)


def track(items: Iterable[T], label: str, total: int | None = None) -> Iterator[T]:
    """Pass the items on, drawing a bar with the time left."""
    bar = Bar(label, total)
    try:
        for item in items:
            yield item
            bar.advance()
    finally:
        bar.close()
