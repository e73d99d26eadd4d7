"""Low-rank adapters (Hu et al., 2021): put on, taken out, merged without loss.

The frozen base is held in the format that products are made in, so that nothing is cast in every step; the adapter is
float32. Merging starts from the base as it is stored, in float32: merged into bfloat16 weights, an adapter's small
changes are rounded away.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipeline_config.errors import ConfigError, StageError
from pipeline_config.model_schema import Lora
from tasks.kernels.models import load_causal
from tasks.kernels.quiet import quiet

MAX_LOGIT_DIFFERENCE = 1e-4  # of merged model and adapter, relative to the largest logit where that is above 1
_PROBE_TOKENS = 128


@dataclass(frozen=True)
class Merged:
    """A merged model in float32, and the largest difference of a logit to the adapter on the same tokens."""

    model: Any
    difference: float


def with_lora(model: Any, config: Lora, dropout_seed: int) -> Any:
    """Put adapters on a causal model; everything else is frozen.

    Raises:
        ConfigError: `lora_target` matches no module.
    """
    from peft import LoraConfig, get_peft_model
    from transformers import set_seed

    targets = config.lora_target if isinstance(config.lora_target, str) else sorted(set(config.lora_target))
    settings = LoraConfig(
        r=config.lora_r,
        lora_alpha=config.lora_alpha,
        lora_dropout=config.lora_dropout,
        target_modules=targets,
        task_type="CAUSAL_LM",
    )
    set_seed(dropout_seed)
    try:
        with quiet():
            return get_peft_model(model, settings)
    except ValueError as error:
        raise ConfigError(
            f"no module of the model matches {config.lora_target!r}",
            place="train.lora.lora_target",
            cure=f"use all-linear, or some of: {', '.join(linear_names(model))}",
        ) from error


def linear_names(model: Any) -> list[str]:
    """The last parts of the names of a model's linear layers, head excluded."""
    import torch

    head = model.get_output_embeddings()
    found = {
        name.rsplit(".", 1)[-1] for name, m in model.named_modules() if isinstance(m, torch.nn.Linear) and m is not head
    }
    return sorted(found)


def merge(folder: str, adapter: Path, probe: list[int]) -> Merged:
    """Merge a saved adapter into its base, in float32.

    Args:
        folder: the base model.
        adapter: as peft saves it.
        probe: token ids on which both are compared.

    Raises:
        StageError: the merged model is not the adapter model.
    """
    import torch
    from peft import PeftModel

    ids = torch.tensor([probe[:_PROBE_TOKENS]])
    with quiet(), torch.inference_mode():
        model = PeftModel.from_pretrained(load_causal(folder, "float32"), adapter).eval()
        expected = model(input_ids=ids, use_cache=False).logits
    with quiet(), torch.no_grad():
        merged = model.merge_and_unload(safe_merge=True)
        difference = float((merged(input_ids=ids, use_cache=False).logits - expected).abs().max())
    allowed = MAX_LOGIT_DIFFERENCE * max(1.0, float(expected.abs().max()))
    if not difference <= allowed:
        raise StageError(
            f"the merged model's logits differ from the adapter's by {difference:.2g} (allowed {allowed:.2g})",
            place="train",
            cure="lower lora_alpha or learning_rate: the adapter's weights have grown out of range",
        )
    return Merged(merged, difference)
