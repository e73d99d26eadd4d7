"""datatrove: its Gopher (two), C4 and FineWeb filters, thresholds as published, two workers, JSONL to JSONL."""

from pathlib import Path

from datatrove.executor import LocalPipelineExecutor
from datatrove.pipeline.filters import (
    C4QualityFilter,
    FineWebQualityFilter,
    GopherQualityFilter,
    GopherRepetitionFilter,
)
from datatrove.pipeline.readers import JsonlReader
from datatrove.pipeline.writers import JsonlWriter
from timed import halves, ids_of, measure

FILTERS = {
    "gopher_repetition": GopherRepetitionFilter,
    "gopher_quality": GopherQualityFilter,
    "c4": C4QualityFilter,
    "fineweb": FineWebQualityFilter,
}


def run(source: Path, folder: Path) -> None:
    """The four in this order; what one drops, the next does not see."""
    filters = [make() for make in FILTERS.values()]
    pipeline = [JsonlReader(str(source)), *filters, JsonlWriter(str(folder / "kept"), compression=None)]
    LocalPipelineExecutor(pipeline=pipeline, tasks=2, workers=2, logging_dir=str(folder / "logs")).run()


if __name__ == "__main__":
    measure(run, lambda folder: ids_of(list((folder / "kept").glob("*.jsonl"))), halves)
