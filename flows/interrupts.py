"""Ctrl-C is never lost: Python throws an interrupt away that meets a `__del__` or a callback of the collector.

It can only print "Exception ignored in …" there and go on. While Prefect starts, thousands of objects come and go, so
one Ctrl-C in a few ended like that. What Python is about to throw away is sent once more, a moment later.
"""

import os
import signal
import sys
import threading
from typing import Any

_MOMENT = 0.05  # seconds: until the callback that swallowed it has returned


def keep_interrupts() -> None:
    """From now on an interrupt that Python would ignore reaches the main thread a moment later."""
    earlier = sys.unraisablehook

    def hook(ignored: Any) -> None:
        if ignored.exc_type is not KeyboardInterrupt:
            earlier(ignored)
            return
        again = threading.Timer(_MOMENT, os.kill, (os.getpid(), signal.SIGINT))
        again.daemon = True
        again.start()

    sys.unraisablehook = hook
