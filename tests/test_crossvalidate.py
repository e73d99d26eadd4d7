"""Cross-validation: each row held out once, what folds share computed once, and what they say together."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from flows import start
from flows.crossvalidate import crossvalidate
from pipeline_config.errors import ConfigError
from pipeline_config.load import load_config
from tasks.kernels.student_t import mean_interval, t_quantile
from tests.plain_run import records, run_stages, write_config, write_source
from tests.toy_model import make_toy_model

pytestmark = pytest.mark.usefixtures("one_thread")
FOLDS = 3


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A configuration that trains a toy model for two steps, and its rows."""
    folder = tmp_path_factory.mktemp("folds")
    write_source(folder, [line | {"input": word} for word in ("Briefly.", "At length.") for line in records()], 0)
    train = {"method": "full", "max_steps": 1, "packed_length": 64, "precision": "fp32"}
    model = str(make_toy_model(folder / "toy", layers=1))
    write_config(folder, model=model, tokenize={}, train=train, split={"test": 0.2})
    return folder


@pytest.fixture
def flow(monkeypatch: pytest.MonkeyPatch) -> Callable[..., list[dict[str, Any]]]:
    """Runs without Prefect; `flow(change)` lets a test change or refuse what a fold is given, and gives what was."""

    def use(change: Callable[[dict[str, Any]], None] = lambda given: None) -> list[dict[str, Any]]:
        begun: list[dict[str, Any]] = []

        def run(*, config: str, data_dir: str, **options: Any) -> None:
            begun.append(options)
            change(options)
            run_stages(Path(data_dir), config, **options)

        monkeypatch.setattr(start, "flow_starter", lambda: run)
        return begun

    return use


def validate(place: Path, capsys: pytest.CaptureFixture[str], *overrides: str) -> tuple[int, dict[str, Any]]:
    code = crossvalidate(str(place / "mine.yaml"), list(overrides), FOLDS, str(place / "data"), as_json=True)
    study: dict[str, Any] = json.loads(capsys.readouterr().out)
    return code, study


def record(place: Path, run_id: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((place / "data/runs" / f"{run_id}.json").read_text())
    return found


def rows(place: Path, run: dict[str, Any]) -> pl.DataFrame:
    key = next(entry["key"] for entry in run["stages"] if entry["name"] == "tokenize")
    return pl.read_parquet(place / "data/artifacts/tokenize" / key / "part-*.parquet").select("row_id", "split")


def test_each_row_is_held_out_once_and_what_folds_share_is_computed_once(
    place: Path, flow: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    flow()
    code, study = validate(place, capsys)
    runs = [record(place, part["run_id"]) for part in study["parts"]]
    assert (code, study["status"], [run["study"] for run in runs]) == (0, "done", [study["study_id"]] * FOLDS)
    held = [rows(place, run).filter(pl.col("split") == "validation")["row_id"].to_list() for run in runs]
    learnt = [rows(place, run).filter(pl.col("split") == "train")["row_id"].to_list() for run in runs]
    tested = [rows(place, run).filter(pl.col("split") == "test")["row_id"].to_list() for run in runs]
    assert sorted(row for each in held for row in each) == sorted({*held[0], *learnt[0]})
    assert all(not {*one} & {*other} for one, other in zip(held, learnt, strict=True))
    assert tested[0] == tested[1] == tested[2]
    shared = [{entry["name"]: entry["state"] for entry in run["stages"][:6]} for run in runs]
    assert {shared[0][name] for name in ("ingest", "clean", "dedupe")} == {"ran"}
    assert {each[name] for each in shared[1:] for name in ("ingest", "clean", "dedupe")} == {"cached"}

    losses = [run["metrics"]["train.eval_loss"] for run in runs]
    expected = mean_interval(losses)
    found = study["summary"]["train.eval_loss"]
    assert found["values"] == losses
    assert len(set(losses)) == FOLDS
    assert (found["mean"], found["low"], found["high"], found["n"]) == (
        expected.mean, expected.low, expected.high, FOLDS)  # fmt: skip
    assert json.loads((place / "data/studies" / f"{study['study_id']}.json").read_text()) == study

    _, again = validate(place, capsys)
    states = {entry["state"] for part in again["parts"] for entry in record(place, part["run_id"])["stages"]}
    assert states == {"cached", "skipped"}
    assert again["summary"] == study["summary"]


def test_a_fold_that_fails_leaves_the_others_and_is_told(
    place: Path, flow: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail(given: dict[str, Any]) -> None:
        if "split.held_fold=1" in given["overrides"]:
            given["overrides"].append("train.gate.metrics={eval_loss: {max: 0.0}}")

    flow(fail)
    code, study = validate(place, capsys)
    assert (code, study["status"]) == (1, "failed")
    assert [part["status"] for part in study["parts"]] == ["done", "failed", "done"]
    assert study["summary"]["train.eval_loss"]["n"] == 2
    assert study["parts"][1]["error"]["type"] == "GateError"


def test_a_failure_above_the_split_ends_it_at_once(place: Path, flow: Any, capsys: pytest.CaptureFixture[str]) -> None:
    begun = flow()
    code, study = validate(place, capsys, "clean.gate.min_rows=1000")
    assert (code, len(begun)) == (1, 1)
    assert [part["status"] for part in study["parts"]] == ["failed", "pending", "pending"]


def test_ctrl_c_keeps_what_was_done(place: Path, flow: Any, capsys: pytest.CaptureFixture[str]) -> None:
    def stop(given: dict[str, Any]) -> None:
        if "split.held_fold=1" in given["overrides"]:
            raise KeyboardInterrupt

    flow(stop)
    with pytest.raises(KeyboardInterrupt):
        crossvalidate(str(place / "mine.yaml"), [], FOLDS, str(place / "data"), as_json=False)
    newest = max((place / "data/studies").iterdir())
    study = json.loads(newest.read_text())
    assert study["status"] == "interrupted"
    assert [part["status"] for part in study["parts"]] == ["done", "interrupted", "pending"]
    assert study["summary"]["train.eval_loss"]["n"] == 1


@pytest.mark.parametrize("section", ["split", "train"])
def test_without_rows_to_hold_out_or_a_model_to_train_it_is_refused(place: Path, section: str) -> None:
    with pytest.raises(ConfigError, match=f"needs the section {section}"):
        crossvalidate(str(place / "mine.yaml"), [f"{section}=null"], FOLDS, str(place / "data"), as_json=False)


@pytest.mark.parametrize("wrong", ["split.held_fold=0", "split={folds: 3, held_fold: 3}"])
def test_a_fold_that_is_not_there_is_an_error(place: Path, wrong: str) -> None:
    with pytest.raises(ConfigError, match="is none of the folds"):
        load_config(str(place / "mine.yaml"), (wrong,))


@pytest.mark.parametrize("df", [1, 2, 3, 4, 9, 10, 57])
@pytest.mark.parametrize("p", [0.75, 0.975, 0.999])
def test_quantiles_are_those_of_a_statistics_library(df: int, p: float) -> None:
    from scipy.special import stdtrit

    assert t_quantile(p, df) == pytest.approx(float(stdtrit(df, p)), rel=1e-9)


def test_one_value_has_a_mean_and_no_interval() -> None:
    found = mean_interval([2.0])
    assert (found.mean, found.sd, found.low) == (2.0, None, None)
