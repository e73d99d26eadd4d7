"""Bounds on which rows a stage leaves: missing values, the mix of sources, tasks, labels and languages, their lengths,
and how far all that has drifted since an earlier run.

Drift is the population stability index, Σ (a − e) · ln(a / e) over categories or length bins, a and e the shares now
and then (Siddiqi, Credit Risk Scorecards, 2006: below 0.1 little, above 0.25 much). Half a row is added to every
count, so that a category that is new or gone gives a finite index.
"""

import math
from collections.abc import Mapping
from typing import Any

from pipeline_config.fields import Range
from pipeline_config.gate_schema import DRIFT_NOTICED, DRIFT_ROWS, DRIFT_STAGES, MIXES, Drift, RowGate
from tasks.gates.bounds import Bound, Reference, Sample

_WORDS = {"sources": "source", "tasks": "task", "labels": "label", "languages": "language", "splits": "split"}
_STALE = "the artifact is of an older version of Winnow and does not say; run this stage again with --force"
_LONGEST_NAME = 40  # characters of a value that is shown


def null_bounds(population: Mapping[str, Any] | None, gate: RowGate) -> list[Bound]:
    """Shares of rows without a value."""
    bounds = []
    for column, most in sorted(gate.max_null_share.items()):
        observed = None
        if population is not None and column in population["nulls"]:
            observed = population["nulls"][column] / max(1, population["rows"])
        bounds.append(
            Bound(f"share of rows without {column}", observed, None, most, f"max_null_share.{column}",
                  "" if population is not None else _STALE, Sample("null", column=column))
        )  # fmt: skip
    return bounds


def mix_bounds(population: Mapping[str, Any] | None, gate: RowGate, mixes: Mapping[str, str] = MIXES) -> list[Bound]:
    """Shares of the values of a column among the rows that have one, and how many values there are."""
    bounds = []
    for key, column in mixes.items():
        counts = None if population is None else population["mix"].get(column)
        total = sum((counts or {}).values())
        wanted: Mapping[str, Range] = getattr(gate, key)
        for name, limits in sorted(wanted.items()):
            observed = None if counts is None else counts.get(name, 0) / max(1, total)
            too_many = observed is not None and limits.max is not None and observed > limits.max
            sample = Sample("value" if too_many else "not_value", name, column)
            there = f"there are: {', '.join(map(_shown, list(counts or {})[:12]))}" if counts else ""
            advice = _STALE if counts is None else there if name not in counts else ""
            bounds.append(
                Bound(f"share of {_WORDS[key]} {name}", observed, limits.min, limits.max, f"{key}.{name}", advice,
                      sample)
            )  # fmt: skip
        least = getattr(gate, f"min_{key}", None)
        if least is not None:
            kinds = None if counts is None else float(len(counts))
            advice = "" if counts is not None else _STALE
            bounds.append(Bound(f"different {key}", kinds, least, None, f"min_{key}", advice))
    return bounds


def length_bounds(population: Mapping[str, Any] | None, gate: RowGate, unit: str = "characters") -> list[Bound]:
    """Quantiles of the rows' lengths."""
    bounds = []
    wanted = getattr(gate, unit)
    for quantile in type(wanted).model_fields:
        limits: Range | None = getattr(wanted, quantile)
        if limits is None:
            continue
        found = None if population is None else population.get(unit, {}).get("quantiles", {}).get(quantile)
        too_long = found is not None and limits.max is not None and found > limits.max
        bounds.append(
            Bound(f"{unit} of a row, {quantile}", found, limits.min, limits.max, f"{unit}.{quantile}",
                  "" if population is not None else _STALE, Sample("longest" if too_long else "shortest", column=unit))
        )  # fmt: skip
    return bounds


def drift_bounds(
    population: Mapping[str, Any] | None, reference: Reference | None, gate: RowGate, stage: str
) -> list[Bound]:
    """Drift since the reference run; nothing without one. By default a large shift of many rows warns (two stages)."""
    if population is None or reference is None:
        return []
    then, bounds = reference.population, []
    noticed = stage in DRIFT_STAGES and min(population["rows"], then["rows"]) >= DRIFT_ROWS
    for kind in Drift.model_fields:
        limit: float | None = getattr(gate.max_drift, kind)
        if limit is None and not noticed:
            continue
        now_counts, then_counts = _counted(population, kind), _counted(then, kind)
        if now_counts is None or then_counts is None or not (now_counts or then_counts):
            continue
        index = population_stability(then_counts, now_counts)
        most = DRIFT_NOTICED if limit is None else limit
        words, name = _moved(then_counts, now_counts, kind)
        unit = "characters" if "characters" in population else "tokens"
        sample = Sample("longest", column=unit) if kind == "length" else Sample("value", name, MIXES[kind])
        bounds.append(
            Bound(f"drift of {kind} (population stability index)", index, None, most,
                  f"max_drift.{kind}", words, sample, advisory=limit is None)
        )  # fmt: skip
    return bounds


def population_stability(then: Mapping[str, int], now: Mapping[str, int]) -> float:
    """The index of two counted distributions; 0: the same shares, no upper bound. Rounded to six digits."""
    names = sorted({*then, *now})
    before, after = (_shares(counts, names) for counts in (then, now))
    return round(sum((a - e) * math.log(a / e) for e, a in zip(before, after, strict=True)), 6)


def _shares(counts: Mapping[str, int], names: list[str]) -> list[float]:
    total = sum(counts.values()) + 0.5 * len(names)
    return [(counts.get(name, 0) + 0.5) / total for name in names]


def _counted(population: Mapping[str, Any], kind: str) -> Mapping[str, int] | None:
    if kind != "length":
        mix: Mapping[str, int] | None = population["mix"].get(MIXES[kind])
        return mix
    lengths = population.get("characters") or population.get("tokens")
    return None if lengths is None else lengths["bins"]


def _moved(then: Mapping[str, int], now: Mapping[str, int], kind: str) -> tuple[str, str]:
    """The value whose share changed most, in words, and the one that grew most."""
    names = sorted({*then, *now})
    changes = {name: _share(now, name) - _share(then, name) for name in names}
    most = max(names, key=lambda name: (abs(changes[name]), name))
    grown = max(names, key=lambda name: (changes[name], name))
    what = _bin_words(most) if kind == "length" else _shown(most)
    return f"most has changed: {what}, from {_share(then, most):.3f} to {_share(now, most):.3f} of the rows", grown


def _share(counts: Mapping[str, int], name: str) -> float:
    return counts.get(name, 0) / max(1, sum(counts.values()))


def _bin_words(name: str) -> str:
    k = int(name)
    return f"lengths of {2 ** (k - 1):,} to {2**k - 1:,}" if k else "empty rows"


def _shown(name: str) -> str:
    """A value of a column as a message may hold it: one that is long may be text of the user's."""
    return name if len(name) <= _LONGEST_NAME and name.isprintable() else "a long value"
