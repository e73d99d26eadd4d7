"""Each loss is what its paper says, by value and gradient; listed, weighed and logged as the configuration says."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from pydantic import ValidationError

from pipeline_config.errors import ConfigError, DataError, StageError
from pipeline_config.loss_schema import Loss
from pipeline_config.model_schema import Student, Train
from tasks.kernels.own_loss import own_digests
from tests.toy_fit import drawn, toy_causal, toy_examples, toy_fit

pytestmark = pytest.mark.usefixtures("one_thread")
SIXTEEN = toy_examples(drawn(16, 1))
LABELS = pl.Series([["mail", "code", None, "mail"][n % 4] for n in range(16)])
STILL: dict[str, Any] = {"learning_rate": 1e-12, "max_steps": 1, "warmup_ratio": 0}
CE, KL = {"name": "cross_entropy"}, {"name": "kl"}


def torch_s(name: str, logits: Any, taught: Any, heat: float) -> Any:
    """The divergence of each position by torch's own functions."""
    from torch.nn.functional import kl_div, log_softmax

    q, t = log_softmax(logits / heat, -1), log_softmax(taught / heat, -1)
    mean = ((q.exp() + t.exp()) / 2).log()
    to = lambda of, by: kl_div(by, of, reduction="none", log_target=True).sum(-1)  # noqa: E731
    return {"kl": lambda: to(t, q), "reverse_kl": lambda: to(q, t), "jsd": lambda: (to(q, mean) + to(t, mean)) / 2}[
        name
    ]()


@pytest.mark.parametrize("name", ["kl", "reverse_kl", "jsd"])
@pytest.mark.parametrize("chunk", [1, 1 << 20])
def test_divergences_are_torch_s_in_chunks(name: str, chunk: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """With cross-entropy by class weights beside them; value and gradient of states, projection and bias."""
    import torch
    from torch.nn import functional

    from tasks.kernels import losses

    monkeypatch.setattr(losses, "_CHUNK_BYTES", chunk)
    torch.manual_seed(1)
    hidden, weight, bias = (torch.randn(*size, requires_grad=True) for size in ((50, 8), (30, 8), (30,)))
    theirs, head = torch.randn(50, 6), torch.randn(30, 6)
    targets, weights, emphasis = torch.randint(0, 30, (50,)), torch.rand(50), torch.rand(50)
    mix = losses.Mix(0.4, (losses.Divergence(name, 1.7, 1.5),))
    given = (targets, weights, mix, losses.Teaching(theirs, losses.Head(head)), emphasis)
    ours, parts = losses.completion_loss(hidden, losses.Head(weight, bias), *given)
    found = torch.autograd.grad(3 * ours, (hidden, weight, bias))
    wide = [each.detach().double().requires_grad_() for each in (hidden, weight, bias)]
    logits, taught = wide[0] @ wide[1].t() + wide[2], (theirs @ head.t()).double()
    each = functional.cross_entropy(logits, targets, reduction="none")
    distance = (weights * torch_s(name, logits, taught, 1.5)).sum()
    expected = 0.4 * (weights * emphasis * each).sum() + 1.7 * 1.5**2 * distance
    assert ours.item() == pytest.approx(expected.item(), rel=1e-5)
    assert parts[name].item() == pytest.approx(distance.item(), rel=1e-5)
    for one, two in zip(found, torch.autograd.grad(3 * expected, wide), strict=True):
        assert torch.allclose(one.double(), two, rtol=1e-4, atol=1e-5)
    from_logits, its_parts = losses.logit_loss(logits, targets, weights, mix, taught, emphasis)
    assert from_logits.item() == pytest.approx(expected.item(), rel=1e-5)
    assert its_parts.keys() == parts.keys()


def test_no_more_than_a_chunk_of_logits_is_made(monkeypatch: pytest.MonkeyPatch) -> None:
    import torch

    from tasks.kernels import losses

    monkeypatch.setattr(losses, "_CHUNK_BYTES", 1)
    heights: list[int] = []
    made = losses._logits
    monkeypatch.setattr(losses, "_logits", lambda states, *rest: heights.append(len(states)) or made(states, *rest))
    mix = losses.Mix(1.0, tuple(losses.Divergence(name, 1.0, 1.0) for name in ("kl", "reverse_kl", "jsd")))
    states, head = torch.randn(64, 4, requires_grad=True), losses.Head(torch.randn(9, 4))
    targets = torch.zeros(64, dtype=torch.int64)
    losses.completion_loss(states, head, targets, torch.ones(64), mix, losses.Teaching(states.detach(), head))
    assert max(heights) == 16
    assert sum(heights) == 2 * 64


def test_pooling_is_the_mean_direction_of_each_example() -> None:
    import torch

    from tasks.kernels.contrastive import pooled

    states = torch.randn(6, 5, dtype=torch.float64)
    found, examples = pooled(states, torch.tensor([7, 3, 7, 3, 3, 9]))
    assert examples.tolist() == [3, 7, 9]
    mean = states[[1, 3, 4]].mean(0)
    assert torch.allclose(found[0], mean / mean.norm())


def test_simcse_is_its_formula() -> None:
    """-log exp(s_ii/τ) / Σ_j exp(s_ij/τ), written out, with its gradient."""
    import torch

    from tasks.kernels.contrastive import pooled, simcse

    example = torch.arange(5)
    one, two = (torch.randn(5, 4, dtype=torch.float64, requires_grad=True) for _ in range(2))
    ours = simcse(pooled(one, example)[0], pooled(two, example)[0], 0.1)
    terms = []
    for i in range(5):
        similar = [torch.cosine_similarity(one[i], two[j], dim=0) / 0.1 for j in range(5)]
        terms.append(-(similar[i] - torch.stack(similar).exp().sum().log()))
    expected = torch.stack(terms).mean()
    assert ours.item() == pytest.approx(expected.item())
    for a, b in zip(torch.autograd.grad(ours, (one, two)), torch.autograd.grad(expected, (one, two)), strict=True):
        assert torch.allclose(a, b)


def test_similarities_are_not_rounded_under_autocast() -> None:
    import torch

    from tasks.kernels.contrastive import simcse, supervised

    states, classes = torch.nn.functional.normalize(torch.randn(6, 4)), torch.tensor([0, 0, 1, 1, 2, 2])
    plain = simcse(states, states.roll(1, 1), 0.05), supervised(states, classes, 0.05)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert (simcse(states, states.roll(1, 1), 0.05), supervised(states, classes, 0.05)) == plain


def test_supervised_contrast_is_its_formula() -> None:
    """Khosla et al., equation 2; an example without a class, or alone in its class, is no anchor."""
    import torch

    from tasks.kernels.contrastive import pooled, supervised

    states = torch.randn(7, 4, dtype=torch.float64, requires_grad=True)
    classes = [0, 1, 0, 2, 1, -1, 0]
    ours = supervised(pooled(states, torch.arange(7))[0], torch.tensor(classes), 0.2)
    terms, there = [], [i for i in range(7) if classes[i] >= 0]
    for i in there:
        others = {j: torch.cosine_similarity(states[i], states[j], dim=0) / 0.2 for j in there if j != i}
        below = torch.stack(list(others.values())).exp().sum().log()
        positives = [j for j in others if classes[j] == classes[i]]
        if positives:
            terms.append(-torch.stack([others[j] - below for j in positives]).mean())
    expected = torch.stack(terms).mean()
    assert len(terms) == 5
    assert ours.item() == pytest.approx(expected.item())
    a, b = (torch.autograd.grad(each, states)[0] for each in (ours, expected))
    assert torch.allclose(a, b)
    alone = supervised(states, torch.tensor([-1] * 6 + [0]), 0.2)
    assert (alone.item(), alone.requires_grad) == (0, True)


@pytest.mark.parametrize("packing", [True, False])
def test_every_learned_token_knows_its_example(packing: bool) -> None:
    from tasks.kernels.loss_list import example_of
    from tasks.kernels.packing import IGNORED, collate
    from tests.toy_fit import toy_rows

    uneven = toy_examples([drawn(1, n, 1 + n * 5 % 9)[0] for n in range(8)])
    rows = toy_rows(uneven, Train.model_validate({"packing": packing, "packed_length": 32}))
    batch = collate([rows[n] for n in range(len(rows))], 0)
    learned = batch["labels"][:, 1:] != IGNORED
    found = example_of(batch, learned).tolist()
    targets = batch["labels"][:, 1:][learned].tolist()
    by_example = {n: [token for token, of in zip(targets, found, strict=True) if of == n] for n in range(8)}
    assert by_example == {n: drawn(1, n, 1 + n * 5 % 9)[0] for n in range(8)}


def last(fitted: Any, name: str) -> float:
    value: float = [line for line in fitted.history if "loss" in line][-1][name]
    return value


def test_the_cross_entropy_alone_is_the_default(tmp_path: Path) -> None:
    one, two = (
        toy_fit(tmp_path / name, SIXTEEN, max_steps=3, losses=losses) for name, losses in (("a", []), ("b", [CE]))
    )
    assert one.history == two.history


def test_every_loss_is_logged_alone_and_summed_by_weight(tmp_path: Path) -> None:
    names = {"cross_entropy": 0.5, "kl": 0.25, "reverse_kl": 2.0, "jsd": 3.0, "contrastive": 0.125}
    losses: list[dict[str, Any]] = [{"name": name, "weight": weight} for name, weight in names.items()]
    losses += [{"name": "contrastive", "positives": "class", "weight": 0.5}]
    losses += [{"name": "tasks.kernels.focal:focal", "weight": 4.0}]
    fitted = toy_fit(
        tmp_path,
        SIXTEEN,
        losses=losses,
        classes={"label": LABELS},
        teacher=toy_causal(1),
        residual_dropout=0.1,
        per_device_train_batch_size=8,
        **STILL,
    )
    line = fitted.history[0]
    heat = {name: 4.0 if name in ("kl", "reverse_kl", "jsd") else 1.0 for name in names}
    summed = sum(weight * heat[name] * line[name] for name, weight in names.items())
    summed += 0.5 * line["contrastive_label"] + 4.0 * line["focal"]
    assert line["loss"] == pytest.approx(summed, rel=1e-5)
    assert all(line[name] > 0 for name in (*names, "contrastive_label", "focal"))
    assert line["jsd"] < np.log(2)


def test_distill_s_alpha_is_a_list_of_two(tmp_path: Path) -> None:
    from tasks.kernels.loss_list import listed_losses, taught_losses
    from tasks.kernels.training_rows import TrainingRows
    from tests.toy_fit import toy_rows

    student = Student.model_validate(
        {"losses": [{**CE, "weight": 0.7}, {**KL, "weight": 0.3, "temperature": 3.0}]},
    )
    rows = TrainingRows(toy_rows(SIXTEEN, Train()), None)
    assert listed_losses(student, rows, "distill.x") == taught_losses(Student(), 0.3, 3.0)


LEARNS = [
    ({"name": "contrastive"}, {"embedding_dropout": 0.2}), ({"name": "contrastive", "positives": "class"}, {}),
    ({"name": "reverse_kl"}, {}), ({"name": "jsd"}, {}), ({"name": "tasks.kernels.focal:focal"}, {}),
]  # fmt: skip


@pytest.mark.parametrize(("loss", "more"), LEARNS, ids=lambda each: "-".join(str(v) for v in each.values()))
def test_every_loss_alone_is_learned(tmp_path: Path, loss: dict[str, Any], more: dict[str, Any]) -> None:
    """The cross-entropy is logged beside it, and learned only where the loss is about tokens."""
    teacher = toy_causal(1) if loss["name"] in ("reverse_kl", "jsd") else None
    fitted = toy_fit(
        tmp_path,
        SIXTEEN,
        losses=[{**loss, "weight": 2.0}],
        classes={"label": LABELS},
        teacher=teacher,
        max_steps=15,
        per_device_train_batch_size=8,
        **more,
    )
    assert fitted.metrics["loss_last"] < 0.8 * fitted.metrics["loss_first"]
    assert last(fitted, "cross_entropy") > 0


def test_a_batch_s_losses_do_not_change_with_the_weight_of_its_rows(tmp_path: Path) -> None:
    """A contrastive loss is a mean over examples: with all weights doubled it is what it was."""
    values = []
    for weight in (1.0, 2.0):
        examples = toy_examples(drawn(16, 1), [weight] * 16)
        losses = [{"name": "contrastive", "positives": "class"}]
        fitted = toy_fit(tmp_path / str(weight), examples, losses=losses, classes={"label": LABELS}, **STILL)
        values.append(last(fitted, "contrastive_label"))
    assert values[0] == pytest.approx(values[1])


def test_contrastive_works_where_logits_are_no_plain_product(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from tasks.kernels import objective

    losses = [CE, {"name": "contrastive", "positives": "class"}, {"name": "tasks.kernels.focal:focal"}, KL]
    lines = []
    for linear in (True, False):
        monkeypatch.setattr(objective, "logits_are_linear", lambda _, linear=linear: linear)
        kept: dict[str, Any] = {"losses": losses, "classes": {"label": LABELS}, "teacher": toy_causal(1)}
        lines.append(toy_fit(tmp_path / str(linear), SIXTEEN, **kept, **STILL).history[0])
    for name in ("loss", "cross_entropy", "contrastive_label", "focal", "kl", "grad_norm"):
        assert lines[0][name] == pytest.approx(lines[1][name], rel=1e-4), name


def weights_of(class_weights: Any, labels: pl.Series = LABELS) -> Any:
    from tasks.kernels.loss_list import class_emphasis

    loss = Loss.model_validate({**CE, "class_weights": class_weights})
    return class_emphasis(loss, SIXTEEN, labels, "train.losses.0")


def test_class_weights_have_their_ratio_and_a_mean_of_one() -> None:
    found = weights_of({"code": 3.0})
    assert found[1] / found[0] == pytest.approx(3.0)
    assert found[2] == found[0]  # no class: weight 1
    assert found.mean() == pytest.approx(1)


def test_balanced_classes_count_the_same() -> None:
    found = weights_of("balanced")
    mail, code = (found[[label == name for label in LABELS]].sum() for name in ("mail", "code"))
    assert mail == pytest.approx(code)
    assert found.mean() == pytest.approx(1)


def test_class_weights_reach_the_loss(tmp_path: Path) -> None:
    """With weight 0 for every class but one, the loss is that of its rows alone."""
    only = {**CE, "class_weights": {"mail": 0.0}}
    labels = pl.Series(["mail"] * 8 + ["code"] * 8)
    half = toy_fit(tmp_path / "a", SIXTEEN, losses=[only], classes={"label": labels}, **STILL | {"packing": False}
                   , per_device_train_batch_size=16)  # fmt: skip
    alone = toy_examples(drawn(16, 1), [0.0] * 8 + [1.0] * 8)
    theirs = toy_fit(tmp_path / "b", alone, **STILL | {"packing": False}, per_device_train_batch_size=16)
    assert last(half, "loss") == pytest.approx(last(theirs, "loss"), rel=1e-5)


def test_classes_that_are_not_there_are_named() -> None:
    with pytest.raises(DataError, match="'cod'") as caught:
        weights_of({"cod": 2.0})
    assert "code, mail" in caught.value.cure
    with pytest.raises(DataError, match="no train row has a label"):
        weights_of("balanced", pl.Series([None] * 16, dtype=pl.String))
    with pytest.raises(DataError, match="weight 0"):
        weights_of({"mail": 0.0, "code": 0.0}, pl.Series(["mail", "code"] * 8))


REFUSED: list[tuple[dict[str, Any], str]] = [
    ({"losses": [{"name": "cross_entrop"}]}, "did you mean 'cross_entropy'"),
    ({"losses": [{"name": "os.path:a b"}]}, "package.module:function"),
    ({"losses": [CE, CE]}, "cross_entropy stands there twice"),
    ({"losses": [KL]}, "needs a teacher"),
    ({"teacher": "x"}, "no loss of this stage uses it"),
    ({"losses": [{**CE, "temperature": 2}]}, "cross_entropy has no temperature"),
    ({"losses": [{"name": "contrastive"}]}, "set residual_dropout"),
    ({"losses": [{"name": "my:tokens"}]}, "rename the function"),
    ({"losses": [{**CE, "weight": 0}]}, "greater than 0"),
    ({"losses": [{**CE, "class_weights": {"a": -1}}]}, "0 or more"),
]


@pytest.mark.parametrize(("settings", "words"), REFUSED, ids=lambda each: str(each)[:50])
def test_losses_that_make_no_sense_are_refused(settings: dict[str, Any], words: str) -> None:
    with pytest.raises(ValidationError, match=words):
        Train.model_validate(settings)


def test_a_student_s_alpha_and_losses_exclude_each_other() -> None:
    with pytest.raises(ValidationError, match="alpha is of no use"):
        Student.model_validate({"alpha": 0.1, "losses": [KL]})
    given = Student.model_validate({"losses": [KL]})
    assert Student.model_validate(given.model_dump(by_alias=True)) == given


@pytest.fixture
def own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], str]:
    """A module in the working directory; gives the name of its `mine`."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "losses_of_mine").mkdir()

    def write(text: str) -> str:
        (tmp_path / "losses_of_mine" / "one.py").write_text(text)
        return "losses_of_mine.one:mine"

    return write


MINE = "from losses_of_mine.two import half\n\ndef mine(learned, scale=1.0):\n    return half(learned, scale)\n"
HALF = "def half(learned, scale):\n    return learned.states.square().mean() * scale / 2\n"


def test_a_loss_of_one_s_own_is_learned_and_takes_settings(tmp_path: Path, own: Callable[[str], str]) -> None:
    (tmp_path / "losses_of_mine" / "two.py").write_text(HALF)
    name = own(MINE)
    values = []
    for scale in (1.0, 3.0):
        losses = [CE, {"name": name, "settings": {"scale": scale}}]
        values.append(last(toy_fit(tmp_path / str(scale), SIXTEEN, losses=losses, **STILL), "mine"))
    assert values[1] == pytest.approx(3 * values[0])


def test_the_source_of_a_loss_stands_in_the_key(tmp_path: Path, own: Callable[[str], str]) -> None:
    """Its module and what that imports from the same place, without comments; nothing of it is run."""
    two = tmp_path / "losses_of_mine" / "two.py"
    two.write_text(HALF)

    def digest(text: str) -> str:
        return own_digests([Loss(name=own(text))], "train")["losses_of_mine.one:mine"]

    first = digest(MINE + "raise SystemExit\n")
    assert digest(MINE + "raise SystemExit  # words\n") == first
    assert digest(MINE) != first
    first = digest(MINE)
    two.write_text(HALF.replace("/ 2", "/ 4"))
    assert digest(MINE) != first
    two.write_text('"""Words."""\n' + HALF)
    assert digest(MINE) == first


def test_a_loss_that_is_nowhere_is_told_before_anything_runs(own: Callable[[str], str]) -> None:
    for name, text, words in (
        ("losses_of_min.one:mine", MINE, "no module losses_of_min"),
        ("losses_of_mine.one:min", MINE, "defines no min"),
        ("losses_of_mine.one:mine", "def mine(:\n", "can't be read as Python"),
    ):
        own(text)
        with pytest.raises(ConfigError, match=words) as caught:
            own_digests([Loss.model_validate(CE), Loss(name=name)], "train")
        assert caught.value.place == "train.losses.1.name"


BROKEN = [
    ("import nothing_of_this_name\n\ndef mine(learned):\n    pass\n", ConfigError, "can't be imported: ModuleNotFound"),
    ("mine = 3\n", ConfigError, "is a int, not a function"),
    ("def mine(learned):\n    return learned.states.mean(0)\n", StageError, r"shape \(16,\), not one number"),
    ("def mine(learned):\n    return 1.0\n", StageError, "gave a float, not a tensor"),
    ("def mine(learned):\n    return learned.states.detach().mean()\n", StageError, "nothing can be learned from"),
    ("def mine(learned):\n    raise KeyError('row text')\n", StageError, r"raised KeyError at one.py:2\n"),
    ("def mine(learned):\n    return learned.states.sum() * float('nan')\n", StageError, "the loss is nan at step 1"),
]


@pytest.mark.parametrize(("text", "kind", "words"), BROKEN, ids=lambda each: str(each)[-30:])
def test_a_broken_loss_is_a_clear_error(
    tmp_path: Path, own: Callable[[str], str], text: str, kind: type[Exception], words: str
) -> None:
    with pytest.raises(kind, match=words) as caught:
        toy_fit(tmp_path / "work", SIXTEEN, losses=[{"name": own(text)}], max_steps=1)
    assert "row text" not in str(caught.value)
