"""BERTScore F1 (Zhang et al., 2020) by bert-score, over an encoder from a local folder, mean over the examples.

Greedy matching of token embeddings by cosine, without idf and without baseline rescaling, so values depend on the
encoder: compare them only between models that were judged by the same one. Negative values are cut to 0, to keep the
range 0-1. Pairs are judged one at a time: in a batch the library lets padding stand as a match of similarity 0, and
orders texts by a set, so that a value would depend on its neighbours and on the hash seed.
"""

import contextlib
import io
from collections.abc import Iterator
from typing import Any, ClassVar

import numpy as np

from tasks.evaluate.bootstrap import Array, ratio
from tasks.evaluate.metrics.corpus import CorpusMetric


class BertScoreF1(CorpusMetric):
    """Mean BERTScore F1.

    Args:
        folder: the encoder, as `model_folder` gives it.
        name: what the user called it; a hub name that bert-score knows uses the layer that it recommends.
    """

    key: ClassVar[str] = "bertscore_f1"
    about: ClassVar[str] = "Mean BERTScore F1 by bert-score over a local encoder, 0-1."

    def __init__(self, folder: str, name: str = "", **options: Any) -> None:
        super().__init__(**options)
        self._scorer = _scorer(folder, name)

    def statistics(self, predictions: list[str], references: list[str]) -> Array:
        """(n, 2): the example's F1, and 1. A pair with an empty side scores 0."""
        found = np.ones((len(references), 2))
        found[:, 0] = 0.0
        pairs = zip(predictions, references, strict=True)
        full = [row for row, pair in enumerate(pairs) if all(text.strip() for text in pair)]
        if full:
            with _one_thread(), contextlib.redirect_stderr(io.StringIO()):
                scores = self._scorer.score(
                    [predictions[row] for row in full], [references[row] for row in full], batch_size=1
                )
            found[full, 0] = np.clip(scores[2].double().numpy(), 0, 1)
        return found

    def value(self, sums: Array) -> Array:
        """The mean."""
        return ratio(sums)


def _scorer(folder: str, name: str) -> Any:
    from bert_score import BERTScorer
    from bert_score.utils import model2layers
    from transformers import AutoConfig

    from tasks.kernels.quiet import quiet

    config = AutoConfig.from_pretrained(folder)
    layers = model2layers.get(name, config.num_hidden_layers)
    with quiet():
        scorer = BERTScorer(model_type=folder, num_layers=layers, use_fast_tokenizer=True, device="cpu")
    context = getattr(config, "max_position_embeddings", scorer._tokenizer.model_max_length)
    scorer._tokenizer.model_max_length = min(scorer._tokenizer.model_max_length, context)
    return scorer


@contextlib.contextmanager
def _one_thread() -> Iterator[None]:
    """Single pairs are too small to share out; and so the value is the same at any thread count."""
    import torch

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)
