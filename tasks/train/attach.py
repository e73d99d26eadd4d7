"""What is put beside a frozen model to learn: bottleneck adapters, a prefix, a prompt; and how it is published."""

from pathlib import Path
from typing import Any

from pipeline_config.model_schema import Train
from tasks.kernels.quiet import quiet


def with_attached(model: Any, config: Train, tokenizer: Any, seed: int) -> Any:
    """The model with what is to learn; everything else is frozen.

    Prefix tuning (Li and Liang, 2021) learns keys and values of every layer, prompt tuning (Lester et al., 2021) input
    embeddings. Both start from a text: as it is read by the model, or as its embeddings.

    Args:
        tokenizer: of the text to start from.
        seed: of the start.
    """
    from transformers import set_seed

    set_seed(seed)
    if config.method == "adapter":
        from tasks.kernels import bottleneck

        return bottleneck.add(
            model, config.adapter.placement, config.adapter.reduction_factor, config.adapter.adapter_dropout
        )
    return _prompted(model, config, tokenizer)


def save_attached(model: Any, config: Train, folder: Path, base: str, card: str) -> None:
    """Write what was learned, alone.

    Args:
        base: the base model's public name.
    """
    if config.method == "adapter":
        from tasks.kernels import bottleneck

        bottleneck.save(model, folder, config.adapter.model_dump(mode="json") | {"base_model": base})
        (folder / "README.md").write_text(card, encoding="utf-8")
        return
    from tasks.kernels.publish import write_adapter

    write_adapter(model, folder, base, card)


def _prompted(model: Any, config: Train, tokenizer: Any) -> Any:
    import torch
    from peft import (
        PrefixTuningConfig,
        PromptTuningConfig,
        get_peft_model,
        initialize_kv_prefix_from_past_key_values,
    )

    count = config.prompt.num_virtual_tokens
    text = tokenizer(config.prompt.init_text, add_special_tokens=False)["input_ids"]
    ids = torch.tensor([(text * count)[:count]])
    kind = PrefixTuningConfig if config.method == "prefix" else PromptTuningConfig
    with torch.no_grad():
        read = model(input_ids=ids, use_cache=True).past_key_values if config.method == "prefix" else None
        embedded = model.get_input_embeddings()(ids)[0].float()
    with quiet():
        prompted = get_peft_model(model, kind(task_type="CAUSAL_LM", num_virtual_tokens=count))
    encoder = prompted.prompt_encoder["default"].float()
    if config.method == "prefix":
        initialize_kv_prefix_from_past_key_values(prompted, past_key_values=read, num_virtual_tokens=count)
    else:
        with torch.no_grad():
            encoder.embedding.weight.copy_(embedded)
    return prompted
