"""Fine-tuning: it learns, only what should move moves, and what is published is complete and the same again."""

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import polars as pl
import pytest

from pipeline_config.errors import ConfigError, DataError, StageError
from pipeline_config.model_schema import Train
from pipeline_config.schema import Config
from tasks.kernels.chat_template import chat_tokenizer
from tasks.kernels.models import load_causal, load_tokenizer
from tasks.kernels.quiet import quiet
from tasks.stage import StageInput
from tasks.tokenize.decide import decide
from tasks.train.task import references, train
from tests.toy_model import make_toy_model

Run = Callable[..., Any]
FAST = {"learning_rate": 0.01, "per_device_train_batch_size": 2, "packed_length": 64, "precision": "fp32"}
pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_toy_model(tmp_path_factory.mktemp("base"))


def config_of(base: Path, **sections: Any) -> Config:
    return Config.model_validate(
        {
            "model": str(base),
            "seed": 3,
            "ingest": {"sources": [{"path": "x.jsonl", "split": "validation"}]},
            "tokenize": {},
            **sections,
        }
    )


def tokens_of(config: Config, n_train: int = 32, n_validation: int = 4) -> pl.DataFrame:
    """Questions with one-letter answers, tokenised."""
    splits = ["train"] * n_train + ["validation"] * n_validation
    rows = pl.DataFrame(
        {
            "row_id": [f"r{n:02}" for n in range(len(splits))],
            "source": ["s"] * len(splits),
            "split": splits,
            "messages": [
                [
                    {"role": "user", "content": f"letter {n % 4}?", "weight": None},
                    {"role": "assistant", "content": "abcd"[n % 4] * 3, "weight": None},
                ]
                for n in range(len(splits))
            ],
        }
    ).with_columns(
        fold=pl.lit(None, pl.Int32),
        task=pl.lit(None, pl.String),
        label=pl.lit(None, pl.String),
        weight=pl.lit(None, pl.Float32),
        tools=pl.lit(None, pl.String),
        preference=pl.lit(False),
    )
    assert config.tokenize is not None
    found = decide(rows, chat_tokenizer(config, Path()), 512, config.tokenize).assigned
    assert found is not None
    return found


@pytest.fixture
def run(base: Path, tmp_path: Path) -> Run:
    """Run the train stage over the toy model; give its output and its folder."""

    def run_train(folder: str = "out", tokens: pl.DataFrame | None = None, **settings: Any) -> Any:
        config = config_of(base, train={**FAST, **settings})
        rows = tokens_of(config) if tokens is None else tokens
        out, work = tmp_path / folder, tmp_path / f"work-{folder}"
        out.mkdir()
        assert config.train is not None
        given: StageInput[Train] = StageInput(
            config=config.train,
            run=config,
            seed=config.stage_seed("train"),
            rows=pl.LazyFrame(),
            scores=None,
            upstream={"tokenize": SimpleNamespace(rows=rows.lazy)},  # type: ignore[dict-item]
            out=out,
            work=work,
            data_dir=tmp_path,
        )
        return train.run(given), out

    return run_train


def digests(folder: Path) -> dict[str, str]:
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


@pytest.mark.parametrize("method", ["lora", "full"])
def test_it_learns_thirty_two_rows(run: Run, method: str) -> None:
    rates = {"lora": 0.015, "full": 0.01}
    output, _ = run(method=method, learning_rate=rates[method], num_train_epochs=25)
    assert output.metrics["loss_last"] < 0.5 * output.metrics["loss_first"]
    assert output.metrics["eval_loss"] < output.metrics["eval_loss_first"]
    assert (output.facts["diagnosis"]["verdict"], output.metrics["overfit_from_step"]) == ("healthy", 0)


@pytest.mark.parametrize("method", ["lora", "full"])
def test_the_same_run_gives_the_same_bytes(run: Run, method: str) -> None:
    _, first = run("first", method=method, max_steps=4)
    _, second = run("second", method=method, max_steps=4)
    assert digests(first) == digests(second)


def test_another_seed_gives_another_model(run: Run, base: Path) -> None:
    _, first = run("first", max_steps=2)
    _, second = run("second", max_steps=2, seed=4)
    assert digests(first)["model/model.safetensors"] != digests(second)["model/model.safetensors"]


def test_what_is_published_loads_alone_and_names_no_machine(run: Run, base: Path, tmp_path: Path) -> None:
    _, out = run(max_steps=2)
    load_causal(str(out / "model"), "float32")
    assert load_tokenizer(str(out / "model")).chat_template
    text = "".join(path.read_text() for path in out.rglob("*") if path.suffix in {".json", ".md", ".jinja"})
    assert str(base) not in text
    assert str(tmp_path) not in text
    assert not [path for path in out.rglob("*") if path.suffix in {".bin", ".pt", ".pth", ".pkl"}]
    card = (out / "model" / "README.md").read_text()
    for word in ("license:", "base_model:", "train_examples", "eval_loss", "lora_r"):
        assert word in card


def test_a_lora_moves_only_the_adapter_and_is_merged_without_loss(run: Run, base: Path) -> None:
    import torch
    from peft import PeftModel

    output, out = run(max_steps=8)
    adapter = json.loads((out / "adapter" / "adapter_config.json").read_text())
    assert adapter["target_modules"] == sorted(adapter["target_modules"])
    assert adapter["base_model_name_or_path"] == base.name
    merged, before = load_causal(str(out / "model"), "float32"), load_causal(str(base), "float32")
    ids = torch.arange(3, 60)[None]
    with torch.inference_mode():
        with quiet():
            tuned = PeftModel.from_pretrained(before, out / "adapter")(input_ids=ids).logits
        assert float((merged(input_ids=ids).logits - tuned).abs().max()) <= 1e-4
        assert float((load_causal(str(base), "float32")(input_ids=ids).logits - tuned).abs().max()) > 1e-2
    assert output.metrics["merge_max_logit_difference"] <= 1e-4
    changed = {
        name
        for (name, new), old in zip(
            merged.state_dict().items(), load_causal(str(base), "float32").state_dict().values(), strict=True
        )
        if not torch.equal(new, old)
    }
    assert changed
    assert all(name.endswith("_proj.weight") for name in changed)
    assert output.facts["trained_parameters"] < output.facts["parameters"]


def test_none_publishes_the_base_as_it_is(run: Run, base: Path) -> None:
    _, out = run(method="none")
    assert digests(out / "model")["model.safetensors"] == digests(base)["model.safetensors"]
    assert not (out / "adapter").exists()


def test_accumulated_batches_learn_as_one_large_batch(run: Run) -> None:
    """Rows of unequal length: a mean of means would differ."""
    large, _ = run("large", method="full", per_device_train_batch_size=4, max_steps=3, packing=False)
    small, out = run(
        "small",
        method="full",
        per_device_train_batch_size=1,
        gradient_accumulation_steps=4,
        max_steps=3,
        packing=False,
    )
    assert small.metrics["loss_last"] == pytest.approx(large.metrics["loss_last"], rel=1e-5)
    assert len([line for line in json.loads((out / "history.json").read_text()) if "loss" in line]) == 3


@pytest.mark.parametrize("early_stopping", [None, {"patience": 9}])
def test_a_time_limit_ends_training_at_a_step_and_publishes_what_was_learned(
    run: Run, early_stopping: dict[str, int] | None
) -> None:
    output, out = run(method="full", num_train_epochs=50, max_minutes=1e-9, early_stopping=early_stopping)
    assert output.metrics["steps"] == 1
    assert output.metrics["steps_left_out"] > 0
    assert output.metrics["eval_loss"] < 99
    assert load_causal(str(out / "model"), "float32")
    whole, _ = run("whole", method="full", max_steps=2, max_minutes=60)
    assert (whole.metrics["steps"], "steps_left_out" in whole.metrics) == (2, False)


def test_early_stopping_gives_back_the_best_checkpoint(run: Run, base: Path) -> None:
    """Train and validation contradict each other, so the validation loss rises from the first evaluation."""
    config = config_of(base)
    tokens = tokens_of(config)
    eval_ids = tokens.filter(pl.col("split") == "validation")["input_ids"].list.reverse()
    wrong = tokens.filter(pl.col("split") == "validation").with_columns(eval_ids)
    tokens = pl.concat([tokens.filter(pl.col("split") == "train"), wrong])
    output, out = run(tokens=tokens, method="full", eval_steps=2, num_train_epochs=40, early_stopping={"patience": 2})
    losses = [line["eval_loss"] for line in json.loads((out / "history.json").read_text()) if "eval_loss" in line]
    assert output.metrics["steps"] < 100
    assert output.metrics["eval_loss"] == min(losses) < losses[-1]


@pytest.mark.parametrize("name", ["linear", "cosine", "constant", "constant_with_warmup"])
def test_the_rate_rises_then_falls_and_no_step_is_wasted(name: Any) -> None:
    from tasks.kernels.schedule import rate_factor

    factors = [rate_factor(name, step, 4, 20) for step in range(20)]
    assert max(factors) == factors[4] == 1
    assert min(factors) > 0
    assert factors[:5] == sorted(factors[:5])
    assert factors[4:] == sorted(factors[4:], reverse=True)
    assert (factors[-1] < 0.1) == (name in {"linear", "cosine"})


def test_a_loss_that_is_no_number_names_the_rows(run: Run, base: Path) -> None:
    tokens = tokens_of(config_of(base))
    poisoned = pl.when(pl.col("row_id") == "r05").then(float("inf")).otherwise(1.0).cast(pl.Float32)
    with pytest.raises(StageError, match=r"rows (r\d\d, )*r05") as caught:
        run(tokens=tokens.with_columns(weight=poisoned), method="full", max_steps=20)
    assert "learning_rate" in caught.value.cure


def test_targets_that_match_nothing_are_a_clear_error(run: Run) -> None:
    with pytest.raises(ConfigError, match="no_such_layer") as caught:
        run(lora={"lora_target": ["no_such_layer"]})
    assert "q_proj" in caught.value.cure


def test_no_train_rows_are_a_clear_error(run: Run, base: Path) -> None:
    tokens = tokens_of(config_of(base)).filter(pl.col("split") == "validation")
    with pytest.raises(DataError, match="no train rows"):
        run(tokens=tokens)


def test_a_row_of_weight_zero_teaches_nothing(run: Run, base: Path) -> None:
    tokens = tokens_of(config_of(base))
    odd = pl.col("row_id").str.slice(1).cast(pl.Int32) % 2 == 1
    weighted = tokens.with_columns(pl.when(odd).then(0.0).otherwise(1.0).cast(pl.Float32).alias("weight"))
    with_zero, _ = run(
        "zero", tokens=weighted, method="full", packing=False, per_device_train_batch_size=32, max_steps=1
    )
    without, _ = run(
        "without",
        tokens=tokens.filter(~odd | (pl.col("split") == "validation")),
        method="full",
        packing=False,
        per_device_train_batch_size=32,
        max_steps=1,
    )
    assert with_zero.metrics["loss_first"] == pytest.approx(without.metrics["loss_first"], rel=1e-5)


@pytest.mark.slow
@pytest.mark.model
def test_a_real_model_learns_and_is_merged_without_loss(
    tmp_path: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """SmolLM2-135M: a few steps over one answer lower its loss, and the merged model's logits are the adapter's."""
    from tasks.kernels.models import model_folder

    data = tmp_path_factory.getbasetemp()  # converted once for all tests
    config = config_of(Path(model_folder("asset:smollm2-135m-instruct", data)))
    settings = Train(max_steps=4, per_device_train_batch_size=1, packed_length=96, warmup_ratio=0, max_eval_examples=2)
    rows = tokens_of(config, n_train=2, n_validation=2)
    given: StageInput[Train] = StageInput(
        config=settings,
        run=config,
        seed=0,
        rows=pl.LazyFrame(),
        scores=None,
        upstream={"tokenize": SimpleNamespace(rows=rows.lazy)},  # type: ignore[dict-item]
        out=tmp_path,
        work=tmp_path / "work",
        data_dir=data,
    )
    output = train.run(given)
    assert output.metrics["loss_last"] < output.metrics["loss_first"]
    assert output.metrics["merge_max_logit_difference"] <= 1e-4


def test_a_model_is_at_no_distance_from_itself_as_its_teacher(run: Run, base: Path) -> None:
    """Before the first step LoRA changes nothing, so the teacher's distribution is the model's own."""
    losses = [{"name": "cross_entropy"}, {"name": "kl", "weight": 0.5}, {"name": "jsd", "weight": 0.5}]
    _, out = run(teacher=str(base), losses=losses, max_steps=2)
    lines = [line for line in json.loads((out / "history.json").read_text()) if "loss" in line]
    assert abs(lines[0]["kl"]) < 1e-5
    assert abs(lines[0]["jsd"]) < 1e-5
    assert lines[1]["kl"] > 1e-6
    assert lines[0]["loss"] == pytest.approx(lines[0]["cross_entropy"], rel=1e-4)


def test_labels_come_with_the_tokens(run: Run, base: Path) -> None:
    """A contrastive loss by label has pairs to compare; without labels it says so."""
    tokens = tokens_of(config_of(base))
    labelled = tokens.with_columns(label=pl.Series([f"letter {n % 4}" for n in range(tokens.height)]))
    losses = [{"name": "contrastive", "positives": "class"}]
    many = {"per_device_train_batch_size": 8}  # examples of four labels: two of them share one
    output, _ = run(tokens=labelled, method="full", losses=losses, max_steps=3, **many)
    assert output.metrics["loss_first"] > 0
    assert output.metrics["loss_last"] > 0
    with pytest.raises(DataError, match="no train row has a label"):
        run("other", losses=losses)


def test_teacher_and_own_losses_stand_in_the_key(base: Path, tmp_path: Path) -> None:
    def found(**settings: Any) -> dict[str, str]:
        config = config_of(base, train=settings)
        assert config.train is not None
        return references(config.train, config, tmp_path)

    teacher = make_toy_model(tmp_path / "teacher", layers=1)
    losses = [{"name": "kl"}, {"name": "tasks.kernels.focal:focal"}]
    both = found(teacher=str(teacher), losses=losses)
    assert both["teacher"] != found(teacher=str(base), losses=losses)["teacher"] == both["model"]
    assert "tasks.kernels.focal:focal" in both
    assert "teacher" not in found()
