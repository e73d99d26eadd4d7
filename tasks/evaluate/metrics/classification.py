"""Accuracy and macro F1 of generated labels, 0-1, by scikit-learn.

A prediction counts as the label it equals after normalisation (NFKC, case folded, white space collapsed; sentence
punctuation, quotes and brackets around it taken off). Anything else is a miss, not a class of its own: macro F1 is over
the labels that the references hold. An answer that merely contains the label is a miss too, since a program that reads
it could not use it.
"""

import unicodedata
from typing import ClassVar

import numpy as np

from tasks.evaluate.bootstrap import Array, ratio
from tasks.evaluate.metrics.corpus import CorpusMetric

_MISS = ""
_AROUND = " .,;:!?。、\"'`“”‘’()[]*"  # not + - #: C, C++ and C# are three labels


def normalised(label: str) -> str:
    """The form in which a generated label and a true one are compared."""
    text = " ".join(unicodedata.normalize("NFKC", label).casefold().split())
    return text.strip(_AROUND) or text


class Accuracy(CorpusMetric):
    """Share of exact labels."""

    key: ClassVar[str] = "accuracy"
    about: ClassVar[str] = "Share of generated labels that equal the reference, 0-1."

    def statistics(self, predictions: list[str], references: list[str]) -> Array:
        """(n, 2): 1 for a hit, and 1."""
        found = np.ones((len(references), 2))
        found[:, 0] = [
            normalised(guess) == normalised(label) for guess, label in zip(predictions, references, strict=True)
        ]
        return found

    def value(self, sums: Array) -> Array:
        """The share."""
        return ratio(sums)

    def score(self, predictions: list[str], references: list[str], statistics: Array) -> float:
        """scikit-learn's accuracy."""
        from sklearn.metrics import accuracy_score

        return float(accuracy_score([normalised(t) for t in references], [normalised(t) for t in predictions]))


class F1Macro(CorpusMetric):
    """Unweighted mean of the F1 of each label."""

    key: ClassVar[str] = "f1_macro"
    about: ClassVar[str] = "Macro F1 of generated labels over the labels of the references, 0-1."

    def statistics(self, predictions: list[str], references: list[str]) -> Array:
        """(n, 3 labels): for each label hit, true, and predicted, as 0 or 1."""
        true, guess, labels = _labelled(predictions, references)
        is_true = np.array([[label == name for name in labels] for label in true], dtype=np.float64)
        is_guess = np.array([[label == name for name in labels] for label in guess], dtype=np.float64)
        return np.concatenate([is_true * is_guess, is_true, is_guess], axis=1)

    def value(self, sums: Array) -> Array:
        """Mean over the labels that the references of the sample hold."""
        hit, true, guess = np.split(sums, 3, axis=1)
        f1 = np.where(true + guess > 0, 2 * hit / np.maximum(true + guess, 1), 0.0)
        mean: Array = (f1 * (true > 0)).sum(axis=1) / np.maximum((true > 0).sum(axis=1), 1)
        return mean

    def score(self, predictions: list[str], references: list[str], statistics: Array) -> float:
        """scikit-learn's macro F1."""
        from sklearn.metrics import f1_score

        true, guess, labels = _labelled(predictions, references)
        return float(f1_score(true, guess, labels=labels, average="macro", zero_division=0))


def _labelled(predictions: list[str], references: list[str]) -> tuple[list[str], list[str], list[str]]:
    """True labels, predicted ones (no label: a miss), and the sorted labels."""
    true = [normalised(label) for label in references]
    labels = sorted(set(true))
    guess = [label if label in labels else _MISS for label in map(normalised, predictions)]
    return true, guess, labels
