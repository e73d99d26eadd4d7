"""What an all-cached run costs beside a flow of as many empty tasks: `python -m benchmarks.cached_run [CONFIG]`.

Both are whole processes, shell to shell, taken in turn, without a server (each starts what it needs) and with one. The
empty flow is Prefect as its documentation shows it. Wall time means something on a quiet machine alone; processor time
(of the process and what it waited for) a little more. Runs the configuration once first, unless it is cached.
"""

import argparse
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

STAGES = 15
_EMPTY = f"""
from prefect import flow, task
from prefect.cache_policies import NO_CACHE

@flow(name="empty", persist_result=False)
def empty():
    for n in range({STAGES}):
        task(name=f"task {{n}}", cache_policy=NO_CACHE, persist_result=False)(lambda: None)()

empty()
"""


def timed(command: Sequence[str], environment: dict[str, str]) -> tuple[float, float]:
    """Wall and processor seconds of a process that must succeed, with the children it waited for."""
    before, started = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    subprocess.run(command, env=environment, check=True, capture_output=True)
    wall, after = time.perf_counter() - started, resource.getrusage(resource.RUSAGE_CHILDREN)
    return wall, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def compare(config: str, data: Path, times: int, environment: dict[str, str]) -> dict[str, list[tuple[float, float]]]:
    """Seconds of both commands, in turn."""
    commands = {
        f"all-cached {config}": [sys.executable, "-m", "flows.cli", "run", config, "--data-dir", str(data)],
        f"{STAGES} empty tasks": [sys.executable, "-c", _EMPTY],
    }
    found: dict[str, list[tuple[float, float]]] = {name: [] for name in commands}
    for _ in range(times):
        for name, command in commands.items():
            found[name].append(timed(command, environment))
    return found


def main() -> None:
    """Print medians, without a server and with one."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("config", nargs="?", default="demo")
    parser.add_argument("--data-dir", type=Path, default=Path("data"), help="where the configuration is cached")
    parser.add_argument("--times", type=int, default=5)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="winnow-bench-") as home:
        environment = {**os.environ, "PREFECT_HOME": home, "DO_NOT_TRACK": "1"}
        compare(options.config, options.data_dir, 1, environment)  # migrations, caches
        for server in (False, True):
            print(f"\n{'with a server' if server else 'without a server'}, medians of {options.times}")
            if server:
                os.environ["PREFECT_HOME"] = home
                from flows.server import prefect_defaults, start_server

                prefect_defaults()
                running = start_server()
                running.wait()
                environment["PREFECT_API_URL"] = running.url
            for name, seconds in compare(options.config, options.data_dir, options.times, environment).items():
                wall, processor = (statistics.median(column) for column in zip(*seconds, strict=True))
                print(f"{name:24} {wall:6.2f} s wall {processor:6.2f} s processor")
            if server:
                running.close()


if __name__ == "__main__":
    main()
