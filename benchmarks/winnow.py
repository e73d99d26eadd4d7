"""Winnow under the same clock as its peers: from JSONL to published artifacts in a fresh data folder.

    python -m benchmarks.winnow SOURCE SMALL FOLDER JOB

Called from Python, without Prefect and gates. The small file has the kernels compiled, or loaded from where an earlier
process left them, and the digests of the code known. Rows are raw text, and every setting that a job does not name has
its default: for duplicates the whole text is compared, at 0.7.
"""

import sys
from pathlib import Path
from typing import Any

from benchmarks.peers.timed import measure
from benchmarks.stages import Published, publish

RULE_SETS = ("gopher", "c4", "fineweb", "instruct")


def known_rule_sets() -> list[str]:
    """Those of the four rule sets that the quality stage has."""
    from tasks.quality.rules import RULE_SETS as KNOWN

    return [name for name in RULE_SETS if name in KNOWN]


def sections(job: str) -> dict[str, Any]:
    """Stages of a job with their settings: a stage's name, or `quality-` and the rule sets that it applies."""
    stage, _, rule_sets = job.partition("-")
    if stage == "quality":
        return {stage: {"rules": rule_sets.split("+") if rule_sets else known_rule_sets()}}
    return {stage: {}}


def main(job: str) -> None:
    """Run a job under the clock; the answer is what each stage took and which rows stayed."""
    published: dict[str, Published] = {}

    def run(source: Path, folder: Path) -> None:
        warm = folder.with_name("warm")
        published.update(publish(sections(job), source, folder, None if folder == warm else warm))

    measure(run, lambda _: _answer(published))


def _answer(published: dict[str, Published]) -> dict[str, Any]:
    import polars as pl

    first, last = (list(published.values())[at].artifact for at in (0, -1))
    ids = first.rows().select("row_id", pl.col("meta").str.json_path_match("$.id").cast(pl.Int64).alias("id")).collect()
    kept = last.rows().select("row_id").collect().join(ids, on="row_id", how="left", maintain_order="left")
    return {
        "stages": {name: each.seconds for name, each in published.items()},
        "rows": ids.height,
        "kept": kept["id"].to_list(),
    }


if __name__ == "__main__":
    main(sys.argv[4])
