"""What every metric here offers: a corpus value, and per-example statistics from which it can be resampled.

`compute(predictions=…, references=…)` of a subclass gives `{<name>: value, "statistics": (n, k) array}`, so that one
bootstrap serves all of them (`tasks/evaluate/bootstrap.py`). Nothing is cached on disk.
"""

import tempfile
from abc import ABC, abstractmethod
from typing import Any, ClassVar

import evaluate
from datasets import Features, Value

from tasks.evaluate.bootstrap import Array


class CorpusMetric(evaluate.Metric, ABC):  # type: ignore[misc]  # the library has no types
    """An `evaluate.Metric` whose value is a function of sums of per-example statistics.

    Attributes:
        key: its name in results and metric keys.
        about: what it is and its range, in one sentence.
    """

    key: ClassVar[str]
    about: ClassVar[str]

    def __init__(self, **options: Any) -> None:
        # the library makes its cache folder even when nothing is cached
        with tempfile.TemporaryDirectory() as folder:
            super().__init__(**({"keep_in_memory": True, "cache_dir": folder} | options))

    @abstractmethod
    def statistics(self, predictions: list[str], references: list[str]) -> Array:
        """Per-example statistics whose sums give the value: (n, k) float64."""

    @abstractmethod
    def value(self, sums: Array) -> Array:
        """The metric from sums of statistics: (m, k) → (m,)."""

    def score(self, predictions: list[str], references: list[str], statistics: Array) -> float:
        """The value of the whole corpus."""
        return float(self.value(statistics.sum(axis=0, keepdims=True))[0])

    def _info(self) -> Any:
        features = Features({"predictions": Value("string"), "references": Value("string")})
        return evaluate.MetricInfo(
            description=self.about,
            citation="",
            inputs_description="predictions: one text each; references: one text each.",
            features=features,
        )

    def _compute(self, predictions: list[str], references: list[str]) -> dict[str, Any]:
        predictions, references = list(predictions), list(references)
        statistics = self.statistics(predictions, references)
        return {self.key: self.score(predictions, references, statistics), "statistics": statistics}
