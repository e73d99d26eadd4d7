"""A search: the same command asks the same trials, finds them in the cache, and goes on; wrong spaces are refused."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from flows import start
from flows.search import search, summary
from flows.space import Dimension, parse_space
from flows.study import Part, Study
from pipeline_config.errors import ConfigError
from pipeline_config.overrides import parse_override
from tests.plain_run import records, run_stages, write_config, write_source

SPACE = ["dedupe.threshold=uniform(0.3,0.9)", "split.test=choice(0.2,0.3)"]


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("search")
    write_source(folder, records(), 0)
    write_config(folder, clean=None)
    return folder


@pytest.fixture
def begun(monkeypatch: pytest.MonkeyPatch) -> "list[tuple[Path, dict[str, Any]]]":
    """Runs without Prefect, at most as many as `stop` says; what each was given."""
    found: list[tuple[Path, dict[str, Any]]] = []

    def run(*, config: str, data_dir: str, **options: Any) -> None:
        found.append((Path(data_dir), options))
        run_stages(Path(data_dir), config, **options)

    monkeypatch.setattr(start, "flow_starter", lambda: run)
    return found


@pytest.fixture
def look(place: Path, capsys: pytest.CaptureFixture[str]) -> Callable[..., tuple[int, dict[str, Any]]]:
    def look_for(trials: int, *overrides: str, **more: Any) -> tuple[int, dict[str, Any]]:
        given = {"maximize": True, "metric": "split.train"} | more
        config, data = str(place / "mine.yaml"), str(place / "data")
        code = search(config, list(overrides), SPACE, trials, given["metric"], data,
                      maximize=given["maximize"], as_json=True)  # fmt: skip
        study: dict[str, Any] = json.loads(capsys.readouterr().out)
        return code, study

    return look_for


def states(place: Path, study: dict[str, Any]) -> list[set[str]]:
    runs = [json.loads((place / "data/runs" / f"{part['run_id']}.json").read_text()) for part in study["parts"]]
    return [{entry["state"] for entry in run["stages"]} - {"skipped"} for run in runs]


def test_the_same_search_comes_from_the_cache_and_more_trials_go_on(place: Path, begun: Any, look: Any) -> None:
    code, first = look(2)
    _, again = look(3)
    chosen = [[part["overrides"] for part in study["parts"]] for study in (first, again)]
    assert (code, first["status"]) == (0, "done")
    assert chosen[1][:2] == chosen[0]
    assert len({json.dumps(each) for each in chosen[1]}) == 3
    assert states(place, again)[:2] == [{"cached"}] * 2
    assert "ran" in states(place, again)[2]
    values = list(again["summary"]["values"].values())
    assert again["summary"]["best"]["value"] == max(values)
    assert json.loads((place / "data/studies" / f"{again['study_id']}.json").read_text()) == again
    _, other = look(1, "seed=5", maximize=False)
    assert other["parts"][0]["overrides"] != chosen[0][0]


@pytest.mark.parametrize(("maximize", "best"), [(True, "trial 2"), (False, "trial 0")])
def test_the_best_is_the_largest_or_the_smallest_of_those_that_are_done(maximize: bool, best: str) -> None:
    parts = [Part(f"trial {n}", [], None, "done", 0.0, {"train.eval_loss": float(n)}) for n in range(3)]
    parts.append(Part("trial 3", [], None, "failed", 0.0, {"train.eval_loss": -9.0}))
    study = Study("s", "search", "c", [], {"metric": "eval_loss", "maximize": maximize}, parts)
    found = summary(study)
    assert (found["best"]["name"], found["values"]["trial 3"]) == (best, None)


def test_trials_that_all_fail_end_the_search_early(place: Path, begun: Any, look: Any) -> None:
    code, study = look(9, "dedupe.gate.min_rows=1000")
    assert (code, study["status"], len(study["parts"])) == (1, "failed", 3)
    assert study["parts"][0]["error"]["type"] == "GateError"
    assert "best" not in study["summary"]


def test_ctrl_c_keeps_the_trials_that_were_done(
    place: Path, begun: Any, look: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stop(**given: Any) -> None:
        if len(list((place / "data/studies").glob("*"))) and begun:
            raise KeyboardInterrupt
        begun.append((place, given))
        options = {name: value for name, value in given.items() if name not in ("config", "data_dir")}
        run_stages(Path(given["data_dir"]), given["config"], **options)

    monkeypatch.setattr(start, "flow_starter", lambda: stop)
    with pytest.raises(KeyboardInterrupt):
        look(3)
    study = json.loads(max((place / "data/studies").iterdir()).read_text())
    assert study["status"] == "interrupted"
    assert [part["status"] for part in study["parts"]] == ["done", "interrupted"]
    assert study["summary"]["best"]["name"] == "trial 0"


def test_a_metric_that_no_run_has_is_an_error_that_names_those_there_are(place: Path, begun: Any, look: Any) -> None:
    with pytest.raises(ConfigError, match=r"no metric 'split\.trian'") as caught:
        look(3, metric="split.trian")
    assert "split.train" in caught.value.cure + caught.value.message
    study = json.loads(max((place / "data/studies").iterdir()).read_text())
    assert (study["status"], len(study["parts"])) == ("failed", 1)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("a", "is no space"), ("a=3", "is no space"), ("a=unifrom(1,2)", "did you mean"),
        ("a=uniform(1)", "two numbers"), ("a=uniform(2,1)", "no range"), ("a=loguniform(0,1)", "above 0"),
        ("a=int(1,2.5)", "whole numbers"), ("a=choice()", "plain values"), ("a=choice([1],2)", "plain values"),
        ("a=choice(}", "is no space"),
    ],
)  # fmt: skip
def test_a_space_that_is_none_is_a_clear_error(text: str, words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        parse_space([text])


def test_a_key_of_the_space_that_the_configuration_does_not_have_is_found_before_anything_runs(
    place: Path, begun: Any
) -> None:
    with pytest.raises(ConfigError, match="thresold"):
        search(str(place / "mine.yaml"), [], ["dedupe.thresold=uniform(0.3,0.9)"], 3, "split.train",
               str(place / "data"), maximize=True, as_json=True)  # fmt: skip
    assert begun == []


@pytest.mark.parametrize("value", [1e-5, 3.0, 0.123456, 2.5e-7, 10_000_000.0, 4, True, None, "all-linear", "yes: no"])
def test_what_is_chosen_is_read_again_as_it_was(value: Any) -> None:
    path, read = parse_override(Dimension("a.b", "choice", (value,)).override(value))
    assert (path, read) == (("a", "b"), value)
    assert type(read) is type(value)
