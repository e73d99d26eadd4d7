"""PostgreSQL in place of SQLite, by Prefect's own settings: a real cluster under a user of its own."""

import os
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.command import Workplace
from tests.prefect_home import free_port, small_config


@pytest.fixture
def database(needs: Callable[[str, bool], None]) -> Iterator[str]:
    """The address of an empty database in a cluster that lasts for one test."""
    programs = sorted(Path("/usr/lib/postgresql").glob("*/bin"), key=lambda path: int(path.parent.name))
    found = programs[-1] if programs else Path(shutil.which("initdb") or "none/initdb").parent
    needs("postgres", (found / "initdb").exists() and (found / "pg_ctl").exists())
    root = Path(tempfile.mkdtemp(prefix="winnow-postgres-"))  # pytest's folders are closed to other users
    prefix: list[str] = []
    if os.getuid() == 0:  # PostgreSQL refuses to run as root: the package's own user then
        shutil.chown(root, "postgres")
        prefix = ["setpriv", "--reuid=postgres", "--regid=postgres", "--clear-groups"]

    def run(*words: str) -> None:
        done = subprocess.run([*prefix, *words], capture_output=True, text=True, cwd=root, timeout=120)
        assert done.returncode == 0, done.stdout + done.stderr

    port, cluster = free_port(), str(root / "cluster")
    run(str(found / "initdb"), "-D", cluster, "-U", "winnow", "-A", "trust", "--no-sync", "-E", "UTF8")
    options = f"-p {port} -c listen_addresses=127.0.0.1 -c unix_socket_directories={root} -c fsync=off"
    run(str(found / "pg_ctl"), "-D", cluster, "-l", str(root / "log"), "-o", options, "-w", "start")
    try:
        yield f"postgresql+asyncpg://winnow@127.0.0.1:{port}/postgres"
    finally:
        run(str(found / "pg_ctl"), "-D", cluster, "-m", "immediate", "-w", "stop")
        shutil.rmtree(root)


@pytest.mark.server
def test_runs_are_kept_in_postgresql_when_prefect_is_told_so(database: str, tmp_path: Path) -> None:
    place, config = Workplace(tmp_path / "data", tmp_path / "prefect"), str(small_config(tmp_path))
    for _ in range(2):
        done = place.winnow("run", config, PREFECT_SERVER_DATABASE_CONNECTION_URL=database)
        assert done.returncode == 0, done.stderr
    assert not list(place.home.glob("*.db"))

    import asyncio

    import asyncpg

    async def read() -> list[tuple[str, str]]:
        connection = await asyncpg.connect(database.replace("+asyncpg", ""))
        try:
            rows = await connection.fetch(
                "select f.name as run, t.state_name from task_run t join flow_run f on f.id = t.flow_run_id"
                " order by t.expected_start_time"
            )
            return [(row["run"].split()[-1], row["state_name"]) for row in rows]
        finally:
            await connection.close()

    first, second = (run["run_id"] for run in place.runs())
    assert asyncio.run(read()) == [(first, "Completed")] * 2 + [(second, "Cached")] * 2
