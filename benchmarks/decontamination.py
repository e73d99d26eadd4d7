"""Decontamination: which planted test items are found in train, and which honest rows are taken for one.

Rows are kept together as the split stage does, a twentieth of their groups are the test set, and each test item is
planted into train: word for word or with one token in ten replaced, as a row of its own or in the middle of two others
(one for the question, one for the answer). Only `contamination.leaks` is asked: rows of their own that resemble a test
row so much that they share a group with it would be found before it.

Without plants every flagged row is judged apart from the pipeline. It holds the item it is said to hold if at most a
fifth of the item's own tokens must be edited to find its pieces in the row (Levenshtein over tokens, Sellers 1980); or,
where both are of one data set under two templates, which tell the same item in another order and with other labels, if
four fifths of the item's own words stand in the row. A token is the item's own unless a run of three that it is part of
stands in a fifth of the rows of its task. Everything else counts as a false positive.
"""

import random
import re
import sys
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from benchmarks.session import Session
from benchmarks.truth import parts_of_run, tokens

KINDS = ("verbatim", "edited", "verbatim among other text", "edited among other text")
DRAWS = 4  # test sets, one after the other
_SHARE = 0.05  # of the groups in a test set
_EDITED = 0.1  # of an item's tokens
_EDITS, _WORDS = 0.2, 0.8  # see above
_TEMPLATE, _TEMPLATE_SHARE, _TEMPLATE_ROWS = 3, 0.2, 5
_LABEL = 5  # tokens from which an answer is looked for; a shorter one is another word in another template
_SEED = 17
_PIECE = re.compile(r"\w+|\W+")
Templates = dict[str, set[tuple[str, ...]]]


def bench(session: Session) -> dict[str, Any]:
    """Corpus → tests, rows, recall of each kind, rows flagged without plants, and those of them flagged for nothing."""
    corpora = {"demo": list(_demo())}
    if session.multitask is not None:
        corpora["demo and multitask"] = [*_multitask(session.multitask), *corpora["demo"]]
    return {name: _bench(name, _grouped(rows[: session.sample])) for name, rows in corpora.items()}


def _bench(name: str, rows: pl.DataFrame) -> dict[str, Any]:
    from tasks.split.contamination import leaks

    templates, record = _templates(rows), Counter[str]()
    for number in range(DRAWS):
        tests = rows.filter(pl.col("draw").is_between(number * _SHARE, (number + 1) * _SHARE, closed="left"))
        others = rows.filter(~pl.col("group").is_in(tests["group"].unique().implode()))
        record += Counter(tests=tests.height, rows=others.height)
        for kind in KINDS:
            planted = _planted(tests, others, kind, random.Random(_SEED + number))
            found = leaks(tests, pl.concat([others.select(planted.columns), planted]), _overlap())
            record[kind] += len(set(found["row_id"]) & set(planted["row_id"]))
        flagged = leaks(tests, others, _overlap())
        record["flagged"] += flagged.height
        both = flagged.join(others.select("row_id", "task", "whole"), on="row_id").join(
            tests.select(pl.col("row_id").alias("kept_row_id"), pl.col("task").alias("test_task"), "prompt", "answer"),
            on="kept_row_id",
        )
        record["false"] += sum(not holds(each, templates) for each in both.iter_rows(named=True))
        print(f"{name}, test set {number + 1}: {dict(record)}", file=sys.stderr)
    return {
        "tests": record["tests"],
        "rows": record["rows"],
        "flagged": record["flagged"],
        "false": record["false"],
    } | {"found": {kind: record[kind] for kind in KINDS}}


def edits(part: list[str], row: list[str]) -> int:
    """The fewest tokens to put in, leave out or replace until a part stands somewhere in a row."""
    number = {token: n for n, token in enumerate(dict.fromkeys(row))}
    coded, places = np.array([number[token] for token in row]), np.arange(len(row) + 1)
    cost = np.zeros(len(row) + 1, np.int64)
    for token in part:
        longer = cost + 1
        longer[1:] = np.minimum(longer[1:], cost[:-1] + (coded != number.get(token, -1)))
        cost = np.minimum.accumulate(longer - places) + places
    return int(cost.min())


def holds(pair: dict[str, str], templates: Templates) -> bool:
    """Whether a row (`whole`, `task`) holds an item (`prompt`, `answer`, `test_task`)."""
    row = tokens(pair["whole"])
    pieces = _own(pair["prompt"], templates[pair["test_task"]])
    answer = _own(pair["answer"], templates[pair["test_task"]])
    pieces += answer if not pieces or sum(map(len, answer)) >= _LABEL else []
    if sum(edits(piece, row) for piece in pieces) <= _EDITS * sum(map(len, pieces)):
        return True
    words = {word for piece in pieces for word in piece}
    here, there = (pair[name].split("_") for name in ("task", "test_task"))
    return len(here) > 1 and here[0] == there[0] and len(words & set(row)) >= _WORDS * len(words)


def edited(prompt: str, answer: str, words: list[str], draw: random.Random) -> tuple[str, str]:
    """A tenth of the tokens of both together, one at least, replaced by words drawn from a list."""
    both = [list(_pieces(text)) for text in (prompt, answer)]
    places = [(k, at) for k, pieces in enumerate(both) for at, piece in enumerate(pieces) if re.match(r"\w", piece)]
    chosen = draw.sample(places, min(len(places), max(1, round(_EDITED * len(places)))))
    for k, at in chosen:
        both[k][at] = draw.choice(words)
    return "".join(both[0]), "".join(both[1])


def _pieces(text: str) -> Iterator[str]:
    for run in _PIECE.findall(unicodedata.normalize("NFC", text)):
        yield from parts_of_run(run) if re.match(r"\w", run) else [run]


def _planted(tests: pl.DataFrame, others: pl.DataFrame, kind: str, draw: random.Random) -> pl.DataFrame:
    """A row for each test item, each a group of its own."""
    words = sorted({word for text in others["whole"].head(3000) for word in tokens(text)})
    prompts, answers = others["prompt"].to_list(), others["answer"].to_list()

    def inside(text: str, hosts: list[str]) -> str:
        host = draw.choice(hosts).split(" ")
        at = draw.randrange(len(host) + 1)
        return "\n".join([" ".join(host[:at]), text, " ".join(host[at:])])

    texts = []
    for prompt, answer in tests.select("prompt", "answer").iter_rows():
        if kind.startswith("edited"):
            prompt, answer = edited(prompt, answer, words, draw)
        if kind.endswith("among other text"):
            prompt, answer = inside(prompt, prompts), inside(answer, answers)
        texts.append(f"{prompt}\n{answer}")
    number = pl.int_range(len(texts), dtype=pl.Int64, eager=True)
    return pl.DataFrame({"row_id": "plant " + number.cast(pl.String), "group": number - len(texts), "whole": texts})


def _own(text: str, template: set[tuple[str, ...]]) -> list[list[str]]:
    """The pieces of a text that are not its task's template."""
    words = tokens(text)
    own = [True] * len(words)
    for at in range(len(words) - _TEMPLATE + 1):
        if tuple(words[at : at + _TEMPLATE]) in template:
            own[at : at + _TEMPLATE] = [False] * _TEMPLATE
    pieces: list[list[str]] = [[]]
    for word, keep in zip(words, own, strict=True):
        if keep:
            pieces[-1].append(word)
        elif pieces[-1]:
            pieces.append([])
    return [piece for piece in pieces if piece]


def _templates(rows: pl.DataFrame) -> Templates:
    runs, sizes = defaultdict[str, Counter[tuple[str, ...]]](Counter), Counter(rows["task"])
    for task, *texts in rows.select("task", "prompt", "answer").iter_rows():
        for text in texts:
            words = tokens(text)
            runs[task].update({tuple(words[at : at + _TEMPLATE]) for at in range(len(words) - _TEMPLATE + 1)})
    return {
        task: {run for run, count in found.items() if count >= max(_TEMPLATE_ROWS, _TEMPLATE_SHARE * sizes[task])}
        for task, found in runs.items()
    } | {task: set() for task in sizes if task not in runs}


def _grouped(rows: list[tuple[str, str, str]]) -> pl.DataFrame:
    from pipeline_config.sets_schema import Split
    from tasks.kernels.likeness import likenesses
    from tasks.split.groups import grouped

    frame = pl.DataFrame(rows, schema=["task", "prompt", "answer"], orient="row").unique(maintain_order=True)
    frame = frame.select(
        pl.int_range(pl.len()).cast(pl.String).alias("row_id"), pl.all(),
        pl.concat_str("prompt", "answer", separator="\n").alias("whole"),
    )  # fmt: skip
    groups = grouped(frame["row_id"], likenesses(frame, Split().near_threshold), None, _SEED)
    return frame.with_columns(
        pl.Series("group", groups.group_of, dtype=pl.Int64), pl.Series("draw", groups.place[groups.group_of])
    )


def _overlap() -> float:
    from pipeline_config.sets_schema import Split

    return Split().max_overlap


def _demo() -> Iterator[tuple[str, str, str]]:
    from tasks.ingest import chatterbot, stdlib

    for record in stdlib.records():
        yield "stdlib", record["prompt"], record["completion"]
    for language in chatterbot.LANGUAGES:
        for record in chatterbot.records(language):
            said = {
                role: [m["content"] for m in record["messages"] if m["role"] == role] for role in ("user", "assistant")
            }
            yield f"chatterbot-{language}", "\n".join(said["user"]), "\n".join(said["assistant"])


def _multitask(path: Path) -> Iterator[tuple[str, str, str]]:
    yield from (
        pl.read_parquet(path, columns=["task", "prompt", "completion"]).select(pl.all().cast(pl.String)).iter_rows()
    )
