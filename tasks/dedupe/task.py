"""The dedupe stage: rows that repeat a kept row out."""

from pathlib import Path
from typing import TYPE_CHECKING

from pipeline_config.data_schema import Dedupe
from pipeline_config.schema import Config
from tasks.stage import StageInput, stage

if TYPE_CHECKING:
    from tasks.ledger import Decision


def references(config: Dedupe, run: Config, data_dir: Path) -> dict[str, str]:
    """The order of the sources, where it decides which row is kept."""
    from tasks.kernels.digests import json_digest

    if config.priority != "source_priority":
        return {}
    return {"source_priority": json_digest([source.name for source in run.ingest.sources])}


@stage("dedupe", libraries=("numba", "numpy"), references=references)
def dedupe(given: "StageInput[Dedupe]") -> "Decision":
    """Exact, then near-duplicates, each removal verified against a row that is kept."""
    from tasks.dedupe.decide import COLUMNS, decide

    sources = [source.name for source in given.run.ingest.sources]
    return decide(given.rows.select(COLUMNS).collect(), given.config, sources)
