"""Whole runs of the data stages in this process, without Prefect: what the commands that look at runs are tested on."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import yaml

import flows.runner
from flows.planner import load_stage
from flows.runner import Runner
from pipeline_config.schema import STAGES
from tasks.runs import RunRecord

TOPICS = (
    "rivers carry sand to the sea", "bees find their way home", "bread rises in a warm room",
    "metal bridges grow in summer", "glass is made from sand", "owls hear mice under snow",
    "tides follow the moon", "paper was made from rags", "ships float on salt water", "clocks need a steady beat",
)  # fmt: skip
TWIN = "Please explain in a few plain sentences why clocks need a steady beat and who found out about it first"


def records() -> list[dict[str, Any]]:
    """Rows in the alpaca shape: ten that differ, one nearly a twin of the last, one to edit."""
    found = [
        {
            "instruction": f"Please explain in a few plain sentences why {topic} and who found out about it first.",
            "output": f"It is known that {topic}; the reasons are old, and number {n} of our notes gives all of them.",
        }
        for n, topic in enumerate(TOPICS)
    ]
    found.append({"instruction": f"{TWIN} of all?", "output": found[-1]["output"]})
    found.append({"instruction": "Whom do I ask about the harvest of 1911?", "output": "Ask ann.lee@example.com soon."})
    return found


def write_source(folder: Path, lines: list[dict[str, Any]] | None = None, broken: int = 1) -> Path:
    """`mine.jsonl` with these records and some broken lines behind them."""
    path = folder / "mine.jsonl"
    text = [json.dumps(line) for line in (records() if lines is None else lines)] + ["{broken"] * broken
    path.write_text("\n".join(text) + "\n")
    return path


def write_config(folder: Path, **sections: Any) -> Path:
    """`mine.yaml`: ingest, clean, dedupe and split of `mine.jsonl`, with sections changed or added."""
    source = {"name": "mine", "path": "mine.jsonl", "format": "alpaca"}
    values = {"ingest": {"sources": [source]}, "clean": {}, "dedupe": {}, "split": {"test": 0.3}} | sections
    path = folder / "mine.yaml"
    path.write_text(yaml.safe_dump(values))
    return path


@contextmanager
def without_prefect() -> Iterator[None]:
    """Steps of a run called directly, nothing drawn in a dashboard."""
    import prefect.artifacts

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(flows.runner, "run_as_task", lambda name, step: step())
        for name in [name for name in vars(prefect.artifacts) if name.startswith(("create_", "update_"))]:
            patch.setattr(prefect.artifacts, name, lambda *given, **named: None)
        yield


def run_stages(data: Path, config: Path | str = "", **options: Any) -> RunRecord:
    """Run a configuration to its end, or to the stage that fails."""
    with without_prefect(), Runner.open(str(config), data_dir=str(data), **options) as run:
        for name in STAGES:
            run.step(load_stage(name))
    return run.record


def states(record: RunRecord) -> dict[str, str]:
    """Stage → state, skipped ones left out."""
    return {entry.name: entry.state for entry in record.stages if entry.state != "skipped"}
