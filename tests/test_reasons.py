"""Why a stage runs or does not, in words: what changed, from what to what."""

from pathlib import Path
from typing import Any

import pytest

from tasks.artifact import Artifact, Store, read_manifest
from tasks.execute import Verdict, Workspace
from tasks.reasons import differences, why_run
from tests.test_execute import config, examine_all, keys, run

OLD: dict[str, Any] = {
    "config": {"threshold": 0.7, "english": {"threshold": 0.9}, "seed": 0},
    "references": {"encoder": "a" * 64, "filled_by_sources": "[]"},
    "versions": {"polars": "2.1.0", "numba": "0.61"},
    "code": "old",
    "modules": {"tasks.dedupe.near": "1", "tasks.kernels.text": "2"},
    "format": 1,
    "parents": [],
}


def artifact(data: Path, stage: str, key: str, digest: str, rows: int) -> Artifact:
    """A published artifact as far as reasons look at it."""
    import json

    folder = data / "artifacts" / stage / key
    folder.mkdir(parents=True)
    manifest = {"stage": stage, "key": key, "digest": digest, "rows": {"out": rows}, "created": "2026-01-02T03:04:05"}
    (folder / "manifest.json").write_text(json.dumps(manifest))
    return Artifact(folder, manifest)


def why(
    data: Path, inputs: tuple[Artifact, ...] = (), parents: Any = (), force: Any = (), modules: Any = None, **new: Any
) -> str:
    """The reason after a change, at a stage that ran before."""
    import json

    folder = data / "artifacts" / "quality" / "old"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "manifest.json").write_text(json.dumps({**OLD, "key": "old", "parents": list(parents)}))
    work = Workspace(None, data, Store(data), previous={"quality": "old"}, force=frozenset(force))  # type: ignore[arg-type]
    parts = {name: OLD[name] for name in ("config", "references", "versions", "code", "format")} | new
    return why_run("quality", parts, modules or OLD["modules"], inputs, work)


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"config": {**OLD["config"], "threshold": 0.8}}, "threshold 0.7 -> 0.8"),
        ({"config": {**OLD["config"], "english": {"threshold": 0.5}}}, "english.threshold 0.9 -> 0.5"),
        ({"config": {**OLD["config"], "english": None}}, "english removed"),
        ({"config": {**OLD["config"], "keep": 5}}, "keep not set -> 5"),
        ({"config": {**OLD["config"], "seed": 3, "threshold": 1}}, "seed 0 -> 3, threshold 0.7 -> 1"),
        ({"references": {**OLD["references"], "encoder": "b" * 64}}, "encoder changed"),
        ({"references": {**OLD["references"], "chat_template": "b" * 64}}, "chat template added"),
        ({"references": {**OLD["references"], "filled_by_sources": '["test"]'}}, 'filled by sources [] -> ["test"]'),
        ({"versions": {**OLD["versions"], "polars": "2.2.0"}}, "polars 2.1.0 -> 2.2.0"),
        (
            {"code": "new", "modules": {**OLD["modules"], "tasks.dedupe.near": "3"}},
            "its code changed: tasks/dedupe/near.py",
        ),
        ({"format": 2}, "the artifact format changed"),
        ({"force": ("quality",)}, "forced; its input changed"),
        (
            {"force": ("quality",), "config": {**OLD["config"], "threshold": 0.8}},
            "forced; threshold 0.7 -> 0.8",
        ),
        (
            {"config": {f"field_{n}": n for n in range(9)}},
            "english removed, field_0 not set -> 0, field_1 not set -> 1, field_2 not set -> 2 and 8 more",
        ),
    ],
)
def test_what_changed_is_named_from_what_to_what(tmp_path: Path, changed: dict[str, Any], words: str) -> None:
    assert why(tmp_path, **changed) == words


def test_the_input_is_named_with_its_rows(tmp_path: Path) -> None:
    artifact(tmp_path, "clean", "before", "1", 8_801)
    parents = [{"stage": "clean", "key": "before", "digest": "1"}]
    grown = artifact(tmp_path, "clean", "grown", "2", 8_900)
    assert why(tmp_path, (grown,), parents) == "its input from clean changed: 8,801 -> 8,900 rows"
    edited = artifact(tmp_path, "clean", "edited", "3", 8_801)
    assert why(tmp_path, (edited,), parents) == "its input from clean changed (8,801 rows as before)"
    gone = [{"stage": "clean", "key": "collected", "digest": "1"}]
    assert why(tmp_path, (grown,), gone) == "its input from clean changed: 8,900 rows now"
    dedupe = artifact(tmp_path, "dedupe", "new", "4", 5)
    assert why(tmp_path, (dedupe,), parents) == "clean is no longer above it, dedupe is new above it"


def test_entries_with_names_are_told_by_them() -> None:
    a, b = {"name": "a", "format": "auto"}, {"name": "b", "format": "auto"}
    assert differences([a, b], [b, a], "sources") == ["the order of sources changed"]
    assert differences([a], [a, b], "sources") == ["sources.b added"]
    assert differences([a, b], [a, {**b, "format": "text"}], "sources") == ["sources.b.format auto -> text"]


def test_every_verdict_says_why(tmp_path: Path) -> None:
    first = run(tmp_path, config(tmp_path))
    assert {verdict.reason for verdict in first.values()} == {"not run before"}
    last = keys(first)
    cached = run(tmp_path, config(tmp_path), last)
    assert {verdict.reason for verdict in cached.values()} == {"same inputs, configuration and code as in the last run"}
    earlier = run(tmp_path, config(tmp_path))["toxicity"].reason
    assert earlier.startswith("same inputs, configuration and code as on 20")
    gone = config(tmp_path, toxicity=None)
    assert run(tmp_path, gone, last)["toxicity"].reason == "no section in the configuration any more"
    assert run(tmp_path, gone)["toxicity"].reason == "no section in the configuration"


def test_a_stage_that_waits_says_for_whom_and_what_changed_besides(tmp_path: Path) -> None:
    last = keys(run(tmp_path, config(tmp_path)))
    changed = config(tmp_path, toxicity={"english": {"threshold": 0.1}}, quality={"min_language_score": 0.6})
    found = examine_all(tmp_path, changed, last)
    assert found["toxicity"].reason == "english.threshold 0.9 -> 0.1; its scores are known"
    assert (found["quality"].verdict, found["quality"].reason) == (
        "depends",
        "toxicity runs first; min_language_score 0.5 -> 0.6",
    )


def test_a_source_is_named(tmp_path: Path) -> None:
    last = keys(run(tmp_path, config(tmp_path)))
    more = {"sources": [{"path": str(tmp_path / name)} for name in ("a.txt", "b.txt")]}
    settings = config(tmp_path, ingest=more)
    (tmp_path / "b.txt").write_text("content of b")
    assert examine_all(tmp_path, settings, last)["ingest"].reason == "source `b` added"
    (tmp_path / "a.txt").write_text("edited")
    found = examine_all(tmp_path, settings, last)["ingest"]
    assert found.reason == f"source `b` added, {changed_source(tmp_path, last, found)}"
    alone = config(tmp_path)
    last = keys(run(tmp_path, settings))
    (tmp_path / "a.txt").write_text("edited again")
    found = examine_all(tmp_path, alone, last)["ingest"]
    assert found.reason == f"source `b` removed, {changed_source(tmp_path, last, found)}"


def changed_source(data: Path, last: dict[str, str], found: Verdict) -> str:
    """What is to be said of source `a`: which content it had, and which it has."""
    before = read_manifest(data / "artifacts" / "ingest" / last["ingest"])["references"]["a"]
    after = found.parts["references"]["a"]
    return f"source `a` changed: content {before[:8]} -> content {after[:8]}"


def test_what_is_gone_or_damaged_is_said(tmp_path: Path) -> None:
    last = keys(run(tmp_path, config(tmp_path)))
    folder = tmp_path / "artifacts" / "quality" / last["quality"]
    (folder / "removed.parquet").unlink()
    assert examine_all(tmp_path, config(tmp_path), last)["quality"].reason == "its artifact is damaged"
    (folder / "manifest.json").unlink()
    assert examine_all(tmp_path, config(tmp_path), last)["quality"].reason == "its last artifact is gone"
