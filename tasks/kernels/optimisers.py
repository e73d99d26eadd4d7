"""The optimisers by name, and LAMB, which no library at hand has.

- adamw: decoupled weight decay (Loshchilov and Hutter, 2019). adam: L2, its gradient added to the loss's.
- lamb: Adam's step, scaled in each tensor to the size of its weights, for large batches (You et al., 2020,
  Algorithm 2).
- adafactor: transformers' own. With `learning_rate: auto` it takes its step from the gradients and the weights' size
  (Shazeer and Stern, 2018, relative step), and there is nothing to schedule.

Weight decay never reaches norms and biases. Imported by the trainer, when it runs.
"""

from collections.abc import Callable
from typing import Any

import torch

from pipeline_config.model_schema import Optimisation
from tasks.kernels.schedule import finds_its_step

Groups = list[dict[str, Any]]


def make_optimiser(groups: Groups, settings: Optimisation, learning_rate: float) -> torch.optim.Optimizer:
    """The optimiser of a stage.

    Args:
        groups: parameters, each group with its `weight_decay`; no group is empty.
    """
    if settings.optim == "lamb":
        return Lamb(groups, learning_rate)
    if settings.optim == "adafactor":
        from transformers.optimization import Adafactor

        relative = finds_its_step(settings)
        found: torch.optim.Optimizer = Adafactor(
            groups,
            lr=None if relative else learning_rate,
            relative_step=relative,
            scale_parameter=relative,
            warmup_init=False,
        )
        return found
    kind = torch.optim.Adam if settings.optim == "adam" else torch.optim.AdamW
    return kind(groups, lr=learning_rate, fused=True)


class Lamb(torch.optim.Optimizer):  # type: ignore[misc]
    """LAMB: Adam with bias correction and decoupled decay, each tensor's step as long as its weights times the rate.

    r = m̂ / (√v̂ + ε), u = r + λw, w ← w - η · ‖w‖/‖u‖ · u; the ratio is 1 where either norm is 0.
    """

    def __init__(self, groups: Groups, lr: float, betas: tuple[float, float] = (0.9, 0.999), eps: float = 1e-6) -> None:
        super().__init__(groups, {"lr": lr, "betas": betas, "eps": eps, "weight_decay": 0.0})

    @torch.no_grad()  # type: ignore[untyped-decorator]
    def step(self, closure: Callable[[], float] | None = None) -> float | None:
        """One step; `closure` computes the loss again, as in every optimiser of torch."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            for weights in group["params"]:
                if weights.grad is not None:
                    self._move(weights, group)
        return loss

    def _move(self, weights: torch.Tensor, group: dict[str, Any]) -> None:
        assert weights.grad is not None
        first, second = group["betas"]
        state = self.state[weights]
        if not state:
            state["step"] = 0
            state["mean"], state["square"] = torch.zeros_like(weights), torch.zeros_like(weights)
        state["step"] += 1
        state["mean"].lerp_(weights.grad, 1 - first)
        state["square"].mul_(second).addcmul_(weights.grad, weights.grad, value=1 - second)
        size = (state["square"] / (1 - second ** state["step"])).sqrt_().add_(group["eps"])
        update = (state["mean"] / (1 - first ** state["step"])).div_(size)
        update.add_(weights, alpha=group["weight_decay"])
        length, reach = weights.norm(), update.norm()
        ratio = torch.where((length > 0) & (reach > 0), length / reach.clamp_min(1e-30), torch.ones_like(length))
        weights.sub_(update.mul_(ratio * group["lr"]))
