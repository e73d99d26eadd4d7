"""What a text-classification model says of texts: the probability of each of its labels.

Labels exclude each other (softmax) unless the model's configuration says otherwise (`problem_type:
multi_label_classification`, as detoxify's) or it has one label only (sigmoid). Equal texts are read once. As in
`encoder.py`, a text's result must not depend on the texts beside it: float32, plain attention, batches of one shape.
"""

from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline_config.errors import ModelError
from tasks.kernels.batches import of_one_shape
from tasks.kernels.models import load_float32, load_tokenizer, model_folder
from tasks.kernels.progress import track

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

_FAMILY = "AutoModelForSequenceClassification"
_MAX_TOKENS = 8192  # of a batch


def classify(
    texts: list[str], name: str, data_dir: Path, *, max_length: int, batch_size: int, label: str
) -> "tuple[list[str], npt.NDArray[np.float32]]":
    """Classify texts.

    Args:
        texts: any, empty ones too.
        name: folder or hub name of a sequence classification model.
        data_dir: where converted models are.
        max_length: tokens of a text that are read (special tokens included); the rest is left out.
        batch_size: texts in a batch at most.
        label: of the progress bar.

    Returns:
        the model's labels, and (n_texts, n_labels) float32 probabilities in the order of the texts.

    Raises:
        ModelError: the model can't be loaded.
    """
    import numpy as np
    import torch

    folder = model_folder(name, data_dir)
    tokenizer, model = load_tokenizer(folder), load_float32(folder, "classifier", _FAMILY)
    labels = [str(model.config.id2label[place]) for place in range(model.config.num_labels)]
    independent = len(labels) == 1 or model.config.problem_type == "multi_label_classification"
    distinct = list(dict.fromkeys(texts))
    room = getattr(model.config, "max_position_embeddings", max_length) - _offset(model)
    limit = min(max_length, room)
    ids = tokenizer(distinct, truncation=True, max_length=limit)["input_ids"] if distinct else []
    padding = tokenizer.pad_token_id or 0
    found = np.zeros((len(distinct), len(labels)), dtype=np.float32)
    batches = of_one_shape([len(each) for each in ids], batch_size, _MAX_TOKENS)
    with torch.inference_mode():
        for rows, wanted in track(batches, label, total=len(batches)):
            width = min(wanted, limit)
            chosen = [ids[row] for row in rows]
            batch = torch.tensor([each + [padding] * (width - len(each)) for each in chosen])  # (B, T)
            seen = torch.tensor([[1] * len(each) + [0] * (width - len(each)) for each in chosen])
            logits = model(input_ids=batch, attention_mask=seen).logits.float()  # (B, n_labels)
            said = logits.sigmoid() if independent else logits.softmax(dim=-1)
            found[rows] = said.numpy()
    position = {text: row for row, text in enumerate(distinct)}
    return labels, found[np.fromiter((position[text] for text in texts), dtype=np.int64, count=len(texts))]


def _offset(model: Any) -> int:
    """Positions that RoBERTa's way of counting leaves unused: they begin behind the padding token's id."""
    return int(model.config.pad_token_id or 0) + 1 if model.config.model_type in ("roberta", "xlm-roberta") else 0


def label_place(labels: list[str], name: str | None, place: str) -> int:
    """Where a label stands among a model's; the last one if none is named.

    Raises:
        ModelError: the model has no such label.
    """
    if name is None:
        return len(labels) - 1
    if name not in labels:
        raise ModelError(f"the model has no label {name!r}", place=place, cure=f"its labels are: {', '.join(labels)}")
    return labels.index(name)
