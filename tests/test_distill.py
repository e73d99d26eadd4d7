"""Distillation: which layers go, what a student learns, and what is published."""

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import polars as pl
import pytest

from pipeline_config.errors import ConfigError
from pipeline_config.model_schema import Distill
from pipeline_config.schema import Config
from tasks.distill.layers import count_kept, influence, leave_out
from tasks.distill.task import distill
from tasks.kernels.models import load_causal, load_tokenizer
from tasks.kernels.packing import collate, examples_from, pack
from tasks.kernels.published import published_models
from tasks.stage import StageInput
from tests.toy_model import make_toy_model

LAYERS = 5
FAST = {"learning_rate": 0.01, "per_device_train_batch_size": 4, "packed_length": 64, "precision": "fp32"}
pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def train(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a train artifact whose model has five layers, the third of which does almost nothing."""
    import torch

    folder = tmp_path_factory.mktemp("train")
    make_toy_model(folder / "model", layers=LAYERS)
    model = load_causal(str(folder / "model"), "float32")
    with torch.no_grad():
        for linear in (model.model.layers[2].self_attn.o_proj, model.model.layers[2].mlp.down_proj):
            linear.weight *= 1e-3
    model.save_pretrained(folder / "model")
    (folder / "model" / "README.md").write_text('---\nlicense: apache-2.0\nbase_model: "asset:toy"\n---\n')
    return folder


def tokens(n_train: int = 24, n_validation: int = 6) -> pl.DataFrame:
    """Sequences that go up by one, modulo a small number; the second half is learned."""
    count = n_train + n_validation
    ids = [[3 + (start * 7 + step) % 11 for step in range(12)] for start in range(count)]
    return pl.DataFrame(
        {
            "row_id": [f"r{n:02}" for n in range(count)],
            "split": ["train"] * n_train + ["validation"] * n_validation,
            "input_ids": ids,
            "loss_mask": [[False] * 6 + [True] * 6] * count,
            "n_tokens": [12] * count,
            "weight": [None] * count,
        },
        schema_overrides={"input_ids": pl.List(pl.Int32), "n_tokens": pl.Int32, "weight": pl.Float32},
    )


@pytest.fixture
def run(train: Path, tmp_path: Path) -> Callable[..., Any]:
    def run_distill(folder: str = "out", **students: Any) -> Any:
        section = {name: {**FAST, **settings} for name, settings in students.items()}
        config = Config.model_validate(
            {
                "ingest": {"sources": [{"path": "x.jsonl"}]},
                "tokenize": {},
                "train": {},
                "distill": section,
            }
        )
        out = tmp_path / folder
        out.mkdir()
        assert config.distill is not None
        given: StageInput[Distill] = StageInput(
            config=config.distill,
            run=config,
            seed=1,
            rows=pl.LazyFrame(),
            scores=None,
            upstream={"tokenize": SimpleNamespace(rows=tokens().lazy), "train": SimpleNamespace(path=train)},  # type: ignore[dict-item]
            out=out,
            work=tmp_path / f"work-{folder}",
            data_dir=tmp_path,
        )
        return distill.run(given), out

    return run_distill


def sample() -> Any:
    return collate([pack(examples_from(tokens()), 64)[0]], pad=2)


def test_the_layer_that_does_nothing_goes_first(train: Path) -> None:
    model = load_causal(str(train / "model"), "float32")
    found = influence(model, sample())
    assert len(found) == LAYERS
    assert min(range(LAYERS), key=lambda n: found[n]) == 2
    assert leave_out(model, LAYERS - 1, sample()) == [2]


def test_a_model_without_an_idle_layer_computes_nearly_the_same(train: Path) -> None:
    import torch

    whole, short = (load_causal(str(train / "model"), "float32") for _ in range(2))
    leave_out(short, LAYERS - 1, sample())
    with torch.inference_mode():
        first, second = (model(input_ids=sample()["input_ids"], use_cache=False).logits for model in (whole, short))
    assert float((first - second).abs().max()) < 0.05 * float(first.abs().max())


def test_left_out_layers_are_named_by_their_place_in_the_teacher(train: Path) -> None:
    import torch

    model = load_causal(str(train / "model"), "float32")
    layers = list(model.model.layers)
    gone = leave_out(model, LAYERS - 1, sample())
    kept = [n for n in range(LAYERS) if n not in gone]
    assert kept == [0, 1, 3, 4]
    assert [layers.index(layer) for layer in model.model.layers] == kept
    assert [layer.self_attn.layer_idx for layer in model.model.layers] == [0, 1, 2, 3]
    with torch.inference_mode():
        cached = model.generate(sample()["input_ids"][:, :8], max_new_tokens=4, do_sample=False)
        plain = model.generate(sample()["input_ids"][:, :8], max_new_tokens=4, do_sample=False, use_cache=False)
    assert cached.tolist() == plain.tolist()


def test_layers_are_a_number_or_a_share() -> None:
    assert count_kept(22, 30, place="x") == 22
    assert count_kept(0.75, 30, place="x") == 22
    assert count_kept(1.0, 30, place="x") == 1
    with pytest.raises(ConfigError, match="31 layers"):
        count_kept(31, 30, place="x")


def test_a_student_learns_and_stands_alone(run: Callable[..., Any]) -> None:
    output, out = run(small={"layers": 3, "num_train_epochs": 15})
    model = load_causal(str(out / "small"), "float32")
    assert model.config.num_hidden_layers == len(model.model.layers) == 3
    assert load_tokenizer(str(out / "small")).chat_template
    assert output.facts["small"]["layers"] == 3
    assert 2 in output.facts["small"]["layers_left_out"]
    lines = json.loads((out / "small" / "history.json").read_text())
    assert {"loss", "cross_entropy", "kl"} <= set(lines[0])
    assert output.metrics["small.eval_loss"] < 0.5 * lines[0]["cross_entropy"]
    card = (out / "small" / "README.md").read_text()
    assert 'base_model: "asset:toy"' in card
    assert "license: apache-2.0" in card


def test_the_teacher_alone_pulls_a_student_towards_it(run: Callable[..., Any], train: Path) -> None:
    """With alpha 1 the labels count for nothing: the divergence from the teacher falls, whatever they say."""
    _, out = run(copy={"layers": 2, "alpha": 1.0, "temperature": 1.0, "num_train_epochs": 10, "learning_rate": 0.003})
    divergences = [line["kl"] for line in json.loads((out / "copy" / "history.json").read_text()) if "kl" in line]
    assert divergences[-1] < 0.5 * divergences[0]


def test_a_student_s_losses_are_listed_and_logged(run: Callable[..., Any]) -> None:
    losses = [{"name": "jsd", "weight": 2.0}, {"name": "reverse_kl", "temperature": 1.0}]
    _, out = run(small={"layers": 3, "losses": losses, "num_train_epochs": 6})
    lines = [line for line in json.loads((out / "small" / "history.json").read_text()) if "loss" in line]
    assert {"cross_entropy", "jsd", "reverse_kl"} <= set(lines[0])
    assert lines[-1]["jsd"] < 0.8 * lines[0]["jsd"]
    assert lines[-1]["loss"] == pytest.approx(8 * lines[-1]["jsd"] + lines[-1]["reverse_kl"], rel=1e-4)
    assert "taught by jsd (weight 2), reverse_kl (weight 1)." in (out / "small" / "README.md").read_text()


def test_students_can_teach_and_the_order_does_not_matter(run: Callable[..., Any]) -> None:
    _, out = run(tiny={"from": "small", "layers": 2, "max_steps": 1}, small={"layers": 3, "max_steps": 1})
    models = published_models({"distill": SimpleNamespace(path=out)})  # type: ignore[dict-item]
    assert list(models) == ["small", "tiny"]
    sizes = [load_causal(str(folder), "float32").config.num_hidden_layers for folder in models.values()]
    assert sizes == [3, 2]


def test_the_same_run_gives_the_same_bytes(run: Callable[..., Any]) -> None:
    found = []
    for folder in ("first", "second"):
        _, out = run(folder, small={"layers": 3, "max_steps": 3})
        files = sorted(path for path in out.rglob("*") if path.is_file())
        found.append({str(p.relative_to(out)): hashlib.sha256(p.read_bytes()).hexdigest() for p in files})
    assert found[0] == found[1]
    assert not [name for name in found[0] if name.endswith((".bin", ".pt"))]


@pytest.mark.parametrize(
    ("section", "words"),
    [
        ({"a": {"from": "b"}}, "b"),
        ({"a": {"from": "b"}, "b": {"from": "a"}}, "no teacher"),
        ({"tuned": {}}, "tuned"),
        ({"a/b": {}}, "a/b"),
    ],
)
def test_students_without_a_teacher_or_a_name_of_their_own_are_refused(section: dict[str, Any], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        Distill.model_validate(section)
