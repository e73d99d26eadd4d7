"""Another try for what comes over a network and fails for the moment: a hub that is busy, a connection that breaks.

Only the request is repeated, never a stage. What says no for good is not asked again: no such name, no access, offline
mode, no network at all (a name that can't be resolved, a refused connection), so that those fail at once.
"""

import logging
import time
from collections.abc import Callable, Iterator
from typing import TypeVar

T = TypeVar("T")

_WAITS = (1.0, 3.0, 9.0)  # seconds before each further try
_STATUSES = {408, 425, 429, 500, 502, 503, 504}
# by name, since each client (urllib, requests, httpx, aiohttp) has its own and none is to be imported for this
_BROKEN = {
    "TimeoutError", "TimeoutException", "Timeout", "ServerTimeoutError", "ReadError", "WriteError", "ProtocolError",
    "RemoteProtocolError", "ChunkedEncodingError", "IncompleteRead", "ConnectionResetError", "ConnectionAbortedError",
    "BrokenPipeError", "ServerDisconnectedError", "RemoteDisconnected",
}  # fmt: skip


def patiently(request: Callable[[], T], what: str) -> T:
    """Do a request, and again after a while if it failed for the moment.

    Args:
        what: names it in the warning.

    Raises:
        Exception: what the request raised last, or at once if it is no passing trouble.
    """
    for seconds in _WAITS:
        try:
            return request()
        except Exception as error:
            if not passing(error):
                raise
            kind = type(error).__name__
        logging.getLogger("winnow").warning("%s: %s; trying again in %g s", what, kind, seconds)
        time.sleep(seconds)
    return request()


def passing(error: BaseException) -> bool:
    """Whether an error, or what caused it, may be gone in a moment."""
    chain = list(_causes(error))
    statuses = [status for each in chain if (status := _status(each)) is not None]
    if statuses:
        return statuses[0] in _STATUSES
    return any(kind.__name__ in _BROKEN for each in chain for kind in type(each).__mro__)


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    seen: set[int] = set()
    while error is not None and id(error) not in seen:
        seen.add(id(error))
        yield error
        error = error.__cause__ or error.__context__


def _status(error: BaseException) -> int | None:
    """The HTTP status that a client's error carries."""
    response = getattr(error, "response", None)
    status = getattr(response, "status_code", None) or getattr(error, "code", None) or getattr(error, "status", None)
    return status if isinstance(status, int) else None
