"""A Decision applied: the equation holds, source order stays, nothing goes that was not decided."""

from pathlib import Path
from typing import Any

import polars as pl
import pytest

from pipeline_config.errors import DataError
from tasks.apply import write_decision
from tasks.artifact import Artifact, Store
from tasks.kernels.rows import ROW_SCHEMA, added_row_id
from tasks.ledger import Decision, added_frame, changed_frame, quarantine_frame, removed_frame


def rows(n: int) -> pl.DataFrame:
    lines = [
        {"row_id": f"r{i}", "source": "s", "split": "train", "messages": [{"role": "text", "content": f"text {i}"}]}
        for i in range(n)
    ]
    return pl.DataFrame(lines, schema=ROW_SCHEMA)


def publish(store: Store, stage: str, decision: Decision, before: Artifact | None, n: int = 0) -> Artifact:
    def fill(out: Path) -> dict[str, Any]:
        totals, facts = write_decision(stage, decision, before, out)
        above = [] if before is None else [before] if before.writes_text else [before, before.text()]
        parents = [{"stage": a.stage, "key": a.key, "digest": a.digest} for a in above]
        return {"stage": stage, "key": f"{n}" * 64, "rows": totals, "facts": facts, "parents": parents}

    return store.publish(stage, f"{n}" * 64, fill)


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path)


def test_ingest_counts_rows_and_quarantine(store: Store) -> None:
    bad = quarantine_frame([{"row_id": "q", "source": "s", "line": 3, "reason": "not_json"}])
    manifest = publish(store, "ingest", Decision(assigned=rows(4), quarantined=bad), None).manifest
    assert manifest["rows"] == {
        "in": 5, "out": 4, "removed": {}, "changed": {}, "added": {}, "quarantined": {"not_json": 1},
    }  # fmt: skip


def test_thin_decisions_gather_text_through_several_stages(store: Store) -> None:
    ingest = publish(store, "ingest", Decision(assigned=rows(6)), None)
    dedupe = publish(
        store, "dedupe", Decision(removed=removed_frame([{"row_id": "r1", "rule": "near_duplicate"}])), ingest
    )
    scores = pl.DataFrame({"row_id": ["r0", "r2", "r3", "r4", "r5"], "score_x": [0.0, 0.2, 0.3, 0.4, 0.5]})
    quality = publish(
        store, "quality", Decision(removed=removed_frame([{"row_id": "r3", "rule": "short"}]), assigned=scores), dedupe
    )
    split = publish(store, "split", Decision(assigned=pl.DataFrame({"row_id": ["r4"], "split": ["test"]})), quality)
    out = split.rows().collect()
    assert out["row_id"].to_list() == ["r0", "r2", "r4", "r5"]
    assert out["split"].to_list() == ["train", "train", "test", "train"]
    assert out["score_x"].to_list() == [0.0, 0.2, 0.4, 0.5]
    assert [m[0]["content"] for m in out["messages"].to_list()] == ["text 0", "text 2", "text 4", "text 5"]
    assert out.columns[: len(ROW_SCHEMA)] == list(ROW_SCHEMA)
    assert not (split.path / "part-00000.parquet").exists()


def test_edits_replace_only_the_rows_they_name(store: Store) -> None:
    ingest = publish(store, "ingest", Decision(assigned=rows(3)), None)
    edited = pl.DataFrame(
        {"row_id": ["r1"], "messages": [[{"role": "text", "content": "new", "weight": None}]]},
        schema={"row_id": pl.String, "messages": ROW_SCHEMA["messages"]},
    )
    changed = changed_frame([{"row_id": "r1", "rule": "markup", "spans": [[0, 0, 3]]}])
    out = publish(store, "clean", Decision(assigned=edited, changed=changed), ingest)
    assert [m[0]["content"] for m in out.rows().collect()["messages"].to_list()] == ["text 0", "new", "text 2"]
    assert out.manifest["rows"]["changed"] == {"markup": 1}


def test_repeats_stand_behind_their_parent_with_its_text(store: Store) -> None:
    ingest = publish(store, "ingest", Decision(assigned=rows(3)), None)
    added = pl.DataFrame({"row_id": [added_row_id("r1", "balance", 0)], "parent_row_id": ["r1"], "rule": ["repeat"]})
    out = publish(store, "balance", Decision(added=added), ingest)
    frame = out.rows().collect()
    assert frame["row_id"].to_list() == ["r0", "r1", added_row_id("r1", "balance", 0), "r2"]
    assert frame["parent_row_id"].to_list() == [None, None, "r1", None]
    assert [m[0]["content"] for m in frame["messages"].to_list()] == ["text 0", "text 1", "text 1", "text 2"]
    assert out.manifest["rows"]["added"] == {"repeat": 1}


def test_added_text_rows_keep_their_own_text(store: Store) -> None:
    ingest = publish(store, "ingest", Decision(assigned=rows(2)), None)
    line = {"row_id": "n", "parent_row_id": "r0", "source": "s", "messages": [{"role": "text", "content": "other"}]}
    added = added_frame([line]).with_columns(rule=pl.lit("swap"))
    artifact = publish(store, "augment", Decision(added=added), ingest)
    frame = artifact.rows().collect()
    assert [m[0]["content"] for m in frame["messages"].to_list()] == ["text 0", "other", "text 1"]
    assert "rule" not in frame.columns
    assert artifact.ledger("added").collect().rows() == [("n", "r0", "swap")]


@pytest.mark.parametrize(
    "decision",
    [
        Decision(removed=removed_frame([{"row_id": "nobody", "rule": "x"}])),
        Decision(removed=removed_frame([{"row_id": "r0", "rule": "x"}, {"row_id": "r0", "rule": "y"}])),
        Decision(
            removed=removed_frame([{"row_id": "r0", "rule": "x"}]),
            quarantined=quarantine_frame([{"row_id": "r0", "reason": "y"}]),
        ),
        Decision(added=pl.DataFrame({"row_id": ["n"], "parent_row_id": ["nobody"], "rule": ["repeat"]})),
    ],
)
def test_a_decision_about_rows_that_are_not_there_is_refused(store: Store, decision: Decision) -> None:
    ingest = publish(store, "ingest", Decision(assigned=rows(3)), None)
    with pytest.raises(DataError):
        publish(store, "dedupe", decision, ingest)


def test_tokens_that_lose_a_row_without_a_reason_are_refused(store: Store) -> None:
    ingest = publish(store, "ingest", Decision(assigned=rows(3)), None)
    tokens = pl.DataFrame({"row_id": ["r0", "r1"], "split": ["train", "train"], "input_ids": [[1], [2]]})
    with pytest.raises(DataError, match="3 rows in"):
        publish(store, "tokenize", Decision(assigned=tokens), ingest)


def test_no_rows_at_all_is_fine(store: Store) -> None:
    ingest = publish(store, "ingest", Decision(assigned=rows(0)), None)
    dedupe = publish(store, "dedupe", Decision(), ingest)
    assert dedupe.rows().collect().height == 0
