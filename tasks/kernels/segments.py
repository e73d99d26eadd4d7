"""Attention that stays within an example: cost grows with the examples' own lengths, not with the packed row's.

Handed a block-diagonal mask, torch's attention on a CPU computes the whole square and throws most of it away. Here
each example (a *segment*: a run of tokens that see one another and nobody else) is attended to by itself, as plain
matrix products, which a processor's bfloat16 units do several times faster than the fused kernel. A long segment is
cut into blocks of queries, so that the half of the square above the diagonal is skipped, and its probabilities are
made again in the backward pass instead of being kept. Key and value heads shared by several query heads are not
repeated. On a GPU the same borders go to torch's varlen flash attention.

It is hung into transformers as an attention implementation with a mask function of its own. The borders are read off
the mask that the model asks for, so that whatever is not causal within segments (sliding windows, prefixes, caches)
is noticed, and goes the way it went before, with a dense mask through `sdpa`.

Imported by the trainers only, since a class of torch has to be at hand when the module is read.
"""

import itertools
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from torch.autograd.function import once_differentiable

NAME = "winnow_segments"
_BLOCK = 128  # queries at a time
_KEPT = 256  # longest segment, in tokens, whose probabilities are kept for the backward pass
_FOREIGN = ("position_bias", "softcap", "cache", "s_aux")  # what sdpa is asked for beside masks


@dataclass(frozen=True)
class Segments:
    """Where the segments of a batch of B rows of T tokens begin and end; stands where models hand on a mask.

    Attributes:
        borders: (n + 1,) int32, in tokens of the flattened batch, from 0 to B * T.
        width: T.
        dense_mask: makes the mask that says the same.
    """

    borders: torch.Tensor
    width: int
    dense_mask: Callable[[], torch.Tensor | None]

    @cached_property
    def dense(self) -> torch.Tensor | None:
        """(B, 1, T, T) bool, as `sdpa` takes it; None: plainly causal."""
        return self.dense_mask()

    @cached_property
    def longest(self) -> int:
        """Tokens of the longest segment."""
        return int(self.borders.diff().max())

    @cached_property
    def spans(self) -> list[tuple[int, int, int]]:
        """Row, first token and end of each segment of more than one token."""
        edges = self.borders.tolist()
        return [
            (start // self.width, start % self.width, start % self.width + end - start)
            for start, end in itertools.pairwise(edges)
            if end - start > 1
        ]


def attend_by_segment(model: Any) -> bool:
    """Let a causal model attend by segments, if it attends by `sdpa` now and comes to the same on two short segments.

    Args:
        model: of transformers, out of any wrapping.

    Returns:
        whether it does; a model with another implementation, or one that changes masks on its own, stays as it is.
    """
    from transformers import AttentionInterface, AttentionMaskInterface

    if model.config._attn_implementation == NAME:
        return True
    if model.config._attn_implementation != "sdpa":
        return False
    AttentionInterface.register(NAME, _attend)
    AttentionMaskInterface.register(NAME, _mask)
    expected = _states(model)
    model.set_attn_implementation(NAME)
    try:
        found = _states(model)
    except (AttributeError, RuntimeError, TypeError, ValueError):  # it wanted a tensor for a mask
        found = torch.full_like(expected, float("nan"))
    if float((found - expected).norm()) <= 0.02 * float(expected.norm()):  # bfloat16 differs by some 0.5 %
        return True
    model.set_attn_implementation("sdpa")
    return False


def _states(model: Any) -> torch.Tensor:
    """Last hidden states of two segments of four tokens, (1, 8, d) float32."""
    size, device = model.get_input_embeddings().weight.shape[0], model.get_input_embeddings().weight.device
    ids = torch.arange(8, device=device)[None] * 7 % size
    decoder, training = getattr(model, model.base_model_prefix), model.training
    model.eval()
    try:
        with torch.no_grad():
            positions = torch.arange(4, device=device).repeat(2)[None]
            states: torch.Tensor = decoder(input_ids=ids, position_ids=positions, use_cache=False).last_hidden_state
    finally:
        model.train(training)
    return states.float()


def _mask(
    batch_size: int,
    q_length: int,
    kv_length: int,
    q_offset: int = 0,
    kv_offset: int = 0,
    mask_function: Callable[..., Any] | None = None,
    attention_mask: torch.Tensor | None = None,
    device: Any = "cpu",
    use_vmap: bool = False,
    **more: Any,
) -> Segments | torch.Tensor | None:
    """What transformers asks for before the first layer: segments where the mask is made of them."""
    from transformers.masking_utils import causal_mask_function, sdpa_mask

    mask_function = mask_function or causal_mask_function

    def dense() -> torch.Tensor | None:
        made: torch.Tensor | None = sdpa_mask(
            batch_size=batch_size,
            q_length=q_length,
            kv_length=kv_length,
            q_offset=q_offset,
            kv_offset=kv_offset,
            mask_function=mask_function,
            attention_mask=attention_mask,
            device=device,
            use_vmap=use_vmap,
            **more,
        )
        return made

    if use_vmap or q_length != kv_length or not isinstance(q_offset, int) or q_offset or kv_offset:
        return dense()
    starts = segment_starts(mask_function, batch_size, q_length, attention_mask, torch.device(device))
    if starts is None:
        return dense()
    end = torch.tensor([batch_size * q_length], device=device)
    return Segments(torch.cat([starts.flatten().nonzero()[:, 0], end]).int(), q_length, dense)


def segment_starts(
    mask_function: Callable[..., Any], n_rows: int, width: int, seen: torch.Tensor | None, device: torch.device
) -> torch.Tensor | None:
    """Where segments begin, (B, T) bool, if a mask is causal within segments and closed between them; else None.

    Asked are five cells of each token's line: itself, its neighbours, its segment's first token and the one before.
    Lines of transformers' masks are intervals, so that these five tell all.

    Args:
        mask_function: of transformers: batch, head, query and key numbers → whether the query sees the key.
        seen: (B, T), False for padding; padding tokens are segments of their own.
    """
    rows = torch.arange(n_rows, device=device)[:, None]
    at = torch.arange(width, device=device)[None].expand(n_rows, width)
    head = torch.zeros((), dtype=torch.long, device=device)

    def sees(keys: torch.Tensor) -> torch.Tensor:
        inside = (keys >= 0) & (keys < width)
        return torch.as_tensor(mask_function(rows, head, at, keys.clamp(0, width - 1))) & inside

    linked = sees(at - 1)
    real = torch.ones_like(linked)
    if seen is not None:
        real = seen.bool()
        if real.shape != linked.shape or bool((real[:, 1:] & ~real[:, :-1]).any()):
            return None  # padding on the left
        linked = linked & real
    starts = ~linked
    first = torch.where(starts, at, 0).cummax(dim=1).values
    regular = sees(at) & sees(first) & ~sees(first - 1) & ~sees(at + 1)
    return starts if bool((regular | ~real).all()) else None


def _attend(
    module: Any,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: Any,
    dropout: float = 0.0,
    scaling: float | None = None,
    **more: Any,
) -> tuple[torch.Tensor, None]:
    """An attention of transformers: (B, H, T, d) queries, (B, K, T, d) keys and values → (B, T, H, d)."""
    if isinstance(attention_mask, Segments):
        if not dropout and all(more.get(name) is None for name in _FOREIGN):
            scale = query.shape[-1] ** -0.5 if scaling is None else scaling
            kind = query.device.type
            if torch.is_autocast_enabled(kind):
                query, key, value = (each.to(torch.get_autocast_dtype(kind)) for each in (query, key, value))
            if kind == "cpu":
                found: torch.Tensor = _SegmentAttention.apply(query, key, value, attention_mask.spans, scale)
                return found, None
            if kind == "cuda" and query.dtype in (torch.bfloat16, torch.float16) and _has_varlen():
                return _varlen(query, key, value, attention_mask, scale), None
        attention_mask = attention_mask.dense
    from transformers.integrations.sdpa_attention import sdpa_attention_forward

    done: tuple[torch.Tensor, None] = sdpa_attention_forward(
        module, query, key, value, attention_mask, dropout=dropout, scaling=scaling, **more
    )
    return done


def _has_varlen() -> bool:
    """Whether torch and the GPU have flash attention over segments of unlike lengths."""
    from importlib.util import find_spec

    return find_spec("torch.nn.attention.varlen") is not None and torch.cuda.get_device_capability() >= (8, 0)


def _varlen(
    query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, segments: Segments, scale: float
) -> torch.Tensor:
    from torch.nn.attention.varlen import varlen_attn

    flat = [each.transpose(1, 2).flatten(0, 1) for each in (query, key, value)]  # (B * T, H, d)
    found: torch.Tensor = varlen_attn(
        *flat,
        segments.borders,
        segments.borders,
        segments.longest,
        segments.longest,
        scale=scale,
        window_size=(-1, 0),
        enable_gqa=query.shape[1] != key.shape[1],
    )
    return found.unflatten(0, (query.shape[0], query.shape[2]))


class _SegmentAttention(torch.autograd.Function):  # type: ignore[misc]
    """softmax(scale · Q Kᵀ) V within spans; a token outside of all spans sees itself alone, and so gets its value.

    Scores and softmax are float32; probabilities are kept, and multiplied with values, in the inputs' format.
    """

    @staticmethod
    def forward(
        ctx: Any,
        query: torch.Tensor,
        key: torch.Tensor,
        value: torch.Tensor,
        spans: list[tuple[int, int, int]],
        scale: float,
    ) -> torch.Tensor:
        groups = query.shape[1] // key.shape[1]  # query heads that share a key head
        alone = sum(end - start for _, start, end in spans) < query.shape[0] * query.shape[2]
        out = torch.empty((*query.shape[:1], query.shape[2], query.shape[1], value.shape[3]), dtype=value.dtype)
        if alone:
            out.copy_(value.repeat_interleave(groups, dim=1).transpose(1, 2))
        needed = any(ctx.needs_input_grad)
        kept = []
        for row, start, first, end in _pieces(spans):
            shares = _probabilities(query[row, :, first:end], key[row, :, start:end], scale)
            found = torch.bmm(shares, value[row, :, start:end])  # (K, groups * n, d)
            out[row, first:end] = found.view(-1, end - first, value.shape[3]).transpose(0, 1)
            kept.append(shares if needed and end - start <= _KEPT else None)
        ctx.save_for_backward(query, key, value, *kept)
        ctx.spans, ctx.scale, ctx.alone = spans, scale, alone
        return out

    @staticmethod
    @once_differentiable  # type: ignore[untyped-decorator]
    def backward(ctx: Any, *outer: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        query, key, value, *kept = ctx.saved_tensors
        heads, groups = key.shape[1], query.shape[1] // key.shape[1]
        grad = outer[0].transpose(1, 2)  # (B, H, T, d)
        is_cut = any(end - start > _BLOCK for _, start, end in ctx.spans)
        for_keys = torch.float32 if is_cut else key.dtype  # keys of a cut segment are added to, block by block
        make = torch.zeros if ctx.alone or is_cut else torch.empty
        of_query, of_key, of_value = (
            make((len(each), each.shape[2], each.shape[1], each.shape[3]), dtype=dtype).transpose(1, 2)
            for each, dtype in ((query, query.dtype), (key, for_keys), (value, for_keys))
        )
        if ctx.alone:
            of_value.copy_(grad.unflatten(1, (heads, groups)).sum(2))
            for row, start, end in ctx.spans:
                of_value[row, :, start:end] = 0
        for (row, start, first, end), shares in zip(_pieces(ctx.spans), kept, strict=True):
            queries, keys = query[row, :, first:end], key[row, :, start:end]
            if shares is None:
                shares = _probabilities(queries, keys, ctx.scale)
            queries, given = (each.reshape(heads, -1, each.shape[2]) for each in (queries, grad[row, :, first:end]))
            by_share = torch.bmm(given, value[row, :, start:end].transpose(1, 2))
            by_score = torch._softmax_backward_data(by_share, shares, -1, shares.dtype)
            of_query[row, :, first:end] = torch.bmm(by_score, keys).view(-1, end - first, keys.shape[2])
            here = (slice(None), slice(start, end))
            if is_cut:
                of_key[row][here] += torch.bmm(by_score.transpose(1, 2), queries)
                of_value[row][here] += torch.bmm(shares.transpose(1, 2), given)
            else:
                of_key[row][here] = torch.bmm(by_score.transpose(1, 2), queries)
                of_value[row][here] = torch.bmm(shares.transpose(1, 2), given)
        of_query *= ctx.scale
        of_key *= ctx.scale
        return of_query, of_key.to(key.dtype), of_value.to(value.dtype), None, None


def _pieces(spans: list[tuple[int, int, int]]) -> list[tuple[int, int, int, int]]:
    """Row, first key, first query and end (of both): a segment's queries, a block at a time."""
    return [
        (row, start, first, min(first + _BLOCK, end))
        for row, start, end in spans
        for first in range(start, end, _BLOCK)
    ]


def _probabilities(queries: torch.Tensor, keys: torch.Tensor, scale: float) -> torch.Tensor:
    """Softmax of the scores, (K, groups * n, m), of (H, n, d) queries that are the last n of (K, m, d) keys' tokens."""
    n, heads = queries.shape[1], keys.shape[0]
    scaled = (queries.float() * scale).reshape(heads, -1, queries.shape[2])
    with torch.autocast("cpu", enabled=False):
        scores = torch.bmm(scaled, keys.float().transpose(1, 2))
    ahead = torch.full((n, n), float("-inf")).triu_(1)
    scores.view(heads, -1, n, scores.shape[2])[..., -n:].add_(ahead)
    return torch.softmax(scores, dim=-1).to(keys.dtype)
