"""Tokens for other trainers: they learn from the same ids, at the same places."""

import json
import os
import subprocess
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from pipeline_config.errors import ConfigError
from pipeline_config.sets_schema import Tokenize
from tasks.kernels.rows import ROW_SCHEMA
from tasks.kernels.token_export import export_tokens
from tasks.tokenize.decide import decide
from tests.toy_model import _tokenizer, make_toy_model

PEER = Path(__file__).parent.parent / "benchmarks" / "peers" / "trl_tokens.py"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_toy_model(tmp_path_factory.mktemp("toy"))


@pytest.fixture(scope="module")
def tokens() -> pl.DataFrame:
    """503 conversations of one to three exchanges (500 of them to train on), as `tokenize` publishes them."""
    rows = []
    for n in range(503):
        turns = [("system", "Be brief.")] if n % 4 == 0 else []
        for turn in range(n % 3 + 1):
            turns += [
                ("user", f"天气 {n}, {turn}?" * (n % 5 + 1)),
                ("assistant", f"Answer {turn} 很好 🙂" * (n % 7 + 1)),
            ]
        messages = [{"role": role, "content": content, "weight": None} for role, content in turns]
        split = "train" if n < 500 else ("validation" if n < 502 else "test:x")
        rows.append({"row_id": f"r{n}", "source": "s", "split": split, "messages": messages})
    frame = pl.DataFrame(rows, schema=ROW_SCHEMA).with_columns(preference=False)
    columns = ("row_id", "source", "split", "fold", "task", "label", "weight", "messages", "preference", "tools")
    assigned = decide(frame.select(columns), _tokenizer(), 512, Tokenize(max_length=512)).assigned
    assert assigned is not None
    assert assigned.height == 503
    return assigned


def labelled(tokens: pl.DataFrame, *splits: str) -> list[dict[str, list[int]]]:
    """Ids and labels, spelled out."""
    lines = tokens.filter(pl.col("split").is_in(splits)).iter_rows(named=True)
    return [
        {
            "input_ids": line["input_ids"],
            "labels": [i if learn else -100 for i, learn in zip(line["input_ids"], line["loss_mask"], strict=True)],
        }
        for line in lines
    ]


@pytest.mark.parametrize("name", ["t.jsonl", "t.parquet", "t.jsonl.gz"])
def test_a_file_for_trl_has_the_train_rows_and_what_is_not_learned_is_minus_100(
    tokens: pl.DataFrame, tmp_path: Path, name: str
) -> None:
    some = tokens.tail(20)
    assert export_tokens(some.lazy(), "trl", tmp_path / name, None) == 17
    read = pl.read_parquet if name.endswith("parquet") else pl.read_ndjson
    assert read(tmp_path / name).to_dicts() == labelled(some, "train")


def test_a_folder_for_llamafactory_is_what_datasets_loads(tokens: pl.DataFrame, tmp_path: Path) -> None:
    datasets = pytest.importorskip("datasets", reason="needs datasets (pip install winnow[hub])")
    assert export_tokens(tokens.tail(20).lazy(), "llamafactory", tmp_path / "out", None) == 19
    found = datasets.load_from_disk(str(tmp_path / "out"))
    assert set(found) == {"train", "validation"}
    for name, rows in found.items():
        got = rows.to_list()
        assert all(row.pop("attention_mask") == [1] * len(row["input_ids"]) for row in got)
        assert got == labelled(tokens.tail(20), name)
    with pytest.raises(ConfigError, match="there already"):
        export_tokens(tokens.lazy(), "llamafactory", tmp_path / "out", None)


def test_what_a_format_cannot_say_is_said_and_what_cannot_be_written_is_refused(
    tokens: pl.DataFrame, tmp_path: Path
) -> None:
    said: list[str] = []
    weighted = tokens.tail(20).with_columns(weight=pl.lit(2.0, pl.Float32))
    export_tokens(weighted.lazy(), "trl", tmp_path / "t.jsonl", "validation", say=said.append)
    assert said == ["rows with a weight, which trl has no place for: 2"]
    for record_format, name in (("alpaca", "t.jsonl"), ("trl", "t.csv"), ("trl", "none/t.jsonl"), ("trl", "t")):
        with pytest.raises(ConfigError):
            export_tokens(tokens.lazy(), record_format, tmp_path / name, None)
    assert [path.name for path in tmp_path.iterdir()] == ["t.jsonl"]


@pytest.mark.slow
def test_trl_learns_from_the_same_ids_and_labels(
    folder: Path, tokens: pl.DataFrame, tmp_path: Path, needs: Callable[[str, bool], None]
) -> None:
    """Whatever SFTTrainer's own preparation and collator do with 500 rows; it has an environment of its own."""
    cache = Path(os.environ.get("WINNOW_BENCH_CACHE") or Path.home() / ".cache" / "winnow-bench")
    python = Path(os.environ.get("WINNOW_TRL_PYTHON") or cache / "env" / "trl" / "bin" / "python")
    needs("trl environment of the benchmarks (or WINNOW_TRL_PYTHON)", python.exists())
    export_tokens(tokens.lazy(), "trl", tmp_path / "train.jsonl", None)
    command = [str(python), str(PEER), str(folder), str(tmp_path / "train.jsonl")]
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, env=_elsewhere(), check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    found = [line for line in done.stdout.splitlines() if line.startswith("{")]
    assert len(found) == 500
    assert Counter(found) == Counter(json.dumps(row) for row in labelled(tokens, "train"))


def _elsewhere() -> dict[str, Any]:
    return {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
