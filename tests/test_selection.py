"""`--from`, `--until`, `--only`, `--force`: on the command line, in a plan and in the form of the dashboard alike."""

import re
import shlex
from pathlib import Path
from typing import Any

import pytest

from flows.planner import Selection
from pipeline_config.errors import ConfigError
from pipeline_config.schema import STAGES
from tests.command import Workplace
from tests.plain_run import run_stages, states, write_config, write_source


@pytest.fixture
def place(tmp_path: Path) -> Workplace:
    write_source(tmp_path)
    write_config(tmp_path)
    return Workplace(tmp_path / "data", tmp_path / "prefect")


def config(place: Workplace) -> str:
    return str(place.data.parent / "mine.yaml")


def verdicts(place: Workplace, *words: str) -> dict[str, str]:
    lines = place.document("plan", config(place), *words)["stages"]
    return {line["name"]: line["verdict"] for line in lines if line["reason"] != "no section in the configuration"}


def choices(field: dict[str, Any]) -> list[str]:
    """What a drop-down of the dashboard's form offers for a parameter."""
    inside = next(part for part in field["anyOf"] if part.get("type") != "null")
    found: list[str] = inside.get("enum") or inside["items"]["enum"]
    return found


def test_the_form_of_the_dashboard_offers_the_stages() -> None:
    from flows.pipeline import PIPELINE, pipeline

    fields = pipeline.parameters.model_dump()["properties"]
    for name in ("from_stage", "until", "only", "force"):
        assert choices(fields[name]) == list(STAGES), name
    assert [stage.name for stage in PIPELINE] == list(STAGES)
    assert {"resume", "verify", "overrides"} <= set(fields)


@pytest.mark.parametrize("option", ["--from", "--only"])
def test_what_is_above_is_never_run_and_the_cure_can_be_typed(place: Workplace, option: str) -> None:
    for command in ("run", "plan"):
        refused = place.refused(command, config(place), option, "dedupe")
        assert refused.returncode == 2
        assert "ingest is not cached (not run before), and --from and --only never run it" in refused.stderr
        cure = refused.stderr.split("type: ")[1].strip()
        typed = ["winnow", "run", config(place), "--data-dir", str(place.data), "--until", "clean"]
        assert shlex.split(cure) == typed
    assert not (place.data / "runs").exists()
    run_stages(place.data, config(place), until="clean")
    found = verdicts(place, option, "dedupe")
    assert [found[name] for name in ("ingest", "clean", "dedupe")] == ["cached", "cached", "run"]
    assert found["split"] == ("skipped" if option == "--only" else "depends")


def test_neither_from_nor_only_forces(place: Workplace) -> None:
    run_stages(place.data, config(place))
    for bounds in ({"from_stage": "clean"}, {"only": "dedupe"}, {"until": "dedupe"}):
        found = states(run_stages(place.data, config(place), **bounds))
        assert set(found.values()) == {"cached"}, bounds
    assert "split" not in found


def test_force_runs_one_stage_and_equal_output_cuts_off_the_rest(place: Workplace) -> None:
    run_stages(place.data, config(place))
    assert verdicts(place, "--force", "clean")["clean"] == "run"
    found = states(run_stages(place.data, config(place), force=["clean"]))
    assert found == {"ingest": "cached", "clean": "ran", "dedupe": "cached", "split": "cached"}


@pytest.mark.parametrize(
    ("words", "said", "typed"),
    [
        (["--only", "dedupe", "--force", "clean"], "clean lies above --only dedupe",
         ["--until", "dedupe", "--force", "clean"]),
        (["--from", "dedupe", "--force", "clean"], "clean lies above --from dedupe", ["--force", "clean"]),
        (["--until", "clean", "--force", "split"], "split lies below --until clean",
         ["--until", "split", "--force", "split"]),
    ],
)  # fmt: skip
def test_a_forced_stage_outside_of_the_bounds_is_refused_and_the_cure_works(
    place: Workplace, words: list[str], said: str, typed: list[str]
) -> None:
    run_stages(place.data, config(place))
    for command in ("run", "plan"):
        refused = place.refused(command, config(place), *words)
        assert refused.returncode == 2
        assert f"--force {words[-1]}: {said}" in refused.stderr
        assert f"leave out --force {words[-1]}, or type: " in refused.stderr
        cure = shlex.split(refused.stderr.split("type: ")[1])
        assert cure == ["winnow", "run", config(place), "--data-dir", str(place.data), *typed]
    assert verdicts(place, *typed)[words[-1]] == "run"
    assert verdicts(place, *words[:2])["ingest"] == "cached"


def test_a_plan_says_from_what_to_what_a_source_changed(place: Workplace) -> None:
    run_stages(place.data, config(place))
    write_source(place.data.parent, [{"instruction": "Why?", "output": "Because."}])
    reason = place.document("plan", config(place))["stages"][0]["reason"]
    assert re.fullmatch(r"source `mine` changed: content [0-9a-f]{8} \(12 rows\) -> content [0-9a-f]{8}", reason)


def test_a_forced_stage_without_a_section_is_refused(place: Workplace) -> None:
    for command in ("run", "plan"):
        refused = place.refused(command, config(place), "--force", "select")
        assert refused.returncode == 2
        assert "--force select: select has no section" in refused.stderr
        assert "name a stage of this recipe: ingest, clean, dedupe, split" in refused.stderr
    assert not (place.data / "runs").exists()
    with pytest.raises(ConfigError, match="select has no section"):  # from the form of the dashboard
        run_stages(place.data, config(place), force=["select"])


def test_a_run_that_finds_it_out_late_names_the_command_too(place: Workplace) -> None:
    record = run_stages(place.data, config(place), overrides=["clean.markup=keep"], only="dedupe")
    assert record.error is not None
    assert (record.error["type"], states(record)["ingest"]) == ("ConfigError", "failed")
    words = shlex.split(record.error["cure"].removeprefix("type: "))
    assert words[:5] == ["winnow", "run", config(place), "--set", "clean.markup=keep"]
    assert words[-2:] == ["--until", "ingest"]


@pytest.mark.parametrize(
    ("selection", "said"),
    [
        (Selection(until="spilt"), "did you mean 'split'"),
        (Selection(force=("clena",)), "did you mean 'clean'"),
        (Selection(until="nope"), "there is no stage 'nope'"),
        (Selection(only="clean", until="split"), "--only stands alone"),
        (Selection(from_stage="split", until="clean"), "split comes after clean"),
    ],
)
def test_bounds_that_mean_nothing_are_refused(selection: Selection, said: str) -> None:
    with pytest.raises(ConfigError, match=said) as error:
        selection.check()
    assert error.value.cure
