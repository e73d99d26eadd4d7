"""Row-local scores, computed once a row: a changed threshold computes none, a grown source only those of its new rows.

The scores of one input are an artifact of their own, `data/artifacts/<stage>/scores/<key>/`:

    scores.parquet   what the stage's `score` gave, in the order of the rows
    rows.parquet     `row_id` and `digest` of every row that came in: xxh3-64 of the columns that `score` may read

Where the key misses, scores of rows with the same id and digest are taken from the stage's newest other score
artifacts that were made in the same way (configuration, code, versions and references alike), and `score` sees only
the rest. The result has the same bytes as one computed from scratch, since a score depends on its row alone: `score`
is given no column but those in the digest.

What a model gives (perplexity, a classifier's opinion) is dear beside the rest, so such scores are an artifact each,
with a key in which nothing of the others stands: changing a rule set has no model read the rows again.
"""

import logging
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tasks.artifact import MANIFEST, Artifact, locked, manifest_if_any, write_frame
from tasks.kernels.digests import json_digest
from tasks.key import key_of, key_parts

if TYPE_CHECKING:
    import polars as pl

    from tasks.execute import Verdict, Workspace
    from tasks.stage import Stage, StageInput

LOG = logging.getLogger("winnow")
_SOURCES = 8  # other score artifacts that are looked through
_BATCH = 16_384  # rows whose digests are made at once


def score_parts(stage: "Stage", verdict: "Verdict", work: "Workspace", name: str = "") -> dict[str, Any]:
    """What the key of a stage's scores is made of; seed, thresholds and gate bounds play no part.

    Args:
        name: of the scores that stand apart; empty: the stage's own, in whose key nothing of those stands.
    """
    run = stage.apart[name].run if name else stage.score
    assert run is not None
    code = work.codes.of((run.__module__, run.__name__))
    given = dict(verdict.parts["references"])
    references = {each: digest for each, digest in given.items() if _owner(stage, each) == name}
    parts = key_parts(stage.name, code, stage.libraries, references, work.config, list(verdict.inputs), only="scoring")
    config = parts["config"]
    fields = stage.apart[name].fields if name else set(config) - set(stage.apart)
    config = {field: value for field, value in config.items() if field in fields}
    return parts | {"config": config, "reads": list(stage.reads)} | ({"scores": name} if name else {})


def _owner(stage: "Stage", reference: str) -> str:
    """The scores that a reference shapes: some that stand apart, or the stage's own."""
    return next((name for name in stage.apart if reference == name or reference.startswith(f"{name}_")), "")


def wanted_scores(stage: "Stage", work: "Workspace") -> list[str]:
    """The stage's own scores, and those apart that are on."""
    section = work.config.section(stage.name)
    return ["", *(name for name in stage.apart if getattr(section, name) is not None)]


def are_known(stage: "Stage", verdict: "Verdict", work: "Workspace") -> bool:
    """Whether the scores of a stage's whole input are there, so that it only decides anew."""
    if stage.score is None:
        return False
    keys = [key_of(score_parts(stage, verdict, work, name)) for name in wanted_scores(stage, work)]
    return all(work.store.folder(f"{stage.name}/scores", key).exists() for key in keys)


def scores_of(stage: "Stage", verdict: "Verdict", work: "Workspace", given: "StageInput[Any]") -> "pl.DataFrame":
    """The scores of the rows given, in their order: known ones read, the others computed and published."""
    own, *apart = [_published(stage, name, verdict, work, given) for name in wanted_scores(stage, work)]
    for scores in apart:
        own = own.hstack(scores.drop("row_id"))
    return own


def _published(
    stage: "Stage", part: str, verdict: "Verdict", work: "Workspace", given: "StageInput[Any]"
) -> "pl.DataFrame":
    """One part of the scores, from its artifact."""
    import polars as pl

    parts = score_parts(stage, verdict, work, part)
    name, key = f"{stage.name}/scores", key_of(parts)
    with locked(work.data_dir / "work" / name / key):
        artifact = work.store.find(name, key, LOG.warning)
        if artifact is None:
            alike = json_digest({part: value for part, value in parts.items() if part != "inputs"})

            def fill(out: Path) -> dict[str, Any]:
                known = _known(work, name, alike)
                _score(stage, part, given, known, out)
                created = datetime.now(UTC).isoformat(timespec="seconds")
                return {**parts, "stage": name, "key": key, "alike": alike, "created": created}

            artifact = work.store.publish(name, key, fill)
    return pl.read_parquet(artifact.path / "scores.parquet", glob=False)


def _score(stage: "Stage", part: str, given: "StageInput[Any]", known: Iterator[Artifact], out: Path) -> None:
    """Write the scores of the rows given and what they were made of."""
    import polars as pl

    run = stage.apart[part].run if part else stage.score
    assert run is not None
    rows = row_digests(given.rows, stage.reads)
    found: list[pl.DataFrame] = []
    new = rows
    for artifact in known:
        if new.is_empty():
            break
        same = pl.read_parquet(artifact.path / "rows.parquet", glob=False)
        shared = new.join(same, on=["row_id", "digest"], how="semi")
        scores = pl.read_parquet(artifact.path / "scores.parquet", glob=False)
        found.append(scores.join(shared, on="row_id", how="semi"))
        new = new.join(same, on=["row_id", "digest"], how="anti", maintain_order="left")
    if new.height or not found:
        asked = given.rows.select("row_id", *stage.reads)
        if new.height < rows.height:
            asked = asked.filter(pl.col("row_id").is_in(new["row_id"].implode()))
        found.append(run(replace(given, rows=asked)))
    _say(f"{stage.name} {part}".rstrip(), new.height, rows.height)
    write_frame(rows, out / "rows.parquet")
    if len(found) > 1 or new.is_empty():
        found = [rows.select("row_id").join(pl.concat(found), on="row_id", how="inner", maintain_order="left")]
    write_frame(found[0], out / "scores.parquet")


def row_digests(rows: "pl.LazyFrame", columns: tuple[str, ...]) -> "pl.DataFrame":
    """What a row is, as far as some columns go.

    Returns:
        `row_id` and `digest` (UInt64: xxh3-64 of the columns as JSON), in the order of the rows.
    """
    import polars as pl

    text = pl.struct(columns).struct.json_encode().hash(seed=0).alias("digest")
    batches = rows.select("row_id", *columns).collect_batches(chunk_size=_BATCH, maintain_order=True)
    empty = pl.DataFrame(schema={"row_id": pl.String, "digest": pl.UInt64})
    return pl.concat([empty, *(batch.select("row_id", text) for batch in batches)])


def _known(work: "Workspace", name: str, alike: str) -> Iterator[Artifact]:
    """The stage's other score artifacts that were made in the same way, newest first; damaged ones left out."""
    made: list[tuple[str, str]] = []
    for path in (work.data_dir / "artifacts" / name).glob(f"*/{MANIFEST}"):
        manifest = manifest_if_any(path.parent)
        if manifest.get("alike") == alike:
            made.append((str(manifest.get("created")), path.parent.name))
    for _, key in sorted(made, reverse=True)[:_SOURCES]:
        artifact = work.store.find(name, key, LOG.warning)
        if artifact is not None:
            yield artifact


def _say(stage: str, new: int, rows: int) -> None:
    if new == rows:
        LOG.info("%s: scored %s rows", stage, f"{rows:,}")
    elif new:
        LOG.info("%s: scored %s of %s rows, the rest were known", stage, f"{new:,}", f"{rows:,}")
    else:
        LOG.info("%s: the scores of all %s rows were known", stage, f"{rows:,}")
