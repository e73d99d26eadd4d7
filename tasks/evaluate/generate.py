"""Greedy answers in batches, and how fast a model gives them.

Batches hold prompts of like length, padded on the left, longest first, so that a batch that is too large for memory
fails at once. Sampling defaults and repetition penalties that a model brings along are left out: answers are the most
likely continuation under the model alone, the same in every run. Speed is measured apart, on answers of a fixed
length: a model that learned to be brief would otherwise look slow beside one that fills its limit.
"""

import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from tasks.kernels.attached import has_prompt
from tasks.kernels.batches import by_length
from tasks.kernels.progress import track

if TYPE_CHECKING:
    import torch

_MAX_TOKENS = 16_384  # of a batch of prompts, padding included
_PROBE_PROMPTS = 8
_PROBE_TOKENS = 32


def answers(
    model: Any,
    prompts: Sequence[Sequence[int]],
    *,
    ends: Sequence[int],
    max_new_tokens: int,
    batch_size: int,
    label: str,
) -> list[list[int]]:
    """The tokens that a model answers to each prompt, without the token that ends the answer.

    Args:
        model: a causal language model in evaluation mode.
        prompts: token ids, each with its generation prompt.
        ends: tokens that end an answer.
        max_new_tokens: tokens after which an answer is broken off.
        batch_size: prompts in a batch.
        label: of the progress bar.
    """
    found: list[list[int]] = [[] for _ in prompts]
    batches = by_length([len(ids) for ids in prompts], batch_size, _MAX_TOKENS)
    for rows in track(batches, label, total=len(batches)):
        for row, new in zip(rows, _generate(model, [prompts[row] for row in rows], ends, max_new_tokens), strict=True):
            stop = next((place for place, token in enumerate(new) if token in ends), len(new))
            found[row] = new[:stop]
    return found


def tokens_per_second(model: Any, prompts: Sequence[Sequence[int]], *, ends: Sequence[int]) -> float:
    """New tokens in a second, over all prompts of one batch; reading the prompts counts.

    The batch is the 8 prompts of middle length, and each is answered by exactly 32 tokens, twice; the faster time
    counts, since other work on the machine only ever adds to it.
    """
    start = max(0, (len(prompts) - _PROBE_PROMPTS) // 2)
    middle = sorted(prompts, key=len)[start : start + _PROBE_PROMPTS]
    seconds = []
    for _ in range(2):
        started = time.perf_counter()
        _generate(model, middle, ends, _PROBE_TOKENS, exactly=True)
        seconds.append(time.perf_counter() - started)
    return len(middle) * _PROBE_TOKENS / min(seconds)


def _generate(
    model: Any, prompts: Sequence[Sequence[int]], ends: Sequence[int], new_tokens: int, *, exactly: bool = False
) -> list[list[int]]:
    import torch
    from transformers import GenerationConfig

    width = max(len(ids) for ids in prompts)
    pad = ends[0]
    ids = torch.full((len(prompts), width), pad, dtype=torch.long)  # (B, T), padded on the left
    seen = torch.zeros((len(prompts), width), dtype=torch.long)
    for row, tokens in enumerate(prompts):
        ids[row, width - len(tokens) :] = torch.as_tensor(tokens)
        seen[row, width - len(tokens) :] = 1
    inner = model.get_base_model() if hasattr(model, "get_base_model") else model
    inner.generation_config = GenerationConfig(
        max_new_tokens=new_tokens,
        min_new_tokens=new_tokens if exactly else None,
        do_sample=False,
        num_beams=1,
        use_cache=True,
        eos_token_id=list(ends),
        pad_token_id=pad,
    )
    with torch.inference_mode():
        ids, seen = ids.to(model.device), seen.to(model.device)
        if has_prompt(model):
            new: list[list[int]] = inner.generate(**_behind_prompt(model, ids, seen)).tolist()
            return new
        new = model.generate(input_ids=ids, attention_mask=seen)[:, width:].tolist()
    return new


def _behind_prompt(model: Any, ids: "torch.Tensor", seen: "torch.Tensor") -> dict[str, Any]:
    """A batch as embeddings with the virtual tokens right before each prompt: peft puts them before the padding, where
    they have other positions than in training."""
    import torch

    virtual = model.get_prompt(batch_size=len(ids)).to(model.dtype)  # (B, n, d)
    known = model.get_input_embeddings()(ids)
    both = torch.cat([virtual, known], dim=1)
    mask = torch.cat([torch.ones_like(seen[:, :1]).expand(-1, virtual.shape[1]), seen], dim=1)
    order = torch.argsort(mask, dim=1, stable=True)  # padding first, the rest as it was
    return {"inputs_embeds": both.gather(1, order[..., None].expand_as(both)), "attention_mask": mask.gather(1, order)}
