"""Stages of the pipeline called from Python, without Prefect and gates, in a data folder of their own."""

import contextlib
import json
import shutil
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from flows.planner import load_stage, workspace
from pipeline_config.load import load_config
from tasks.artifact import Artifact
from tasks.execute import examine, produce

_CODE_MEMO = "code_digests.json"


class Published(NamedTuple):
    """What a stage made, and how long it took from asking whether it is cached to its published artifact (seconds)."""

    artifact: Artifact
    seconds: float


def publish(
    sections: Mapping[str, Any], source: Path, folder: Path, before: Path | None = None
) -> dict[str, Published]:
    """Ingest a JSONL file as raw text and run these sections on it, in order.

    Args:
        sections: stage → its settings.
        source: records of `id` and `text`.
        folder: empty; the data folder is made in it.
        before: such a folder of an earlier call; what it remembers about the code is taken over, and no more. The
            digests of the code cost 0.2 s once for every version of it, as compiling the kernels does.

    Returns:
        stage → what it published, `ingest` included.
    """
    recipe = folder / "recipe.yaml"
    sources = [{"name": "corpus", "path": str(source), "format": "text"}]
    recipe.write_text(json.dumps({"ingest": {"sources": sources}, **sections}), encoding="utf-8")
    if before is not None:
        (folder / "data").mkdir()
        with contextlib.suppress(FileNotFoundError):  # nothing is remembered of files that changed a moment ago
            shutil.copy(before / "data" / _CODE_MEMO, folder / "data" / _CODE_MEMO)
    work = workspace(load_config(str(recipe)), folder / "data")
    published: dict[str, Published] = {}
    for name in ("ingest", *sections):
        started = time.perf_counter()
        stage = load_stage(name)
        artifact = produce(stage, examine(stage, work), work)
        work.upstream[name] = artifact
        published[name] = Published(artifact, time.perf_counter() - started)
    return published
