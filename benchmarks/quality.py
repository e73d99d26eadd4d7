"""Quality rules: four of datatrove's filters against our rule sets, for speed and for agreement of decisions.

Both are timed from JSONL to what they write. Decisions are compared apart: what each filter says of each row by itself,
and which rule of ours removes it, its rule set alone. Both name the first reason only.
"""

import json
import subprocess
from collections import Counter
from functools import partial
from pathlib import Path
from typing import Any

from benchmarks.corpora import NotHereError
from benchmarks.environments import PEERS, SCRIPTS, install
from benchmarks.rule_names import SAME_RULE
from benchmarks.session import Session, alternate
from benchmarks.winnow import known_rule_sets

CORPORA = ("multitask", "demo")  # the first of them that is here
FILTERS = {"gopher": ("gopher_repetition", "gopher_quality"), "c4": ("c4",), "fineweb": ("fineweb",)}
DIFFERENCES = 8  # of a rule set, the most frequent, are listed

Reasons = list[str | None]  # of each row; None: it passes


def bench(session: Session) -> dict[str, Any]:
    """Seconds of both, and for each rule the share of rows on which both decide alike."""
    name, source = _first(session)
    tools: dict[str, tuple[int, Any]] = {"Winnow": (session.rounds, partial(session.ours, "winnow", source, "quality"))}
    with_peer = "datatrove" in session.peers
    if with_peer:
        tools["datatrove"] = (1, partial(session.peer, "datatrove", "datatrove_filters", source))
    runs = alternate(tools, f"{name}, quality")
    found: dict[str, Any] = {
        "corpus": name,
        "rows": source.read_bytes().count(b"\n"),
        "megabytes": source.stat().st_size / 1e6,
        "rule_sets": known_rule_sets(),
        "tools": {tool: each.record() for tool, each in runs.items()},
    }
    if with_peer:
        found["tools"]["datatrove"]["tool"] = f"datatrove {PEERS['datatrove'].version}, four filters (2 workers)"
    if not runs["Winnow"].failed:
        found["tools"]["Winnow"]["stages"] = runs["Winnow"].answer["stages"]
    if with_peer and not runs["datatrove"].failed:
        theirs = _verdicts(session, source)
        found["agreement"] = {
            rule_set: agreement(
                rule_set,
                [next((row[each] for each in filters if row[each]), None) for row in theirs],
                _reasons(session, source, rule_set),
            )
            for rule_set, filters in FILTERS.items()
            if rule_set in known_rule_sets()
        }
    return found


def prepare(session: Session) -> None:
    """The verdicts of datatrove's filters, which are kept."""
    if "datatrove" in session.peers:
        _verdicts(session, _first(session)[1])


def agreement(rule_set: str, theirs: Reasons, ours: Reasons) -> dict[str, Any]:
    """Hold the first reasons of both against each other.

    Returns:
        `rows`, `decision` (share of rows that both keep or both drop), `rules` (their reason → our rule, rows of each
        side, share of all rows on which the two agree), `differences` (the most frequent pairs that do not match).
    """
    rows = len(theirs)
    names = SAME_RULE[rule_set]
    pairs = Counter(zip(theirs, ours, strict=True))
    decided = sum(count for (one, two), count in pairs.items() if (one is None) == (two is None))
    rules = {}
    for reason in sorted({one for one, _ in pairs if one is not None} | set(names)):
        mine = names.get(reason, "")
        apart = sum(count for (one, two), count in pairs.items() if (one == reason) != (two in mine.split("|")))
        rules[reason] = {
            "ours": mine,
            "they_drop": sum(count for (one, _), count in pairs.items() if one == reason),
            "we_drop": sum(count for (_, two), count in pairs.items() if two in mine.split("|")),
            "agreement": 1 - apart / rows,
        }
    wrong = Counter(
        {pair: count for pair, count in pairs.items() if pair[0] != pair[1] and not _same(pair[0], pair[1], names)}
    )
    differences = [[one, two, count] for (one, two), count in wrong.most_common(DIFFERENCES)]
    return {"rows": rows, "decision": decided / rows, "rules": rules, "differences": differences}


def _same(theirs: str | None, ours: str | None, names: dict[str, str]) -> bool:
    return theirs is not None and ours in names.get(theirs, "").split("|")


def _first(session: Session) -> tuple[str, Path]:
    for name in CORPORA:
        try:
            return name, session.corpus(name)
        except NotHereError:
            continue
    raise NotHereError("no corpus for the quality rules")


def _verdicts(session: Session, source: Path) -> list[dict[str, str | None]]:
    """What each of datatrove's filters says of each row, computed once and kept beside the corpus."""
    cache = source.with_suffix(".verdicts.jsonl")
    if not cache.exists():
        python, half = install(PEERS["datatrove"], session.cache), cache.with_suffix(".part")
        script = SCRIPTS / "datatrove_verdicts.py"
        subprocess.run([str(python), str(script), str(source), str(half)], check=True, capture_output=True)
        half.rename(cache)
    return [json.loads(line) for line in cache.read_bytes().splitlines()]


def _reasons(session: Session, source: Path, rule_set: str) -> Reasons:
    """Which rule of a set removes each row, in file order."""
    removed = session.ours("winnow", source, f"quality-{rule_set}").answer["removed"]
    ids = [json.loads(line)["id"] for line in source.read_bytes().splitlines()]
    return [removed.get(str(each)) for each in ids]
