"""The demo recipe's data stages on its own rows, each from the published artifact above."""

import tempfile
import time
from pathlib import Path
from typing import Any

from benchmarks.session import Session


def bench(session: Session) -> dict[str, Any]:
    """Stage → rows and the seconds of each run; a first run, not counted, compiles the kernels."""
    from flows.planner import load_stage, workspace
    from pipeline_config.load import load_config
    from pipeline_config.schema import DATA_STAGES
    from tasks.execute import examine, produce

    config = load_config("demo", ("select=null",))  # select and tokenize load a model
    found: dict[str, Any] = {}
    for run in range(session.rounds + 1):
        with tempfile.TemporaryDirectory(prefix="winnow-bench-") as folder:
            work = workspace(config, Path(folder))
            for name in DATA_STAGES:
                if config.section(name) is None or name == "tokenize":
                    continue
                stage = load_stage(name)
                verdict = examine(stage, work)
                started = time.perf_counter()
                work.upstream[name] = produce(stage, verdict, work)
                seconds = time.perf_counter() - started
                record = found.setdefault(name, {"rows": 0, "seconds": []})
                record["rows"] = work.upstream[name].manifest["rows"]["in"]
                record["seconds"] += [seconds] if run else []
    return found
