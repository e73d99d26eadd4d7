"""Schedules, optimisers, noise, accumulation and early stopping do what their papers and names say."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, get_args

import numpy as np
import pytest
from pydantic import ValidationError

from pipeline_config.errors import ConfigError, StageError
from pipeline_config.model_schema import EarlyStopping, Schedule, Train
from tasks.kernels.early_stopping import generalisation_loss, is_over, reductions
from tests.toy_fit import drawn, toy_causal, toy_examples, toy_fit

pytestmark = pytest.mark.usefixtures("one_thread")
SIXTEEN = toy_examples(drawn(16, 1))
OTHERS = toy_examples(drawn(8, 2))


@contextmanager
def first_gradients() -> Iterator[list[Any]]:
    """The gradients of the first optimiser step inside the block, as they come to the optimiser."""
    from torch.optim.optimizer import register_optimizer_step_pre_hook

    found: list[Any] = []

    def keep(optimiser: Any, *_: Any) -> None:
        if not found:
            found.extend(p.grad.clone() for group in optimiser.param_groups for p in group["params"])

    handle = register_optimizer_step_pre_hook(keep)
    yield found
    handle.remove()


def largest_difference(one: list[Any], two: list[Any]) -> float:
    """Of the gradients, relative to the largest of them."""
    size = max(float(each.abs().max()) for each in one)
    return max(float((a - b).abs().max()) for a, b in zip(one, two, strict=True)) / size


@pytest.mark.parametrize(("packing", "smoothing"), [(True, 0.2), (False, 0.0)])
def test_accumulation_has_the_loss_and_gradient_of_the_large_batch(
    tmp_path: Path, packing: bool, smoothing: float
) -> None:
    """Answers of 1 to 9 tokens, with weights: a mean of the batches' means would be far off."""
    uneven = toy_examples([drawn(1, n, 1 + n * 5 % 9)[0] for n in range(8)], [1.0, 3.0] * 4)
    common = {"packing": packing, "max_steps": 1, "max_grad_norm": 0, "label_smoothing_factor": smoothing}
    runs = []
    for rows, steps in ((4, 1), (2, 2), (1, 4)):
        with first_gradients() as gradients:
            fitted = toy_fit(
                tmp_path / str(rows),
                uneven,
                per_device_train_batch_size=rows,
                gradient_accumulation_steps=steps,
                **common,
            )
        runs.append((fitted.history[0]["loss"], gradients))
    (loss, gradients), *others = runs
    for other_loss, other_gradients in others:
        assert other_loss == pytest.approx(loss, rel=1e-5)
        assert largest_difference(gradients, other_gradients) < 1e-5


@pytest.mark.parametrize("optim", ["adamw", "adam", "lamb", "adafactor"])
def test_every_optimiser_learns_by_heart(tmp_path: Path, optim: str) -> None:
    rate = {"lamb": 0.05, "adafactor": "auto"}.get(optim, 0.02)
    fitted = toy_fit(tmp_path, SIXTEEN, optim=optim, learning_rate=rate, max_steps=40)
    assert fitted.metrics["loss_last"] < 0.5 * fitted.metrics["loss_first"]


@pytest.mark.parametrize("name", get_args(Schedule))
def test_the_schedule_is_the_rate_that_is_logged(tmp_path: Path, name: str) -> None:
    fitted = toy_fit(tmp_path, SIXTEEN, OTHERS, lr_scheduler_type=name, warmup_ratio=0.25, max_steps=8, eval_steps=8)
    rates = [line["learning_rate"] for line in fitted.history if "loss" in line]
    assert rates[0] == pytest.approx(0.02 if name == "constant" else 0.01)
    assert max(rates) == pytest.approx(0.02)
    assert (rates[-1] < 0.01) == (name in ("linear", "cosine"))


def test_a_plateau_lowers_the_rate_as_torch_does() -> None:
    import torch

    draw = np.random.default_rng(0)
    for patience in (1, 2, 3):
        for losses in draw.choice([1.0, 1.1, 0.9, 0.8, 1.3], (30, 12)).tolist():
            optimiser = torch.optim.SGD([torch.zeros(1)], lr=1.0)
            theirs = torch.optim.lr_scheduler.ReduceLROnPlateau(optimiser, factor=0.5, patience=patience - 1, eps=0)
            for n, loss in enumerate(losses):
                theirs.step(loss)
                assert optimiser.param_groups[0]["lr"] == 0.5 ** reductions(losses[: n + 1], patience)


def test_a_plateau_of_the_validation_loss_lowers_the_rate(tmp_path: Path) -> None:
    fitted = toy_fit(
        tmp_path,
        SIXTEEN,
        OTHERS,
        lr_scheduler_type="reduce_lr_on_plateau",
        plateau_patience=1,
        plateau_factor=0.1,
        warmup_ratio=0,
        max_steps=40,
        eval_steps=5,
    )
    rates = [line["learning_rate"] for line in fitted.history if "loss" in line]
    losses = [line["eval_loss"] for line in fitted.history if "eval_loss" in line]
    assert rates[0] == pytest.approx(0.02)
    assert rates[-1] == pytest.approx(0.02 * 0.1 ** reductions(losses[:-1], 1))
    assert rates[-1] < 0.01


def test_adafactor_finds_its_step_from_the_gradients(tmp_path: Path) -> None:
    """The rate logged falls as 1/√t from 0.01 on, whatever the schedule says, and is scaled by the weights' size."""
    found = toy_fit(tmp_path / "a", SIXTEEN, optim="adafactor", learning_rate="auto", max_steps=5)
    given = toy_fit(tmp_path / "b", SIXTEEN, optim="adafactor", learning_rate=0.02, warmup_ratio=0, max_steps=5)
    rates = [line["learning_rate"] for line in found.history if "loss" in line]
    assert all(0 < rate <= 0.01 for rate in rates)
    assert given.history[0]["learning_rate"] == pytest.approx(0.02)


def test_lamb_is_the_rule_of_its_paper() -> None:
    """Against Algorithm 2 of You et al. (2020), written out with NumPy."""
    import torch

    from tasks.kernels.optimisers import Lamb

    draw = np.random.default_rng(3)
    start = [draw.normal(size=(4, 3)), draw.normal(size=5), np.zeros(2)]
    ours = [torch.nn.Parameter(torch.tensor(each)) for each in start]
    decay = [0.1, 0.0, 0.1]
    lamb = Lamb([{"params": [p], "weight_decay": wd} for p, wd in zip(ours, decay, strict=True)], lr=0.03)
    plain = [each.copy() for each in start]
    means, squares = ([np.zeros_like(each) for each in start] for _ in range(2))
    for t in range(1, 8):
        gradients = [draw.normal(size=each.shape) for each in start]
        for p, gradient in zip(ours, gradients, strict=True):
            p.grad = torch.tensor(gradient)
        lamb.step()
        for n, g in enumerate(gradients):
            means[n] = 0.9 * means[n] + 0.1 * g
            squares[n] = 0.999 * squares[n] + 0.001 * g * g
            r = means[n] / (1 - 0.9**t) / (np.sqrt(squares[n] / (1 - 0.999**t)) + 1e-6)
            u = r + decay[n] * plain[n]
            length, reach = np.linalg.norm(plain[n]), np.linalg.norm(u)
            plain[n] = plain[n] - 0.03 * (length / reach if length and reach else 1.0) * u
        for p, expected in zip(ours, plain, strict=True):
            assert np.allclose(p.detach().numpy(), expected, rtol=1e-9, atol=1e-12)


def one_step(tmp_path: Path, optim: str, decay: float) -> tuple[dict[str, Any], dict[str, Any], list[Any]]:
    """Weights before and after one step at a rate of 0.01, and its gradients."""
    model = toy_causal()
    before = {name: p.detach().clone() for name, p in model.named_parameters()}
    settings = {"optim": optim, "weight_decay": decay, "warmup_ratio": 0, "lr_scheduler_type": "constant"}
    with first_gradients() as gradients:
        toy_fit(tmp_path / f"{optim}-{decay}", SIXTEEN, model=model, learning_rate=0.01, max_steps=1, **settings)
    return before, {name: p.detach() for name, p in model.named_parameters()}, gradients


def test_decoupled_decay_shrinks_weights_and_leaves_norms(tmp_path: Path) -> None:
    import torch

    before, plain, _ = one_step(tmp_path, "adamw", 0.0)
    _, decayed, _ = one_step(tmp_path, "adamw", 0.5)
    for name, weights in before.items():
        expected = plain[name] if "norm" in name else plain[name] - 0.01 * 0.5 * weights
        assert torch.allclose(decayed[name], expected, atol=1e-7), name


def test_adam_s_decay_is_l2_in_the_loss(tmp_path: Path) -> None:
    """Adam's first step goes by the sign of the gradient of loss + λ/2·‖w‖²; norms go by the loss alone."""
    import torch

    before, after, gradients = one_step(tmp_path, "adam", 5.0)
    decaying = [name for name in before if "norm" not in name]
    names = decaying + [name for name in before if "norm" in name]
    for name, gradient in zip(names, gradients, strict=True):
        whole = gradient + (5.0 * before[name] if name in decaying else 0.0)
        expected = before[name] - 0.01 * whole / (whole.abs() + 1e-8)
        assert torch.allclose(after[name], expected, atol=1e-6), name


@pytest.mark.parametrize("taught", [False, True])
def test_label_smoothing_is_torch_s(taught: bool) -> None:
    """In chunks, with its gradient, alone and beside a teacher; against the plain definition."""
    import torch
    from torch.nn import functional

    from tasks.kernels.losses import Divergence, Head, Mix, Teaching, completion_loss

    torch.manual_seed(0)
    hidden, weight = torch.randn(50, 8, requires_grad=True), torch.randn(30, 8, requires_grad=True)
    targets, weights = torch.randint(0, 30, (50,)), torch.rand(50)
    teaching = Teaching(torch.randn(50, 8), Head(torch.randn(30, 8))) if taught else None
    mix = Mix(0.7, (Divergence("kl", 0.3, 2.0),), 0.1) if taught else Mix(smoothing=0.1)
    ours, _ = completion_loss(hidden, Head(weight), targets, weights, mix, teaching)
    found = torch.autograd.grad(ours, (hidden, weight))
    logits = hidden @ weight.t()
    theirs = (weights * functional.cross_entropy(logits, targets, reduction="none", label_smoothing=0.1)).sum()
    if teaching is not None:
        seen = functional.log_softmax(teaching.hidden @ teaching.head.weight.t() / 2, -1)
        kl = functional.kl_div(functional.log_softmax(logits / 2, -1), seen, reduction="none", log_target=True)
        theirs = 0.7 * theirs + 0.3 * 4 * (weights * kl.sum(-1)).sum()
    expected = torch.autograd.grad(theirs, (hidden, weight))
    assert ours.item() == pytest.approx(theirs.item(), rel=1e-5)
    for one, two in zip(found, expected, strict=True):
        assert torch.allclose(one, two, rtol=1e-4, atol=1e-5)


def test_the_validation_loss_is_not_smoothed(tmp_path: Path) -> None:
    """At a rate that moves nothing both validation losses are the model's own."""
    common: dict[str, Any] = {"learning_rate": 1e-12, "max_steps": 1, "eval_steps": 1}
    plain = toy_fit(tmp_path / "a", SIXTEEN, OTHERS, **common)
    smooth = toy_fit(tmp_path / "b", SIXTEEN, OTHERS, label_smoothing_factor=0.3, **common)
    assert smooth.metrics["eval_loss"] == plain.metrics["eval_loss"]
    assert smooth.metrics["loss_first"] != plain.metrics["loss_first"]


NOISES: list[dict[str, float]] = [
    {"neftune_noise_alpha": 1.0}, {"embedding_dropout": 0.1}, {"residual_dropout": 0.1},
]  # fmt: skip


@pytest.mark.parametrize("noise", NOISES, ids=lambda each: next(iter(each)))
def test_noise_is_there_in_training_and_nowhere_else(tmp_path: Path, noise: Mapping[str, float]) -> None:
    model = toy_causal()
    common: dict[str, Any] = {"learning_rate": 1e-12, "max_steps": 1, "eval_steps": 1}
    plain = toy_fit(tmp_path / "a", SIXTEEN, OTHERS, **common)
    noisy = toy_fit(tmp_path / "b", SIXTEEN, OTHERS, model=model, **common, **noise)
    assert noisy.metrics["loss_first"] != plain.metrics["loss_first"]
    assert noisy.metrics["eval_loss"] == plain.metrics["eval_loss"]
    assert not [hook for module in model.modules() for hook in module._forward_hooks]
    learned = toy_fit(tmp_path / "c", SIXTEEN, max_steps=20, **noise)
    assert learned.metrics["loss_last"] < 0.7 * learned.metrics["loss_first"]


def test_neftune_s_noise_is_as_large_as_the_paper_says_packed_or_not() -> None:
    """Uniform in ±α/√(L·d), with L the length of a token's own example."""
    import torch

    from tasks.kernels.noise import Noise, example_lengths

    positions = torch.tensor([[0, 1, 2, 3, 0, 1, 0], [0, 0, 1, 2, 3, 4, 5]])
    lengths = torch.tensor([[4, 4, 4, 4, 2, 2, 1], [1, 6, 6, 6, 6, 6, 6]])
    assert torch.equal(example_lengths(positions), lengths)
    model = toy_causal().train()
    noise = Noise(model, Train.model_validate({"neftune_noise_alpha": 7.0}), "toy")
    embeddings = model.get_input_embeddings()
    ids = torch.zeros_like(positions)
    before, largest = embeddings(ids), torch.zeros(2, 7)
    with noise.on():
        noise.see({"position_ids": positions})
        for _ in range(60):
            largest = torch.maximum(largest, (embeddings(ids) - before).abs().amax(-1).detach())
    bound = 7.0 / (lengths * 16).sqrt()
    assert bool((largest <= bound * 1.0001).all())
    assert bool((largest > bound * 0.95).all())


def test_residual_dropout_hits_every_branch() -> None:
    from tasks.kernels.noise import residual_branches

    kinds = [type(each).__name__ for each in residual_branches(toy_causal(layers=3))]
    assert kinds == ["LlamaAttention", "LlamaMLP"] * 3


RULES: list[tuple[dict[str, Any], list[float], int]] = [
    ({"patience": 2}, [3, 2, 1, 1.5, 1.4, 1.3], 5),
    ({"patience": 2, "min_delta": 0.5}, [3, 2, 1.9, 1.8, 1.7], 4),
    ({"rule": "gl", "gl_alpha": 10}, [3, 2, 2.1, 2.19, 2.21], 5),
    ({"rule": "up", "patience": 2}, [3, 2, 2.5, 2.4, 2.5, 2.6], 6),
    ({"rule": "up", "patience": 3}, [3, 2, 2.1, 2.2, 2.1, 2.2], 0),
]


@pytest.mark.parametrize(("rule", "losses", "expected"), RULES)
def test_each_rule_stops_where_it_says(rule: dict[str, Any], losses: list[float], expected: int) -> None:
    """`expected`: the evaluation that is the last; 0: none."""
    settings = EarlyStopping.model_validate(rule)
    stops = [n for n in range(1, len(losses) + 1) if is_over(losses[:n], settings)]
    assert (stops or [0])[0] == expected
    assert not is_over([], settings)


def test_generalisation_loss_is_prechelt_s() -> None:
    assert generalisation_loss([4.0, 2.0, 2.5]) == pytest.approx(25.0)
    assert generalisation_loss([4.0, 2.0]) == 0


@pytest.mark.parametrize("rule", [{"patience": 2}, {"rule": "gl", "gl_alpha": 3}, {"rule": "up", "patience": 2}])
def test_early_stopping_restores_the_best_checkpoint(tmp_path: Path, rule: dict[str, Any]) -> None:
    """The model is the one whose validation loss was lowest: measured again, it has that loss."""
    model = toy_causal()
    fitted = toy_fit(tmp_path / "a", SIXTEEN, OTHERS, model=model, early_stopping=rule, max_steps=200, eval_steps=3)
    losses = [line["eval_loss"] for line in fitted.history if "eval_loss" in line]
    assert fitted.metrics["steps"] < 200
    assert losses[-1] > min(losses)
    assert fitted.metrics["eval_loss"] == min(losses)
    again = toy_fit(tmp_path / "b", SIXTEEN, OTHERS, model=model, learning_rate=1e-12, max_steps=1, eval_steps=1)
    assert again.metrics["eval_loss"] == pytest.approx(min(losses), rel=1e-6)
    assert "checkpoint of that step was taken" in fitted.diagnosis.advice


@pytest.mark.parametrize(
    ("settings", "word"),
    [({"early_stopping": {}}, "early_stopping"), ({"lr_scheduler_type": "reduce_lr_on_plateau"}, "reduce_lr")],
)
def test_what_goes_by_the_validation_loss_needs_validation_rows(
    tmp_path: Path, settings: dict[str, Any], word: str
) -> None:
    with pytest.raises(StageError, match=f"{word}.*no validation rows") as caught:
        toy_fit(tmp_path, SIXTEEN, max_steps=1, **settings)
    assert "split.validation" in caught.value.cure


def test_an_empty_validation_set_measures_nothing(tmp_path: Path) -> None:
    fitted = toy_fit(tmp_path, SIXTEEN, toy_examples([]), max_steps=2)
    assert "eval_loss" not in fitted.metrics


@pytest.mark.parametrize("rate", [1e3, 10])
def test_a_rate_out_of_range_is_refused(rate: float) -> None:
    with pytest.raises(ValidationError, match="learning_rate 10"):
        Train.model_validate({"learning_rate": rate})


@pytest.mark.parametrize(("rows", "words"), [(4, "[enforce fail] DefaultCPUAllocator: can't allocate memory"), (1, "")])
def test_out_of_memory_says_what_to_lower(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, rows: int, words: str
) -> None:
    from tasks.kernels.objective import Objective

    def fail(*_: Any) -> Any:
        raise RuntimeError(words) if words else MemoryError

    monkeypatch.setattr(Objective, "__call__", fail)
    with pytest.raises(StageError, match="out of memory") as caught:
        toy_fit(tmp_path, SIXTEEN, per_device_train_batch_size=rows, max_steps=1)
    cure = "per_device_train_batch_size: 2 and gradient_accumulation_steps: 2" if rows == 4 else "packed_length"
    assert cure in caught.value.cure


def test_another_error_stays_what_it_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from tasks.kernels.objective import Objective

    def fail(*_: Any) -> Any:
        raise RuntimeError("shapes differ")

    monkeypatch.setattr(Objective, "__call__", fail)
    with pytest.raises(RuntimeError, match="shapes differ"):
        toy_fit(tmp_path, SIXTEEN, max_steps=1)


def test_dropout_where_there_is_no_branch_is_a_clear_error() -> None:
    import torch

    from tasks.kernels.noise import Noise

    model = toy_causal()
    model.model.layers = torch.nn.ModuleList()
    with pytest.raises(ConfigError, match="no attention") as caught:
        Noise(model, Train.model_validate({"residual_dropout": 0.1}), "train")
    assert caught.value.place == "train.residual_dropout"


def test_lora_plus_needs_a_rate_to_multiply() -> None:
    with pytest.raises(ValidationError, match="needs a learning_rate"):
        Train.model_validate({"optim": "adafactor", "lora": {"loraplus_lr_ratio": 4}})
