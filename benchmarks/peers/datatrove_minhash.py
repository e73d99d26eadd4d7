"""datatrove: its four MinHash steps with its defaults (5-grams, 14 x 8 bands, threshold about 0.72), two workers."""

from pathlib import Path

from datatrove.executor import LocalPipelineExecutor
from datatrove.pipeline.dedup import MinhashDedupCluster, MinhashDedupFilter, MinhashDedupSignature
from datatrove.pipeline.dedup.minhash import MinhashConfig, MinhashDedupBuckets
from datatrove.pipeline.readers import JsonlReader
from datatrove.pipeline.writers import JsonlWriter
from timed import halves, ids_of, measure

CONFIG = MinhashConfig()


def run(source: Path, folder: Path) -> None:
    """Signatures, buckets, clusters, filter, one after the other as its documentation shows."""
    signatures, buckets, remove = (str(folder / name) for name in ("signatures", "buckets", "remove"))
    reader = JsonlReader(str(source))
    steps = {
        "signature": (2, [reader, MinhashDedupSignature(output_folder=signatures, config=CONFIG)]),
        "bucket": (CONFIG.num_buckets, [MinhashDedupBuckets(signatures, buckets, config=CONFIG)]),
        "cluster": (1, [MinhashDedupCluster(buckets, remove, config=CONFIG)]),
        "filter": (
            2,
            [reader, MinhashDedupFilter(remove), JsonlWriter(str(folder / "kept"), compression=None)],
        ),
    }
    for name, (tasks, pipeline) in steps.items():
        LocalPipelineExecutor(pipeline=pipeline, tasks=tasks, workers=2, logging_dir=str(folder / "logs" / name)).run()


if __name__ == "__main__":
    measure(run, lambda folder: ids_of(list((folder / "kept").glob("*.jsonl"))), halves)
