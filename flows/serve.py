"""The two commands that stay: the dashboard, and a schedule."""

from contextlib import suppress

from flows.crashed import mark_crashed
from flows.server import announced, check_home, prefect_defaults, start_server, use_here

_SECONDS_BETWEEN_LOOKS = 5.0


def serve_dashboard(port: int) -> int:
    """Serve Prefect's dashboard, with API and scheduler, on loopback until Ctrl-C; runs beside it share its server."""
    prefect_defaults()
    check_home()
    server = start_server(port, dashboard=True)
    use_here(server)
    with suppress(KeyboardInterrupt):
        server.wait()
        with announced(server):
            print(f"dashboard: {server.address}   (Ctrl-C ends it)", flush=True)
            while server.lives(_SECONDS_BETWEEN_LOOKS):
                mark_crashed()
        return 1
    return 0
