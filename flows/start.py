"""The flow, run in this process on behalf of a command: server first, imports meanwhile, an orderly end."""

import signal
import sys
from collections.abc import Callable
from typing import Any

from flows.crashed import mark_crashed
from flows.server import prefect_api


def start_flow(**parameters: Any) -> None:
    """Run the flow; the run record says how it went.

    Args:
        parameters: of `flows.pipeline.pipeline`.

    Raises:
        ConfigError: no Prefect server can be had.
        KeyboardInterrupt: Ctrl-C.
        SystemExit: SIGTERM.
    """
    flow_starter()(**parameters)


def flow_starter() -> Callable[..., None]:
    """What runs the flow, as often as it is called, on one server.

    Raises:
        ConfigError: no Prefect server can be had.
    """
    server = prefect_api()
    from flows.pipeline import pipeline

    server.wait()
    mark_crashed()
    signal.signal(signal.SIGTERM, _end_in_order)

    def start(**parameters: Any) -> None:
        pipeline(**parameters, return_state=True)

    return start


def _end_in_order(number: int, frame: object) -> None:
    """SIGTERM, after Prefect has told its server: end as on `exit`, so that what is queued is sent."""
    sys.exit(128 + number)
