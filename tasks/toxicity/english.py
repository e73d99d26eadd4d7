"""The probability that an English text is profane or abusive: the packaged linear model, from its arrays.

`alt-profanity-check` ships a tf-idf vocabulary and five linear support vector machines, each with a sigmoid that turns
its distance into a probability (Platt, 1999), trained on about 200,000 labelled comments; the five are averaged. It
knows single words, not sentences: it does not understand negation ("I am not stupid") nor quotation, and is surest
about the shortest texts. The scores equal the package's, at many times its speed: a compiled kernel looks the words
up where they stand. Its stop words drop out by not being in the vocabulary.
"""

from dataclasses import dataclass
from functools import cache

import numpy as np
import polars as pl
from numpy.typing import NDArray

from tasks.kernels.text import buffers, in_blocks
from tasks.toxicity import english_kernel
from tasks.toxicity.files import classifier_file, vocabulary_file
from tasks.toxicity.stored_model import Record, read_stored

CLASSIFIER_SHA256 = "aeafc04849d4d93db4721cf30a86ebf22085595294b8a07d51918e7fa98f538b"
VOCABULARY_SHA256 = "19c5200dc6a41f026e0558e2f164f5fe8d8f58e502b46b37e4385037fcfa4831"
_BLOCK_BYTES = 1 << 20  # of text in one call of the kernel

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class EnglishModel:
    """The arrays of the model, for n words and k classifiers.

    Attributes:
        keys, places: hash table of the words: FNV-1a of a word's bytes, and its place in the arrays below.
        idf: inverse document frequencies, (n,).
        weights: (n, k).
        intercepts: (k,).
        slopes, offsets: of the sigmoids 1 / (1 + exp(slope · distance + offset)), (k,).
    """

    keys: NDArray[np.uint64]
    places: NDArray[np.int64]
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
        data, begins = buffers(texts.str.to_lowercase())
        letters, width = _in_word(), len(self.slopes) + 1

        def block(first: int, last: int) -> Floats:
            out = np.zeros((last - first, width))
            tables = (self.keys, self.places, self.idf, self.weights)
            english_kernel.distances(data, begins, first, last, letters, *tables, out)
            return out

        found = np.concatenate([np.empty((0, width)), *in_blocks(begins, _BLOCK_BYTES, block)])
        norm = found[:, -1:]
        seen = norm[:, 0] > 0
        distance = found[:, :-1] / np.where(norm > 0, norm, 1.0) + self.intercepts
        mean = (1.0 / (1.0 + np.exp(self.slopes * distance + self.offsets))).mean(axis=1)
        return pl.Series("probability", mean, dtype=pl.Float64).set(pl.Series(~seen, dtype=pl.Boolean), None)


@cache
def _in_word() -> NDArray[np.uint8]:
    """1 for code points of a word: letters, digits, underscore (what `\\w` of Python's `re` finds)."""
    limit = english_kernel.LIMIT
    found = np.fromiter(map(str.isalnum, map(chr, range(limit))), np.uint8, limit)
    found[ord("_")] = 1
    return found


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
    keys, places = _table(pl.Series(list(vocabulary)), list(vocabulary.values()))
    return EnglishModel(
        keys=keys,
        places=places,
        idf=np.asarray(vectorizer["_tfidf"]["idf_"], dtype=np.float64),
        weights=np.ascontiguousarray(np.vstack([machine["coef_"] for machine in machines]).T, dtype=np.float64),
        intercepts=np.concatenate([machine["intercept_"] for machine in machines]),
        slopes=np.array([sigmoid["a_"] for sigmoid in sigmoids], dtype=np.float64),
        offsets=np.array([sigmoid["b_"] for sigmoid in sigmoids], dtype=np.float64),
    )


def _table(words: pl.Series, columns: list[int]) -> tuple[NDArray[np.uint64], NDArray[np.int64]]:
    """The hash table of a vocabulary, at most a quarter full."""
    size = 1 << (4 * len(words)).bit_length()
    keys, places = np.zeros(size, np.uint64), np.zeros(size, np.int64)
    data, begins = buffers(words)
    if not english_kernel.fill(data, begins, keys, places):
        raise AssertionError("two words of the reviewed vocabulary have one hash")
    return keys, np.asarray(columns, np.int64)[places]
