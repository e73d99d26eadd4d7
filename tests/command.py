"""The `winnow` command as a user starts it: a process of its own, with a Prefect home of its own."""

import io
import json
import os
import subprocess
import sys
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest


@dataclass(frozen=True)
class Workplace:
    """A data folder and a Prefect home that belong together.

    Attributes:
        data: passed as `--data-dir`.
        home: Prefect's, with its database.
        api: of a server that runs already; without one each run starts its own, which takes it four seconds.
    """

    data: Path
    home: Path
    api: str = ""

    def winnow(self, *words: str, **variables: str) -> "subprocess.CompletedProcess[str]":
        """Run a command to its end."""
        command = [sys.executable, "-m", "flows.cli", *words, "--data-dir", str(self.data)]
        return subprocess.run(
            command, capture_output=True, text=True, env=self.environment(**variables), check=False, timeout=600
        )

    def refused(self, *words: str) -> "subprocess.CompletedProcess[str]":
        """Run, in this process, a command that is to end with an error before it starts anything."""
        from flows.cli import main

        out, errors = io.StringIO(), io.StringIO()
        with pytest.MonkeyPatch.context() as patch, redirect_stdout(out), redirect_stderr(errors):
            patch.setattr("sys.unraisablehook", sys.unraisablehook)  # main() sets its own
            patch.setattr("sys.argv", ["winnow", *words, "--data-dir", str(self.data)])
            patch.setattr("os.environ", self.environment())
            with pytest.raises(SystemExit) as end:
                main()
        return subprocess.CompletedProcess(words, int(end.value.code or 0), out.getvalue(), errors.getvalue())

    def document(self, *words: str) -> dict[str, Any]:
        """Run a command with `--json` and read what it prints; it must succeed."""
        done = self.winnow(*words, "--json")
        assert done.returncode == 0, done.stderr
        found: dict[str, Any] = json.loads(done.stdout)
        return found

    def environment(self, **variables: str) -> dict[str, str]:
        """The environment of the command: this one's, with Prefect's home and no terminal."""
        own = {"PREFECT_HOME": str(self.home), "DO_NOT_TRACK": "1", "HF_HUB_OFFLINE": "1"}
        return {**os.environ, **own, **({"PREFECT_API_URL": self.api} if self.api else {}), **variables}

    def runs(self) -> list[dict[str, Any]]:
        """Every run record, oldest first."""
        return [json.loads(path.read_text()) for path in sorted((self.data / "runs").glob("*.json"))]

    def folder(self, record: dict[str, Any], stage: str) -> Path:
        """The artifact folder that a run used for a stage."""
        key = next(entry["key"] for entry in record["stages"] if entry["name"] == stage)
        return self.data / "artifacts" / stage / key


def database_text(home: Path) -> str:
    """Everything in Prefect's SQLite database as one text, rows of every table."""
    import sqlite3

    connection = sqlite3.connect(home / "prefect.db")
    try:
        tables = [row[0] for row in connection.execute("select name from sqlite_master where type = 'table'")]
        return "\n".join(str(row) for table in tables for row in connection.execute(f'select * from "{table}"'))
    finally:
        connection.close()
