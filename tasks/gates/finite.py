"""NaN and infinity: no JSON holds them and no bound compares them, so the manifest says which numbers were so."""

import math
from collections.abc import Mapping
from typing import Any

NOT_FINITE = "not_finite"


def finite_manifest(metrics: Mapping[str, float], facts: Mapping[str, Any]) -> tuple[dict[str, float], dict[str, Any]]:
    """Metrics and facts as a manifest holds them: what is no finite number is left out, and named in the facts."""
    kept, odd = finite_only({name: float(value) for name, value in sorted(metrics.items())})
    clean, more = finite_only(facts)
    named = {NOT_FINITE: [*odd, *more]} if odd or more else {}
    return {name: value for name, value in kept.items() if value is not None}, clean | named


def finite_only(values: Mapping[str, Any], above: str = "") -> tuple[dict[str, Any], list[str]]:
    """The same values with None for every NaN and infinity, which JSON can't hold, and where those stood."""
    clean: dict[str, Any] = {}
    odd: list[str] = []
    for name, value in values.items():
        if isinstance(value, Mapping):
            clean[name], inner = finite_only(value, f"{above}{name}.")
            odd += inner
        elif isinstance(value, float) and not math.isfinite(value):
            clean[name] = None
            odd.append(f"{above}{name}")
        else:
            clean[name] = value
    return clean, odd
