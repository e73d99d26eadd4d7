"""Noise while training, also where an architecture has none: NEFTune, dropout on embeddings and on residual branches.

Put on as hooks for the time of training and taken off behind it, so that what is published is the model as it came;
in evaluation nothing is done. NEFTune (Jain et al., 2023) adds to each token's embedding uniform noise in
±alpha/√(L·d); L is the length of the token's own example, not of the packed row that it stands in.
"""

import re
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from torch.nn import functional

from pipeline_config.errors import ConfigError
from pipeline_config.model_schema import Optimisation
from tasks.kernels.objective import causal

_BRANCH = re.compile(r"attn|attention|mlp|ffn|feed_forward|moe|mixer", re.IGNORECASE)
_NO_BRANCH = re.compile(r"norm|ln_", re.IGNORECASE)


class Noise:
    """The noise of a stage on a model that learns.

    Raises:
        ConfigError: dropout is wanted on residual branches and none are found.
    """

    def __init__(self, model: Any, settings: Optimisation, label: str) -> None:
        self._settings = settings
        self._model = causal(model)
        self._lengths: torch.Tensor | None = None
        self._branches = residual_branches(self._model) if settings.residual_dropout else []
        if settings.residual_dropout and not self._branches:
            raise ConfigError(
                f"no attention or feed-forward branches are found in {type(self._model).__name__}",
                place=f"{label}.residual_dropout",
                cure="set residual_dropout: 0",
            )

    def see(self, batch: Mapping[str, torch.Tensor]) -> None:
        """Tell it of the batch that comes next."""
        if self._settings.neftune_noise_alpha:
            self._lengths = example_lengths(batch["position_ids"])

    @contextmanager
    def on(self) -> Iterator[None]:
        """Put the noise on inside the block."""
        settings = self._settings
        with ExitStack() as stack:
            embeddings = self._model.get_input_embeddings()
            if settings.neftune_noise_alpha:
                stack.callback(embeddings.register_forward_hook(self._shake).remove)
            if settings.embedding_dropout:
                stack.callback(embeddings.register_forward_hook(_dropped(settings.embedding_dropout)).remove)
            for branch in self._branches:
                stack.callback(branch.register_forward_hook(_dropped(settings.residual_dropout)).remove)
            yield

    def _shake(self, module: Any, _: Any, embedded: torch.Tensor) -> torch.Tensor:
        if not module.training or self._lengths is None:
            return embedded
        reach = self._settings.neftune_noise_alpha or 0.0
        size = (reach / (self._lengths * embedded.shape[-1]).sqrt())[..., None].to(embedded.dtype)
        return embedded + torch.empty_like(embedded).uniform_(-1, 1) * size


def example_lengths(positions: torch.Tensor) -> torch.Tensor:
    """Tokens of the example that each token belongs to; positions (B, T) start at 0 with every example."""
    example = (positions == 0).flatten().cumsum(0) - 1
    lengths: torch.Tensor = torch.bincount(example)[example].reshape(positions.shape)
    return lengths


def residual_branches(model: Any) -> list[Any]:
    """The modules of every decoder layer whose output is added to the residual stream."""
    count = model.config.num_hidden_layers
    stacks = [each for each in model.modules() if isinstance(each, torch.nn.ModuleList) and len(each) == count]
    layers = stacks[0] if stacks else []
    return [
        child
        for layer in layers
        for name, child in layer.named_children()
        if _BRANCH.search(name) and not _NO_BRANCH.search(name)
    ]


def _dropped(share: float) -> Any:
    def drop(module: Any, _: Any, output: Any) -> Any:
        if not module.training:
            return output
        if isinstance(output, tuple):
            return (functional.dropout(output[0], share), *output[1:])
        return functional.dropout(output, share)

    return drop
