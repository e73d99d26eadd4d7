"""Packing: every example whole, once, and without hearing its neighbours; and a loss that equals the plain one."""

from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tasks.kernels.models import load_causal
from tasks.kernels.packing import IGNORED, Examples, best_fit, collate, examples_from, pack, unpacked
from tests.toy_model import make_toy_model

LENGTHS = st.lists(st.integers(1, 40), min_size=1, max_size=60)


def make_examples(lengths: list[int], seed: int = 0, vocabulary: int = 390) -> Examples:
    draw = np.random.default_rng(seed)
    masks = [[False, *(draw.random(n - 1) < 0.5)] for n in lengths]
    frame = pl.DataFrame(
        {
            "row_id": [f"r{n}" for n in range(len(lengths))],
            "input_ids": [draw.integers(3, vocabulary, n).tolist() for n in lengths],
            "loss_mask": masks,
            "n_tokens": lengths,
            "weight": [None if n % 3 else 2.0 for n in range(len(lengths))],
        },
        schema_overrides={"input_ids": pl.List(pl.Int32), "loss_mask": pl.List(pl.Boolean), "weight": pl.Float32},
    )
    return examples_from(frame)


def plain_best_fit(lengths: list[int], capacity: int) -> list[int]:
    rows: list[int] = []
    room: list[int] = []
    opened: dict[int, int] = {}  # row → when it last got its room
    for clock, length in enumerate(lengths):
        fitting = [row for row, left in enumerate(room) if left >= length]
        if fitting:
            row = min(fitting, key=lambda each: (room[each], -opened[each]))
        else:
            row = len(room)
            room.append(max(capacity, length))
        room[row] -= length
        opened[row] = clock
        rows.append(row)
    return rows


@settings(deadline=None)
@given(LENGTHS, st.integers(20, 64))
def test_best_fit_is_the_plain_one(lengths: list[int], capacity: int) -> None:
    ordered = sorted(lengths, reverse=True)
    assert best_fit(np.array(ordered), capacity).tolist() == plain_best_fit(ordered, capacity)


@settings(deadline=None)
@given(LENGTHS, st.integers(8, 64))
def test_every_example_stands_whole_in_exactly_one_row(lengths: list[int], capacity: int) -> None:
    examples = make_examples(lengths)
    packed = pack(examples, capacity)
    assert sorted(packed.members.tolist()) == list(range(len(lengths)))
    for n in range(len(packed)):
        row = packed[n]
        assert len(row.ids) <= capacity or len(row.members) == 1
        starts = np.flatnonzero(row.positions == 0)
        parts = np.split(row.ids, starts[1:])
        for member, part in zip(row.members, parts, strict=True):
            assert part.tolist() == examples.ids[examples.offsets[member] : examples.offsets[member + 1]].tolist()


def test_packing_depends_on_lengths_and_order_alone() -> None:
    lengths = np.random.default_rng(1).integers(1, 200, 500).tolist()
    one, two = pack(make_examples(lengths, seed=1), 256), pack(make_examples(lengths, seed=2), 256)
    assert one.members.tolist() == two.members.tolist()
    filled = sum(lengths) / (len(one) * 256)
    assert filled > 0.97


def test_padding_is_told_by_place_and_not_by_id() -> None:
    examples = make_examples([3, 7])
    batch = collate([unpacked(examples)[0], unpacked(examples)[1]], pad=2)
    assert batch["input_ids"][0, 3:].tolist() == [2] * 4
    assert batch["labels"][0, 3:].tolist() == [IGNORED] * 4
    assert batch["position_ids"][0].tolist() == [0, 1, 2, 0, 0, 0, 0]
    assert batch["n_tokens"].tolist() == [3, 7]
    end = Examples(examples.row_ids, np.array([5, 2, 5, 2], np.int32), np.array([0, 1, 1, 1], bool), *_two(4))
    assert collate([unpacked(end)[0]], pad=2)["labels"][0].tolist() == [IGNORED, 2, 5, 2]


def _two(length: int) -> tuple[Any, Any]:
    return np.array([0, length]), np.ones(1, np.float32)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_toy_model(tmp_path_factory.mktemp("toy"))


def gradients(model: Any, batches: list[dict[str, Any]]) -> tuple[float, dict[str, Any]]:
    """Loss and gradients of one accumulated step over batches."""
    from tasks.kernels.objective import Objective

    model.zero_grad()
    objective = Objective(model)
    total = 0.0
    for batch in batches:
        loss, _ = objective(model, batch)
        loss.backward()
        total += float(loss.detach())
    return total, {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}


def test_packed_and_unpacked_gradients_agree(folder: Path) -> None:
    """The loss is a plain sum over learned tokens, so the same examples give the same sum however they are packed."""
    examples = make_examples([5, 17, 9, 30, 2, 12, 8, 21])
    model, plain = load_causal(str(folder), "float32"), load_causal(str(folder), "float32")
    plain.set_attn_implementation("eager")
    packed, single = pack(examples, 48), unpacked(examples)
    loss, grads = gradients(model, [collate([packed[n] for n in range(len(packed))], pad=2)])
    padded, padded_grads = gradients(model, [collate([single[n] for n in range(len(single))], pad=2)])
    alone, alone_grads = gradients(plain, [collate([single[n]], pad=2) for n in range(len(single))])
    assert model.config._attn_implementation == "winnow_segments"
    assert loss == pytest.approx(alone, rel=1e-5)
    assert padded == pytest.approx(alone, rel=1e-5)
    for name, grad in alone_grads.items():
        for other in (grads[name], padded_grads[name]):
            assert float((other - grad).norm()) <= 1e-4 * float(grad.norm()), name


def test_an_example_does_not_hear_its_neighbour(folder: Path) -> None:
    import torch

    model = load_causal(str(folder), "float32")
    batch = collate([pack(make_examples([20, 12]), 32)[0]], pad=2)
    changed = {**batch, "input_ids": batch["input_ids"].clone()}
    changed["input_ids"][0, :20] = 7
    with torch.inference_mode():
        first, second = (
            model(input_ids=each["input_ids"], position_ids=each["position_ids"], use_cache=False).logits[0, 20:]
            for each in (batch, changed)
        )
    assert torch.equal(first, second)


def test_the_objective_is_the_models_own_loss(folder: Path) -> None:
    """On one example of weight 1 it is transformers' cross-entropy, summed instead of averaged."""
    from tasks.kernels.objective import Objective

    model = load_causal(str(folder), "float32")
    batch = collate([unpacked(make_examples([9, 31]))[1]], pad=2)
    loss, parts = Objective(model)(model, batch)
    own = model(input_ids=batch["input_ids"], labels=batch["labels"]).loss
    learned = int((batch["labels"] != IGNORED).sum())
    assert float(loss.detach()) == pytest.approx(float(own.detach()) * learned, rel=1e-5)
    assert float(parts["cross_entropy"]) == pytest.approx(float(loss.detach()), rel=1e-6)


@settings(max_examples=25, deadline=None)
@given(
    st.integers(1, 40),
    st.floats(0, 1),
    st.floats(0.5, 4),
    st.booleans(),
    st.integers(0, 2**16),
)
def test_chunked_loss_and_gradient_are_the_plain_ones(
    n: int, alpha: float, temperature: float, taught: bool, seed: int
) -> None:
    import torch
    from torch.nn import functional

    from tasks.kernels import losses

    draw = torch.Generator().manual_seed(seed)
    hidden, weight, bias, teacher, teacher_weight = (
        torch.randn(*size, generator=draw, dtype=torch.float64) for size in ((n, 6), (50, 6), (50,), (n, 5), (50, 5))
    )
    targets = torch.randint(0, 50, (n,), generator=draw)
    weights = torch.rand(n, generator=draw)

    def plain(hidden: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor) -> torch.Tensor:
        logits = hidden @ weight.T + bias
        cross = functional.cross_entropy(logits, targets, reduction="none")
        if not taught:
            return (weights * cross).sum()
        wanted = functional.log_softmax(teacher @ teacher_weight.T / temperature, -1)
        got = functional.log_softmax(logits / temperature, -1)
        divergence = functional.kl_div(got, wanted, reduction="none", log_target=True).sum(-1)
        return (weights * ((1 - alpha) * cross + alpha * temperature**2 * divergence)).sum()

    def chunked(hidden: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor) -> torch.Tensor:
        teaching = losses.Teaching(teacher, losses.Head(teacher_weight)) if taught else None
        mix = losses.Mix(1 - alpha, (losses.Divergence("kl", alpha, temperature),)) if taught else None
        return losses.completion_loss(hidden, losses.Head(weight, bias), targets, weights, mix, teaching)[0]

    inputs = [tensor.requires_grad_() for tensor in (hidden, weight, bias)]
    expected = plain(*inputs)
    wanted = torch.autograd.grad(expected, inputs)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(losses, "_CHUNK_BYTES", 0)  # 16 positions a chunk
        found = chunked(*inputs)
        got = torch.autograd.grad(found * 3, inputs)
    assert float(found.detach()) == pytest.approx(float(expected.detach()), rel=1e-4, abs=1e-4)
    for mine, theirs in zip(got, wanted, strict=True):
        torch.testing.assert_close(mine, theirs * 3, rtol=1e-3, atol=1e-4, check_dtype=False)
