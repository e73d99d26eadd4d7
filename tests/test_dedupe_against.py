"""A batch held against what earlier runs kept: by their index alone, named by its digest, and told in the ledger."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from flows.collect import collect
from flows.fates import trail
from flows.planner import load_stage
from flows.story import story
from pipeline_config.errors import ConfigError
from pipeline_config.schema import Config
from tasks.artifact import Artifact, Store
from tasks.dedupe.task import dedupe, references
from tasks.execute import Verdict, Workspace, examine, produce
from tests.plain_run import records, run_stages, write_source

WORDS = [f"word{k}" for k in range(60)]
LONG = " ".join(WORDS)
NEARLY = LONG.replace("word59", "else")


def other(n: int) -> str:
    return " ".join(f"other{n}x{k}" for k in range(40))


class Batches:
    """Runs of ingest and dedupe in one data folder."""

    def __init__(self, root: Path) -> None:
        self.root, self.data = root, root / "data"

    def work(self, name: str, records: list[dict[str, Any]], **dedupe: Any) -> Workspace:
        path = self.root / f"{name}.jsonl"
        path.write_text("".join(json.dumps(each, ensure_ascii=False) + "\n" for each in records), "utf-8")
        sources = [{"name": name, "path": str(path)}]
        config = Config.model_validate({"ingest": {"sources": sources}, "dedupe": dedupe})
        work = Workspace(config, self.data, Store(self.data))
        ingest = load_stage("ingest")
        verdict = examine(ingest, work)
        work.upstream["ingest"] = verdict.artifact or produce(ingest, verdict, work)
        return work

    def plan(self, name: str, records: list[dict[str, Any]], **config: Any) -> Verdict:
        return examine(dedupe, self.work(name, records, **config))

    def run(self, name: str, records: list[dict[str, Any]], **config: Any) -> Artifact:
        work = self.work(name, records, **config)
        verdict = examine(dedupe, work)
        return verdict.artifact or produce(dedupe, verdict, work)


@pytest.fixture
def batches(tmp_path: Path) -> Batches:
    return Batches(tmp_path)


def texts(*contents: str) -> list[dict[str, Any]]:
    return [{"text": content} for content in contents]


def chat(prompt: str, answer: str, **more: Any) -> dict[str, Any]:
    return {"instruction": prompt, "output": answer} | more


def kept(artifact: Artifact) -> list[str]:
    return [turns[0]["content"] for turns in artifact.rows().select("messages").collect()["messages"].to_list()]


def removed(artifact: Artifact) -> list[dict[str, Any]]:
    return artifact.ledger("removed").collect().to_dicts()


def key_of(artifact: Artifact) -> str:
    return f"dedupe/{artifact.key[:12]}"


def test_what_an_earlier_run_kept_stands_before_a_batch_without_its_text(batches: Batches) -> None:
    first = batches.run("a", texts(LONG, other(1)))
    ids = dict(zip(kept(first), first.rows().select("row_id").collect()["row_id"].to_list(), strict=True))
    shutil.rmtree(batches.data / "artifacts" / "ingest")
    second = batches.run("b", texts(NEARLY, other(2), other(1).upper(), other(2)), against=[first.key])
    assert kept(second) == [other(2)]
    near, copy, own = removed(second)
    assert (near["rule"], near["kept_row_id"]) == ("near_duplicate", ids[LONG])
    assert near["value"] == 55 / 57
    assert (copy["rule"], copy["kept_row_id"]) == ("exact_duplicate", ids[other(1)])
    assert near["detail"] == copy["detail"] == f"kept by {key_of(first)}"
    assert own["detail"] is None
    assert second.manifest["facts"]["duplicates_left"] == 0
    assert second.manifest["rows"]["in"] == 4


def test_a_chain_of_batches_is_named_by_its_last(batches: Batches) -> None:
    first = batches.run("a", texts(LONG))
    second = batches.run("b", texts(other(1), NEARLY), against=[first.key[:12]])
    third = batches.run("c", texts(NEARLY + " x", other(1), other(2)), against=[f"artifacts/dedupe/{second.key}"])
    assert kept(third) == [other(2)]
    assert [line["detail"] for line in removed(third)] == [f"kept by {key_of(first)}", f"kept by {key_of(second)}"]
    shutil.rmtree(first.path)
    with pytest.raises(ConfigError, match="which is gone"):
        batches.plan("c", texts(other(3)), against=[second.key])


@pytest.mark.parametrize("unit", ["whole", "prompt", "answer"])
def test_every_unit_has_an_index(batches: Batches, unit: str) -> None:
    first = batches.run("a", [chat(LONG, LONG), chat(other(1), other(2))], unit=unit)
    second = batches.run("b", [chat(LONG, NEARLY), chat(other(1), other(2))], unit=unit, against=[first.key])
    assert second.manifest["rows"]["removed"] == {"exact_duplicate": 1, "near_duplicate": 1}


def test_an_index_is_an_input_by_its_digest_and_part_of_nothing_else(batches: Batches) -> None:
    first, again = batches.run("a", texts(LONG)), batches.run("a2", texts(other(5)))
    one = batches.plan("b", texts(NEARLY), against=[first.key])
    assert one.key == batches.plan("b", texts(NEARLY), against=[f"artifacts/dedupe/{first.key}"]).key
    assert one.key != batches.plan("b", texts(NEARLY), against=[again.key]).key
    assert one.key != batches.plan("b", texts(NEARLY)).key
    assert one.key != batches.plan("b", texts(NEARLY), against=[again.key, first.key]).key
    bare = batches.run("a", texts(LONG), index=False)
    assert (bare.key, bare.digest) == (bare.key, first.digest)
    assert not list(bare.path.glob("index-*"))
    before = {path.name: path.read_bytes() for path in first.path.iterdir()}
    batches.run("b", texts(NEARLY), against=[first.key])
    assert {path.name: path.read_bytes() for path in first.path.iterdir()} == before


def test_nothing_and_everything_may_be_given(batches: Batches) -> None:
    (batches.root / "none.jsonl").write_text("")
    first = batches.run("a", texts(LONG, other(1)))
    empty = batches.run("b", texts(NEARLY, other(1)), against=[first.key])
    assert kept(empty) == []
    assert kept(batches.run("c", texts(LONG, other(2)), against=[empty.key])) == [other(2)]
    copies = batches.run("d", texts(LONG, LONG), exact=False, near=False)
    assert kept(batches.run("e", texts(LONG), near=False, against=[copies.key])) == []


MISTAKES: list[tuple[dict[str, Any], Callable[[Artifact], str], str, str]] = [
    ({}, lambda a: "20990101T000000-abcd", "there is no run and no artifact", "winnow status"),
    ({}, lambda a: f"artifacts/ingest/{a.manifest['parents'][0]['key']}", "is an artifact of ingest", "relative to"),
    ({}, lambda a: "artifacts/dedupe/none", "is no artifact", "artifacts/dedupe/<key>"),
    ({"index": False}, lambda a: a.key, "holds no index", "index: true"),
    ({"shingle": 4}, lambda a: a.key, "was made with shingle 4, this run has 5", "dedupe.shingle"),
    ({"unit": "whole"}, lambda a: a.key, "was made with unit whole, this run has pair", "dedupe.unit"),
    ({"near": False}, lambda a: a.key, "was made with near False", "dedupe.near"),
]


@pytest.mark.parametrize(("config", "name", "message", "cure"), MISTAKES, ids=[line[2] for line in MISTAKES])
def test_mistakes_are_told_before_anything_runs(
    batches: Batches, config: dict[str, Any], name: Callable[[Artifact], str], message: str, cure: str
) -> None:
    first = batches.run("a", texts(LONG), **config)
    work = batches.work("b", texts(NEARLY), against=[name(first)])
    assert work.config.dedupe is not None
    with pytest.raises(ConfigError, match=message) as caught:
        references(work.config.dedupe, work.config, batches.data)
    assert caught.value.place == "dedupe.against"
    assert cure in caught.value.cure


def test_a_damaged_index_is_not_believed(batches: Batches) -> None:
    first = batches.run("a", texts(LONG))
    (index,) = first.path.glob("index-*")
    index.write_bytes(index.read_bytes()[:-1] + b"x")
    with pytest.raises(ConfigError, match="gone or damaged"):
        batches.plan("b", texts(NEARLY), against=[first.key])


def test_an_artifact_of_another_data_folder_is_named_by_its_path(batches: Batches, tmp_path: Path) -> None:
    first = Batches(tmp_path / "elsewhere")
    first.root.mkdir()
    artifact = first.run("a", texts(LONG))
    assert kept(batches.run("b", texts(NEARLY, other(1)), against=[str(artifact.path)])) == [other(1)]


def test_an_index_holds_no_text(batches: Batches) -> None:
    first = batches.run("a", [chat(LONG, other(1), score=1)])
    (index,) = first.path.glob("index-*")
    frame = pl.read_ipc(index)
    assert b"word" not in index.read_bytes()
    assert {"row_id", "values", "size_prompt", "size_answer"} <= set(frame.columns)


def test_explain_tells_which_run_keeps_the_row_and_gc_keeps_what_a_chain_needs(mine: Path, data: Path) -> None:
    first = run_stages(data, mine)
    twin = records()[0] | {"instruction": records()[0]["instruction"] + " Thank you."}
    write_source(mine.parent, [twin, records()[-1]])
    second = run_stages(data, mine, overrides=[f"dedupe.against=[{first.run_id[:20]}]", "split=null"])
    (gone, _) = trail(second, data).artifacts[-1].ledger("removed").collect()["row_id"].to_list()
    last = story(gone, trail(second, data))[-1]
    assert f"kept by run {first.run_id}" in last["text"]
    assert "Thank you" in last["difference"]
    collect(data, 1, dry_run=False)
    assert (data / "artifacts" / "dedupe" / str(first.stage("dedupe").key)).exists()
    assert "its artifact is gone" not in story(gone, trail(second, data))[-1]["text"]
