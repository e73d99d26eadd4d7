"""The same input, configuration and code give the same bytes: at 1, 2 and 4 threads, in a fresh process each time."""

import json
import os
import subprocess
import sys
from pathlib import Path

import polars as pl
import pytest

from pipeline_config.schema import STAGES
from tasks.apply import write_decision
from tasks.artifact import FORMAT, Artifact
from tasks.kernels.digests import json_digest, sha256_file
from tasks.kernels.rows import ROW_SCHEMA
from tasks.ledger import Decision, removed_frame
from tests.cached_place import NOTES, Place, make_place, record, stand_in_encoder
from tests.toy_model import make_toy_model

_CHINESE = ["今天", "天气", "很好", "我们", "公园", "散步", "湖边", "喝茶", "老师", "学生", "城市", "火车", "音乐"]
TRAINED = ("train", "distill")


def rows(n: int) -> list[str]:
    """Alpaca records: English and Chinese, with near-duplicates, repetitions and personal data among them."""
    lines: list[dict[str, str]] = []
    for k in range(n):
        each = record(k)
        if k % 7 == 3:
            asked = "".join(_CHINESE[(k * j) % len(_CHINESE)] for j in range(1, 9))
            each = {"instruction": f"{asked}第{k}次？", "output": asked * 2 + f"，第{k}个回答。"}
        if k % 11 == 5:
            each = {**record(k - 5), "output": record(k - 5)["output"] + " indeed"}
        if k % 13 == 6:
            each = {**each, "output": f"{each['output']} Write to person{k}@gmail.com, <b>please</b>.  "}
        if k % 97 == 8:
            each = record(k - 1)
        lines.append(each)
    return [json.dumps(each, ensure_ascii=False) for each in lines]


def main(root: str, folder: str) -> None:
    """What a fresh process does: every stage, and the digest of every file on standard output."""
    import torch

    torch.set_num_threads(1)
    with stand_in_encoder():
        place = Place(Path(root), json.loads((Path(root) / "config.json").read_text()), folder=folder)
        place.run(real=TRAINED)
    print(json.dumps(files(place.data)))


def files(data: Path) -> dict[str, str]:
    """Every published file and its digest, scores and ledgers among them, but the report, which tells the time."""
    found = {}
    for path in sorted((data / "artifacts").rglob("manifest.json")):
        if path.relative_to(data).parts[1] == "report":
            continue
        for file in json.loads(path.read_text())["files"]:
            found[f"{path.parent.relative_to(data)}/{file['path']}"] = file["sha256"]
    return found


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Inputs of 3,000 rows, and a toy model that can be trained."""
    folder = tmp_path_factory.mktemp("bytes")
    place = make_place(folder)
    place.write("talk.jsonl", rows(2_900))
    place.write("notes.txt", [f"{note} {n}" for n in range(9) for note in NOTES])
    make_toy_model(folder / "model")
    settings = {"max_steps": 2, "packed_length": 128, "per_device_train_batch_size": 2, "max_eval_examples": 8}
    place.config |= {"train": {"method": "lora", **settings}, "distill": {"small": {"layers": 1, **settings}}}
    place.config["balance"]["cap"] = 2_000
    place.config["tokenize"]["max_lost_tokens"] = 1.0  # the toy's tokens are short
    (folder / "config.json").write_text(json.dumps(place.config))
    return folder


def test_every_file_has_the_same_bytes_at_any_number_of_threads(root: Path) -> None:
    made = {threads: run(root, threads) for threads in (1, 2, 4)}
    assert {name.split("/")[1] for name in made[1]} == set(STAGES) - {"report"}
    assert sum("/model/" in name or "/small/" in name for name in made[1]) > 10
    assert sum("/scores/" in name for name in made[1]) == 6
    assert made[2] == made[1]
    assert made[4] == made[1]


def run(root: Path, threads: int) -> dict[str, str]:
    counts = ("POLARS_MAX_THREADS", "NUMBA_NUM_THREADS", "OMP_NUM_THREADS", "RAYON_NUM_THREADS")
    environment = os.environ | dict.fromkeys(counts, str(threads)) | {"PYTHONHASHSEED": str(threads)}
    command = f"from tests.test_same_bytes import main; main({str(root)!r}, 'data-{threads}')"
    done = subprocess.run(
        [sys.executable, "-c", command], env=environment, capture_output=True, text=True, check=False, timeout=600
    )
    assert done.returncode == 0, done.stderr
    found: dict[str, str] = json.loads(done.stdout.splitlines()[-1])
    return found


# What the wrapper writes is part of no code digest: a change of it must raise FORMAT, or old artifacts would be taken.
WRITTEN = {(2, "2.1.0"): "16229a2a0f49d742"}  # format and Polars → digest of the files below


def test_the_wrapper_writes_the_bytes_that_its_format_stands_for(tmp_path: Path) -> None:
    expected = WRITTEN.get((FORMAT, pl.__version__))
    if expected is None:
        pytest.skip(f"no bytes are noted for format {FORMAT} with polars {pl.__version__}")
    n = 140_000  # more than one part and many row groups
    content = pl.concat_str(["row_id"] * 8, separator=" ").alias("content")
    message = pl.struct(pl.lit("text").alias("role"), content, weight=pl.lit(None, pl.Float32))
    others = [name for name in ROW_SCHEMA if name not in ("row_id", "source", "messages")]
    rows = pl.select(pl.int_range(n).cast(pl.String).str.zfill(16).alias("row_id"), source=pl.lit("s")).with_columns(
        pl.concat_list(message).alias("messages"),
        *(pl.lit(None, ROW_SCHEMA[name]).alias(name) for name in others),
    )
    for name in ("ingest", "toxicity"):
        (tmp_path / name).mkdir()
    write_decision("ingest", Decision(assigned=rows.select(list(ROW_SCHEMA))), None, tmp_path / "ingest")
    text = Artifact(tmp_path / "ingest", {"stage": "ingest", "key": "k", "parents": []})
    removed = removed_frame([{"row_id": f"{k:016}", "rule": "r", "value": 0.5} for k in range(0, n, 7)])
    scores = rows.select("row_id", score_x=pl.int_range(n).cast(pl.Float32))
    write_decision("toxicity", Decision(removed=removed, assigned=scores), text, tmp_path / "toxicity")
    paths = sorted(tmp_path.rglob("*.parquet"))
    assert json_digest([[path.name, sha256_file(path)] for path in paths])[:16] == expected
