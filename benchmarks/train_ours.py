"""Our own training, and the plain packed loop, in a process of their own; arguments and answer as in `peers/sft.py`.

    python -m benchmarks.train_ours MODEL ROWS ANSWER full|lora|loop|shares STEPS

`full` and `lora` go through `trainer.fit`, once for a single step and once for those that are timed. `loop` is the
floor: rows filled to the last token, examples not kept apart, transformers' own loss, AdamW, nothing else. `shares`
times, apart, what a full step cannot do without: the products of all linear layers, attention, the optimiser.
"""

import itertools
import json
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

STARTED = time.perf_counter()
ROW, BATCH = 512, 4


def main() -> None:
    """Measure one variant."""
    folder, rows, answer, variant, steps = sys.argv[1:6]
    data = json.loads(Path(rows).read_text())
    found = {"loop": _loop, "shares": _shares}.get(variant, _fit)(folder, data, int(steps), variant)
    peak = next(
        int(line.split()[1]) for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM")
    )
    Path(answer).write_text(json.dumps(found | {"peak_gb": peak * 1024 / 1e9}))


def packed(data: list[dict[str, list[int]]]) -> Any:
    """The rows as the pipeline packs them."""
    import polars as pl

    from tasks.kernels.packing import examples_from, pack

    frame = pl.DataFrame(
        {
            "row_id": [str(n) for n in range(len(data))],
            "input_ids": [each["input_ids"] for each in data],
            "loss_mask": [[label >= 0 for label in each["labels"]] for each in data],
            "n_tokens": [len(each["input_ids"]) for each in data],
            "weight": [None] * len(data),
        },
        schema_overrides={"weight": pl.Float32},
    )
    return pack(examples_from(frame), ROW)


def _fit(folder: str, data: list[dict[str, list[int]]], steps: int, variant: str) -> dict[str, float]:
    import torch

    from pipeline_config.model_schema import Lora, Train
    from tasks.kernels.models import load_causal
    from tasks.kernels.objective import Objective
    from tasks.kernels.trainer import fit
    from tasks.train.lora import keep_input_format, with_lora

    model = load_causal(folder, "bfloat16" if variant == "lora" else "float32")
    if variant == "lora":
        model = with_lora(model, Lora(), 17)
    objective, rows = Objective(model, dtype=torch.bfloat16), packed(data)
    if variant == "lora":
        keep_input_format(model)
    found: dict[str, float] = {}
    for count in (1, steps):
        settings = Train(method=variant, precision="bf16", per_device_train_batch_size=BATCH, max_steps=count)
        with tempfile.TemporaryDirectory() as work:
            done = fit(
                model,
                objective,
                rows,
                None,
                settings,
                learning_rate=1e-4,
                seed=1,
                pad=0,
                work=Path(work),
                label=variant,
            )
        tokens = done.metrics["tokens_seen"]
        seconds = tokens / done.metrics["tokens_per_second"]
        if count == 1 and not found:
            found["first"] = time.perf_counter() - STARTED - seconds
        found |= {"tokens": tokens, "seconds": seconds}
    return found


def _loop(folder: str, data: list[dict[str, list[int]]], steps: int, _: str) -> dict[str, float]:
    import torch

    from tasks.kernels.models import load_causal

    model = load_causal(folder, "float32").train()
    optimiser = torch.optim.AdamW(model.parameters(), lr=1e-4, fused=True)
    size = BATCH * ROW
    ids, labels = ([token for each in data for token in each[name]] for name in ("input_ids", "labels"))
    first = seconds = 0.0
    for step in range(steps + 1):
        at = step * size % max(1, len(ids) - size)
        batch = [torch.tensor(each[at : at + size]).view(BATCH, ROW) for each in (ids, labels)]
        started = time.perf_counter()
        first = first or started - STARTED
        with torch.autocast("cpu", dtype=torch.bfloat16):
            loss = model(input_ids=batch[0], labels=batch[1], use_cache=False).loss
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimiser.step()
        optimiser.zero_grad()
        seconds += time.perf_counter() - started if step else 0.0
    return {"first": first, "tokens": size * steps, "seconds": seconds}


def _shares(folder: str, data: list[dict[str, list[int]]], steps: int, _: str) -> dict[str, float]:
    """Seconds of one full step over a batch: `mm`, `attention`, `optimiser`; and its real `tokens`."""
    import torch

    from tasks.kernels.models import load_causal
    from tasks.kernels.packing import IGNORED, collate
    from tasks.kernels.segments import _SegmentAttention

    rows = packed(data)
    batch = collate([rows[n] for n in range(BATCH)], 0)
    tokens, learned = int(batch["n_tokens"].sum()), int((batch["labels"] != IGNORED).sum())
    model = load_causal(folder, "float32")
    head = model.get_output_embeddings()
    shapes: dict[tuple[int, int, int], int] = {}
    for module in model.modules():
        if isinstance(module, torch.nn.Linear):
            shape = (learned if module is head else tokens, module.in_features, module.out_features)
            shapes[shape] = shapes.get(shape, 0) + 1
    products = 0.0
    for (n, wide, out), count in shapes.items():
        states, weight, grad = (torch.randn(size).bfloat16() for size in ((n, wide), (wide, out), (n, out)))
        for one, two in ((states, weight), (grad, weight.t()), (states.t(), grad)):
            products += count * _best(lambda one=one, two=two: torch.mm(one, two), steps)
    config = model.config
    wide = config.hidden_size // config.num_attention_heads
    heads = (config.num_attention_heads, config.num_key_value_heads, config.num_key_value_heads)
    size = batch["input_ids"].shape
    inputs = [torch.randn(size[0], n, size[1], wide).bfloat16().requires_grad_() for n in heads]
    starts = [[*(row == 0).nonzero()[:, 0].tolist(), len(row)] for row in batch["position_ids"]]
    spans = [
        (n, start, end) for n, each in enumerate(starts) for start, end in itertools.pairwise(each) if end > start + 1
    ]
    attention = _best(lambda: _SegmentAttention.apply(*inputs, spans, wide**-0.5).float().sum().backward(), steps)
    optimiser = torch.optim.AdamW(model.parameters(), lr=1e-4, fused=True)
    for parameter in model.parameters():
        parameter.grad = torch.zeros_like(parameter)
    return {
        "tokens": tokens,
        "mm": products,
        "attention": attention * config.num_hidden_layers,
        "optimiser": _best(optimiser.step, steps),
    }


def _best(call: Any, times: int) -> float:
    call()
    found = []
    for _ in range(times):
        started = time.perf_counter()
        call()
        found.append(time.perf_counter() - started)
    return min(found)


if __name__ == "__main__":
    main()
