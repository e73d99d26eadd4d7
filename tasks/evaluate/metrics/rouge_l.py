"""ROUGE-L (Lin, 2004): F-measure of the longest common subsequence, 0-1, mean over the examples, by rouge-score.

The library's own tokeniser keeps `[a-z0-9]` only, so that Chinese scores 0 whatever it says and accents split words.
Here a token is a run of letters and digits of any script, lower-cased, and each Han, Kana or Hangul character alone.
For ASCII text that is the library's own tokenisation, so English values compare with published ones.
"""

import re
import unicodedata
from typing import ClassVar

import numpy as np
from rouge_score.rouge_scorer import RougeScorer

from tasks.evaluate.bootstrap import Array, ratio
from tasks.evaluate.metrics.corpus import CorpusMetric

_ALONE = (  # Hangul letters, Kana, Han, Hangul syllables
    "\u1100-\u11ff\u3130-\u318f\u3040-\u30ff\u31f0-\u31ff"
    "\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003ffff\uac00-\ud7af"
)
_TOKEN = re.compile(f"[{_ALONE}]|[^\\W_{_ALONE}]+")


class AnyScript:
    """A rouge-score tokeniser for every script."""

    def tokenize(self, text: str) -> list[str]:
        """Tokens in order."""
        return _TOKEN.findall(unicodedata.normalize("NFC", text).lower())


class RougeL(CorpusMetric):
    """Mean ROUGE-L F-measure."""

    key: ClassVar[str] = "rouge_l"
    about: ClassVar[str] = "Mean ROUGE-L F-measure by rouge-score, 0-1, any script."

    def statistics(self, predictions: list[str], references: list[str]) -> Array:
        """(n, 2): the example's F-measure, and 1."""
        scorer = RougeScorer(["rougeL"], tokenizer=AnyScript())
        found = np.ones((len(references), 2))
        found[:, 0] = [
            scorer.score(reference, prediction)["rougeL"].fmeasure
            for prediction, reference in zip(predictions, references, strict=True)
        ]
        return found

    def value(self, sums: Array) -> Array:
        """The mean."""
        return ratio(sums)
