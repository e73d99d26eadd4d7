"""The life of one row: where it came from, what was done to it and why, and where it is now."""

import json
from pathlib import Path
from typing import Any

import polars as pl

from flows.outputs import stage_artifact
from pipeline_config.errors import ConfigError
from pipeline_config.schema import DATA_STAGES
from tasks.artifact import Artifact
from tasks.kernels.pii import mask
from tasks.key import data_folder
from tasks.runs import RunRecord, read_run

_SHOWN = 600  # characters of a text


def explain_row(row_id: str, run_id: str | None, data_dir: str | None, *, as_json: bool) -> None:
    """Print the story of one row."""
    folder = data_folder(data_dir)
    record = read_run(folder, run_id)
    artifacts = _artifacts(record, folder)
    events = story(row_id, artifacts)
    if as_json:
        print(json.dumps({"run_id": record.run_id, "row_id": row_id, "events": events}, ensure_ascii=False))
        return
    print(f"row {events[0]['row_id']} in run {record.run_id}")
    for event in events:
        print(f"  {event['stage']:9} {event['text']}")


def story(row_id: str, artifacts: list[Artifact]) -> list[dict[str, Any]]:
    """What each stage did with a row, in order.

    Raises:
        ConfigError: no stage knows the row, or the prefix means several.
    """
    full = _full_id(row_id, artifacts)
    events: list[dict[str, Any]] = []
    before: dict[str, Any] | None = None
    for artifact in artifacts:
        events += _at_stage(full, artifact, before, artifacts)
        if artifact.stage == "tokenize":
            continue
        now = _one(artifact.rows(), full)
        if before is not None and now is None:
            break
        before = now or before
    if events and before is not None and not any(e["event"] in ("removed", "quarantined") for e in events):
        events.append(_event(full, artifacts[-1].stage, "kept", "the row is kept to the end of the data stages"))
    return events


def _artifacts(record: RunRecord, data_dir: Path) -> list[Artifact]:
    made = [entry.name for entry in record.stages if entry.name in DATA_STAGES and entry.key]
    return [stage_artifact(record, name, data_dir, "RUN") for name in made if record.stage(name).state != "skipped"]


def _full_id(prefix: str, artifacts: list[Artifact]) -> str:
    found: set[str] = set()
    for artifact in artifacts:
        frames = [artifact.own_rows().select("row_id"), artifact.ledger("quarantine").select("row_id")]
        for frame in frames:
            found |= set(frame.filter(pl.col("row_id").str.starts_with(prefix)).collect()["row_id"].to_list())
    if not found:
        raise ConfigError(
            f"no row of this run has the id {prefix}",
            place="ROW_ID",
            cure="ids stand in the report and in the ledgers; another run is named after the id",
        )
    if len(found) > 1:
        raise ConfigError(f"{prefix} means {len(found)} rows", place="ROW_ID", cure=f"one of {sorted(found)[:5]}")
    return found.pop()


def _at_stage(
    row_id: str, artifact: Artifact, before: dict[str, Any] | None, artifacts: list[Artifact]
) -> list[dict[str, Any]]:
    events: list[dict[str, Any]] = []
    stage = artifact.stage
    for line in _lines(artifact.ledger("quarantine"), row_id):
        where = f"{line['source']}" + (f", line {line['line']}" if line["line"] is not None else "")
        detail = f" ({line['detail']})" if line["detail"] else ""
        text = f"quarantined: {line['reason']}{detail}, from {where}; excerpt: {_short(line['excerpt'] or '')}"
        events.append(_event(row_id, stage, "quarantined", text, line))
    now = None if stage == "tokenize" else _one(artifact.rows(), row_id)
    if before is None and now is not None:
        events.append(_first_seen(row_id, artifact, now))
    for line in _lines(artifact.ledger("changed"), row_id):
        places = line["spans"] or []
        text = f"edited by {line['rule']} in {len(places)} place(s), digest {line['before']} -> {line['after']}"
        events.append(_event(row_id, stage, "edited", text, line))
    if before is not None and now is not None:
        events += _assigned(row_id, stage, before, now)
    for line in _lines(artifact.ledger("removed"), row_id):
        events.append(_event(row_id, stage, "removed", _removal(line, artifacts), line))
    if stage == "tokenize":
        events += _tokens(row_id, artifact)
    return events


def _first_seen(row_id: str, artifact: Artifact, now: dict[str, Any]) -> dict[str, Any]:
    stage = artifact.stage
    about = [f"source {now['source']}"] + [f"{k} {now[k]}" for k in ("task", "label", "lang") if now.get(k)]
    if now.get("parent_row_id"):
        lines = _lines(artifact.ledger("added"), row_id) if artifact.manifest["rows"]["added"] else []
        by = "".join(f" by {line['rule']}" for line in lines)
        text = f"added{by} for its parent {now['parent_row_id']} ({', '.join(about)}): {_text_of(now)}"
        return _event(row_id, stage, "added", text, *lines)
    return _event(row_id, stage, "ingested", f"read from {', '.join(about)}: {_text_of(now)}")


def _assigned(row_id: str, stage: str, before: dict[str, Any], now: dict[str, Any]) -> list[dict[str, Any]]:
    """Narrow columns that this stage set or changed."""
    skipped = ("messages", "rejected", "tools", "meta")
    names = [name for name in now if name not in skipped and now[name] != before.get(name)]
    if not names:
        return []
    values = {name: now[name] for name in names}
    shown = ", ".join(f"{n} = {v:.4g}" if isinstance(v, float) else f"{n} = {v}" for n, v in values.items())
    return [_event(row_id, stage, "assigned", shown, values)]


def _removal(line: dict[str, Any], artifacts: list[Artifact]) -> str:
    text = f"removed by {line['rule']}"
    if line["value"] is not None:
        text += f": {line['value']:.4g}"
        if line["threshold"] is not None:
            text += f" against the threshold {line['threshold']:.4g}"
    if line["detail"]:
        text += f" ({line['detail']})"
    if line["kept_row_id"]:
        kept = next(
            (row for a in artifacts if a.stage != "tokenize" and (row := _one(a.rows(), line["kept_row_id"]))), None
        )
        text += f"; the row that is kept: {line['kept_row_id']}"
        text += f": {_text_of(kept)}" if kept else ""
    return text


def _tokens(row_id: str, artifact: Artifact) -> list[dict[str, Any]]:
    lines = _lines(artifact.own_rows().select("row_id", "split", "n_tokens", "n_trained"), row_id)
    return [
        _event(row_id, "tokenize", "tokenised", f"{x['n_tokens']} tokens, {x['n_trained']} of them trained", x)
        for x in lines
    ]


def _event(row_id: str, stage: str, event: str, text: str, values: dict[str, Any] | None = None) -> dict[str, Any]:
    return {"row_id": row_id, "stage": stage, "event": event, "text": text, **({"values": values} if values else {})}


def _lines(frame: pl.LazyFrame, row_id: str) -> list[dict[str, Any]]:
    return frame.filter(pl.col("row_id") == row_id).collect().to_dicts()


def _one(frame: pl.LazyFrame, row_id: str) -> dict[str, Any] | None:
    lines = _lines(frame, row_id)
    return lines[0] if lines else None


def _text_of(row: dict[str, Any]) -> str:
    """The row's turns, personal data masked: rows of `ingest` still hold it."""
    return " | ".join(f"{m['role']}: {_short(mask(m['content'] or ''))}" for m in row["messages"] or [])


def _short(text: str) -> str:
    flat = " ".join(text.split())
    return flat if len(flat) <= _SHOWN else f"{flat[:_SHOWN]} …"
