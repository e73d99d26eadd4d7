"""The program of the Prefect server that a command starts: `python -P local_server.py SOCKET_FD [--dashboard]`.

The parent binds the port and hands the socket down, so that nothing races for it and the first request simply waits
until the server is up. The server ends when its standard input closes, hence with its parent, however that one ends:
Prefect's own temporary server outlives a killed parent. It ends gracefully, since Prefect writes task states in
batches. This file imports nothing of Winnow and runs with `-P`, so that no folder shadows a library.
"""

import os
import signal
import socket
import sys
import threading


def main() -> None:
    """Serve until standard input closes."""
    threading.Thread(target=_end_with_parent, daemon=True).start()
    dashboard = "--dashboard" in sys.argv
    os.environ["PREFECT__SERVER_FINAL"] = "1"
    if not dashboard:
        os.environ |= {"PREFECT__SERVER_EPHEMERAL": "1", "PREFECT_UI_ENABLED": "0"}
    import uvicorn
    from prefect.server.api.server import create_app
    from prefect.settings import get_current_settings

    api = get_current_settings().server.api
    config = uvicorn.Config(
        create_app(),
        log_level="error",
        lifespan="on",
        timeout_keep_alive=api.keepalive_timeout,
        ws_ping_interval=api.websocket_ping_interval,
        ws_ping_timeout=api.websocket_ping_timeout,
        timeout_graceful_shutdown=5,
    )
    uvicorn.Server(config).run(sockets=[socket.socket(fileno=int(sys.argv[1]))])


def _end_with_parent() -> None:
    os.read(0, 1)
    os.kill(os.getpid(), signal.SIGTERM)


if __name__ == "__main__":
    main()
