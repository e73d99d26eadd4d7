"""What became of every row of a run: kept, removed or quarantined, where and by which rule, from the ledgers alone.

No text is read and no row passes through Python: millions of rows are a few Polars scans of narrow columns.
"""

from collections.abc import Collection, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import polars as pl

from pipeline_config.schema import DATA_STAGES
from tasks.artifact import Artifact, Store, read_manifest
from tasks.kernels.pii import mask
from tasks.runs import RunRecord

_FATE = ("row_id", "fate", "stage", "rule", "value", "threshold", "kept_row_id", "detail", "split")
_CONTROLS = {code: " " for code in (*range(32), *range(127, 160)) if chr(code) not in "\n\t"}
WHY = ("fate", "stage", "rule")  # two rows with the same ones had the same fate


@dataclass(frozen=True)
class Trail:
    """The data stages of a run that can still be read, in order.

    Attributes:
        artifacts: up to the first stage that did not run, failed, or has lost its artifact.
        reach: index in `DATA_STAGES` of the last stage whose outcome is known; -1 for none.
        ended: why the trail ends there; empty if it goes through all data stages.
        data_dir: where they lie.
    """

    artifacts: list[Artifact]
    reach: int
    ended: str
    data_dir: Path

    def until(self, reach: int) -> list[Artifact]:
        """The artifacts of the stages up to an index."""
        return [artifact for artifact in self.artifacts if DATA_STAGES.index(artifact.stage) <= reach]


def trail(record: RunRecord, data_dir: Path) -> Trail:
    """Follow a run through its data stages. A stage that its gate stopped has an outcome; one that crashed has none."""
    found: list[Artifact] = []
    store = Store(data_dir)
    for place, name in enumerate(DATA_STAGES):
        entry = record.stage(name)
        if record.config.get(name) is None:
            continue
        if entry.key is None or entry.state in ("pending", "skipped"):
            why = entry.reason if entry.state == "skipped" and entry.reason else "did not run"
            return Trail(found, place - 1, f"{name}: {why}", data_dir)
        folder = store.folder(name, entry.key)
        try:
            found.append(Artifact(folder, read_manifest(folder)))
        except (OSError, ValueError):
            failed = entry.state == "failed"
            return Trail(found, place - 1, f"{name} failed" if failed else f"the artifact of {name} is gone", data_dir)
        if entry.state == "failed":
            return Trail(found, place, f"{name} failed", data_dir)
    return Trail(found, len(DATA_STAGES) - 1, "", data_dir)


def fates(artifacts: Iterable[Artifact], leave_out: Collection[str] = ()) -> pl.LazyFrame:
    """One line for every row that came into these stages, or was added by them.

    Args:
        artifacts: stages of one run, from ingest on; a row that is in the last is kept.
        leave_out: keys of artifacts whose lines are not wanted.

    Returns:
        `row_id, fate (kept, removed, quarantined), stage, rule, value, threshold, kept_row_id, detail, split`; `stage`
        and `rule` are null for a row that is kept, `split` for one that is not.
    """
    frames = [pl.LazyFrame(schema={name: _type(name) for name in _FATE})]
    stages = list(artifacts)
    for artifact in stages:
        if artifact.key in leave_out:
            continue
        gone = artifact.ledger("removed").with_columns(fate=pl.lit("removed"))
        held = artifact.ledger("quarantine").select("row_id", "detail", rule="reason", fate=pl.lit("quarantined"))
        frames += [frame.with_columns(stage=pl.lit(artifact.stage)) for frame in (gone, held)]
    if stages and stages[-1].key not in leave_out:
        kept = stages[-1].own_rows()
        split = [name for name in ("split",) if name in kept.collect_schema().names()]
        frames.append(kept.select("row_id", *split, fate=pl.lit("kept")))
    return pl.concat([_full(frame) for frame in frames]).filter(pl.col("row_id").is_not_null())


def rows_seen(artifacts: list[Artifact]) -> int:
    """How many rows `fates` tells of, from the manifests."""
    if not artifacts:
        return 0
    counts = [artifact.manifest["rows"] for artifact in artifacts]
    gone = sum(sum(rows["removed"].values()) + sum(rows["quarantined"].values()) for rows in counts)
    return int(gone + counts[-1]["out"])


def fate_words(fate: str | None, stage: str | None, rule: str | None) -> str:
    """A fate as a person says it."""
    if fate is None:
        return "not in the run"
    if fate == "kept":
        return "kept"
    return f"{stage}: {'removed by' if fate == 'removed' else 'quarantined,'} {rule}"


def excerpts(artifacts: list[Artifact], row_ids: Collection[str], length: int) -> dict[str, str]:
    """The beginning of rows' texts, personal data masked: as the first stage that knows them has them.

    Args:
        length: characters.
    """
    wanted = set(row_ids)
    found: dict[str, str] = {}
    for artifact in artifacts:
        if not wanted - set(found):
            break
        if artifact.stage == "tokenize" or not artifact.writes_text:
            continue
        lines = artifact.own_rows().filter(pl.col("row_id").is_in(sorted(wanted - set(found))))
        held = artifact.ledger("quarantine").filter(pl.col("row_id").is_in(sorted(wanted)))
        for line in lines.select("row_id", "messages").collect().to_dicts():
            found[line["row_id"]] = short(text_of(line), length)
        for line in held.select("row_id", "excerpt").collect().to_dicts():
            found.setdefault(line["row_id"], short(line["excerpt"] or "", length))
    return found


def text_of(row: dict[str, Any]) -> str:
    """A row's turns one behind the other, personal data masked: rows of `ingest` still hold it."""
    turns = (f"{m['role']}: {mask(m['content'] or '').translate(_CONTROLS)}" for m in row["messages"] or [])
    return " | ".join(turns)


def short(text: str, length: int) -> str:
    """White space collapsed, cut, and without the control characters that a terminal would obey."""
    flat = " ".join(text.translate(_CONTROLS).split())
    return flat if len(flat) <= length else f"{flat[:length]} …"


def _full(frame: pl.LazyFrame) -> pl.LazyFrame:
    there = frame.collect_schema().names()
    return frame.select((pl.col(n) if n in there else pl.lit(None)).cast(_type(n)).alias(n) for n in _FATE)


def _type(name: str) -> Any:
    return pl.Float64 if name in ("value", "threshold") else pl.String
