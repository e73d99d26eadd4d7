"""BLEU and chrF of a corpus, 0-100, by sacrebleu (Post, 2018).

Both are computed from n-gram counts summed over the corpus, which is not the mean of sentence scores. For BLEU a
Chinese reference is tokenised by sacrebleu's `zh` (each Han character a token) and any other by `13a`, row by row, so
that a test set that mixes languages has one honest value; on a set of one language it is sacrebleu's own. chrF
(Popović, 2015) compares characters and needs no tokeniser.
"""

import re
from typing import Any, ClassVar

import numpy as np
from sacrebleu.metrics import BLEU, CHRF

from tasks.evaluate.bootstrap import Array
from tasks.evaluate.metrics.corpus import CorpusMetric

_HAN = re.compile("[\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003ffff]")


class Bleu(CorpusMetric):
    """Corpus BLEU with up to 4-grams, case kept, exponential smoothing of empty precisions."""

    key: ClassVar[str] = "bleu"
    about: ClassVar[str] = "Corpus BLEU by sacrebleu, 0-100, Chinese references by character."

    def statistics(self, predictions: list[str], references: list[str]) -> Array:
        """(n, 10): lengths of prediction and reference, matching and possible n-grams of orders 1 to 4."""
        found = np.zeros((len(references), 10))
        chinese = np.array([bool(_HAN.search(text)) for text in references], dtype=bool)
        for tokenize, rows in (("zh", np.flatnonzero(chinese)), ("13a", np.flatnonzero(~chinese))):
            if rows.size:
                chosen = [predictions[row] for row in rows], [references[row] for row in rows]
                found[rows] = _counts(BLEU(tokenize=tokenize), *chosen)
        return found

    def value(self, sums: Array) -> Array:
        """BLEU of each line of summed counts."""
        return _scores(BLEU(), sums)


class Chrf(CorpusMetric):
    """Corpus chrF2 with character n-grams up to 6."""

    key: ClassVar[str] = "chrf"
    about: ClassVar[str] = "Corpus chrF2 by sacrebleu, 0-100."

    def statistics(self, predictions: list[str], references: list[str]) -> Array:
        """(n, 18): n-grams of prediction, of reference, and matching, for orders 1 to 6."""
        return _counts(CHRF(), predictions, references)

    def value(self, sums: Array) -> Array:
        """chrF of each line of summed counts."""
        return _scores(CHRF(), sums)


def _counts(metric: Any, predictions: list[str], references: list[str]) -> Array:
    """Counts per example, as sacrebleu's own significance tests take them."""
    return np.asarray(metric._extract_corpus_statistics(predictions, [references]), dtype=np.float64)


def _scores(metric: Any, sums: Array) -> Array:
    lines = sums.astype(np.int64).tolist()
    return np.array([metric._compute_score_from_stats(line).score for line in lines], dtype=np.float64)
