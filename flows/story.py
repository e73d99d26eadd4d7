"""The life of one row, from the source to the last data stage: what each stage did with it, and why.

Ledgers and thin decisions tell it; text is looked up in the artifact that holds it, one row at a time, so the story
costs a scan of narrow columns however many rows there are. Personal data is masked: rows of `ingest` still hold it.
"""

from collections.abc import Mapping
from typing import Any

import polars as pl

from flows.fates import Trail, short, text_of
from flows.kept_elsewhere import kept_elsewhere
from flows.word_diff import word_diff
from pipeline_config.errors import ConfigError
from tasks.artifact import Artifact
from tasks.runs import command_in

_SHOWN = 600  # characters of a text
_NAMED = 5  # rows that are named, of many
_TEXTS = ("messages", "rejected", "tools", "meta", "text_row")
Event = dict[str, Any]
Row = dict[str, Any]


def story(row_id: str, trail: Trail, colour: bool = False) -> list[Event]:
    """What each stage did with a row, in order: `row_id, stage, event, text`, and `values` or `difference`.

    Args:
        row_id: all 16 digits.
        colour: for texts on a terminal.

    Raises:
        ConfigError: no stage of the run knows the row.
    """
    events: list[Event] = []
    before: Row | None = None
    gone = False
    for place, artifact in enumerate(trail.artifacts):
        told, before, gone = _Stage(row_id, artifact, trail.artifacts[:place], colour).tell(before)
        events += told
        if gone:
            break
    if not events:
        raise ConfigError(
            f"no row of this run has the id {row_id}",
            place="ROW_ID",
            cure=f"{_finding(trail)}; another run is named behind the id",
        )
    if not gone:
        end = f"kept so far ({trail.ended})" if trail.ended else "the row is kept to the end of the data stages"
        events.append(_event(row_id, trail.artifacts[-1].stage, "kept", end))
    return events


def _finding(trail: Trail) -> str:
    return f"`{command_in(trail.data_dir, 'winnow', 'explain', '--text', 'WORDS')}` finds rows by what they say"


def full_id(prefix: str, trail: Trail) -> str:
    """The one row id that begins with these digits.

    Raises:
        ConfigError: it is no part of an id, or none or several rows have it.
    """
    wanted = prefix.strip().lower()
    if not wanted or set(wanted) - set("0123456789abcdef") or len(wanted) > 16:
        raise ConfigError(
            f"{prefix!r} is no row id" if wanted else "the row id is empty",
            place="ROW_ID",
            cure=f"an id has 16 hex digits, its beginning is enough; {_finding(trail)}",
        )
    if len(wanted) == 16:
        return wanted
    found: set[str] = set()
    for artifact in trail.artifacts:
        for frame in (artifact.own_rows(), artifact.ledger("removed"), artifact.ledger("quarantine")):
            ids = frame.select("row_id").filter(pl.col("row_id").str.starts_with(wanted)).collect()
            found |= set(ids["row_id"].to_list())
    if len(found) > 1:
        raise ConfigError(
            f"{prefix} means {len(found)} rows", place="ROW_ID", cure=f"one of {', '.join(sorted(found)[:_NAMED])}"
        )
    return found.pop() if found else wanted


class _Stage:
    """One stage's part of a row's story."""

    def __init__(self, row_id: str, artifact: Artifact, above: list[Artifact], colour: bool) -> None:
        self.row_id = row_id
        self.artifact = artifact
        self.stage = artifact.stage
        self.above = above
        self.colour = colour

    def tell(self, before: Row | None) -> tuple[list[Event], Row | None, bool]:
        """The events, the row as the stage left it, and whether it is gone."""
        events = [self._quarantined(line) for line in _lines(self.artifact.ledger("quarantine"), self.row_id)]
        now = self._row(before)
        if self.stage == "tokenize":
            events += [self._tokens(now)] if now else []
        elif now is not None:
            edits = [self._edit(line) for line in _lines(self.artifact.ledger("changed"), self.row_id)]
            if before is None:
                events.append(self._first_seen(now))
            elif edits:
                edits.append(self._difference(before, now))
            events += edits
            events += self._assigned(before, now) if before is not None else []
            events += self._conflicts() + self._children()
        events += [self._removal(line) for line in _lines(self.artifact.ledger("removed"), self.row_id)]
        gone = any(event["event"] in ("removed", "quarantined") for event in events)
        return events, now if self.stage != "tokenize" else before, gone

    def _row(self, before: Row | None) -> Row | None:
        if self.stage == "tokenize":
            frame = self.artifact.own_rows().select("row_id", "n_tokens", "n_trained")
            return next(iter(_lines(frame, self.row_id)), None)
        line = next(iter(_lines(self.artifact.own_rows(), self.row_id)), None)
        if line is None or self.artifact.writes_text:
            return line
        if before is None:
            before = self.artifact.text().own_rows().slice(line["text_row"], 1).collect().to_dicts()[0]
        return before | {name: value for name, value in line.items() if name != "text_row"}

    def _quarantined(self, line: Row) -> Event:
        where = f"{line['source']}" + (f", line {line['line']}" if line["line"] is not None else "")
        detail = f" ({line['detail']})" if line["detail"] else ""
        excerpt = f"; excerpt: {short(line['excerpt'], _SHOWN)}" if line["excerpt"] else ""
        text = f"quarantined: {line['reason']}{detail}, from {where}{excerpt}"
        return self._event("quarantined", text, values=line)

    def _first_seen(self, now: Row) -> Event:
        about = [f"source {now['source']}"] + [f"{k} {now[k]}" for k in ("task", "label", "lang") if now.get(k)]
        told = f"({', '.join(about)}): {short(text_of(now), _SHOWN)}"
        if now.get("parent_row_id"):
            return self._addition(now, told)
        return self._event("ingested", f"read from {told[1:].replace('): ', ': ', 1)}")

    def _addition(self, now: Row, told: str) -> Event:
        line = next(iter(_lines(self._added(), self.row_id)), None)
        rule = f" by {line['rule']}" if line and line["rule"] else ""
        text = f"added for its parent {now['parent_row_id']}{rule} {told}"
        parent = None
        if self.artifact.writes_text:
            parent = next(iter(_lines(self.artifact.own_rows(), now["parent_row_id"])), None)
        if parent is None:
            return self._event("added", text, values=line)
        difference = word_diff(_flat(parent), _flat(now), self.colour)
        text += f"\n[-parent-] {{+this row+}}: {difference}"
        return self._event("added", text, values=line, difference=difference)

    def _added(self) -> pl.LazyFrame:
        """`row_id, parent_row_id, rule` of what this stage added; older artifacts do not tell the rule."""
        if (self.artifact.path / "added.parquet").exists():
            return self.artifact.ledger("added")
        there = self.artifact.own_rows().filter(pl.col("parent_row_id").is_not_null())
        return there.select("row_id", "parent_row_id", rule=pl.lit(None, pl.String))

    def _edit(self, line: Row) -> Event:
        places = line["spans"] or []
        text = f"edited by {line['rule']} in {len(places)} place(s), digest {line['before']} -> {line['after']}"
        return self._event("edited", text, values=line)

    def _difference(self, before: Row, now: Row) -> Event:
        told = word_diff(_flat(before), _flat(now), self.colour)
        return self._event("difference", f"[-before-] {{+after+}}: {told}", difference=told)

    def _assigned(self, before: Row, now: Row) -> list[Event]:
        """Narrow columns that this stage set or changed, scores with the bound they are held against."""
        from flows.score_bounds import score_bounds

        names = [name for name in now if name not in _TEXTS and now[name] != before.get(name)]
        if not names:
            return []
        bounds = score_bounds(self.artifact.manifest)
        shown = [f"{name} = {_value(now[name])}" + (f" ({bounds[name]})" if name in bounds else "") for name in names]
        return [self._event("assigned", ", ".join(shown), values={name: now[name] for name in names})]

    def _conflicts(self) -> list[Event]:
        pairs = self.artifact.manifest["facts"].get("conflicting_answers", [])
        others = [one if other == self.row_id else other for one, other in pairs if self.row_id in (one, other)]
        return [self._event("conflict", f"row {other} answers the same prompt otherwise") for other in others]

    def _children(self) -> list[Event]:
        """Rows that this stage added for the row: repetitions and variants."""
        if not self.artifact.manifest["rows"]["added"]:
            return []
        children = self._added().filter(pl.col("parent_row_id") == self.row_id).collect().to_dicts()
        if not children:
            return []
        named = [f"{row['row_id']} ({row['rule']})" if row["rule"] else row["row_id"] for row in children[:_NAMED]]
        more = f" and {len(children) - _NAMED} more" if len(children) > _NAMED else ""
        again = "gave" if self.artifact.writes_text else "stands again as"
        values = {"rows": [row["row_id"] for row in children]}
        return [self._event("repeated", f"{again} {', '.join(named)}{more}", values=values)]

    def _removal(self, line: Row) -> Event:
        text = f"removed by {line['rule']}"
        if line["value"] is not None:
            text += f": {line['value']:.4g}"
            if line["threshold"] is not None:
                text += f" against the threshold {line['threshold']:.4g}"
        text += f" ({line['detail']})" if line["detail"] else ""
        if not line["kept_row_id"]:
            return self._event("removed", text, values=line)
        where, kept = kept_elsewhere(self.artifact, line["detail"], line["kept_row_id"])
        text += f"; the row that is kept: {line['kept_row_id']}" + (f", {where}" if where else "")
        mine, kept = self._texts(self.row_id), kept if where else self._texts(line["kept_row_id"])
        if kept is None:
            return self._event("removed", text, values=line)
        text += f": {short(text_of(kept), _SHOWN)}"
        if mine is None:
            return self._event("removed", text, values=line)
        told = word_diff(_flat(kept), _flat(mine), self.colour)
        text += f"\n[-only the kept row-] {{+only this row+}}: {told}"
        return self._event("removed", text, values=line, difference=told)

    def _texts(self, row_id: str) -> Row | None:
        """A row as it came into this stage, whether or not it left."""
        held = self.artifact if self.artifact.writes_text else self.artifact.text()
        if self.artifact.writes_text:
            held = next((a for a in reversed(self.above) if a.writes_text and a.stage != "tokenize"), self.artifact)
        return next(iter(_lines(held.own_rows().select("row_id", "messages"), row_id)), None)

    def _tokens(self, line: Mapping[str, Any]) -> Event:
        text = f"{line['n_tokens']} tokens, {line['n_trained']} of them trained"
        return self._event("tokenised", text, values=dict(line))

    def _event(self, event: str, text: str, **more: Any) -> Event:
        return _event(self.row_id, self.stage, event, text, **more)


def _event(row_id: str, stage: str, event: str, text: str, **more: Any) -> Event:
    return {"row_id": row_id, "stage": stage, "event": event, "text": text, **more}


def _lines(frame: pl.LazyFrame, row_id: str) -> list[Row]:
    return frame.filter(pl.col("row_id") == row_id).collect().to_dicts()


def _flat(row: Row) -> str:
    return " ".join(text_of(row).split())


def _value(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)
