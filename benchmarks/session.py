"""What a run of the benchmarks shares: where things lie, how often, and how one command is timed."""

import json
import statistics
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from benchmarks.corpora import SMALL, corpus, first_rows
from benchmarks.environments import PEERS, SCRIPTS, install
from benchmarks.processes import BenchmarkError, Measured, run_timed

_ROOT = Path(__file__).parent.parent


@dataclass(frozen=True)
class Session:
    """One call of `python -m benchmarks`.

    Attributes:
        cache: corpora, truths and the peers' environments; survives.
        rounds: of the fast tools; the slow ones have as many as `rounds_of` says.
        sample: rows of each corpus; None: all.
        multitask: the parquet file, if there is one.
        peers: names of the peers that take part.
    """

    cache: Path
    rounds: int = 3
    sample: int | None = None
    multitask: Path | None = None
    peers: tuple[str, ...] = tuple(PEERS)

    def corpus(self, name: str) -> Path:
        """A corpus, or as many of its rows as the sample has."""
        return corpus(name, self.cache, self.sample, self.multitask)

    def ours(self, module: str, source: Path, *words: str) -> Measured:
        """Run one of our own modules under the clock."""
        command = [sys.executable, "-m", f"benchmarks.{module}"]
        return self._run(command, source, words, {"PYTHONPATH": str(_ROOT)})

    def peer(self, name: str, script: str, source: Path) -> Measured:
        """Run a peer's script in its environment under the clock."""
        return self._run([str(install(PEERS[name], self.cache)), str(SCRIPTS / f"{script}.py")], source, (), {})

    def _run(
        self, command: Sequence[str], source: Path, words: Sequence[str], environment: Mapping[str, str]
    ) -> Measured:
        small = first_rows(source, SMALL)
        return run_timed(command, source, small, self.cache / "work", words=words, environment=environment)


@dataclass
class Runs:
    """The rounds of one tool on one file.

    Attributes:
        seconds: of each round.
        peak_mb: the largest.
        answer: of the last round.
        failed: why there is no answer.
    """

    seconds: list[float] = field(default_factory=list)
    peak_mb: float = 0.0
    answer: Any = None
    failed: str = ""

    def add(self, run: Measured) -> None:
        """Count a round."""
        self.seconds.append(run.seconds)
        self.peak_mb = max(self.peak_mb, run.peak_mb)
        self.answer = run.answer

    @property
    def median(self) -> float:
        """Seconds; of two rounds their mean."""
        return statistics.median(self.seconds)

    def record(self) -> dict[str, Any]:
        """For the results: everything but the answer."""
        return {key: value for key, value in asdict(self).items() if key != "answer"} | (
            {"median": self.median} if self.seconds else {}
        )


def alternate(tools: dict[str, tuple[int, Any]], what: str) -> dict[str, Runs]:
    """Run tools in turn, round by round.

    Args:
        tools: name → rounds that it takes part in, and a call that runs it once.
        what: for the progress lines.
    """
    found = {name: Runs() for name in tools}
    for turn in range(max(rounds for rounds, _ in tools.values())):
        for name, (rounds, call) in tools.items():
            if turn >= rounds or found[name].failed:
                continue
            started = time.monotonic()
            try:
                found[name].add(call())
            except BenchmarkError as error:
                found[name].failed = str(error)
            said = f"{found[name].seconds[-1]:.2f} s" if not found[name].failed else f"failed: {found[name].failed}"
            print(f"{what}, round {turn + 1}, {name}: {said} ({time.monotonic() - started:.0f} s)", file=sys.stderr)
    return found


def stored(path: Path) -> dict[str, Any]:
    """Earlier results; empty if there are none."""
    return dict(json.loads(path.read_text(encoding="utf-8"))) if path.exists() else {}
