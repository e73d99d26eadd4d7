"""Models side by side: the run record's flat metric keys as one line for each test set and model.

A key is `evaluate.<model>.<test set>.<metric>`. A model's name holds no dot (`evaluate` refuses one), the metric's
neither, so everything between is the test set's, dots included.
"""

from collections.abc import Mapping
from typing import Any

PREFIX = "evaluate."
SHOWN = ("loss", "bleu", "rouge_l", "bertscore_f1", "size_mb", "tokens_per_second")
MODEL_ORDER = ("base", "tuned", "distilled")


def comparison_table(metrics: Mapping[str, float]) -> list[dict[str, Any]]:
    """The evaluation of a run as lines of a table.

    Args:
        metrics: the run record's metrics; keys of other stages are passed over.

    Returns:
        one dictionary for each test set and model, test sets in alphabetical order, in each `base`, `tuned`,
        `distilled`, then the others in alphabetical order. Keys: `test_set`, `model`, every metric of `SHOWN`
        (None where it was not measured), and whatever else was measured: `<metric>_low` and `<metric>_high` (95 %
        bootstrap interval), `loss_diff` and `rouge_l_diff` (to the base model) with theirs, `chrf`, `accuracy` ….
    """
    found: dict[tuple[str, str], dict[str, float]] = {}
    for key, value in metrics.items():
        parsed = parse_key(key)
        if parsed is not None:
            model, test_set, metric = parsed
            found.setdefault((test_set, model), {})[metric] = value
    lines = sorted(found, key=lambda line: (line[0], _rank(line[1]), line[1]))
    return [
        {"test_set": test_set, "model": model, **dict.fromkeys(SHOWN), **found[test_set, model]}
        for test_set, model in lines
    ]


def parse_key(key: str) -> tuple[str, str, str] | None:
    """Model, test set and metric of a key; None for a key of another stage."""
    parts = key.removeprefix(PREFIX).split(".")
    if not key.startswith(PREFIX) or len(parts) < 3 or not all(parts):
        return None
    return parts[0], ".".join(parts[1:-1]), parts[-1]


def _rank(model: str) -> int:
    return MODEL_ORDER.index(model) if model in MODEL_ORDER else len(MODEL_ORDER)
