"""Run the tiny recipe over a toy model, killed in every stage: `python -m tests.killed_stages FOLDER`.

Below Prefect: the stages go through `tasks.execute`. Every attempt is a fork of a parent that only imports, which is
what takes long. One data folder is filled without disturbance; in the other, each attempt goes on from what the ones
before it published, until the stage it is to be killed in (by SIGKILL): in the middle of the stage's function, and
every second one between the writing of its artifact and the rename that would make it visible.
"""

import contextlib
import functools
import importlib
import itertools
import json
import os
import signal
import sys
import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import FrameType
from typing import Any

from flows.planner import load_stage, workspace
from pipeline_config.load import load_config
from pipeline_config.schema import STAGES, Config
from tasks import artifact as publishing
from tasks.execute import examine, produce
from tasks.stage import Stage
from tests.toy_model import make_toy_model

MOMENT = dict(zip(STAGES, itertools.cycle(("function", "rename")), strict=False))  # stage → where it is killed
_OURS = f"{os.sep}tasks{os.sep}"


def main(folder: Path) -> None:
    """Fill `whole/` and `broken/`; how the attempts ended goes to `attempts.json`."""
    in_a_fork(lambda: make_toy_model(folder / "toy", layers=3))
    config = load_config("tiny", settings(folder))
    counts = folder / "calls.json"
    whole = functools.partial(run, config, folder / "whole", counting=counts)
    ends = {"undisturbed": in_a_fork(lambda: noting_modules(whole, folder / "modules"))}
    preload(folder / "modules")
    calls: dict[str, int] = json.loads(counts.read_text())
    for name, moment in MOMENT.items():
        work = functools.partial(run, config, folder / "broken", kill=(name, moment), calls=calls)
        ends[f"{name}, {moment}"] = in_a_fork(work)
    ends["last"] = in_a_fork(lambda: run(config, folder / "broken"))
    (folder / "attempts.json").write_text(json.dumps(ends))


def settings(folder: Path) -> tuple[str, ...]:
    """The tiny recipe on the toy model, small enough for a test."""
    return (
        f"model={folder / 'toy'}",
        "distill.distilled.layers=2",
        "tokenize.max_lost_tokens=1",  # the toy's tokens are short
        "tokenize.max_lost_of_task=1",
        "evaluate.metrics=[loss,chrf,rouge_l]",
        "evaluate.max_examples=2",
        "evaluate.max_new_tokens=2",
        "evaluate.bootstrap=100",
        "train.max_steps=4",
        "train.precision=fp32",
    )


def noting_modules(work: Callable[[], object], path: Path) -> None:
    """Do something and write down which modules it imported."""
    work()
    path.write_text("\n".join(list(sys.modules)))


def preload(path: Path) -> None:
    """Import what an earlier fork imported, so that those to come need not; none of it is used here."""
    for name in path.read_text().split("\n"):
        if name.partition(".")[0] in (
            "torch",
            "transformers",
            "peft",
            "accelerate",
            "polars",
            "numba",
            "sklearn",
            "tasks",
        ):
            with contextlib.suppress(Exception):
                importlib.import_module(name)


def in_a_fork(work: Any) -> int:
    """Do something in a fork of this process and give the status it ended with (0, or the signal)."""
    child = os.fork()
    if child == 0:
        try:
            work()
        except BaseException:
            import traceback

            traceback.print_exc()
            os._exit(1)
        os._exit(0)
    return os.waitpid(child, 0)[1]


def run(
    config: Config,
    data: Path,
    *,
    kill: tuple[str, str] | None = None,
    calls: dict[str, int] | None = None,
    counting: Path | None = None,
) -> None:
    """Every stage in order, from the cache where it is there.

    Args:
        kill: the stage and the moment at which this process kills itself.
        calls: how many of our functions each stage calls, so that half of them is its middle.
        counting: where to write that.
    """
    _stop_the_clock()
    counted: dict[str, int] = {}
    work = workspace(config, data)
    for name in STAGES:
        stage = load_stage(name)
        if counting is not None:
            stage = replace(stage, run=_watched(stage, counted, at=None))
        if kill == (name, "function"):
            assert calls is not None
            stage = replace(stage, run=_watched(stage, counted, at=calls[name] // 2))
        if kill == (name, "rename"):
            publishing.put_in_place = _die  # type: ignore[assignment]
        verdict = examine(stage, work)
        work.upstream[name] = verdict.artifact or produce(stage, verdict, work)
    work.store.digests.save()
    if counting is not None:
        counting.write_text(json.dumps(counted))


def _stop_the_clock() -> None:
    """The report shows when and how fast things were made, and in how much memory; let only that be the same."""
    import time

    from tasks import execute

    ticks, real = itertools.count(), execute._fill
    still = {"created": "2026-01-01T00:00:00+00:00", "seconds": 0.0, "peak_rss_mb": 0.0}
    time.perf_counter = lambda: next(ticks) / 1024
    execute._fill = lambda *given: real(*given) | still


def _watched(stage: Stage, counted: dict[str, int], at: int | None) -> Any:
    """The stage's function, counting our calls in it; killed at one of them."""

    @functools.wraps(stage.run)  # its name and module: the key is made from its code
    def counting(given: Any) -> Any:
        counted[stage.name] = 0

        def count(frame: FrameType, event: str, argument: object) -> None:
            if event == "call" and _OURS in frame.f_code.co_filename:
                counted[stage.name] += 1
                if at is not None and counted[stage.name] > at:
                    _die()

        assert threading.current_thread() is threading.main_thread()
        sys.setprofile(count)
        try:
            return stage.run(given)
        finally:
            sys.setprofile(None)

    return counting


def _die(*_: object) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
