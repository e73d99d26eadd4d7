"""Kill a run again and again (`make crash`): whatever is published is whole, and the end is that of an undisturbed run.

A recipe runs once undisturbed. Then the same command runs in another data folder and its process group is killed
(SIGKILL) at a random moment, seeded; the next start goes on from what is there. A run that comes through before its
moment ends a round: its artifacts are compared, the folder is emptied (the converted model stays), a new round begins.

After every kill: each visible artifact has all its files, byte for byte the undisturbed run's. At the end: the same
keys and files for every stage, nothing half-written left, no run recorded as running. The report is checked against its
own manifest only, since measured speeds stand in it.
"""

import argparse
import hashlib
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pipeline_config.schema import STAGES

_ROOT = Path(__file__).parent.parent
_TIMED_STAGES = ("report",)
_LONGEST_WAIT = 0.5  # of the undisturbed run's time: the upper end of the random moments


@dataclass
class Campaign:
    """What is killed, and what came of it."""

    base: Path
    config: str
    overrides: list[str]
    draw: random.Random
    moments: Counter[str] = field(default_factory=Counter)
    problems: list[str] = field(default_factory=list)
    rounds: int = 0
    digests: dict[tuple[Any, ...], str] = field(default_factory=dict)

    def start(self, data: Path) -> "subprocess.Popen[bytes]":
        """The command as a user types it, in a process group of its own."""
        words = [sys.executable, "-m", "flows.cli", "run", self.config, "--data-dir", str(data)]
        for text in self.overrides:
            words += ["--set", text]
        own = {"PREFECT_HOME": str(self.base / "prefect"), "DO_NOT_TRACK": "1", "HF_HUB_OFFLINE": "1"}
        log = (self.base / "log").open("ab")
        with log:
            return subprocess.Popen(
                words, cwd=_ROOT, env=os.environ | own, stdout=log, stderr=log, start_new_session=True
            )

    def undisturbed(self) -> tuple[Path, float]:
        """One run in peace; its data folder and seconds."""
        data, began = self.base / "whole", time.perf_counter()
        if self.start(data).wait() != 0:
            raise SystemExit(f"the undisturbed run failed:\n{(self.base / 'log').read_text()[-3000:]}")
        return data, time.perf_counter() - began

    def kill_once(self, data: Path, longest: float) -> bool:
        """Start, wait a random while, kill; False if the run came through before."""
        process = self.start(data)
        try:
            code = process.wait(timeout=self.draw.uniform(0, longest))
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            self.moments[_stage_at_work(data)] += 1
            return True
        if code != 0:
            self.problems.append(f"a resumed run ended with exit code {code}: see {self.base / 'log'}")
        return False

    def check(self, data: Path, expected: dict[str, dict[str, str]], *, complete: bool) -> None:
        """Compare every visible artifact with the undisturbed run's."""
        found = self.artifacts(data)
        for name, files in found.items():
            if name.split("/")[0] in _TIMED_STAGES:
                continue
            if expected.get(name) != files:
                self.problems.append(f"{name} is not the undisturbed run's")
        if not complete:
            return
        missing = [name for name in expected if name not in found and name.split("/")[0] not in _TIMED_STAGES]
        self.problems += [f"{name} is missing" for name in missing]
        half = [path for path in data.rglob("*") if ".tmp" in path.name and "models" not in path.parts]
        self.problems += [f"{path.relative_to(data)} is left over" for path in half]
        for path in (data / "runs").glob("*.json"):
            status = json.loads(path.read_text())["status"]
            if status == "running":
                self.problems.append(f"the record of run {path.stem} says {status}")

    def artifacts(self, data: Path) -> dict[str, dict[str, str]]:
        """Every visible artifact's files with their sha256, read from the disk; a half one is a problem."""
        found: dict[str, dict[str, str]] = {}
        folders = [*(data / "artifacts").glob("*/[0-9a-f]*"), *(data / "artifacts").glob("*/scores/[0-9a-f]*")]
        for folder in folders:
            name = folder.relative_to(data / "artifacts").as_posix()
            files = {
                path.relative_to(folder).as_posix(): self._digest(path)
                for path in sorted(folder.rglob("*"))
                if path.is_file() and path != folder / "manifest.json"
            }
            try:
                listed = json.loads((folder / "manifest.json").read_text())["files"]
            except (OSError, ValueError, KeyError):
                listed = None
            if listed is None or {file["path"]: file["sha256"] for file in listed} != files:
                self.problems.append(f"{name} is half an artifact")
            found[name] = files
        return found

    def _digest(self, path: Path) -> str:
        stat = path.stat()
        stamp = (str(path), stat.st_ino, stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns)
        if stamp not in self.digests:
            with path.open("rb") as stream:
                self.digests[stamp] = hashlib.file_digest(stream, "sha256").hexdigest()
        return self.digests[stamp]

    def empty(self, data: Path) -> None:
        """Begin a new round: everything goes but the converted model and what is remembered of it."""
        self.rounds += 1
        for name in ("artifacts", "work", "runs", "gates", "reports"):
            shutil.rmtree(data / name, ignore_errors=True)


def main() -> None:
    """Kill, compare, print what came of it; exit code 1 if anything differs."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.crash", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--kills", type=int, default=50)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--config", default="tiny")
    parser.add_argument("--set", dest="overrides", action="append", default=[], metavar="A.B=V")
    parser.add_argument("--keep", action="store_true", help="keep the data folders")
    given = parser.parse_args()
    base = Path(tempfile.mkdtemp(prefix="winnow-crash-"))
    campaign = Campaign(base, given.config, given.overrides, random.Random(given.seed))
    whole, seconds = campaign.undisturbed()
    expected = campaign.artifacts(whole)
    print(f"undisturbed: {seconds:.0f} s, {len(expected)} artifacts", flush=True)
    data, began = base / "broken", time.perf_counter()
    killed = 0
    while killed < given.kills:
        came_through = not campaign.kill_once(data, _LONGEST_WAIT * seconds)
        campaign.check(data, expected, complete=came_through)
        if came_through:
            campaign.empty(data)
        else:
            killed += 1
            print(f"{killed}/{given.kills} kills, {time.perf_counter() - began:.0f} s", flush=True)
    if campaign.start(data).wait() != 0:
        campaign.problems.append("the last run failed")
    campaign.rounds += 1
    campaign.check(data, expected, complete=True)
    _tell(campaign, killed)
    if not (given.keep or campaign.problems):
        shutil.rmtree(base)
    sys.exit(1 if campaign.problems else 0)


def _tell(campaign: Campaign, killed: int) -> None:
    order = ["starting", *STAGES, "between stages"]
    where = ", ".join(f"{name} {campaign.moments[name]}" for name in order if campaign.moments[name])
    print(f"killed in: {where}")
    print(f"rounds that came to their end: {campaign.rounds}")
    for problem in dict.fromkeys(campaign.problems):
        print(f"PROBLEM: {problem}")
    verdict = "DIFFERENT" if campaign.problems else "byte-identical to the undisturbed run's"
    print(f"{killed} kills survived; artifacts {verdict}" if not campaign.problems else f"{killed} kills: {verdict}")


def _stage_at_work(data: Path) -> str:
    """What the newest run was doing when it was killed."""
    records = sorted((data / "runs").glob("*.json"))
    record = json.loads(records[-1].read_text()) if records else {"status": "none"}
    if record["status"] != "running":
        return "starting"
    at_work = [stage["name"] for stage in record["stages"] if stage["reason"] == "running"]
    return at_work[0] if at_work else "between stages"


if __name__ == "__main__":
    main()
