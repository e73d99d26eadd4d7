"""What differs between two runs: configuration, code, libraries, sources, counts of each rule, fates of rows, metrics.

Fates are compared as far as both runs went: a row that a stage removed in one run says nothing where the other run
never reached that stage. Stages with the same key in both runs are not read: what they did is the same.
"""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import polars as pl

from flows.fates import WHY, Trail, excerpts, fate_words, fates, rows_seen, trail
from pipeline_config.schema import DATA_STAGES, STAGES
from tasks.artifact import Store, read_manifest
from tasks.runs import RunRecord

_EXCERPT = 160  # characters
_ACTIONS = ("removed", "changed", "added", "quarantined")
_THERE = ("ran", "cached", "failed")


def compare_runs(a: RunRecord, b: RunRecord, data_dir: Path, examples: int) -> dict[str, Any]:
    """Everything that differs between two runs, as one JSON document.

    Args:
        examples: rows shown for each change of fate.
    """
    manifests = {side: _manifests(record, data_dir) for side, record in (("a", a), ("b", b))}
    missing = [
        {"run": record.run_id, "stage": entry.name, "why": "failed" if entry.state == "failed" else "artifact is gone"}
        for side, record in (("a", a), ("b", b))
        for entry in record.stages
        if entry.key and entry.state in _THERE and entry.name not in manifests[side]
    ]
    return {
        "a": _run(a),
        "b": _run(b),
        "missing": missing,
        "configuration": list(_leaves(_by_source(a.config), _by_source(b.config))),
        "code": _code(manifests["a"], manifests["b"]),
        "versions": _versions(manifests["a"], manifests["b"]),
        "sources": _sources(a, b),
        "stages": [_stage(name, a, b, manifests) for name in STAGES if _took_part(name, a, b)],
        "fates": compare_fates(trail(a, data_dir), trail(b, data_dir), examples),
        "metrics": _metrics(a, b),
    }


def compare_fates(a: Trail, b: Trail, examples: int) -> dict[str, Any]:
    """Rows whose fate is not the same, counted by (fate in A, fate in B), with some of each.

    Returns:
        `until` (last stage compared; null if none), `ended` (why no further), `unchanged` rows, `changed` groups
        (largest first) and `moved` groups (rows kept in both, in another split).
    """
    reach = min(a.reach, b.reach)
    ended = [words for words in dict.fromkeys(t.ended for t in (a, b) if t.reach == reach) if words]
    ours, theirs = a.until(reach), b.until(reach)
    last = max((DATA_STAGES.index(artifact.stage) for artifact in [*ours, *theirs]), default=0)
    told: dict[str, Any] = {"until": DATA_STAGES[last] if ours and theirs else None, "ended": "; ".join(ended)}
    if not ours or not theirs:
        return told | {"unchanged": 0, "changed": [], "moved": []}
    alike = {artifact.key for artifact in ours} & {artifact.key for artifact in theirs}
    both = fates(ours, alike).join(fates(theirs, alike), on="row_id", how="full", coalesce=True, suffix="_b")
    differs = pl.any_horizontal(pl.col(name).ne_missing(pl.col(f"{name}_b")) for name in WHY)
    moved = (pl.col("split") != pl.col("split_b")).fill_null(False)
    lines = both.filter(differs | moved).with_columns(differs=differs).collect()
    changed, elsewhere = lines.filter("differs"), lines.filter(~pl.col("differs"))
    left = changed["fate"].is_not_null().sum()
    groups = _groups(changed, [*WHY, *(f"{name}_b" for name in WHY)], examples)
    texts = excerpts([*ours, *theirs], {row["row_id"] for _, _, rows in groups for row in rows}, _EXCERPT)
    told["unchanged"] = rows_seen(ours) - int(left)
    told["changed"] = [
        {
            "from": fate_words(*key[:3]),
            "to": fate_words(*key[3:]),
            "rows": n,
            "examples": [
                {"row_id": row["row_id"], "a": _side(row, ""), "b": _side(row, "_b")}
                | {"excerpt": texts.get(row["row_id"], "")}
                for row in rows
            ],
        }
        for key, n, rows in groups
    ]
    told["moved"] = [
        {"from": key[0], "to": key[1], "rows": n, "examples": [row["row_id"] for row in rows]}
        for key, n, rows in _groups(elsewhere, ["split", "split_b"], examples)
    ]
    return told


def _groups(lines: pl.DataFrame, by: list[str], examples: int) -> list[tuple[tuple[Any, ...], int, list[Any]]]:
    """Key, number of rows, and the rows with the smallest ids, of each group; the largest group first."""
    counted = lines.group_by(by).len().sort(["len", *by], descending=[True] + [False] * len(by))
    shown = lines.sort("row_id").group_by(by, maintain_order=True).head(examples)
    rows: dict[tuple[Any, ...], list[Any]] = {}
    for row in shown.iter_rows(named=True):
        rows.setdefault(tuple(row[name] for name in by), []).append(row)
    return [(key := line[:-1], line[-1], rows.get(key, [])) for line in counted.iter_rows()]


def _side(row: Mapping[str, Any], suffix: str) -> dict[str, Any]:
    names = (*WHY, "value", "threshold", "kept_row_id", "detail", "split")
    return {name: row[f"{name}{suffix}"] for name in names if row[f"{name}{suffix}"] is not None}


def _run(record: RunRecord) -> dict[str, Any]:
    return {name: getattr(record, name) for name in ("run_id", "status", "config_name", "parent_run_id")}


def _manifests(record: RunRecord, data_dir: Path) -> dict[str, Any]:
    found = {}
    for entry in record.stages:
        if entry.key and entry.state in _THERE:
            try:
                found[entry.name] = read_manifest(Store(data_dir).folder(entry.name, entry.key))
            except (OSError, ValueError):
                continue
    return found


def _took_part(stage: str, *records: RunRecord) -> bool:
    return any(record.stage(stage).state != "skipped" for record in records)


def _by_source(config: Mapping[str, Any]) -> dict[str, Any]:
    """The configuration with its sources by name instead of by place; their paths are told of with the sources."""
    ingest = dict(config.get("ingest") or {})
    named = {source.get("name", ""): source for source in ingest.get("sources", [])}
    ingest["sources"] = {
        name: {key: value for key, value in source.items() if key not in ("path", "dataset")}
        for name, source in named.items()
    }
    return {**config, "ingest": ingest}


def _leaves(a: Any, b: Any, key: str = "") -> Iterator[dict[str, Any]]:
    """`{key, from, to}` for every value that differs; a section on one side only is one line."""
    if isinstance(a, dict) and isinstance(b, dict):
        for name in [*a, *(name for name in b if name not in a)]:
            yield from _leaves(a.get(name), b.get(name), f"{key}.{name}" if key else name)
    elif a != b:
        yield {"key": key, "from": a, "to": b}


def _code(a: Mapping[str, Any], b: Mapping[str, Any]) -> list[dict[str, str]]:
    return [
        {"stage": name, "from": a[name]["code"][:12], "to": b[name]["code"][:12]}
        for name in STAGES
        if name in a and name in b and a[name]["code"] != b[name]["code"]
    ]


def _versions(a: Mapping[str, Any], b: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Libraries of the stages that both runs have."""
    ours, theirs = ({k: v for m in side.values() for k, v in m["versions"].items()} for side in (a, b))
    return [
        {"library": name, "from": ours[name], "to": theirs[name]}
        for name in sorted(ours.keys() & theirs.keys())
        if ours[name] != theirs[name]
    ]


def _sources(a: RunRecord, b: RunRecord) -> list[dict[str, Any]]:
    ours, theirs = ({source["name"]: source for source in record.sources} for record in (a, b))
    found = []
    for name in [*ours, *(name for name in theirs if name not in ours)]:
        old, new = ours.get(name), theirs.get(name)
        if old is None or new is None:
            found.append({"name": name, "change": "added" if old is None else "removed"})
        elif old["sha256"] != new["sha256"]:
            found.append(
                {"name": name, "change": "other content", "from": old["sha256"][:12], "to": new["sha256"][:12]}
            )
        elif old["path"] != new["path"]:
            found.append({"name": name, "change": "moved, same content", "from": old["path"], "to": new["path"]})
    return found


def _stage(name: str, a: RunRecord, b: RunRecord, manifests: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    keys = a.stage(name).key, b.stage(name).key
    line: dict[str, Any] = {"stage": name, "same_artifact": keys[0] is not None and keys[0] == keys[1]}
    rules: dict[tuple[str, str], dict[str, int]] = {}
    for side, record in (("a", a), ("b", b)):
        rows = manifests[side].get(name, {}).get("rows")
        data = rows is not None and name in DATA_STAGES
        line[side] = {"state": record.stage(name).state, "in": rows["in"] if data else None}
        line[side]["out"] = rows["out"] if data else None
        for action in _ACTIONS if data else ():
            for rule, n in rows[action].items():
                rules.setdefault((action, rule), {"a": 0, "b": 0})[side] = n
    line["rules"] = [{"action": action, "rule": rule, **n} for (action, rule), n in sorted(rules.items())]
    return line


def _metrics(a: RunRecord, b: RunRecord) -> list[dict[str, Any]]:
    """Every metric of either run; `difference` is B minus A."""
    found = []
    for name in sorted(a.metrics.keys() | b.metrics.keys()):
        old, new = a.metrics.get(name), b.metrics.get(name)
        both = old is not None and new is not None
        found.append({"name": name, "a": old, "b": new, "difference": new - old if both else None})  # type: ignore[operator]
    return found
