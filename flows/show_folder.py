"""A data folder on the terminal: its runs, its sizes, and what `winnow gc` gives back."""

import json
from collections import Counter
from pathlib import Path
from typing import Any

from flows.overview import FOLDERS, bytes_in_words, overview
from tasks.key import data_folder

_SHOWN = 20  # runs


def show_overview(data_dir: str | None, *, as_json: bool) -> None:
    """Print all runs and the sizes of the data folder's parts."""
    folder = data_folder(data_dir)
    found = overview(folder)
    if as_json:
        print(json.dumps(found, ensure_ascii=False))
        return
    if not found["runs"]:
        print(f"no runs in {folder} yet; type: winnow run")
        return
    from flows.show import print_table

    print_table(*_table(found["runs"][:_SHOWN]))
    if len(found["runs"]) > _SHOWN:
        print(f"and {len(found['runs']) - _SHOWN:,} older runs (--json lists all)")
    totals = ", ".join(f"{name} {bytes_in_words(found['sizes'][name])}" for name in FOLDERS)
    print(f"\n{folder}: {bytes_in_words(found['sizes']['total'])} ({totals})")
    print("one run: winnow status RUN     two runs: winnow diff A B     less disk: winnow gc --keep N --dry-run")
    waiting = next((run["resume"] for run in found["runs"] if run.get("resume")), None)
    if waiting and found["runs"][0].get("resume"):
        print(f"to go on with the latest: {waiting}")


def show_collection(keep: int, dry_run: bool, data_dir: str | None, *, as_json: bool) -> None:
    """Remove what the newest runs do not use, and print what that gives."""
    from flows.collect import collect

    folder = data_folder(data_dir)
    items, needs = collect(folder, keep, dry_run=dry_run)
    total = sum(item.bytes for item in items)
    if as_json:
        removed = [{"kind": i.kind, "path": _inside(i.path, folder), "bytes": i.bytes} for i in items]
        kept = {"kept_runs": sorted(needs.runs), "running": sorted(needs.running), "last_done": needs.last_done}
        print(json.dumps({"dry_run": dry_run, **kept, "removed": removed, "bytes": total}, ensure_ascii=False))
        return
    if dry_run:
        for item in (item for item in items if item.bytes):
            print(f"{bytes_in_words(item.bytes):>10}  {item.kind:12}  {_inside(item.path, folder)}")
    counts = Counter(item.kind for item in items)
    told = ", ".join(f"{n:,} {kind}{'' if n == 1 else 's'}" for kind, n in counts.items())
    runs = f"{len(needs.runs)} run{'' if len(needs.runs) == 1 else 's'} kept"
    if needs.running:
        runs += f", {len(needs.running)} of them running"
    if needs.last_done:
        runs += f", {needs.last_done} among them as the newest that is done"
    verb = "would be freed" if dry_run else "freed"
    print(f"{bytes_in_words(total)} {verb}: {told or 'nothing to remove'}; {runs}")


def _inside(path: Path, folder: Path) -> str:
    return path.relative_to(folder).as_posix()


def _table(runs: list[dict[str, Any]]) -> tuple[str, list[tuple[str, bool]], list[list[str]]]:
    columns = [("run", False), ("started (UTC)", False), ("status", False), ("ran", True), ("cached", True)]
    columns += [("seconds", True), ("size", True), ("configuration", False)]
    lines = []
    for run in runs:
        states = run.get("stages", {})
        name = str(run.get("config", "")).rsplit("/", 1)[-1]
        name += f" (goes on with {run['parent_run_id']})" if run.get("parent_run_id") else ""
        name += f" ({run['missing']} artifacts gone)" if run.get("missing") and run["status"] == "done" else ""
        lines.append(
            [run["run_id"], (run["started"] or "")[:16].replace("T", " "), run["status"]]
            + [str(states.get(state, 0)) for state in ("ran", "cached")]
            + [f"{run.get('seconds', 0):,.1f}", bytes_in_words(run.get("bytes", 0)), name]
        )
    return "runs, newest first", columns, lines
