"""data-juicer: its MinHash operator over words, window 5, threshold 0.7, `np: 2`, the rest its defaults."""

from pathlib import Path

from data_juicer.config import init_configs
from data_juicer.core.executor import DefaultExecutor
from timed import ids_of, measure

RECIPE = """
project_name: benchmark
dataset_path: {source}
export_path: {folder}/kept.jsonl
work_dir: {folder}
np: 2
process:
  - document_minhash_deduplicator:
      tokenization: space
      window_size: 5
      jaccard_threshold: 0.7
"""


def run(source: Path, folder: Path) -> None:
    """What `dj-process --config` does."""
    recipe = folder / "recipe.yaml"
    recipe.write_text(RECIPE.format(source=source, folder=folder), encoding="utf-8")
    DefaultExecutor(init_configs(["--config", str(recipe)])).run()


if __name__ == "__main__":
    measure(run, lambda folder: ids_of([folder / "kept.jsonl"]))
