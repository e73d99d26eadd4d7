"""Train a toy model in processes that are killed on the way: `python -m tests.killed_training CASES FOLDER`.

Every attempt is a fork of a parent that only imports, which is what takes long. It trains in the work folder of the
attempts before it and is killed (SIGKILL) at the moment that its case gives; the last one is left to finish.
"""

import functools
import json
import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from pipeline_config.schema import Config
from tasks.stage import StageInput
from tests.killed_stages import in_a_fork, noting_modules, preload
from tests.toy_model import make_toy_model


def main(cases: dict[str, Any], folder: Path) -> None:
    """Train each case once undisturbed, in `CASE/whole`, and once killed again and again, in `CASE/broken`.

    Args:
        cases: name → `stage`, `section`, and `kills`: a list of [moment, n-th time of it]. How each attempt ended and
            which steps it computed goes to `attempts.json` in the folder.
    """
    for name, case in cases.items():
        for place, kills in (("whole", []), ("broken", case["kills"])):
            below = folder / name / place
            below.mkdir(parents=True)
            attempts = []
            for kill in [*kills, None]:
                log = below / f"steps-{len(attempts)}.txt"
                status = in_a_fork(functools.partial(_attempt, case, kill, below, log, folder / "modules"))
                steps = [int(line) for line in log.read_text().split()] if log.exists() else []
                attempts.append({"kill": kill, "status": status, "steps": steps})
                if (folder / "modules").exists():
                    preload(folder / "modules")
                    (folder / "modules").unlink()
            (below / "attempts.json").write_text(json.dumps(attempts))


def _attempt(case: dict[str, Any], kill: list[Any] | None, folder: Path, log: Path, modules: Path) -> None:
    import torch

    torch.set_num_threads(1)
    _watch(kill, log)
    noting_modules(lambda: _train(case, folder), modules)


def _train(spec: dict[str, Any], folder: Path) -> None:
    import shutil

    from tests import test_distill, test_train

    base = folder / "base" / "model"
    if not base.exists():
        make_toy_model(base, layers=3)
    sections = {"train": {}, spec["stage"]: spec["section"]}
    config: Config = test_train.config_of(base, **sections)
    rows = test_train.tokens_of(config) if spec["stage"] == "train" else test_distill.tokens()
    upstream = {"tokenize": SimpleNamespace(rows=rows.lazy), "train": SimpleNamespace(path=base.parent)}
    out = folder / "out"
    shutil.rmtree(out, ignore_errors=True)  # as a temporary folder of a killed process
    out.mkdir()
    stage = getattr(__import__(f"tasks.{spec['stage']}.task", fromlist=[spec["stage"]]), spec["stage"])
    given: StageInput[Any] = StageInput(
        config=config.section(spec["stage"]),
        run=config,
        seed=3,
        rows=None,  # type: ignore[arg-type]
        scores=None,
        upstream=upstream,  # type: ignore[arg-type]
        out=out,
        work=folder / "work",
        data_dir=folder,
    )
    stage.run(given)


def _watch(kill: list[Any] | None, log: Path) -> None:
    """Note each step as it is computed; kill this process at the n-th time that a moment comes."""
    from tasks.kernels import checkpoints, publish, trainer

    moment, nth = kill or ("never", 0)
    times = {"n": 0}

    def before(name: str, owner: Any, attribute: str, note: Callable[..., object] | None = None) -> None:
        real = getattr(owner, attribute)

        def instead(*args: Any, **kwargs: Any) -> Any:
            if note is not None:
                note(*args)
            if name == moment:
                times["n"] += 1
                if times["n"] == nth:
                    os.kill(os.getpid(), signal.SIGKILL)
            return real(*args, **kwargs)

        setattr(owner, attribute, instead)

    def note(self: Any, *_: Any) -> None:
        with log.open("a") as stream:
            stream.write(f"{self.state.global_step}\n")

    before("batch", trainer.CompletionTrainer, "compute_loss", note)
    before("saving", trainer.CompletionTrainer, "_save_rng_state")
    before("sealing", checkpoints, "write_whole")
    before("sealed", trainer, "drop_older")
    before("publishing", publish, "write_model")


if __name__ == "__main__":
    main(json.loads(sys.argv[1]), Path(sys.argv[2]))
