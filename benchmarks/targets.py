"""What was promised, and whether the figures keep it."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

FASTER = {"datatrove": 80.0, "data-juicer": 40.0, "text-dedup": 15.0, "rensa": 3.0}
BARE_LOOP = 2.5  # times a read-hash-sketch loop over the same bytes, at most
MEMORY = 0.5  # of the leanest peer's peak, at most
LEFT, LEFT_ABOVE = 1e-3, 1e-4  # of the input's pairs: at the threshold, and at 0.05 above it
PER_ROW = 1.5  # time per row at the largest size against the smallest
PEAK_MB = 2500.0  # at the largest size
SCORED = 50_000.0  # rows a second, toxicity
RULES_FASTER = 60.0
RULES_AGREE = 0.99
FOUND, FOUND_EDITED = 0.99, 0.9  # of planted test items: word for word, and with one token in ten replaced
FALSE = 1e-3  # of honest rows


@dataclass(frozen=True)
class Target:
    """One promise: `figure`, and what it was to be; None where it could not be measured."""

    what: str
    figure: str
    wanted: str
    holds: bool | None


def targets(results: dict[str, Any]) -> list[Target]:
    """Every promise about the parts that were measured."""
    found: list[Target] = []
    for corpus, record in results.get("dedupe", {}).items():
        if "tools" in record and "median" in record["tools"].get("Winnow", {}):
            found += _dedupe(corpus, record)
    if "scaling" in results:
        found += _scaling(results["scaling"]["sizes"])
    if "rows" in results.get("toxicity", {}):
        found.append(_at_least("toxicity, rows a second", rate(results["toxicity"]), SCORED, "{:,.0f}"))
    if "quality" in results:
        found += _quality(results["quality"])
    for corpus, record in results.get("decontamination", {}).items():
        found += _decontamination(corpus, record)
    return found


def rate(record: dict[str, Any]) -> float:
    """Rows a second, by the median of the runs."""
    seconds = sorted(record["seconds"])
    middle = (seconds[(len(seconds) - 1) // 2] + seconds[len(seconds) // 2]) / 2
    return float(record["rows"] / middle)


def _dedupe(corpus: str, record: dict[str, Any]) -> Iterator[Target]:
    tools, pairs = record["tools"], record["pairs"]
    ours = tools["Winnow"]
    peers = {name: tools[name] for name in FASTER if "median" in tools.get(name, {})}
    for name, factor in FASTER.items():
        if name in peers:
            ratio = peers[name]["median"] / ours["median"]
            yield _at_least(f"{corpus}: times faster than {name}", ratio, factor, "{:.1f}")
    if "median" in tools.get("bare loop", {}):
        ratio = ours["median"] / tools["bare loop"]["median"]
        yield _at_most(f"{corpus}: time against the bare loop", ratio, BARE_LOOP, "{:.2f}")
    if peers:
        ratio = ours["peak_mb"] / min(peer["peak_mb"] for peer in peers.values())
        yield _at_most(f"{corpus}: peak memory against the leanest peer", ratio, MEMORY, "{:.2f}")
        for word, key in (("true pairs left", "left"), ("removed for nothing", "unjustified")):
            least = min(peer[key] for peer in peers.values())
            yield _at_most(f"{corpus}: {word} (the best peer: {least:,})", ours[key], least, "{:,.0f}")
    yield _at_most(f"{corpus}: removed rows without a kept near-duplicate", ours["unjustified"], 0, "{:.0f}")
    if pairs:
        yield _at_most(f"{corpus}: pairs left, share of all at 0.70", ours["left"] / pairs, LEFT, "{:.4%}")
        yield _at_most(f"{corpus}: pairs left at 0.75, share of all", ours["left_above"] / pairs, LEFT_ABOVE, "{:.4%}")


def _scaling(sizes: dict[str, Any]) -> Iterator[Target]:
    measured = {int(rows): each for rows, each in sizes.items() if "median" in each}
    if len(measured) < 2:
        return
    small, large = min(measured), max(measured)
    ratio = (measured[large]["median"] / large) / (measured[small]["median"] / small)
    yield _at_most(f"time per row at {large:,} rows against {small:,}", ratio, PER_ROW, "{:.2f}")
    yield _at_most(f"peak memory at {large:,} rows, MB", measured[large]["peak_mb"], PEAK_MB, "{:,.0f}")


def _quality(record: dict[str, Any]) -> Iterator[Target]:
    tools = record["tools"]
    if all("median" in tools.get(name, {}) for name in ("Winnow", "datatrove")) and len(record["rule_sets"]) == 4:
        ratio = tools["datatrove"]["median"] / tools["Winnow"]["median"]
        yield _at_least("four rule sets: times faster than datatrove's four filters", ratio, RULES_FASTER, "{:.1f}")
    if "kept" in record:
        yield _at_least("Gopher, C4, FineWeb: kept alike", record["kept"]["agreement"], RULES_AGREE, "{:.2%}")
    rules = [each["agreement"] for found in record.get("agreement", {}).values() for each in found.values()]
    if rules:
        least = f"the least of {len(rules)} rules: rows decided alike"
        yield _at_least(least, min(rules), RULES_AGREE, "{:.2%}")


def _decontamination(corpus: str, record: dict[str, Any]) -> Iterator[Target]:
    for kind, count in record["found"].items():
        wanted = FOUND_EDITED if kind.startswith("edited") else FOUND
        yield _at_least(f"{corpus}: planted items found, {kind}", count / record["tests"], wanted, "{:.4f}")
    yield _at_most(f"{corpus}: rows flagged for nothing", record["false"] / record["rows"], FALSE, "{:.3%}")


def _at_least(what: str, figure: float, wanted: float, form: str) -> Target:
    return Target(what, form.format(figure), f"at least {form.format(wanted)}", figure >= wanted)


def _at_most(what: str, figure: float, wanted: float, form: str) -> Target:
    return Target(what, form.format(figure), f"at most {form.format(wanted)}", figure <= wanted)
