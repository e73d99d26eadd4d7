"""The two commands that stay: the dashboard, and a schedule.

A schedule is a Prefect deployment that this process serves: each run is a process of its own. A run that is due while
another of the deployment still runs is cancelled, not queued: it would find the same work done, and a queue that is
longer than its interval never ends. Runs missed while nothing served are made up for once, by the latest of them.
"""

import asyncio
import os
import threading
from contextlib import nullcontext, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from flows.crashed import mark_crashed
from flows.planner import preflight
from flows.server import announced, check_home, find_server, prefect_defaults, start_server, use_here
from pipeline_config.errors import ConfigError
from pipeline_config.load import load_config
from pipeline_config.suggest import did_you_mean
from tasks.key import data_folder

_SECONDS_BETWEEN_LOOKS = 5.0
_MISSED = "missed while nothing served this schedule; a later run makes up for it"
_YEAR = 366 * 24 * 3600  # seconds


def serve_dashboard(port: int, data_dir: str | None) -> int:
    """Serve Prefect's dashboard, with API and scheduler, on loopback until Ctrl-C; runs beside it share its server."""
    data_folder(data_dir)
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


def serve_schedule(
    config: str,
    overrides: list[str],
    data_dir: str | None,
    *,
    cron: str | None,
    interval: float | None,
    timezone: str | None,
    port: int,
) -> int:
    """Run the pipeline by a schedule until Ctrl-C, with a server of its own unless one is set or a dashboard is open.

    Args:
        cron: five fields, in `timezone`.
        interval: seconds between the starts.
        timezone: an IANA name; default UTC.
        port: of the server, if it has to be started.

    Raises:
        ConfigError: the configuration, the schedule or the time zone is wrong.
    """
    folder = data_folder(data_dir)
    preflight(load_config(config, tuple(overrides)), folder)
    prefect_defaults()
    check_home()
    server = find_server()
    os.environ["PREFECT_API_URL"] = f"http://127.0.0.1:{port}/api" if server is None else server.url
    schedule = _schedule(cron, interval, timezone)
    if server is None:
        server = start_server(port, dashboard=True)
        use_here(server)
    server.wait()
    parameters = {"config": _place_of(config), "overrides": overrides, "data_dir": str(folder)}
    with suppress(KeyboardInterrupt), announced(server) if server.process else nullcontext():
        mark_crashed()
        threading.Thread(target=_watch, daemon=True).start()
        _serve(Path(config).stem, parameters, schedule, server.address)
    return 0


def _serve(name: str, parameters: dict[str, Any], schedule: Any, address: str) -> None:
    from prefect.client.schemas.objects import ConcurrencyLimitConfig, ConcurrencyLimitStrategy
    from prefect.deployments.runner import RunnerDeployment
    from prefect.runner import Runner
    from prefect.types.entrypoint import EntrypointType

    from flows.pipeline import pipeline

    _children_import_what_we_do()
    deployment = RunnerDeployment.from_flow(
        pipeline,
        name,
        schedule=schedule,
        parameters=parameters,
        description=f"`{parameters['config']}` {_words(schedule)}, served by `winnow serve`.",
        concurrency_limit=ConcurrencyLimitConfig(limit=1, collision_strategy=ConcurrencyLimitStrategy.CANCEL_NEW),
        entrypoint_type=EntrypointType.MODULE_PATH,
    )
    # no limit of the runner's own: it would leave due runs waiting where the deployment's limit cancels them
    runner = Runner(name=name, pause_on_shutdown=False, limit=None)
    deployment_id = runner.add_deployment(deployment)
    skipped = _cancel_missed(deployment_id)
    late = f"; {skipped} missed runs are left out" if skipped else ""
    print(f"serving winnow/{name}, {_words(schedule)}{late}   (Ctrl-C ends it)", flush=True)
    print(f"dashboard: {address}/deployments/deployment/{deployment_id}", flush=True)
    asyncio.run(runner.start())


def _schedule(cron: str | None, interval: float | None, timezone: str | None) -> Any:
    """Prefect's schedule, or a ConfigError that names the option."""
    from zoneinfo import available_timezones

    from prefect.client.schemas.schedules import CronSchedule
    from prefect.schedules import Cron, Interval
    from pydantic import ValidationError

    if (cron is None) == (interval is None):
        raise ConfigError(
            "a schedule is either a cron line or an interval",
            place="--cron, --interval",
            cure="type: winnow serve --cron '0 2 * * *', or --interval 3600",
        )
    zone = timezone or "UTC"
    known = available_timezones()
    if zone not in known:
        raise ConfigError(
            f"there is no time zone {zone!r}{did_you_mean(zone, sorted(known))}",
            place="--timezone",
            cure="give an IANA name such as Asia/Shanghai or Europe/Berlin",
        )
    if interval is not None:
        if not 1 <= interval <= _YEAR:
            raise ConfigError(
                f"{interval:g} s is no interval", place="--interval", cure=f"give seconds, 1 to {_YEAR:,} (a year)"
            )
        return Interval(interval, timezone=zone)
    assert cron is not None
    try:
        CronSchedule(cron=cron, timezone=zone)
    except ValidationError:
        raise ConfigError(
            f"{cron!r} is no cron line",
            place="--cron",
            cure="five fields: minute hour day month weekday, as in '0 2 * * *' for every night at two",
        ) from None
    return Cron(cron, timezone=zone)


def _cancel_missed(deployment_id: Any) -> int:
    """Cancel the runs that were due while nothing served, but for the latest; returns how many."""
    from prefect.client.orchestration import get_client
    from prefect.client.schemas.filters import (
        DeploymentFilter,
        DeploymentFilterId,
        FlowRunFilter,
        FlowRunFilterState,
        FlowRunFilterStateType,
    )
    from prefect.client.schemas.objects import StateType
    from prefect.client.schemas.sorting import FlowRunSort
    from prefect.states import Cancelled

    waiting = FlowRunFilterStateType(any_=[StateType.SCHEDULED, StateType.PENDING])
    with get_client(sync_client=True) as client:
        due = [
            run
            for run in client.read_flow_runs(
                deployment_filter=DeploymentFilter(id=DeploymentFilterId(any_=[deployment_id])),
                flow_run_filter=FlowRunFilter(state=FlowRunFilterState(type=waiting)),
                sort=FlowRunSort.EXPECTED_START_TIME_DESC,
                limit=200,
            )
            if run.auto_scheduled and run.expected_start_time and run.expected_start_time < datetime.now(UTC)
        ]
        stuck = [run for run in due if run.state_type == StateType.PENDING]  # their process never came to life
        missed = [run for run in due if run.state_type == StateType.SCHEDULED][1:]
        for run in stuck + missed:
            client.set_flow_run_state(run.id, Cancelled(message=_MISSED), force=True)
    return len(stuck + missed)


def _watch() -> None:
    """Tell Prefect of runs that were killed, for as long as we serve."""
    pause = threading.Event()
    while not pause.wait(_SECONDS_BETWEEN_LOOKS):
        mark_crashed()


def _children_import_what_we_do() -> None:
    """The runs' processes import this code, and nothing from the folder that they happen to run in."""
    root = str(Path(__file__).parent.parent)
    os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, [root, os.environ.get("PYTHONPATH")]))
    os.environ["PYTHONSAFEPATH"] = "1"


def _place_of(config: str) -> str:
    """A recipe's name, or the absolute path of a file."""
    return str(Path(config).absolute()) if "/" in config or config.endswith((".yaml", ".yml")) else config


def _words(schedule: Any) -> str:
    return f"at {schedule.cron!r} {schedule.timezone}" if schedule.cron else f"every {schedule.interval}"
