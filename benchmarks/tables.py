"""The results as Markdown: tables of what was measured, what was promised, and on what machine."""

import os
import platform
import statistics
from collections.abc import Iterable, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

from benchmarks.environments import NOT_RUN
from benchmarks.rule_names import WHY
from benchmarks.targets import rate, targets

_INTRODUCTION = """# Results

Written by `make bench`; ratios are from one alternating run, times are medians (of two rounds the mean). Every tool
runs in a process of its own, does a small file first (imports, compiled kernels, known code digests), then the file
that is timed, from the call to the last byte written. Winnow is called from Python, without Prefect and gates, in a
fresh data folder. Memory is that of the process and all its children."""
_DEDUPE = """Raw text, whole-text rule, 5-token shingles, Jaccard at least 0.7. Truth is computed apart from the
pipeline (`benchmarks/truth.py`). *Left*: true pairs whose both rows were kept, at 0.70 and at 0.75. *For nothing*:
removed rows to which no kept row is a near-duplicate. The bare loop reads, hashes and sketches the same bytes and does
nothing else (one core; in brackets all cores). *Ratio*: a tool's time in times of ours."""

_DECONTAMINATION = """Items of four test sets planted into train one at a time, and rows flagged without plants; what
counts as a false positive is judged apart from the pipeline (`benchmarks/decontamination.py`)."""

_RULES = """Each rule by itself, asked of every row; rules that drop no row on either side are left out."""


def machine() -> dict[str, str]:
    """The machine in words; no names, no paths."""
    cores = len(os.sched_getaffinity(0))
    gigabytes = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1e9
    libraries = ", ".join(f"{name} {version(name)}" for name in ("polars", "numpy", "numba"))
    return {
        "machine": f"{cores} cores, {gigabytes:.0f} GB, {_processor()}",
        "python": f"Python {platform.python_version()} on {platform.system()}; {libraries}",
    }


def document(results: dict[str, Any]) -> str:
    """The whole page."""
    parts = [_INTRODUCTION, _machines(results), _targets(results)]
    if "dedupe" in results:
        parts += ["## Near-duplicates", _DEDUPE]
        parts += [_corpus(name, record) for name, record in results["dedupe"].items()]
        parts += ["\n".join(f"Not run: {name}: {why}." for name, why in NOT_RUN.items())]
    if "quality" in results:
        parts += ["## Quality rules", *_quality(results["quality"])]
    if "decontamination" in results:
        parts += ["## Decontamination", _DECONTAMINATION, _decontamination(results["decontamination"])]
    if any(name in results for name in ("scaling", "toxicity", "clean", "stages")):
        parts += ["## Throughput", *_throughput(results)]
    return "\n\n".join(part for part in parts if part) + "\n"


def table(head: Sequence[str], rows: Iterable[Sequence[str]], left: int = 1) -> str:
    """A Markdown table; the columns behind the first `left` ones are numbers."""
    rule = ["---"] * left + ["---:"] * (len(head) - left)
    lines = [head, rule, *([cell.replace("|", "\\|").replace("\n", " ") for cell in row] for row in rows)]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def _machines(results: dict[str, Any]) -> str:
    """One line a machine and state of the software; more than one if parts were measured apart."""
    found: dict[tuple[str, str, str], list[str]] = {}
    for name, part in results.items():
        said = part.get("measured")
        if said:
            found.setdefault((said["machine"], said["python"], said["date"]), []).append(name)
    return "\n".join(
        f"- {date}, {', '.join(names)}: {machine}; {python}." for (machine, python, date), names in found.items()
    )


def _targets(results: dict[str, Any]) -> str:
    found = targets({name: _without_stamp(part) for name, part in results.items()})
    if not found:
        return ""
    words = {True: "yes", False: "**no**", None: "not measured"}
    held = sum(each.holds is True for each in found)
    rows = [(each.what, each.figure, each.wanted, words[each.holds]) for each in found]
    return f"## Targets\n\n{held} of {len(found)} hold.\n\n" + table(("target", "measured", "wanted", "holds"), rows)


def _corpus(name: str, record: dict[str, Any]) -> str:
    if name == "measured":
        return ""
    if "missing" in record:
        return f"### {name}\n\nNot measured: {record['missing']}."
    ours = record["tools"]["Winnow"].get("median")
    lines = []
    for tool, each in record["tools"].items():
        title = each.get("tool", tool)
        if each["failed"]:
            lines.append((title, "failed", *[""] * 7))
            continue
        ratio = f"{each['median'] / ours:.2f}" if ours else ""
        seconds = f"{each['median']:.2f}"
        if "all_cores" in each:
            seconds += f" ({each['all_cores']:.2f})"
        figures = ["", "", "", ""]
        if "kept" in each:
            lost = each["unjustified"] / each["removed"] if each["removed"] else 0.0
            figures = [f"{each['kept']:,}", f"{each['left']:,}", f"{each['left_above']:,}"]
            figures.append(f"{each['unjustified']:,} ({lost:.1%})")
        lines.append((title, seconds, ratio, str(len(each["seconds"])), f"{each['peak_mb']:,.0f}", *figures))
    head = ("tool", "seconds", "ratio", "rounds", "peak MB", "kept", "left 0.70", "left 0.75", "for nothing")
    sizes = f"{record['rows']:,} rows, {record['megabytes']:.0f} MB, {record['pairs']:,} true pairs at 0.70"
    return f"### {name}\n\n{sizes}, {record['pairs_above']:,} at 0.75.\n\n{table(head, lines)}"


def _quality(record: dict[str, Any]) -> list[str]:
    tools = record["tools"]
    ours = tools["Winnow"].get("median")
    lines = []
    for each in tools.values():
        title = each.get("tool", f"Winnow, ingest and {', '.join(record['rule_sets'])}")
        if each["failed"]:
            lines.append((title, "failed", "", ""))
        else:
            ratio = f"{each['median'] / ours:.1f}" if ours else ""
            lines.append((title, f"{each['median']:.2f}", ratio, f"{each['peak_mb']:,.0f}"))
    keys = ("both", "only_theirs", "only_ours")
    parts = [
        f"{record['corpus']}, {record['rows']:,} rows, {record['megabytes']:.0f} MB, from JSONL to what is written.",
        table(("tool", "seconds", "ratio", "peak MB"), lines),
    ]
    if "kept" in record:
        kept = record["kept"]
        both = f"{kept['agreement']:.2%} of the rows kept or dropped alike"
        parts.append(
            f"Gopher, C4 and FineWeb, one after the other: it keeps {kept['theirs']:,}, we {kept['ours']:,}; {both}."
        )
    rows = [
        (
            reason,
            each["ours"],
            WHY.get(reason, "") if each["agreement"] < 1 else "",
            *(f"{each[key]:,}" for key in keys),
            f"{each['agreement']:.2%}",
        )
        for found in record.get("agreement", {}).values()
        for reason, each in found.items()
        if any(each[key] for key in keys)
    ]
    if rows:
        head = ("datatrove's reason", "our rule", "where they differ", "both drop", "only it", "only we", "alike")
        parts.append(table(head, rows, 3))
        parts.append(_RULES)
    return parts


def _decontamination(record: dict[str, Any]) -> str:
    rows = []
    for name, each in record.items():
        if name != "measured":
            kinds = list(each["found"])
            found = (f"{count / each['tests']:.4f}" for count in each["found"].values())
            false = f"{each['false']:,} ({each['false'] / each['rows']:.3%})"
            rows.append((name, f"{each['tests']:,}", *found, f"{each['rows']:,}", f"{each['flagged']:,}", false))
    return table(("corpus", "planted", *kinds, "rows", "flagged", "false"), rows)


def _throughput(results: dict[str, Any]) -> list[str]:
    rows = []
    for name in ("clean", "toxicity"):
        record = results.get(name, {})
        if "rows" in record:
            middle = statistics.median(record["seconds"])
            cells = (f"{record['rows']:,}", f"{middle:.2f}", f"{rate(record):,.0f}", f"{record['peak_mb']:,.0f}")
            rows.append((f"{name} ({record['corpus']})", *cells))
    for count, each in results.get("scaling", {}).get("sizes", {}).items():
        if "median" in each:
            number, middle = int(count), each["median"]
            cells = (f"{number:,}", f"{middle:.2f}", f"{number / middle:,.0f}", f"{each['peak_mb']:,.0f}")
            rows.append((f"ingest and dedupe ({each['megabytes']:,.0f} MB of random words)", *cells))
    for name, each in results.get("stages", {}).items():
        if name != "measured":
            middle = statistics.median(each["seconds"])
            rows.append(
                (f"{name} (demo recipe)", f"{each['rows']:,}", f"{middle:.2f}", f"{each['rows'] / middle:,.0f}", "")
            )
    if not rows:
        return []
    return [table(("stage", "rows", "seconds", "rows/s", "peak MB"), rows)]


def _without_stamp(part: dict[str, Any]) -> dict[str, Any]:
    return {name: each for name, each in part.items() if name != "measured"}


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.machine()
    return next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), platform.machine())
