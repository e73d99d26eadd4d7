"""The probability that an English text is profane or abusive: the packaged linear model, from its arrays.

`alt-profanity-check` ships a tf-idf vocabulary and five linear support vector machines, each with a sigmoid that turns
its distance into a probability (Platt, 1999), trained on about 200,000 labelled comments; the five are averaged. It
knows single words, not sentences: it does not understand negation ("I am not stupid") nor quotation, and is surest
about the shortest texts. The scores equal the package's, at several times its speed: tokens are joined with the
vocabulary by Polars, and the sums made over arrays. Its stop words drop out by not being in the vocabulary.
"""

from dataclasses import dataclass
from functools import cache

import numpy as np
import polars as pl
from numpy.typing import NDArray

from tasks.toxicity.files import classifier_file, vocabulary_file
from tasks.toxicity.stored_model import Record, read_stored

CLASSIFIER_SHA256 = "aeafc04849d4d93db4721cf30a86ebf22085595294b8a07d51918e7fa98f538b"
VOCABULARY_SHA256 = "19c5200dc6a41f026e0558e2f164f5fe8d8f58e502b46b37e4385037fcfa4831"
_TOKEN = r"[\p{L}\p{N}_]{2,}"  # what Python's (?u)\b\w\w+\b finds
_BATCH = 50_000  # texts tokenised at once: bounds the memory of the join

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class EnglishModel:
    """The arrays of the model, for n words and k classifiers.

    Attributes:
        words: `token`, `word` (UInt32, the token's place in the arrays); n rows.
        idf: inverse document frequencies, (n,).
        weights: (k, n).
        intercepts: (k,).
        slopes, offsets: of the sigmoids 1 / (1 + exp(slope · distance + offset)), (k,).
    """

    words: pl.DataFrame
    idf: Floats
    weights: Floats
    intercepts: Floats
    slopes: Floats
    offsets: Floats

    def probabilities(self, texts: pl.Series) -> pl.Series:
        """How likely each text is profane.

        Args:
            texts: strings without nulls.

        Returns:
            Float64 in [0, 1], higher is worse; null where the model knows no word of the text.
        """
        parts = [self._batch(texts.slice(start, _BATCH)) for start in range(0, max(len(texts), 1), _BATCH)]
        return pl.concat(parts)

    def _batch(self, texts: pl.Series) -> pl.Series:
        tokens = (
            texts.alias("token")
            .to_frame()
            .lazy()
            .with_row_index("text")
            .with_columns(pl.col("token").str.to_lowercase().str.extract_all(_TOKEN))
            .explode("token")
        )
        known = tokens.join(self.words.lazy(), on="token", how="inner").select("text", "word").collect()
        n_words = len(self.idf)
        cells = known["text"].to_numpy().astype(np.int64) * n_words + known["word"].to_numpy()
        cells, counts = np.unique(cells, return_counts=True)  # sorted, so that sums do not depend on threads
        text, word = np.divmod(cells, n_words)
        tf_idf = counts * self.idf[word]

        def sum_by_text(values: Floats) -> Floats:
            return np.asarray(np.bincount(text, weights=values, minlength=len(texts)), dtype=np.float64)

        norm = np.sqrt(sum_by_text(tf_idf * tf_idf))
        seen = norm > 0
        norm[~seen] = 1.0
        total = np.zeros(len(texts))
        for weights, intercept, slope, offset in zip(
            self.weights, self.intercepts, self.slopes, self.offsets, strict=True
        ):
            distance = sum_by_text(tf_idf * weights[word]) / norm + intercept
            total += 1.0 / (1.0 + np.exp(slope * distance + offset))
        mean = pl.Series("probability", total / len(self.slopes), dtype=pl.Float64)
        return mean.set(pl.Series(~seen, dtype=pl.Boolean), None)


@cache
def load() -> EnglishModel:
    """The packaged model, its files' digests checked first.

    Raises:
        ModelError: not installed, or not the files that were reviewed.
    """
    classifier = read_stored(classifier_file(), CLASSIFIER_SHA256)
    return from_records(classifier, read_stored(vocabulary_file(), VOCABULARY_SHA256))


def from_records(classifier: Record, vectorizer: Record) -> EnglishModel:
    """The model's arrays, taken out of what was pickled."""
    vocabulary: dict[str, int] = vectorizer["vocabulary_"]
    machines = [each["estimator"] for each in classifier["calibrated_classifiers_"]]
    sigmoids = [each["calibrators"][0] for each in classifier["calibrated_classifiers_"]]
    words = pl.DataFrame({"token": list(vocabulary), "word": list(vocabulary.values())})
    return EnglishModel(
        words=words.with_columns(pl.col("word").cast(pl.UInt32)).sort("word"),
        idf=np.asarray(vectorizer["_tfidf"]["idf_"], dtype=np.float64),
        weights=np.vstack([machine["coef_"] for machine in machines]),
        intercepts=np.concatenate([machine["intercept_"] for machine in machines]),
        slopes=np.array([sigmoid["a_"] for sigmoid in sigmoids], dtype=np.float64),
        offsets=np.array([sigmoid["b_"] for sigmoid in sigmoids], dtype=np.float64),
    )
