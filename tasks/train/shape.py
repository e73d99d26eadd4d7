"""What a base model is made of, from `config.json` and the headers of its weight files: no weights are read, no torch.

Planning has a second for everything, so that the sizes that memory and time depend on are read and not measured.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any

from tasks.train.targets import layer_of, stored_shapes

_NAMES = {  # as Llama and those after it call it, then older models' names
    "hidden_size": ("hidden_size", "n_embd", "d_model", "dim"),
    "intermediate_size": ("intermediate_size", "n_inner", "ffn_dim", "d_ff"),
    "heads": ("num_attention_heads", "n_head", "n_heads"),
    "kv_heads": ("num_key_value_heads",),
}


@dataclass(frozen=True)
class ModelShape:
    """Sizes of a causal decoder.

    Attributes:
        shapes: weight → its shape, as stored (a tied head is stored once).
        layers: decoder layers.
        width: of the residual stream, d.
        inner: of the feed-forward part, f.
        kv_width: of all keys of a token in one layer.
        vocabulary: rows of the embedding.
        tied: whether the head is the embedding.
    """

    shapes: Mapping[str, tuple[int, ...]]
    layers: int
    width: int
    inner: int
    kv_width: int
    vocabulary: int
    tied: bool

    @property
    def parameters(self) -> int:
        """Numbers in all weights."""
        return sum(map(prod, self.shapes.values()))

    @property
    def linear(self) -> dict[str, tuple[int, ...]]:
        """The matrices inside the decoder layers: what every token is multiplied by, and what `all-linear` means."""
        return {name: shape for name, shape in self.shapes.items() if len(shape) == 2 and layer_of(name) is not None}


def model_shape(folder: Path) -> ModelShape | None:
    """The sizes of a model folder; None where its configuration or weight files don't tell them."""
    try:
        config = json.loads((folder / "config.json").read_text("utf-8"))
    except (OSError, ValueError):
        return None
    shapes = stored_shapes(folder)
    config = config.get("text_config") or config
    width = _number(config, "hidden_size")
    numbers = {number for name in shapes if (number := layer_of(name)) is not None}
    table = [shape for name, shape in shapes.items() if "embed" in name or "wte" in name]
    if not width or not numbers or not table:
        return None
    heads = _number(config, "heads") or 1
    head_width = config.get("head_dim") or width // heads
    return ModelShape(
        shapes=shapes,
        layers=len(numbers),
        width=width,
        inner=_number(config, "intermediate_size") or 4 * width,
        kv_width=(_number(config, "kv_heads") or heads) * head_width,
        vocabulary=max(shape[0] for shape in table),
        tied=not any(name.endswith(("lm_head.weight", "embed_out.weight")) for name in shapes),
    )


def _number(config: Mapping[str, Any], what: str) -> int | None:
    found = [config[name] for name in _NAMES[what] if isinstance(config.get(name), int)]
    return int(found[0]) if found else None
