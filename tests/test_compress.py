"""Exports: smaller, loadable alone, and as near to what they came from as their number format allows."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import polars as pl
import pytest

from pipeline_config.errors import ConfigError
from pipeline_config.model_schema import Compress
from pipeline_config.schema import Config
from tasks.compress.task import compress
from tasks.kernels.models import load_causal, load_tokenizer
from tasks.kernels.published import published_models
from tasks.stage import StageInput
from tests.toy_model import make_toy_model

SOURCES = {"ingest": {"sources": [{"path": "x.jsonl"}]}, "tokenize": {}, "train": {}}


@pytest.fixture(scope="module")
def upstream(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    root = tmp_path_factory.mktemp("artifacts")
    make_toy_model(root / "train" / "model")
    make_toy_model(root / "distill" / "distilled", layers=1)
    return {name: SimpleNamespace(path=root / name) for name in ("train", "distill")}


def run(upstream: dict[str, Any], out: Path, **exports: Any) -> Any:
    config = Config.model_validate({**SOURCES, "distill": {}, "compress": exports})
    assert config.compress is not None
    out.mkdir(exist_ok=True)
    given: StageInput[Compress] = StageInput(
        config=config.compress,
        run=config,
        seed=0,
        rows=pl.LazyFrame(),
        scores=None,
        upstream=upstream,
        out=out,
        work=out,
        data_dir=out,
    )
    return compress.run(given)


def test_a_cast_halves_the_size_and_changes_logits_by_little(upstream: dict[str, Any], tmp_path: Path) -> None:
    output = run(upstream, tmp_path, half={"from": "train", "dtype": "bfloat16"}, whole={"dtype": "float32"})
    assert output.metrics["half.size_mb"] == pytest.approx(output.metrics["whole.size_mb"] / 2, rel=0.1)
    assert output.metrics["whole.max_logit_difference"] == 0
    assert 0 < output.metrics["half.max_logit_difference"] < 0.5
    assert output.metrics["half.top_token_agreement"] > 0.9


def test_an_export_stands_alone(upstream: dict[str, Any], tmp_path: Path) -> None:
    run(upstream, tmp_path, small={"from": "distilled"})
    model = load_causal(str(tmp_path / "small"), "float32")
    assert model.config.num_hidden_layers == 1
    assert load_tokenizer(str(tmp_path / "small")).chat_template
    assert "bfloat16" in (tmp_path / "small" / "README.md").read_text()
    assert not [path for path in tmp_path.rglob("*") if path.suffix in {".bin", ".pt", ".pkl"}]
    text = "".join(path.read_text() for path in (tmp_path / "small").glob("*.json"))
    assert str(upstream["train"].path.parent) not in text


def test_models_are_found_by_name(upstream: dict[str, Any], tmp_path: Path) -> None:
    run(upstream, tmp_path, small={"from": "distilled"})
    found = published_models({**upstream, "compress": SimpleNamespace(path=tmp_path)})
    assert list(found) == ["tuned", "distilled", "small"]
    assert all((folder / "config.json").is_file() for folder in found.values())


def test_two_models_of_one_name_are_refused(upstream: dict[str, Any], tmp_path: Path) -> None:
    make_toy_model(tmp_path / "distilled")
    with pytest.raises(ConfigError, match="distilled"):
        published_models({**upstream, "compress": SimpleNamespace(path=tmp_path)})


@pytest.mark.parametrize("exports", [{"a": {"from": "nobody"}}, {"distilled": {}}, {"base": {}}])
def test_exports_of_nothing_or_under_a_name_that_is_taken_are_refused(exports: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"nobody|distilled|base"):
        Config.model_validate({**SOURCES, "distill": {}, "compress": exports})
