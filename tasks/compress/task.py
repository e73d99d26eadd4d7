"""Exports: a model merged already, cast last, saved with its tokenizer, loaded again and compared."""

from pathlib import Path
from typing import Any

from pipeline_config.model_schema import Compress, Export
from tasks.ledger import Output
from tasks.stage import StageInput, stage

_PROBE = "def area(radius):\n    return 3.14159 * radius ** 2\n你好，今天天气很好。"


@stage("compress", libraries=("torch", "transformers", "peft", "safetensors", "tokenizers"))
def compress(given: StageInput[Compress]) -> Output:
    """Publish a folder for each export."""
    metrics: dict[str, float] = {}
    facts: dict[str, Any] = {}
    for name, export in given.config.exports.items():
        found = _export(given, name, export)
        metrics |= {f"{name}.{key}": value for key, value in found.metrics.items()}
        facts[name] = found.facts
    return Output(metrics, facts)


def _export(given: StageInput[Compress], name: str, export: Export) -> Output:
    import torch

    from tasks.kernels.attached import is_attached, seal
    from tasks.kernels.models import load_causal, load_tokenizer
    from tasks.kernels.publish import size_mb, write_model
    from tasks.kernels.published import ADAPTER_FOLDER, teacher_folder

    source = teacher_folder(export.from_, given.upstream, place=f"compress.{name}.from")
    target = given.out / name
    tokenizer, model = load_tokenizer(str(source)), load_causal(str(source), "float32")
    ids = torch.tensor([tokenizer(_PROBE, add_special_tokens=False)["input_ids"]])
    with torch.inference_mode():
        expected = model(input_ids=ids, use_cache=False).logits
    if is_attached(source):
        model = load_causal(str(source), "float32", whole=False)
    write_model(model.to(getattr(torch, export.dtype)), tokenizer, target, _card(name, export, source, size_mb(source)))
    if is_attached(source):
        seal(target, source / ADAPTER_FOLDER)
    with torch.inference_mode():
        again = load_causal(str(target), "float32")(input_ids=ids, use_cache=False).logits
    metrics = {
        "size_mb": size_mb(target),
        "max_logit_difference": float((again - expected).abs().max()),
        "top_token_agreement": float((again.argmax(-1) == expected.argmax(-1)).float().mean()),
    }
    return Output(metrics, {"from": export.from_, "dtype": export.dtype, "size_mb_before": size_mb(source)})


def _card(name: str, export: Export, source: Path, before: float) -> str:
    from tasks.kernels.attached import is_attached
    from tasks.kernels.model_card import base_of, licence_of, model_card

    return model_card(
        name,
        f"Exported from `{export.from_}`, weights cast to {export.dtype}.",
        base=base_of(source),
        licence=licence_of(str(source), source),
        data={},
        settings=export.model_dump(mode="json", by_alias=True),
        metrics={"size_mb_before": before},
        alone=not is_attached(source),
    )
