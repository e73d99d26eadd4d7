"""Attention by segments: what a dense mask gives, where a mask is made of segments, and the old way elsewhere."""

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tasks.kernels.models import load_causal
from tests.toy_model import make_toy_model

LENGTHS = st.lists(st.integers(1, 23), min_size=1, max_size=6)


@settings(max_examples=25, deadline=None)
@given(st.lists(LENGTHS, min_size=1, max_size=3), st.sampled_from([(1, 1), (2, 1), (3, 3), (6, 2)]), st.booleans())
def test_values_and_gradients_are_those_of_a_dense_mask(
    rows: list[list[int]], heads: tuple[int, int], cut: bool
) -> None:
    import torch
    from torch.nn import functional

    from tasks.kernels import segments

    width = max(sum(lengths) for lengths in rows)
    lines = [[*lengths, *[1] * (width - sum(lengths))] for lengths in rows]
    number = torch.stack([torch.repeat_interleave(torch.arange(len(each)), torch.tensor(each)) for each in lines])
    mask = (number[:, :, None] == number[:, None]).tril()[:, None]
    ends = [[sum(each[: n + 1]) for n in range(len(each))] for each in lines]
    spans = [
        (row, end - length, end)
        for row, each in enumerate(lines)
        for length, end in zip(each, ends[row], strict=True)
        if length > 1
    ]
    draw = torch.Generator().manual_seed(width)
    query, key, value = (
        torch.randn(len(lines), n, width, 8, generator=draw).requires_grad_() for n in (heads[0], heads[1], heads[1])
    )
    outer = torch.randn(len(lines), width, heads[0], 8, generator=draw)
    repeated = (each.repeat_interleave(heads[0] // heads[1], dim=1) for each in (key, value))
    expected = functional.scaled_dot_product_attention(query, *repeated, attn_mask=mask, scale=0.4).transpose(1, 2)
    with pytest.MonkeyPatch.context() as patch:
        if cut:
            patch.setattr(segments, "_BLOCK", 5)
            patch.setattr(segments, "_KEPT", 8)
        found = segments._SegmentAttention.apply(query, key, value, spans, 0.4)
        got = torch.autograd.grad(found, (query, key, value), outer)
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)
    for mine, theirs in zip(got, torch.autograd.grad(expected, (query, key, value), outer), strict=True):
        torch.testing.assert_close(mine, theirs, rtol=1e-4, atol=1e-5)


@settings(max_examples=25, deadline=None)
@given(LENGTHS, st.integers(0, 3))
def test_segments_say_what_the_mask_says(lengths: list[int], padding: int) -> None:
    import torch
    from transformers.masking_utils import causal_mask_function, packed_sequence_mask_function, sdpa_mask

    from tasks.kernels.segments import segment_starts

    number = torch.repeat_interleave(torch.arange(len(lengths)), torch.tensor(lengths))[None]
    width = number.shape[1]
    seen = torch.arange(width)[None] < max(1, width - padding)
    apart = packed_sequence_mask_function(number)
    both = lambda *at: apart(*at) & causal_mask_function(*at)  # noqa: E731
    dense = sdpa_mask(1, width, width, mask_function=both, attention_mask=seen, allow_is_causal_skip=False)
    starts = segment_starts(both, 1, width, seen, torch.device("cpu"))
    assert starts is not None
    segment = starts.cumsum(1)[0]
    meant = (segment[:, None] == segment[None]).tril()
    real = seen[0]
    assert torch.equal(meant[real], dense[0, 0][real])


def test_a_mask_that_is_no_row_of_segments_stays_dense() -> None:
    import torch
    from transformers.masking_utils import bidirectional_mask_function, sliding_window_causal_mask_function

    from tasks.kernels.segments import _mask, segment_starts

    cpu = torch.device("cpu")
    assert segment_starts(sliding_window_causal_mask_function(4), 2, 9, None, cpu) is None
    assert segment_starts(sliding_window_causal_mask_function(9), 2, 9, None, cpu) is not None
    assert segment_starts(bidirectional_mask_function, 2, 9, None, cpu) is None
    left = torch.tensor([[0, 0, 1, 1, 1]], dtype=torch.bool)
    assert isinstance(_mask(1, 5, 5, attention_mask=left), torch.Tensor)
    cached = _mask(1, 2, 7, q_offset=5, allow_is_causal_skip=False)
    assert isinstance(cached, torch.Tensor)
    assert cached.shape == (1, 1, 2, 7)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_toy_model(tmp_path_factory.mktemp("toy"))


def test_a_model_attends_by_segments_only_where_it_attended_by_sdpa(folder: Path, tmp_path: Path) -> None:
    from tasks.kernels.segments import NAME, attend_by_segment

    model, eager = load_causal(str(folder), "float32"), load_causal(str(folder), "float32")
    eager.set_attn_implementation("eager")
    assert attend_by_segment(model)
    assert model.config._attn_implementation == NAME
    assert not attend_by_segment(eager)
    assert eager.config._attn_implementation == "eager"
    model.save_pretrained(tmp_path)
    assert NAME not in json.dumps(json.loads((tmp_path / "config.json").read_text("utf-8")))


def test_a_model_that_cannot_stays_as_it_was(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One that wants a tensor for a mask, and one to which segments would be something else."""
    import torch

    from tasks.kernels import segments

    model = load_causal(str(folder), "float32")
    ids = torch.arange(12)[None] + 5
    before = model(input_ids=ids, use_cache=False).logits

    def refuse(*_: Any, **__: Any) -> Any:
        raise AttributeError("a mask has no shape")

    for broken in (refuse, lambda module, query, *_, **__: (query.transpose(1, 2) * 0, None)):
        with monkeypatch.context() as patch:
            patch.setattr(segments, "_attend", broken)
            assert not segments.attend_by_segment(model)
        assert model.config._attn_implementation == "sdpa"
        assert torch.equal(model(input_ids=ids, use_cache=False).logits, before)


def test_generation_is_what_it_was(folder: Path) -> None:
    """With a cache, and with padding on the left."""
    import torch

    from tasks.kernels.segments import attend_by_segment

    plain, model = load_causal(str(folder), "float32"), load_causal(str(folder), "float32")
    assert attend_by_segment(model)
    ids = torch.arange(20).view(2, 10) + 5
    seen = torch.ones_like(ids)
    seen[1, :4] = 0
    given = {"input_ids": ids, "attention_mask": seen, "max_new_tokens": 4, "do_sample": False, "pad_token_id": 2}
    assert torch.equal(model.generate(**given), plain.generate(**given))


@pytest.mark.parametrize("variant", [{}, {"use_dora": True}, {"use_rslora": True}])
def test_inputs_left_in_their_format_change_nothing(folder: Path, variant: dict[str, bool]) -> None:
    """LoRA under autocast: the same loss and the same gradients to the last bit, without casts there and back."""
    import torch

    from pipeline_config.model_schema import Lora
    from tasks.kernels.objective import Objective
    from tasks.kernels.packing import collate, pack
    from tasks.train.lora import keep_input_format, with_lora
    from tests.test_packing import make_examples

    model = with_lora(load_causal(str(folder), "bfloat16"), Lora(lora_dropout=0.0, **variant), 3)
    for name, parameter in model.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(parameter, std=0.02)
    objective = Objective(model, dtype=torch.bfloat16)
    batch = collate([pack(make_examples([20, 12]), 32)[0]], pad=2)

    def step() -> tuple[float, list[torch.Tensor]]:
        model.zero_grad()
        loss, _ = objective(model, batch)
        loss.backward()
        return float(loss.detach()), [p.grad.clone() for p in model.parameters() if p.grad is not None]

    before = step()
    keep_input_format(model)
    plain = [m for m in model.modules() if hasattr(m, "cast_input_dtype_enabled")]
    assert any(not m.cast_input_dtype_enabled for m in plain) == ("use_dora" not in variant)
    after = step()
    assert after[0] == before[0]
    assert len(after[1]) == len(before[1])
    assert all(torch.equal(one, two) for one, two in zip(before[1], after[1], strict=True))
