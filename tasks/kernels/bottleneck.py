"""Bottleneck adapters: two small layers with a residual connection behind a sublayer of each decoder layer.

Houlsby et al. (2019) put one behind attention and one behind the feed-forward part, Pfeiffer et al. (2021) behind the
latter alone; both stand before the residual sum. The second layer starts at zero, so that training starts from the base
model exactly. peft has no such adapters, and the `adapters` library (1.3.0) wants transformers 4.57.

Imports torch: it is imported by functions that run with a model.
"""

import json
from pathlib import Path
from typing import Any, Literal

import torch
from safetensors.torch import load_file, save_file

from pipeline_config.errors import ModelError

Placement = Literal["pfeiffer", "houlsby"]
SETTINGS = "bottleneck.json"
WEIGHTS = "adapter.safetensors"
_NAME = "bottleneck"
_ATTENTION = ("self_attn", "attn", "attention", "self_attention")
_FEED_FORWARD = ("mlp", "feed_forward", "ffn", "ff")
_SPREAD = 0.02  # standard deviation of the first layer's weights at the start


class Bottleneck(torch.nn.Module):  # type: ignore[misc]
    """x + up(relu(down(x))), as wide outside as the model."""

    def __init__(self, width: int, inner: int, dropout: float) -> None:
        super().__init__()
        self.down, self.up = torch.nn.Linear(width, inner), torch.nn.Linear(inner, width)
        self.dropout = torch.nn.Dropout(dropout)
        torch.nn.init.normal_(self.down.weight, std=_SPREAD)
        for zero in (self.down.bias, self.up.weight, self.up.bias):
            torch.nn.init.zeros_(zero)

    def forward(self, states: torch.Tensor) -> torch.Tensor:
        """(…, width) → (…, width)."""
        inside = torch.relu(self.down(states.to(self.down.weight.dtype)))  # the base may be in bfloat16
        found: torch.Tensor = states + self.up(self.dropout(inside)).to(states.dtype)
        return found


def add(model: Any, placement: Placement, reduction_factor: int, dropout: float = 0.0) -> Any:
    """Put new adapters into a causal model, in float32; everything else is frozen.

    Args:
        reduction_factor: how many times narrower than the model an adapter is inside.

    Raises:
        ModelError: the model's layers are built in a way that is not known here.
    """
    model.requires_grad_(False)
    width = model.get_input_embeddings().embedding_dim
    for layer in _layers(model):
        names = (_ATTENTION, _FEED_FORWARD) if placement == "houlsby" else (_FEED_FORWARD,)
        for known in names:
            sublayer = next((getattr(layer, name) for name in known if hasattr(layer, name)), None)
            if sublayer is None:
                raise _unknown(model, f"a layer has none of {', '.join(known)}")
            sublayer.add_module(_NAME, Bottleneck(width, max(1, width // reduction_factor), dropout))
            sublayer.register_forward_hook(_behind)
    return model


def save(model: Any, folder: Path, settings: dict[str, Any]) -> None:
    """Write the adapters alone.

    Args:
        settings: arguments of `add`, and notes.
    """
    folder.mkdir(parents=True, exist_ok=True)
    weights = {name: p.detach().float().contiguous() for name, p in model.named_parameters() if f".{_NAME}." in name}
    save_file(weights, folder / WEIGHTS, metadata={"format": "pt"})
    (folder / SETTINGS).write_text(json.dumps(settings, indent=2, sort_keys=True) + "\n", encoding="utf-8")


def load(model: Any, folder: Path) -> Any:
    """Put saved adapters into their base model, in its number format.

    Raises:
        ModelError: they belong to another model.
    """
    settings = json.loads((folder / SETTINGS).read_text("utf-8"))
    add(model, settings["placement"], settings["reduction_factor"])
    weights = load_file(folder / WEIGHTS)
    own = {name: p.shape for name, p in model.named_parameters() if f".{_NAME}." in name}
    if own != {name: weight.shape for name, weight in weights.items()}:
        raise ModelError(f"{folder} belongs to another model", place="model", cure="run again with --force train")
    model.load_state_dict(weights, strict=False)
    return model.to(model.dtype).eval()


def _behind(module: Any, _: Any, output: Any) -> Any:
    adapter = getattr(module, _NAME)
    return (adapter(output[0]), *output[1:]) if isinstance(output, tuple) else adapter(output)


def _layers(model: Any) -> Any:
    decoder = getattr(model, model.base_model_prefix)
    count = model.config.get_text_config().num_hidden_layers
    for each in decoder.modules():
        if isinstance(each, torch.nn.ModuleList) and len(each) == count:
            return each
    raise _unknown(model, "its layers are not found")


def _unknown(model: Any, why: str) -> ModelError:
    cure = "use method: lora, which needs linear layers only"
    return ModelError(f"no adapters for a {type(model).__name__}: {why}", place="train.method", cure=cure)
