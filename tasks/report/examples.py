"""Examples of what each rule did: rows removed (beside the row that is kept in their stead), edited, added, held back.

Of each rule those with the smallest row ids are shown (of many repeats of one row, one first). A row id is a hash, so
this is a sample that nobody chose, and the same in every run.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import polars as pl

from pipeline_config.schema import DATA_STAGES
from tasks.key import row_artifact
from tasks.report.difference import Marked, condensed, difference, plain, trimmed
from tasks.report.text import LIMIT, shown, turns, words

if TYPE_CHECKING:
    from tasks.artifact import Artifact

Turn = tuple[str, Marked]  # role, text in pieces
HARMFUL = ("toxicity",)  # stages whose examples nobody should meet unasked
_COMPARED = 4_000  # characters of a turn that are compared


@dataclass(frozen=True)
class Side:
    """One of two rows, or the only one."""

    title: str
    row_id: str
    turns: list[Turn]


@dataclass(frozen=True)
class Example:
    """One row that a rule acted on.

    Attributes:
        facts: where it is from, and the number that decided, in words.
        sides: the row alone, or beside the row it repeats, or before and after.
    """

    facts: str
    sides: list[Side]


@dataclass(frozen=True)
class RuleExamples:
    """A rule of a stage with its examples; `action`: removed, edited, added, quarantined; `opened`: shown at once."""

    rule: str
    action: str
    rows: int
    examples: list[Example]
    opened: bool = False

    @property
    def alone(self) -> bool:
        """Whether every example is one row with nothing beside it."""
        return all(len(example.sides) < 2 for example in self.examples)

    @property
    def differing(self) -> int:
        """Examples in which the two sides differ."""
        return sum(any(_marks(side) for side in example.sides) for example in self.examples)


@dataclass(frozen=True)
class StageExamples:
    """The rules of a stage; `harmful`: the texts are, so a reader is warned."""

    stage: str
    harmful: bool
    rules: list[RuleExamples] = field(default_factory=list)


def stage_examples(upstream: "Mapping[str, Artifact]", n: int) -> list[StageExamples]:
    """Examples of every rule of every data stage that did something; n a rule."""
    found = []
    for name in DATA_STAGES:
        if name not in upstream:
            continue
        artifact = upstream[name]
        above = {stage: upstream[stage] for stage in DATA_STAGES[: DATA_STAGES.index(name)] if stage in upstream}
        before = row_artifact(name, above) if above else None
        rules = _quarantined(artifact, n)
        if before is not None:
            rules = _removed(artifact, before, n) + rules + _edited(artifact, before, n) + _added(artifact, before, n)
        if rules:
            found.append(StageExamples(name, name in HARMFUL, rules))
    return [_with_duplicates_opened(stage) for stage in found]


def _with_duplicates_opened(stage: StageExamples) -> StageExamples:
    """Duplicates are worth a look without a click: the rule of dedupe whose rows differ most from the kept ones."""
    compared = [
        (rule.differing, -n) for n, rule in enumerate(stage.rules) if rule.action == "removed" and not rule.alone
    ]
    if stage.stage != "dedupe" or not compared:
        return stage
    opened = -max(compared)[1]
    return replace(stage, rules=[replace(rule, opened=n == opened) for n, rule in enumerate(stage.rules)])


def _removed(artifact: "Artifact", before: "Artifact", n: int) -> list[RuleExamples]:
    twin = pl.int_range(pl.len()).over("rule", "kept_row_id").alias("twin")
    ledger = artifact.ledger("removed").sort("row_id", maintain_order=True)
    ledger = ledger.with_columns(pl.when(pl.col("kept_row_id").is_null()).then(0).otherwise(twin).alias("twin"))
    lines = ledger.sort("twin", "row_id").group_by("rule", maintain_order=True).head(n).collect()
    texts = _texts(before.rows(), [*lines["row_id"], *lines["kept_row_id"].drop_nulls()])
    examples: dict[str, list[Example]] = {}
    for line in lines.iter_rows(named=True):
        examples.setdefault(line["rule"], []).append(_removal(line, texts))
    return _by_rule("removed", artifact.manifest["rows"]["removed"], examples)


def _removal(line: Mapping[str, Any], texts: Mapping[str, dict[str, Any]]) -> Example:
    row, kept = texts.get(line["row_id"]), texts.get(line["kept_row_id"] or "")
    facts = [_origin(row), _decided(line), shown(line["detail"], 120)]
    if kept is None:
        sides = [Side("", line["row_id"], _plain(row))]
    else:
        mine, theirs = _compared(row, kept)
        sides = [Side("removed", line["row_id"], mine), Side("kept", line["kept_row_id"], theirs)]
    return Example(" · ".join(fact for fact in facts if fact), sides)


def _edited(artifact: "Artifact", before: "Artifact", n: int) -> list[RuleExamples]:
    """Rows before and after; those that one rule alone edited come first."""
    changed = artifact.ledger("changed").unique(["row_id", "rule"], maintain_order=True)
    alone = (pl.len().over("row_id") > 1).alias("shared")
    lines = changed.with_columns(alone).sort("shared", "row_id").group_by("rule", maintain_order=True).head(n).collect()
    old = _texts(before.rows(), lines["row_id"].to_list())
    after = artifact.rows()
    has_text = "messages" in after.collect_schema().names()
    new = _texts(after, lines["row_id"].to_list()) if has_text else {}
    examples: dict[str, list[Example]] = {}
    for line in lines.sort("rule", "shared", "row_id").iter_rows(named=True):
        row_id = line["row_id"]
        if row_id in new:
            mine, theirs = _compared(old.get(row_id), new[row_id])
            sides = [Side("before", row_id, mine), Side("after", row_id, theirs)]
        else:
            sides = [Side("before", row_id, _plain(old.get(row_id)))]
        examples.setdefault(line["rule"], []).append(Example(_origin(old.get(row_id)), sides))
    return _by_rule("edited", artifact.manifest["rows"]["changed"], examples)


def _added(artifact: "Artifact", before: "Artifact", n: int) -> list[RuleExamples]:
    """New rows beside their parents; rows that only stand once more have nothing to show."""
    counts = artifact.manifest["rows"]["added"]
    if not counts or not artifact.writes_text or "messages" not in artifact.rows().collect_schema().names():
        return _by_rule("added", counts, {})
    known = before.rows().select("row_id").collect()["row_id"].implode()
    fresh = artifact.rows().filter(pl.col("parent_row_id").is_not_null() & ~pl.col("row_id").is_in(known))
    lines = fresh.select("row_id", "parent_row_id").sort("row_id").head(n).collect()
    texts = _texts(artifact.rows(), [*lines["row_id"], *lines["parent_row_id"]])
    examples = []
    for row_id, parent in lines.iter_rows():
        theirs, mine = _compared(texts.get(parent), texts[row_id])
        sides = [Side("parent", parent, theirs), Side("added", row_id, mine)]
        examples.append(Example(_origin(texts[row_id]), sides))
    return _by_rule("added", counts, {min(counts): examples}) if len(counts) == 1 else _together(counts, examples)


def _quarantined(artifact: "Artifact", n: int) -> list[RuleExamples]:
    ledger = artifact.ledger("quarantine").sort("row_id", "line", maintain_order=True)
    lines = ledger.group_by("reason", maintain_order=True).head(n).collect()
    examples: dict[str, list[Example]] = {}
    for line in lines.iter_rows(named=True):
        place = f"line {line['line']:,}" if line["line"] is not None else ""
        facts = [shown(line["source"], 60), place, shown(line["detail"], 160)]
        text = shown(line["excerpt"])
        sides = [Side("", line["row_id"] or "", [("", plain(text))] if text else [])]
        examples.setdefault(line["reason"], []).append(Example(" · ".join(fact for fact in facts if fact), sides))
    return _by_rule("quarantined", artifact.manifest["rows"]["quarantined"], examples)


def _texts(rows: pl.LazyFrame, row_ids: Sequence[str]) -> dict[str, dict[str, Any]]:
    ids = sorted(set(row_ids))
    if not ids:
        return {}
    frame = rows.filter(pl.col("row_id").is_in(ids)).select("row_id", "source", "task", "lang", "messages").collect()
    return {line["row_id"]: line for line in frame.iter_rows(named=True)}


def _by_rule(action: str, counts: Mapping[str, int], examples: Mapping[str, list[Example]]) -> list[RuleExamples]:
    order = sorted(counts.items(), key=lambda item: (-item[1], item[0]))
    return [RuleExamples(words(rule), action, rows, examples.get(rule, [])) for rule, rows in order]


def _together(counts: Mapping[str, int], examples: list[Example]) -> list[RuleExamples]:
    names = ", ".join(words(rule) for rule in sorted(counts))
    return [RuleExamples(names, "added", sum(counts.values()), examples)]


def _compared(left: Mapping[str, Any] | None, right: Mapping[str, Any] | None) -> tuple[list[Turn], list[Turn]]:
    """Both rows' turns with what differs marked; turns are paired by their place."""
    mine, theirs = turns(_messages(left), _COMPARED), turns(_messages(right), _COMPARED)
    marked: tuple[list[Turn], list[Turn]] = ([], [])
    for place in range(max(len(mine), len(theirs))):
        one, other = mine[place : place + 1], theirs[place : place + 1]
        pieces = difference(one[0][1] if one else "", other[0][1] if other else "")
        for side, turn, text in zip(marked, (one, other), pieces, strict=True):
            if turn:
                side.append((turn[0][0], condensed(trimmed(text), LIMIT)))
    return marked


def _plain(row: Mapping[str, Any] | None) -> list[Turn]:
    return [(role, plain(text)) for role, text in turns(_messages(row))]


def _messages(row: Mapping[str, Any] | None) -> list[dict[str, Any]]:
    return [] if row is None else list(row["messages"] or [])


def _origin(row: Mapping[str, Any] | None) -> str:
    if row is None:
        return ""
    parts = [shown(row[name], 60) for name in ("source", "task", "lang") if row[name]]
    return " · ".join(dict.fromkeys(parts))


def _marks(side: Side) -> bool:
    return any(differs for _, pieces in side.turns for differs, _ in pieces)


def _decided(line: Mapping[str, Any]) -> str:
    if line["value"] is None or line["value"] == line["threshold"] == 1:  # the same text, as the rule says
        return ""
    if line["threshold"] is None:
        return f"value {line['value']:.4g}"
    return f"value {line['value']:.4g}, threshold {line['threshold']:.4g}"
