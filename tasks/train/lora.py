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
from tasks.kernels.rates import set_rate_ratio

MAX_LOGIT_DIFFERENCE = 1e-4  # of merged model and adapter, relative to the largest logit where that is above 1
_PROBE_TOKENS = 128


@dataclass(frozen=True)
class Merged:
    """A merged model in float32, and the largest difference of a logit to the adapter on the same tokens."""

    model: Any
    difference: float


def with_lora(model: Any, config: Lora, seed: int) -> Any:
    """Put adapters on a causal model; everything else is frozen.

    Variants are peft's: rsLoRA (Kalajdzievski, 2023), DoRA (Liu et al., 2024), PiSSA (Meng et al., 2024), VeRA; LoRA+
    (Hayou et al., 2024) is a ratio of learning rates.

    Args:
        model: for PiSSA in float32, since what the adapter starts from is taken out of its weights.
        seed: of the adapters' start and of dropout.

    Raises:
        ConfigError: `lora_target` matches no module.
    """
    from peft import get_peft_model
    from transformers import set_seed

    targets = config.lora_target if isinstance(config.lora_target, str) else sorted(set(config.lora_target))
    settings = _vera(config, targets, seed) if config.use_vera else _lora(config, targets)
    set_seed(seed)
    try:
        with quiet():
            adapted = get_peft_model(model, settings)
    except ValueError as error:
        raise ConfigError(
            f"no module of the model matches {config.lora_target!r}",
            place="train.lora.lora_target",
            cure=f"use all-linear, or some of: {', '.join(linear_names(model))}",
        ) from error
    for name, parameter in adapted.named_parameters():
        if parameter.requires_grad:
            parameter.data = parameter.data.float()
            if "lora_B" in name:
                set_rate_ratio(parameter, config.loraplus_lr_ratio)
    return adapted


def keep_input_format(model: Any) -> None:
    """Leave what LoRA layers are given in the format that it has: for products under autocast only.

    peft casts every layer's input to the adapter's float32, and autocast casts it back for the product: two copies
    there, and two of the gradient, that change nothing. Variants such as DoRA reckon with the input, and keep it.
    """
    for module in model.modules():
        if getattr(module, "cast_input_dtype_enabled", False) and not getattr(module, "lora_variant", True):
            module.cast_input_dtype_enabled = False


def _lora(config: Lora, targets: str | list[str]) -> Any:
    from peft import LoraConfig

    return LoraConfig(
        r=config.lora_r,
        lora_alpha=config.lora_alpha,
        lora_dropout=config.lora_dropout,
        target_modules=targets,
        use_rslora=config.use_rslora,
        use_dora=config.use_dora,
        init_lora_weights="pissa" if config.use_pissa else True,
        task_type="CAUSAL_LM",
    )


def _vera(config: Lora, targets: str | list[str], seed: int) -> Any:
    """Vector-based random matrix adaptation (Kopiczko et al., 2024). The random matrices are saved with the adapter:
    drawn again elsewhere, they could be others."""
    from peft import VeraConfig

    return VeraConfig(
        r=config.lora_r,
        vera_dropout=config.lora_dropout,
        target_modules=targets,
        projection_prng_key=seed,
        save_projection=True,
        task_type="CAUSAL_LM",
    )


def keep_start(model: Any, folder: Path) -> None:
    """Save the adapter as it is before training: PiSSA takes it out of the base weights, and only with it at hand can
    what was learned be told as an ordinary LoRA of the base as it was."""
    settings = model.peft_config["default"]
    initial, settings.init_lora_weights = settings.init_lora_weights, True
    with quiet():
        model.save_pretrained(folder)
    settings.init_lora_weights = initial


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
