"""Every method of fine-tuning learns, moves what it should and nothing else, and refuses targets that are not there."""

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from pipeline_config.errors import ConfigError
from pipeline_config.model_schema import Partial, Train
from tasks.kernels.models import load_causal
from tasks.kernels.quiet import quiet
from tasks.train.targets import check_lora_targets, chosen_layers, chosen_parameters, stored_names
from tasks.train.task import references
from tests.test_train import base, config_of, run

__all__ = ["base", "run"]  # fixtures
Run = Callable[..., Any]
pytestmark = pytest.mark.usefixtures("one_thread")


def changed(folder: Path, base: Path) -> set[str]:
    """The weights of a published model that are not the base's."""
    import torch

    before = load_causal(str(base), "float32").state_dict()
    after = load_causal(str(folder), "float32").state_dict()
    return {name for name, weight in after.items() if not torch.equal(weight, before[name])}


@pytest.mark.parametrize(
    ("partial", "moves"),
    [
        ({"layers": "last-1"}, r"layers\.1\."),
        ({"layers": 0, "modules": ["mlp", "*norm"]}, r"layers\.0\.(mlp|.*norm)"),
        ({"modules": ["re:layers.[01].self_attn", "model.norm"]}, r"self_attn|model\.norm"),
    ],
)
def test_partial_learns_and_moves_what_was_chosen_alone(
    run: Run, base: Path, partial: dict[str, Any], moves: str
) -> None:
    """Weight decay is on: frozen weights do not shrink either."""
    output, out = run(
        method="partial", partial=partial, learning_rate=0.02, max_steps=40, eval_steps=99, weight_decay=0.1
    )
    assert output.metrics["loss_last"] < 0.5 * output.metrics["loss_first"]
    names = [name for name, _ in load_causal(str(base), "float32").named_parameters()]
    assert changed(out / "model", base) - {"lm_head.weight"} == {name for name in names if re.search(moves, name)}
    assert 0 < output.facts["trained_parameters"] < output.facts["parameters"]


def test_frozen_parts_have_no_gradient_and_no_optimiser_state(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    from tasks.kernels.trainer import CompletionTrainer

    seen: dict[str, Any] = {}
    train = CompletionTrainer.train

    def keep(self: Any, *arguments: Any, **more: Any) -> Any:
        result = train(self, *arguments, **more)
        named = list(self.model.named_parameters())
        seen.update(learn={name for name, p in named if p in self.optimizer.state}, graded={
            name for name, p in named if p.requires_grad})  # fmt: skip
        return result

    monkeypatch.setattr(CompletionTrainer, "train", keep)
    run(method="partial", partial={"modules": ["down_proj"]}, max_steps=2, weight_decay=0.1)
    assert seen["learn"] == seen["graded"] == {f"model.layers.{n}.mlp.down_proj.weight" for n in (0, 1)}


@pytest.mark.parametrize(
    ("ranges", "numbers"),
    [("2-4", {2, 3, 4}), (3, {3}), ("0, 5-6", {0, 5, 6}), ("last-2", {8, 9}), ("first-1,9", {0, 9})],
)
def test_layers_are_counted_from_nought_with_both_ends(ranges: str | int, numbers: set[int]) -> None:
    assert chosen_layers(ranges, 10) == numbers


@pytest.mark.parametrize("ranges", ["8-10", "4-2", "last-11", "last-0", 10, "some", "", "1.5"])
def test_layers_that_are_not_there_are_a_clear_error(ranges: str | int) -> None:
    with pytest.raises(ConfigError) as caught:
        chosen_layers(ranges, 10)
    assert caught.value.place == "train.partial.layers"
    assert caught.value.cure


def test_a_module_that_is_not_there_is_refused_before_anything_runs(base: Path, tmp_path: Path) -> None:
    def error(**settings: Any) -> ConfigError:
        config = config_of(base, train=settings)
        with pytest.raises(ConfigError) as caught:
            references(Train(**settings), config, tmp_path)
        return caught.value

    mistyped = error(method="partial", partial={"modules": ["mpl"]})
    assert "did you mean 'mlp'" in mistyped.message
    assert "q_proj" in mistyped.cure
    assert mistyped.exit_code == 2
    assert "0-1" in error(method="partial", partial={"layers": "last-3"}).cure
    assert "did you mean 'q_proj'" in error(lora={"lora_target": ["q_porj"]}).message
    assert "regular expression" in error(lora={"lora_target": "("}).message
    assert "regular expression" in error(method="partial", partial={"modules": ["re:("]}).message
    assert "mlp" in error(method="partial", partial={"layers": 1, "modules": ["embed_tokens"]}).cure
    names = stored_names(base)
    check_lora_targets(names, Train(lora={"lora_target": r".*\.(q|v)_proj"}).lora)
    assert chosen_parameters(names, Partial(modules=["embed_tokens"])) == {"model.embed_tokens.weight"}


def test_partial_wants_to_be_told_what_learns() -> None:
    with pytest.raises(ValueError, match="last-4"):
        Train(method="partial")


VARIANTS = {
    "rslora": {"use_rslora": True},
    "dora": {"use_dora": True},
    "pissa": {"use_pissa": True, "use_rslora": True, "lora_r": 4},
    "lora+": {"loraplus_lr_ratio": 8},
    "vera": {"use_vera": True, "lora_r": 64},
}


@pytest.mark.parametrize("name", VARIANTS)
def test_a_lora_variant_learns_is_merged_without_loss_and_leaves_an_adapter_that_peft_loads_alone(
    run: Run, base: Path, name: str
) -> None:
    import torch
    from peft import PeftModel

    rate = 0.1 if name == "vera" else 0.01
    output, out = run(lora=VARIANTS[name], learning_rate=rate, max_steps=40, eval_steps=99)
    assert output.metrics["loss_last"] < 0.6 * output.metrics["loss_first"]
    assert output.metrics["merge_max_logit_difference"] <= 1e-4
    assert all(weight.endswith("_proj.weight") for weight in changed(out / "model", base))
    ids = torch.arange(3, 60)[None]
    with quiet(), torch.inference_mode():
        tuned = PeftModel.from_pretrained(load_causal(str(base), "float32"), out / "adapter")(input_ids=ids).logits
        merged = load_causal(str(out / "model"), "float32")(input_ids=ids).logits
        before = load_causal(str(base), "float32")(input_ids=ids).logits
    assert float((merged - tuned).abs().max()) <= 1e-4
    assert float((before - tuned).abs().max()) > 0.01
    assert {path.suffix for path in (out / "adapter").iterdir()} == {".json", ".safetensors", ".md"}


def test_variants_that_contradict_each_other_are_refused() -> None:
    with pytest.raises(ValueError, match="leave out use_dora, loraplus_lr_ratio"):
        Train(lora={"use_vera": True, "use_dora": True, "loraplus_lr_ratio": 4})
    with pytest.raises(ValueError, match="choose one"):
        Train(lora={"use_pissa": True, "use_dora": True})


def test_groups_by_rate_hold_every_parameter_once() -> None:
    import torch

    from tasks.kernels.rates import groups_by_rate, set_rate_ratio

    slow, fast, bare = (torch.nn.Parameter(torch.zeros(1)) for _ in range(3))
    set_rate_ratio(fast, 16)
    groups = [{"params": [fast, slow], "weight_decay": 0.1}, {"params": [bare], "weight_decay": 0.0}]
    parted = groups_by_rate(groups, 0.5)
    assert [(group.get("lr"), group["weight_decay"]) for group in parted] == [(None, 0.1), (None, 0.0), (8.0, 0.1)]
    assert [each for group in parted for each in group["params"]] == [slow, bare, fast]
