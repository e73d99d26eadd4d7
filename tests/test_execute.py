"""One stage of a run: cached when nothing that shapes it changed, run otherwise, with the reason in words."""

from pathlib import Path
from typing import Any

import polars as pl

from pipeline_config.schema import Config
from tasks.artifact import Artifact, Store
from tasks.execute import Verdict, Workspace, examine, produce
from tasks.kernels.rows import ROW_SCHEMA
from tasks.ledger import Decision, removed_frame
from tasks.stage import Stage, StageInput

SCORED: list[int] = []


def read(given: StageInput[Any]) -> Decision:
    names = [source.name for source in given.config.sources]
    lines = [
        {"row_id": f"{name}{i}", "source": name, "messages": [{"role": "text", "content": str(i)}]}
        for name in names
        for i in range(3)
    ]
    return Decision(assigned=pl.DataFrame(lines, schema=ROW_SCHEMA))


def lengths(given: StageInput[Any]) -> pl.DataFrame:
    SCORED.append(1)
    return given.rows.select("row_id", score_n=pl.int_range(pl.len()).cast(pl.Float32)).collect()


def judge_rows(given: StageInput[Any]) -> Decision:
    assert given.scores is not None
    gone = given.scores.filter(pl.col("score_n") > given.config.english.threshold * 10)["row_id"]
    return Decision(removed=removed_frame([{"row_id": r, "rule": "toxic"} for r in gone]), assigned=given.scores)


def drop_none(given: StageInput[Any]) -> Decision:
    return Decision()


def file_digests(config: Any, run: Config, data_dir: Path) -> dict[str, str]:
    return {source.name: Path(source.path).read_text() for source in config.sources}


STAGES = {
    "ingest": Stage("ingest", read, ("polars",), None, file_digests),
    "toxicity": Stage("toxicity", judge_rows, (), lengths, None, ("messages",)),
    "quality": Stage("quality", drop_none, (), None, None),
}


def config(tmp_path: Path, **changes: Any) -> Config:
    (tmp_path / "a.txt").write_text("content of a")
    base: dict[str, Any] = {
        "ingest": {"sources": [{"path": str(tmp_path / "a.txt")}]},
        "toxicity": {"english": {"threshold": 0.9}},
        "quality": {},
    }
    return Config.model_validate(base | changes)


def run(
    tmp_path: Path, settings: Config, previous: dict[str, str] | None = None, force: tuple[str, ...] = ()
) -> dict[str, Verdict]:
    work = Workspace(settings, tmp_path, Store(tmp_path), previous=previous or {}, force=frozenset(force))
    verdicts: dict[str, Verdict] = {}
    for name, stage in STAGES.items():
        verdict = examine(stage, work)
        verdicts[name] = verdict
        if verdict.verdict != "skipped":
            work.upstream[name] = verdict.artifact or produce(stage, verdict, work)
    return verdicts


def examine_all(tmp_path: Path, settings: Config, previous: dict[str, str]) -> dict[str, Verdict]:
    """The verdicts of a plan: nothing runs."""
    work, blocked = Workspace(settings, tmp_path, Store(tmp_path), previous=previous), ""
    verdicts: dict[str, Verdict] = {}
    for name, stage in STAGES.items():
        verdicts[name] = examine(stage, work, blocked)
        blocked = blocked or (name if verdicts[name].verdict == "run" else "")
        if verdicts[name].artifact is not None:
            work.upstream[name] = verdicts[name].artifact
    return verdicts


def states(verdicts: dict[str, Verdict]) -> dict[str, str]:
    return {name: verdict.verdict for name, verdict in verdicts.items()}


def keys(verdicts: dict[str, Verdict]) -> dict[str, str]:
    return {name: verdict.key for name, verdict in verdicts.items() if verdict.key}


def test_the_second_run_finds_everything(tmp_path: Path) -> None:
    assert set(states(run(tmp_path, config(tmp_path))).values()) == {"run"}
    assert set(states(run(tmp_path, config(tmp_path))).values()) == {"cached"}


def test_a_threshold_decides_again_and_scores_once_and_says_why(tmp_path: Path) -> None:
    SCORED.clear()
    first = run(tmp_path, config(tmp_path))
    second = run(tmp_path, config(tmp_path, toxicity={"english": {"threshold": 0.1}}), keys(first))
    assert states(second) == {"ingest": "cached", "toxicity": "run", "quality": "run"}
    assert "english.threshold 0.9 -> 0.1" in second["toxicity"].reason
    assert second["quality"].reason == "its input from toxicity changed: 3 -> 2 rows"
    assert len(SCORED) == 1


def test_a_scoring_field_scores_again(tmp_path: Path) -> None:
    run(tmp_path, config(tmp_path))
    SCORED.clear()
    run(tmp_path, config(tmp_path, toxicity={"judge": "all", "english": {"threshold": 0.9}}))
    assert len(SCORED) == 1


def test_an_unchanged_output_cuts_off_what_is_below(tmp_path: Path) -> None:
    run(tmp_path, config(tmp_path))
    again = run(tmp_path, config(tmp_path, toxicity={"english": {"threshold": 0.8}}))
    assert states(again) == {"ingest": "cached", "toxicity": "run", "quality": "cached"}


def test_the_same_content_elsewhere_is_the_same_input(tmp_path: Path) -> None:
    run(tmp_path, config(tmp_path))
    (tmp_path / "moved.txt").write_text("content of a")
    moved = {"sources": [{"path": str(tmp_path / "moved.txt"), "name": "a"}]}
    assert set(states(run(tmp_path, config(tmp_path, ingest=moved))).values()) == {"cached"}
    (tmp_path / "moved.txt").write_text("content of b")
    assert states(run(tmp_path, config(tmp_path, ingest=moved)))["ingest"] == "run"


def test_a_gate_bound_reruns_nothing(tmp_path: Path) -> None:
    run(tmp_path, config(tmp_path))
    bound = config(tmp_path, quality={"gate": {"min_rows": 2}})
    assert set(states(run(tmp_path, bound)).values()) == {"cached"}


def test_the_seed_reruns(tmp_path: Path) -> None:
    run(tmp_path, config(tmp_path))
    assert states(run(tmp_path, config(tmp_path, seed=4)))["ingest"] == "run"


def test_force_runs_and_gives_the_same_bytes(tmp_path: Path) -> None:
    def contents() -> dict[str, bytes]:
        found = sorted((tmp_path / "artifacts").rglob("*.parquet"))
        return {str(path): path.read_bytes() for path in found}

    run(tmp_path, config(tmp_path))
    before = contents()
    assert states(run(tmp_path, config(tmp_path), force=("toxicity",)))["toxicity"] == "run"
    assert contents() == before


def test_a_missing_text_artifact_below_a_decision_is_made_again(tmp_path: Path) -> None:
    first = run(tmp_path, config(tmp_path))
    store = Store(tmp_path)
    part = store.folder("ingest", keys(first)["ingest"]) / "part-00000.parquet"
    part.unlink()
    assert states(run(tmp_path, config(tmp_path)))["ingest"] == "run"
    found = store.find("quality", keys(first)["quality"])
    assert isinstance(found, Artifact)
    assert found.rows().collect().height == 3


def test_manifests_hold_what_the_design_names_and_no_path(tmp_path: Path) -> None:
    verdicts = run(tmp_path, config(tmp_path))
    artifact = Store(tmp_path).find("toxicity", keys(verdicts)["toxicity"])
    assert artifact is not None
    names = "stage key digest format created seconds peak_rss_mb config code parents versions rows facts files metrics"
    assert set(names.split()) <= set(artifact.manifest)
    assert str(tmp_path) not in str(artifact.manifest)
