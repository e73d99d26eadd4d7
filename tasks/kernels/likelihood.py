"""The negative log-likelihood of chosen tokens, summed for each example: held-out loss, and scores of rows.

Memory does not grow with the number of examples, and the vocabulary projection is made for trained positions only: a
hook hands the model's own head the hidden states that predict a trained token, so that whatever the architecture does
to its logits afterwards (scaling, soft caps) is still done. Log-softmax is float32 whatever the weights are.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from tasks.kernels.batches import by_length, of_one_shape
from tasks.kernels.progress import track

if TYPE_CHECKING:
    import torch

Array = npt.NDArray[np.float64]

_MAX_TOKENS = 8192  # of a batch, padding included
_MAX_ROWS = 1024  # of float32 logits at a time


def example_losses(
    model: Any,
    input_ids: Sequence[Sequence[int]],
    loss_masks: Sequence[Sequence[bool]],
    *,
    batch_size: int,
    label: str,
    alone: bool = False,
) -> Array:
    """Sums of the negative log-likelihood (nats) and of the trained tokens.

    Args:
        model: a causal language model in evaluation mode.
        input_ids: tokens of each example, at least two.
        loss_masks: True where a token is learned; a first token never is.
        batch_size: examples in a batch.
        label: of the progress bar.
        alone: whether an example's sum must not depend on the examples beside it, not even in its last bit; batches
            are then of one shape.

    Returns:
        (n_examples, 2) float64: summed loss, and number of tokens it is summed over.
    """
    import torch

    found = np.zeros((len(input_ids), 2))
    lengths = [len(ids) for ids in input_ids]
    if alone:
        batches = of_one_shape(lengths, batch_size, _MAX_TOKENS)
    else:
        batches = [(rows, lengths[rows[0]]) for rows in by_length(lengths, batch_size, _MAX_TOKENS)]
    with torch.inference_mode():
        for rows, width in track(batches, label, total=len(batches)):
            chosen = [(input_ids[row], loss_masks[row]) for row in rows]
            found[rows] = _batch_losses(model, chosen, width)
    return found


def _batch_losses(model: Any, batch: Sequence[tuple[Sequence[int], Sequence[bool]]], width: int) -> Array:
    import torch

    ids = torch.zeros((len(batch), width), dtype=torch.long)  # (B, T), padded on the right
    seen = torch.zeros((len(batch), width), dtype=torch.long)
    learned = torch.zeros((len(batch), width), dtype=torch.bool)
    for row, (tokens, mask) in enumerate(batch):
        ids[row, : len(tokens)] = torch.as_tensor(tokens)
        seen[row, : len(tokens)] = 1
        learned[row, : len(tokens)] = torch.as_tensor(mask)
    learned[:, 0] = False
    ids, seen, learned = (each.to(model.device) for each in (ids, seen, learned))
    before = torch.roll(learned, -1, dims=1)  # position t predicts token t + 1
    before[:, -1] = False
    losses = token_losses(_logits_at(model, ids, seen, before), ids[learned])
    owner = learned.nonzero()[:, 0].cpu()
    sums = torch.zeros(len(batch), dtype=torch.float64).index_add_(0, owner, losses.double().cpu())
    both: Array = torch.stack([sums, learned.sum(dim=1).double().cpu()], dim=1).numpy()
    return both


def _logits_at(model: Any, ids: "torch.Tensor", seen: "torch.Tensor", at: "torch.Tensor") -> "torch.Tensor":
    """The model's logits at the positions where `at` is True: (n, vocabulary)."""
    width = at.shape[1]  # virtual tokens may stand before them
    hook = model.get_output_embeddings().register_forward_pre_hook(
        lambda _, inputs: (inputs[0][:, -width:][at].unsqueeze(0),)
    )
    try:
        logits: torch.Tensor = model(input_ids=ids, attention_mask=seen, use_cache=False).logits
    finally:
        hook.remove()
    return logits[0]


def token_losses(logits: "torch.Tensor", targets: "torch.Tensor") -> "torch.Tensor":
    """Cross-entropy of each position: (n, vocabulary) logits of any precision, (n,) targets → (n,) float32."""
    import torch

    parts = [
        torch.nn.functional.cross_entropy(logits[start : start + _MAX_ROWS].float(), targets[start : start + _MAX_ROWS],
                                          reduction="none")
        for start in range(0, len(targets), _MAX_ROWS)
    ]  # fmt: skip
    return torch.cat(parts) if parts else torch.zeros(0)
