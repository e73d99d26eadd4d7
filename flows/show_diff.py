"""Two runs side by side on the terminal: only what differs."""

import json
from collections.abc import Mapping
from typing import Any

from flows.compare import compare_runs
from tasks.key import data_folder
from tasks.runs import read_run

_ALIKE = ({"ran", "cached"}, {"skipped", "pending"}, {"failed"})  # states that are no difference
_LONGEST = 60  # characters of a configuration value


def show_diff(a: str, b: str, examples: int, data_dir: str | None, *, as_json: bool) -> None:
    """Print what differs between two runs."""
    folder = data_folder(data_dir)
    found = compare_runs(read_run(folder, a), read_run(folder, b), folder, examples)
    if as_json:
        print(json.dumps(found, ensure_ascii=False))
        return
    print("\n".join(diff_lines(found)))


def diff_lines(found: Mapping[str, Any]) -> list[str]:
    """The document of `compare_runs` in words, section by section; what is the same is left out."""
    lines = [
        f"{side.upper()}  run {found[side]['run_id']}  {found[side]['status']}  {_name(found[side])}" for side in "ab"
    ]
    lines += [f"note: run {m['run']}, {m['stage']}: {m['why']}" for m in found["missing"]]
    sections = {
        "configuration": [_change(x["key"], x["from"], x["to"]) for x in found["configuration"]],
        "sources": [f"{x['name']}: {x['change']}" + _from_to(x) for x in found["sources"]],
        "code": [f"{x['stage']}: {x['from']} -> {x['to']}" for x in found["code"]],
        "libraries": [f"{x['library']}: {x['from']} -> {x['to']}" for x in found["versions"]],
        "rows of each stage (A, B, difference)": _rows(found["stages"]),
        "rows that changed fate": _fates(found["fates"]),
        "metrics (A, B, difference)": _metrics(found["metrics"]),
    }
    for title, content in sections.items():
        lines += ["", title, *(f"  {line}" for line in content or ["no difference"])]
    return lines


def _name(run: Mapping[str, Any]) -> str:
    name = str(run["config_name"]).rsplit("/", 1)[-1]
    return f"{name}, goes on with {run['parent_run_id']}" if run["parent_run_id"] else name


def _change(key: str, old: Any, new: Any) -> str:
    section = "." not in key
    return f"{key}: {_value(old, section)} -> {_value(new, section)}"


def _from_to(line: Mapping[str, Any]) -> str:
    return f" ({line['from']} -> {line['to']})" if "from" in line else ""


def _value(value: Any, section: bool) -> str:
    if value is None or (section and isinstance(value, dict)):
        return ("off" if value is None else "on") if section else "none"
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST]} …"


def _rows(stages: list[dict[str, Any]]) -> list[str]:
    table: list[tuple[str, str, str, str]] = []
    for stage in stages:
        a, b = stage["a"], stage["b"]
        if stage["same_artifact"] and "failed" not in (a["state"], b["state"]):
            continue
        if not any({a["state"], b["state"]} <= alike for alike in _ALIKE):
            table.append((f"{stage['stage']}  state", a["state"], b["state"], ""))
        for name in ("in", "out"):
            if a[name] is not None or b[name] is not None:
                table.append((f"{stage['stage']}  {name}", *_counts(a[name], b[name])))
        for rule in stage["rules"]:
            if rule["a"] != rule["b"]:
                table.append((f"{stage['stage']}  {rule['action']}: {rule['rule']}", *_counts(rule["a"], rule["b"])))
    return _columns(table)


def _counts(a: int | None, b: int | None) -> tuple[str, str, str]:
    cells = ["-" if n is None else f"{n:,}" for n in (a, b)]
    return cells[0], cells[1], f"{b - a:+,}" if a is not None and b is not None and a != b else ""


def _fates(fates: Mapping[str, Any]) -> list[str]:
    if fates["until"] is None:
        return [f"can't be told: {fates['ended'] or 'a run has no rows'}"]
    lines = [f"compared up to {fates['until']}: {fates['ended']}"] if fates["ended"] else []
    lines.append(f"{_rows_of(fates['unchanged'])} as before")
    for change in fates["changed"]:
        lines.append(f"{_rows_of(change['rows'])}: {change['from']} -> {change['to']}")
        for row in change["examples"]:
            facts = [f"{side.upper()} {words}" for side in "ab" if (words := _numbers(row[side]))]
            lines.append("    ".join(["", row["row_id"], *facts]))
            lines += [f"        {row['excerpt']}"] if row["excerpt"] else []
    for move in fates["moved"]:
        lines.append(f"{_rows_of(move['rows'])}: {move['from']} -> {move['to']}, such as {', '.join(move['examples'])}")
    return lines


def _rows_of(n: int) -> str:
    return "1 row" if n == 1 else f"{n:,} rows"


def _numbers(side: Mapping[str, Any]) -> str:
    words = []
    if "value" in side:
        bound = f", threshold {side['threshold']:.4g}" if "threshold" in side else ""
        words.append(f"{side['value']:.4g}{bound}")
    words += [f"repeats {side['kept_row_id']}"] if "kept_row_id" in side else []
    words += [side["detail"]] if side.get("detail") else []
    return ", ".join(words)


def _metrics(metrics: list[dict[str, Any]]) -> list[str]:
    table = []
    for line in metrics:
        if line["a"] != line["b"]:
            cells = ["-" if line[side] is None else f"{line[side]:,.4g}" for side in "ab"]
            change = "" if line["difference"] is None else f"{line['difference']:+,.4g}"
            table.append((line["name"], cells[0], cells[1], change))
    return _columns(table)


def _columns(table: list[tuple[str, str, str, str]]) -> list[str]:
    """The first column to the left, numbers to the right."""
    if not table:
        return []
    widths = [max(len(row[n]) for row in table) for n in range(4)]
    return [
        (f"{row[0]:{widths[0]}}" + "".join(f"  {row[n]:>{widths[n]}}" for n in (1, 2, 3))).rstrip() for row in table
    ]
