"""The data stages on the demo's corpus: median seconds of three runs, each from the published artifact above.

Below Prefect and without gates, kernels compiled by a first run that is not counted. Writes `benchmarks/RESULTS.md`.
Peers and larger corpora are not here yet.
"""

import shutil
import statistics
import tempfile
import time
from pathlib import Path

from flows.planner import load_stage, workspace
from pipeline_config.load import load_config
from pipeline_config.schema import DATA_STAGES
from tasks.execute import examine, produce

RUNS = 3
RESULTS = Path(__file__).parent / "RESULTS.md"
_TIMED = tuple(name for name in DATA_STAGES if name not in ("select", "tokenize"))  # those load a model


def main() -> None:
    """Time the stages and write the table."""
    config = load_config("demo", ("select=null",))
    seconds: dict[str, list[float]] = {}
    rows: dict[str, int] = {}
    for run in range(RUNS + 1):
        folder = Path(tempfile.mkdtemp(prefix="winnow-bench-"))
        work = workspace(config, folder)
        for name in _TIMED:
            if config.section(name) is None:
                continue
            verdict = examine(load_stage(name), work)
            started = time.perf_counter()
            work.upstream[name] = produce(load_stage(name), verdict, work)
            if run:
                seconds.setdefault(name, []).append(time.perf_counter() - started)
            rows[name] = work.upstream[name].manifest["rows"]["in"]
        shutil.rmtree(folder)
    lines = ["# Results", "", f"The demo's corpus, median of {RUNS} runs.", "", "| stage | rows in | s | rows/s |"]
    lines.append("|---|---:|---:|---:|")
    for name, times in seconds.items():
        middle = statistics.median(times)
        lines.append(f"| {name} | {rows[name]:,} | {middle:.2f} | {rows[name] / middle:,.0f} |")
    RESULTS.write_text("\n".join(lines) + "\n", encoding="utf-8")
    print("\n".join(lines))


if __name__ == "__main__":
    main()
