"""Adapters, prefixes and prompts learn beside a frozen base, and later stages use base and addition together."""

import json
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import polars as pl
import pytest

from pipeline_config.errors import ModelError
from pipeline_config.model_schema import Train
from tasks.compress.task import compress
from tasks.distill.task import distill
from tasks.evaluate.generate import answers
from tasks.kernels.likelihood import example_losses
from tasks.kernels.models import load_causal, load_tokenizer, model_digest
from tasks.kernels.quiet import quiet
from tasks.stage import StageInput
from tasks.train.task import learning_rate, references
from tests.test_train import FAST, base, config_of, digests, run, tokens_of

__all__ = ["base", "run"]  # fixtures
Run = Callable[..., Any]
METHODS = {
    "pfeiffer": {"method": "adapter", "adapter": {"reduction_factor": 2}, "learning_rate": 0.02},
    "houlsby": {"method": "adapter", "adapter": {"placement": "houlsby", "reduction_factor": 4}, "learning_rate": 0.02},
    "prefix": {"method": "prefix", "prompt": {"num_virtual_tokens": 6}, "learning_rate": 0.1},
    "prompt": {"method": "prompt", "prompt": {"num_virtual_tokens": 24}, "learning_rate": 0.1},
}
pytestmark = pytest.mark.usefixtures("one_thread")


def logits(model: Any) -> Any:
    import torch

    with quiet(), torch.inference_mode():
        return model(input_ids=torch.arange(3, 40)[None], use_cache=False).logits[:, -37:]


@pytest.mark.parametrize("name", METHODS)
def test_it_learns_beside_a_base_that_stays_as_it_was(run: Run, base: Path, name: str) -> None:
    output, out = run(**METHODS[name], max_steps=60, eval_steps=99, weight_decay=0.1)
    assert output.metrics["loss_last"] < 0.7 * output.metrics["loss_first"]
    assert digests(out / "model")["model.safetensors"] == digests(base)["model.safetensors"]
    assert 0 < output.facts["trained_parameters"] < 0.3 * output.facts["parameters"]
    tuned, whole = load_causal(str(out / "model"), "float32"), load_causal(str(base), "float32")
    assert float((logits(tuned) - logits(whole)).abs().max()) > 0.01
    if name in ("prefix", "prompt"):
        from peft import PeftModel

        with quiet():
            alone = PeftModel.from_pretrained(whole, out / "adapter")
        assert float((logits(alone) - logits(tuned)).abs().max()) == 0
    assert str(base.parent) not in "".join(path.read_text() for path in out.rglob("*.json"))
    assert not list(out.rglob("*.bin"))


@pytest.mark.parametrize("name", METHODS)
def test_every_stage_after_it_uses_base_and_addition_together(run: Run, base: Path, tmp_path: Path, name: str) -> None:
    import torch

    settings = METHODS[name] | {"learning_rate": 0.1}
    _, out = run(**settings, max_steps=4, packed_length=128)
    tuned = load_causal(str(out / "model"), "float32")
    assert load_tokenizer(str(out / "model")).chat_template

    rows = [list(range(5, 25)), list(range(40, 50))]
    masks = [[n > 4 for n in range(len(row))] for row in rows]
    together = example_losses(tuned, rows, masks, batch_size=2, label="")
    for place, row in enumerate(rows):
        expected = torch.log_softmax(_whole(tuned, row)[:-1], -1)[range(len(row) - 1), row[1:]][4:]
        assert together[place, 0] == pytest.approx(-float(expected.sum()), rel=1e-4)
    said = answers(tuned, rows, ends=[2], max_new_tokens=4, batch_size=2, label="")
    assert said == [_greedy(tuned, row, 4) for row in rows]

    upstream = {"tokenize": SimpleNamespace(rows=tokens_of(config_of(base)).lazy), "train": SimpleNamespace(path=out)}
    sections = {"compress": {"small": {"dtype": "float32"}}, "distill": {"half": FAST | {"layers": 1, "max_steps": 2}}}
    config = config_of(base, train=FAST | settings, **sections)
    for stage, section in ((compress, config.compress), (distill, config.distill)):
        place = tmp_path / stage.name
        place.mkdir()
        given: Any = StageInput(config=section, run=config, seed=1, rows=pl.LazyFrame(), scores=None,
                                upstream=upstream, out=place, work=tmp_path / "w", data_dir=tmp_path)  # fmt: skip
        stage.run(given)
    assert torch.equal(logits(load_causal(str(tmp_path / "compress/small"), "float32")), logits(tuned))
    from transformers import AutoModelForCausalLM

    assert len(AutoModelForCausalLM.from_pretrained(tmp_path / "distill" / "half").model.layers) == 1
    with pytest.raises(ValueError, match="winnow_attached"), quiet():
        AutoModelForCausalLM.from_pretrained(out / "model")
    with pytest.raises(ModelError, match="can't be merged"):
        references(Train(), config_of(out / "model", train={}), tmp_path)
    before = model_digest(str(out / "model"), tmp_path)
    weights = next((out / "model" / "adapter").glob("*.safetensors"))
    weights.write_bytes(weights.read_bytes() + b" ")
    assert model_digest(str(out / "model"), tmp_path) != before


def _whole(model: Any, row: list[int]) -> Any:
    import torch

    with torch.inference_mode():
        return model(input_ids=torch.tensor([row]), use_cache=False).logits[0, -len(row) :]


def _greedy(model: Any, row: list[int], most: int) -> list[int]:
    said: list[int] = []
    while len(said) < most and (new := int(_whole(model, row + said)[-1].argmax())) != 2:
        said.append(new)
    return said


def test_adapters_start_as_the_base_model_exactly(base: Path) -> None:
    import torch

    from tasks.kernels import bottleneck

    with_adapters = bottleneck.add(load_causal(str(base), "float32"), "houlsby", 4)
    assert torch.equal(logits(with_adapters), logits(load_causal(str(base), "float32")))
    learning = {name for name, p in with_adapters.named_parameters() if p.requires_grad}
    assert {name.split(".")[-4:-2][0] for name in learning} == {"self_attn", "mlp"}


def test_a_prefix_starts_from_its_text(base: Path) -> None:
    """A prefix of as many tokens as its text has: before training, the model answers as behind that text."""
    import torch

    from tasks.train.attach import with_attached

    tokenizer = load_tokenizer(str(base))
    ids = tokenizer("hello how are you", add_special_tokens=False)["input_ids"]
    settings = Train(method="prefix", prompt={"num_virtual_tokens": len(ids), "init_text": "hello how are you"})
    prefixed = with_attached(load_causal(str(base), "float32"), settings, tokenizer, 0)
    plain = load_causal(str(base), "float32")
    asked = list(range(5, 25))
    assert torch.allclose(_whole(prefixed, asked), _whole(plain, ids + asked)[-20:], atol=1e-4)
    prompted = with_attached(
        load_causal(str(base), "float32"), settings.model_copy(update={"method": "prompt"}), tokenizer, 0
    )
    assert torch.allclose(_whole(prompted, asked), _whole(plain, ids + asked)[-20:], atol=1e-4)


def test_the_learning_rate_is_chosen_by_method() -> None:
    full = learning_rate(Train(method="full"))
    assert learning_rate(Train(method="lora")) == learning_rate(Train(method="adapter")) == 10 * full
    assert learning_rate(Train(lora={"use_vera": True})) == 100 * full
    assert learning_rate(Train(method="lora", learning_rate=0.5)) == 0.5


def test_a_packed_row_is_never_put_behind_a_prefix(run: Run) -> None:
    output, out = run(**METHODS["prefix"], max_steps=1, packing=True, per_device_train_batch_size=4)
    lines = [json.loads(line) for line in [(out / "history.json").read_text()]]
    assert output.metrics["rows_seen"] == 4, lines


@pytest.mark.parametrize("name", METHODS)
def test_the_best_checkpoint_is_what_is_published(run: Run, base: Path, name: str) -> None:
    """Train and validation contradict each other, so the last step is not the best; what loads has the best loss."""
    tokens = tokens_of(config_of(base))
    rows = tokens.filter(pl.col("split") == "validation").with_columns(pl.col("input_ids").list.reverse())
    tokens = pl.concat([tokens.filter(pl.col("split") == "train"), rows])
    output, out = run(tokens=tokens, **METHODS[name], max_steps=24, eval_steps=2, early_stopping={"patience": 9})
    seen = [line["eval_loss"] for line in json.loads((out / "history.json").read_text()) if "eval_loss" in line]
    assert output.metrics["eval_loss"] == min(seen) < seen[-1]
    ids, masks = rows["input_ids"].to_list(), rows["loss_mask"].to_list()
    found = example_losses(load_causal(str(out / "model"), "float32"), ids, masks, batch_size=2, label="").sum(0)
    assert found[0] / found[1] == pytest.approx(min(seen), rel=1e-4)


def test_adapters_learn_beside_a_base_in_bfloat16(run: Run) -> None:
    output, _ = run(method="adapter", precision="bf16", max_steps=1, eval_steps=9)
    assert output.facts["precision"] == "bfloat16"
    assert output.metrics["loss_last"] > 0
