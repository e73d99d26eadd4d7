"""Quality rules: four of datatrove's filters against our rule sets, for speed and for agreement of decisions.

Both are timed from JSONL to what they write. Decisions are compared twice: which rows each pipeline keeps, and rule by
rule, each asked by itself of every row, so that no rule hides another.
"""

import json
import subprocess
import tempfile
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from benchmarks.corpora import NotHereError
from benchmarks.environments import PEERS, SCRIPTS, install
from benchmarks.rule_names import SAME_RULE
from benchmarks.session import Session, alternate
from benchmarks.winnow import known_rule_sets

CORPORA = ("multitask", "demo")  # the first of them that is here
WEB = "gopher+c4+fineweb"

Fired = dict[str, set[int]]  # rule → ids of the rows that it drops


def bench(session: Session) -> dict[str, Any]:
    """Seconds of both, and for each rule the share of rows on which both decide alike."""
    name, source = _first(session)
    tools: dict[str, tuple[int, Any]] = {"Winnow": (session.rounds, partial(session.ours, "winnow", source, "quality"))}
    with_peer = "datatrove" in session.peers
    web = with_peer and set(WEB.split("+")) <= set(known_rule_sets())
    if web:
        tools[WEB] = (session.rounds, partial(session.ours, "winnow", source, f"quality-{WEB}"))
    if with_peer:
        tools["datatrove"] = (1, partial(session.peer, "datatrove", "datatrove_filters", source))
    runs = alternate(tools, f"{name}, quality")
    ids = [json.loads(line)["id"] for line in source.read_bytes().splitlines()]
    found: dict[str, Any] = {
        "corpus": name,
        "rows": len(ids),
        "megabytes": source.stat().st_size / 1e6,
        "rule_sets": known_rule_sets(),
        "tools": {tool: each.record() for tool, each in runs.items()},
    }
    if with_peer:
        found["tools"]["datatrove"]["tool"] = f"datatrove {PEERS['datatrove'].version}, four filters (2 workers)"
    if web:
        found["tools"][WEB]["tool"] = f"Winnow, ingest and {WEB.replace('+', ', ')}"
    if web and not runs[WEB].failed and not runs["datatrove"].failed:
        ours, theirs = set(runs[WEB].answer["kept"]), set(runs["datatrove"].answer)
        found["kept"] = {"ours": len(ours), "theirs": len(theirs), "agreement": 1 - len(ours ^ theirs) / len(ids)}
        reasons = _reasons(session, source)
        found["agreement"] = {
            rule_set: agreement(len(ids), names, reasons, fired(source, rule_set))
            for rule_set, names in SAME_RULE.items()
        }
    return found


def prepare(session: Session) -> None:
    """The verdicts of datatrove's rules, which are kept."""
    if "datatrove" in session.peers:
        _reasons(session, _first(session)[1])


def agreement(rows: int, names: Mapping[str, str], theirs: Fired, ours: Fired) -> dict[str, Any]:
    """Their reason → our rule, the rows that each drops, and the share of rows on which the two agree."""
    found: dict[str, Any] = {}
    for reason, rule in names.items():
        they, we = theirs.get(reason, set()), ours[rule]
        found[reason] = {
            "ours": rule,
            "both": len(they & we),
            "only_theirs": len(they - we),
            "only_ours": len(we - they),
            "agreement": 1 - len(they ^ we) / rows,
        }
    return found


def fired(source: Path, rule_set: str) -> Fired:
    """The rows that each rule of a set drops, asked by itself at its own threshold."""
    import polars as pl

    from benchmarks.stages import publish
    from pipeline_config.data_schema import Quality
    from tasks.quality.rules import RULE_SETS
    from tasks.quality.score import score_rows

    with tempfile.TemporaryDirectory(prefix="winnow-bench-") as folder:
        rows = publish({}, source, Path(folder))["ingest"].artifact.rows()
        scores = score_rows(rows.select("row_id", "messages", "tools"), Quality(rules=[rule_set]))
        ids = rows.select(pl.col("meta").str.json_path_match("$.id").cast(pl.Int64)).collect().to_series()
    compare = {"<": pl.Expr.lt, "<=": pl.Expr.le, ">": pl.Expr.gt, ">=": pl.Expr.ge}
    found = {}
    for rule in RULE_SETS[rule_set]:
        drops = scores.select(compare[rule.comparison](pl.col(rule.statistic), pl.lit(rule.threshold, pl.Float32)))
        found[rule.name] = set(ids.filter(drops.to_series().fill_null(False)).to_list())
    return found


def _first(session: Session) -> tuple[str, Path]:
    for name in CORPORA:
        try:
            return name, session.corpus(name)
        except NotHereError:
            continue
    raise NotHereError("no corpus for the quality rules")


def _reasons(session: Session, source: Path) -> Fired:
    """Which of datatrove's rules drop which rows, computed once and kept beside the corpus."""
    cache = source.with_suffix(".reasons.jsonl")
    if not cache.exists():
        python, half = install(PEERS["datatrove"], session.cache), cache.with_suffix(".part")
        script = SCRIPTS / "datatrove_verdicts.py"
        subprocess.run([str(python), str(script), str(source), str(half)], check=True, capture_output=True)
        half.rename(cache)
    return by_reason([json.loads(line) for line in cache.read_bytes().splitlines()])


def by_reason(verdicts: Sequence[Mapping[str, Any]]) -> Fired:
    """Reason → ids, from the reasons of each row."""
    found: Fired = {}
    for verdict in verdicts:
        for reason in verdict["reasons"]:
            found.setdefault(reason, set()).add(verdict["id"])
    return found
