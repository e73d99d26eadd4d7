"""`winnow explain`: the story of one row by its id or by what it says, and the list of what was held back."""

import json
import sys
from typing import Any

from flows.fates import Trail, trail
from flows.find_rows import quarantined_rows, rows_with
from flows.story import full_id, story
from pipeline_config.errors import ConfigError
from tasks.key import data_folder
from tasks.runs import RunRecord, command_in, explain_command, read_run


def explain_row(row_id: str, run_id: str | None, data_dir: str | None, *, as_json: bool) -> None:
    """Print the story of one row."""
    record, stages = _open(run_id, data_dir)
    events = story(full_id(row_id, stages), stages, _colour(as_json))
    if as_json:
        _print({"run_id": record.run_id, "row_id": events[0]["row_id"], "events": events})
    else:
        _print_story(record, events)


def explain_text(text: str, run_id: str | None, limit: int, data_dir: str | None, *, as_json: bool) -> None:
    """Print the rows that contain a text; the story too if there is one row alone."""
    record, stages = _open(run_id, data_dir)
    total, matches = rows_with(text, stages, limit)
    events = story(matches[0]["row_id"], stages, _colour(as_json)) if total == 1 else []
    if as_json:
        _print({"run_id": record.run_id, "total": total, "matches": matches, "events": events})
        return
    if events:
        _print_story(record, events)
        return
    rows = "no row contains that" if not total else f"{total:,} rows contain that"
    print(f"run {record.run_id}: {rows}{_first(total, limit)}")
    for match in matches:
        print(f"  {match['row_id']}  {match['source']}  {match['fate']}\n      {match['excerpt']}")
    if matches:
        print(f"one row's life: {explain_command('ROW_ID', record.run_id, data_folder(data_dir))}")


def explain_quarantined(run_id: str | None, limit: int, data_dir: str | None, *, as_json: bool) -> None:
    """Print what was held back: where it stands, and why."""
    record, stages = _open(run_id, data_dir)
    total, lines = quarantined_rows(stages, limit)
    if as_json:
        _print({"run_id": record.run_id, "total": total, "quarantined": lines})
        return
    held = "nothing is in quarantine" if not total else f"{total:,} in quarantine"
    print(f"run {record.run_id}: {held}{_first(total, limit)}")
    for line in lines:
        place = line["source"] + ("" if line["line"] is None else f", line {line['line']}")
        detail = f" ({line['detail']})" if line["detail"] else ""
        print(f"  {line['row_id']}  {line['stage']}  {place}: {line['reason']}{detail}")
    if lines:
        print(f"one record with its excerpt: {explain_command('ROW_ID', record.run_id, data_folder(data_dir))}")


def _open(run_id: str | None, data_dir: str | None) -> tuple[RunRecord, Trail]:
    folder = data_folder(data_dir)
    record = read_run(folder, run_id)
    stages = trail(record, folder)
    if not stages.artifacts:
        raise ConfigError(
            f"run {record.run_id} has no rows: {stages.ended}",
            place="RUN",
            cure=f"name another run ({command_in(folder, 'winnow', 'status')} lists them), or run it again",
        )
    return record, stages


def _print(document: dict[str, Any]) -> None:
    print(json.dumps(document, ensure_ascii=False))


def _print_story(record: RunRecord, events: list[dict[str, Any]]) -> None:
    print(f"row {events[0]['row_id']} in run {record.run_id}")
    for event in events:
        first, *more = event["text"].split("\n")
        print(f"  {event['stage']:9} {first}")
        for line in more:
            print(f"  {'':9} {line}")


def _first(total: int, limit: int) -> str:
    return f"; the first {limit:,} (--limit N shows more)" if total > limit else ""


def _colour(as_json: bool) -> bool:
    return sys.stdout.isatty() and not as_json
