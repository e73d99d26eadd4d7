"""Sentence embeddings: one unit vector for each text, so that a dot product is a cosine.

Tokens are pooled as the encoder's folder says (`1_Pooling/config.json` of the sentence-transformers layout: the mean
over real tokens, or the first token), the mean where it says nothing; that is how all-MiniLM-L6-v2 was trained
(Reimers and Gurevych, 2019). Equal texts are encoded once. Batches hold texts of like length, longest first, so
that little is padding and a batch that is too large for memory fails at once.

A text's vector must not depend on the texts beside it, or a row scored with a thousand others would differ from the
same row scored alone. So everything is float32 with plain attention, each text is padded to the next multiple of 8
tokens whatever its neighbours are, and a batch is filled up with repetitions: measured with all-MiniLM-L6-v2, the
vectors are then the same to the bit for any choice of texts and batches of 2 to 128, where padding to the longest
neighbour moved one in ten by 1e-7. bfloat16 would take half the time and move cosines by up to 3e-3, enough to change
which rows stand above a threshold.
"""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline_config.errors import ModelError
from tasks.kernels.models import load_float32, load_tokenizer, model_folder
from tasks.kernels.progress import track

if TYPE_CHECKING:
    import numpy as np
    import torch

_STEP = 8  # tokens


def embed(
    texts: list[str], encoder: str, data_dir: Path, *, max_length: int, batch_size: int, label: str
) -> "np.ndarray[Any, np.dtype[np.float32]]":
    """Embed texts.

    Args:
        texts: any, empty ones too.
        encoder: folder, hub name or `asset:<name>`.
        data_dir: where converted models are.
        max_length: tokens of a text that are read (special tokens included); the rest is left out.
        batch_size: texts in a batch, 2 or more (the products of a single one round otherwise).
        label: of the progress bar.

    Returns:
        (n_texts, width) float32, rows of length 1, in the order of the texts.

    Raises:
        ModelError: the encoder can't be loaded.
    """
    import numpy as np
    import torch

    folder = model_folder(encoder, data_dir)
    tokenizer, pool_first = load_tokenizer(folder), _pools_first(folder)
    model = load_float32(folder, "encoder", "AutoModel", unused="pooler")  # which is not used
    distinct = list(dict.fromkeys(texts))
    limit = min(max_length, getattr(model.config, "max_position_embeddings", max_length))
    ids = (
        tokenizer(distinct, truncation=True, max_length=limit, return_attention_mask=False)["input_ids"]
        if texts
        else []
    )
    vectors = np.zeros((len(distinct), model.config.hidden_size), dtype=np.float32)
    batches = list(_batches([min(-(-len(each) // _STEP) * _STEP, limit) for each in ids], batch_size))
    with torch.inference_mode():
        for rows, length in track(batches, label, total=len(batches)):
            texts_ids = [ids[row] for row in rows] + [ids[rows[0]]] * (batch_size - len(rows))
            batch = tokenizer.pad(
                {"input_ids": texts_ids}, padding="max_length", max_length=length, return_tensors="pt"
            )
            hidden = model(**batch).last_hidden_state  # (batch, tokens, width)
            vectors[rows] = _pooled(hidden, batch["attention_mask"], pool_first).numpy()[: len(rows)]
    position = {text: row for row, text in enumerate(distinct)}
    return vectors[np.fromiter((position[text] for text in texts), dtype=np.int64, count=len(texts))]


def _batches(lengths: list[int], size: int) -> Iterator[tuple[list[int], int]]:
    """Positions of at most `size` texts that have one padded length, and that length; the longest first."""
    for length in sorted(set(lengths), reverse=True):
        rows = [row for row, each in enumerate(lengths) if each == length]
        yield from ((rows[start : start + size], length) for start in range(0, len(rows), size))


def _pools_first(folder: str) -> bool:
    """Whether the encoder's sentence vector is its first token's, rather than the mean.

    Raises:
        ModelError: it is neither.
    """
    path = Path(folder) / "1_Pooling" / "config.json"
    if not path.is_file():
        return False
    settings = json.loads(path.read_text(encoding="utf-8"))
    modes = sorted(
        key.removeprefix("pooling_mode_") for key, on in settings.items() if key.startswith("pooling_mode_") and on
    )
    if modes not in (["mean_tokens"], ["cls_token"], []):
        message = f"the encoder in {folder} pools by {', '.join(modes)}"
        raise ModelError(message, place="encoder", cure="give one that pools by the mean or by the first token")
    return modes == ["cls_token"]


def _pooled(hidden: "torch.Tensor", mask: "torch.Tensor", pool_first: bool) -> "torch.Tensor":
    """(batch, tokens, width) hidden states and (batch, tokens) mask to (batch, width) unit vectors."""
    import torch

    if pool_first:
        return torch.nn.functional.normalize(hidden[:, 0], dim=1)
    real = mask.unsqueeze(-1).to(hidden.dtype)  # (batch, tokens, 1)
    mean = (hidden * real).sum(dim=1) / real.sum(dim=1).clamp(min=1)
    return torch.nn.functional.normalize(mean, dim=1)
