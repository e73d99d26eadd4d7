"""Which layers a student keeps, and the teacher without the others.

A layer whose output points where its input did changes little: block influence is one minus the mean cosine between
the two over tokens (Men et al., ShortGPT, 2024). Layers are left out one at a time, the least influential first, and
influence is measured again on the shortened model after each: measured once, neighbours that do the same work would
all go together.
"""

from typing import Any

from pipeline_config.errors import ConfigError, ModelError
from tasks.kernels.objective import Batch, causal, decoder_of


def count_kept(wanted: int | float, layers: int, *, place: str) -> int:
    """How many layers a student has.

    Args:
        wanted: a number, or a share below 1.
        layers: the teacher's.

    Raises:
        ConfigError: more than the teacher has.
    """
    kept = max(1, round(wanted * layers)) if isinstance(wanted, float) and wanted < 1 else int(wanted)
    if kept > layers:
        raise ConfigError(
            f"a student of {kept} layers can't come from a teacher of {layers}",
            place=place,
            cure=f"give at most {layers}, or a share below 1",
        )
    return kept


def leave_out(model: Any, kept: int, batch: Batch) -> list[int]:
    """Leave layers out of a causal model, in place, until `kept` are left.

    Args:
        batch: a few hundred tokens to measure influence on, as `packing.collate` makes it.

    Returns:
        the layers left out, by their place in the teacher, from 0, the first to go first.

    Raises:
        ModelError: the decoder has no plain list of layers.
    """
    places = list(range(len(layer_list(model))))
    gone: list[int] = []
    while len(places) > kept:
        found = influence(model, batch)
        least = min(range(len(places)), key=lambda n: (found[n], -n))
        gone.append(places.pop(least))
        _keep(model, [n for n in range(len(places) + 1) if n != least])
    return gone


def influence(model: Any, batch: Batch) -> list[float]:
    """Block influence of each layer, in [0, 2]; padding counts as well as text, so give a full row."""
    import torch
    from torch.nn.functional import cosine_similarity

    found: list[float] = []

    def measure(_: Any, arguments: tuple[Any, ...], output: Any) -> None:
        after = output if isinstance(output, torch.Tensor) else output[0]
        found.append(1 - float(cosine_similarity(arguments[0].float(), after.float(), dim=-1).mean()))

    handles = [layer.register_forward_hook(measure) for layer in layer_list(model)]
    try:
        with torch.no_grad():
            decoder_of(model)(input_ids=batch["input_ids"], position_ids=batch["position_ids"], use_cache=False)
    finally:
        for handle in handles:
            handle.remove()
    return found


def layer_list(model: Any) -> Any:
    """The decoder's layers, a ModuleList.

    Raises:
        ModelError: there is none that has as many entries as the configuration says.
    """
    import torch

    wanted = causal(model).config.num_hidden_layers
    for module in decoder_of(model).children():
        if isinstance(module, torch.nn.ModuleList) and len(module) == wanted:
            return module
    raise ModelError(
        f"{type(causal(model)).__name__} has no plain list of {wanted} layers",
        place="distill",
        cure="use a model whose decoder is a list of layers",
    )


def _keep(model: Any, kept: list[int]) -> None:
    """Only these layers, in their order; each told its new place, which is where it keeps keys and values."""
    import torch

    inner, decoder = causal(model), decoder_of(model)
    old = layer_list(model)
    name = next(name for name, module in decoder.named_children() if module is old)
    new = torch.nn.ModuleList([old[n] for n in kept])
    for place, layer in enumerate(new):
        for module in layer.modules():
            if hasattr(module, "layer_idx"):
                module.layer_idx = place
    setattr(decoder, name, new)
    inner.config.num_hidden_layers = len(kept)
    kinds = getattr(inner.config, "layer_types", None)
    if kinds is not None:
        inner.config.layer_types = [kinds[n] for n in kept]
