"""Which test rows are evaluated, and what of each is the prompt and what the reference.

The rows of a test set are ranked by a draw that belongs to the row id and the seed, so that every model sees the same
ones, and rows that join or leave the test set change no other row's place. The first `max_loss_examples` are scored by
loss; of these the first `max_examples` that hold an answer are also answered by the model.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import polars as pl

from pipeline_config.errors import ConfigError
from pipeline_config.model_schema import Evaluate
from pipeline_config.suggest import did_you_mean
from tasks.kernels.draws import draw_bits

TEST = "test"
Message = dict[str, Any]  # role, content


@dataclass(frozen=True)
class Example:
    """One test row.

    Attributes:
        row_id: its id.
        test_set: `python` for the split `test:python`, `test` for `test`.
        input_ids: tokens of the whole row.
        loss_mask: True where a token is learned; as long as `input_ids`.
        messages: the turns before the last answer; empty if the row is not to be answered.
        reference: the last answer, or None if the row is not to be answered.
        label: its true label, or None.
        tools: schemas of the tools on offer, or None.
    """

    row_id: str
    test_set: str
    input_ids: Sequence[int] = ()
    loss_mask: Sequence[bool] = ()
    messages: list[Message] = field(default_factory=list)
    reference: str | None = None
    label: str | None = None
    tools: list[Any] | None = None


def choose_examples(rows: pl.LazyFrame, tokens: pl.LazyFrame, config: Evaluate, seed: int) -> list[Example]:
    """The test rows to evaluate, by test set, then row id.

    Args:
        rows: `row_id`, `messages`, `label`, `tools` of the rows as they were before they became tokens.
        tokens: `row_id`, `split`, `input_ids`, `loss_mask`, `n_trained`.

    Raises:
        ConfigError: there is no test row, or a test set of the configuration does not exist.
    """
    there = tokens.filter(_is_test() & (pl.col("n_trained") > 0)).select("row_id", test_set=_test_set()).collect()
    wanted = _wanted_sets(sorted(set(there["test_set"])), config.test_sets)
    chosen = _ranked(there.filter(pl.col("test_set").is_in(wanted)), config, seed)
    ids = chosen["row_id"].implode()
    encoded = tokens.filter(pl.col("row_id").is_in(ids)).select("row_id", "input_ids", "loss_mask").collect()
    text = rows.filter(pl.col("row_id").is_in(ids)).select("row_id", "messages", "label", "tools").collect()
    frame = chosen.join(encoded, on="row_id", how="left", maintain_order="left").join(
        text, on="row_id", how="left", maintain_order="left"
    )
    found: list[Example] = []
    answered: dict[str, int] = dict.fromkeys(wanted, 0)
    for line in frame.iter_rows(named=True):  # a few hundred at most, by rank in each test set
        room = answered[line["test_set"]] < config.max_examples
        example = _example(line, room)
        answered[example.test_set] += example.reference is not None
        if example.reference is not None or line["rank"] < config.max_loss_examples:
            found.append(example)
    return sorted(found, key=lambda example: (example.test_set, example.row_id))


def first_drawn(rows: pl.DataFrame, n: int, seed: int) -> pl.DataFrame:
    """The n rows that rank first, in their own order."""
    if rows.height <= n:
        return rows
    place = rows.with_row_index("place").with_columns(_draws(rows, seed)).sort("draw", "row_id").head(n)["place"]
    return rows[place.sort()]


def split_answer(messages: Sequence[Message] | None) -> tuple[list[Message], str] | None:
    """The turns before the last answer, and that answer; None where there is no question or no answer."""
    turns = list(messages or [])
    last = max((place for place, turn in enumerate(turns) if turn["role"] == "assistant"), default=0)
    if last == 0 or not (turns[last]["content"] or "").strip():
        return None
    return [{"role": turn["role"], "content": turn["content"]} for turn in turns[:last]], turns[last]["content"]


def _example(line: dict[str, Any], answer: bool) -> Example:
    parts = split_answer(line["messages"]) if answer else None
    messages, reference = parts if parts is not None else ([], None)
    label = line["label"] if line["label"] and line["label"].strip() else None
    tools = json.loads(line["tools"]) if line["tools"] and parts is not None else None
    return Example(
        line["row_id"], line["test_set"], line["input_ids"], line["loss_mask"], messages, reference, label, tools
    )


def _ranked(there: pl.DataFrame, config: Evaluate, seed: int) -> pl.DataFrame:
    """The rows with the smallest draws of each test set, with their rank in it (from 0)."""
    most = max(config.max_examples, config.max_loss_examples)
    return (
        there.with_columns(_draws(there, seed))
        .sort("test_set", "draw", "row_id")
        .with_columns(rank=pl.int_range(pl.len(), dtype=pl.UInt32).over("test_set"))
        .filter(pl.col("rank") < most)
        .select("row_id", "test_set", "rank")
    )


def _draws(rows: pl.DataFrame, seed: int) -> pl.Series:
    return pl.Series("draw", draw_bits(rows["row_id"], seed, "evaluate"), dtype=pl.UInt64)


def _wanted_sets(there: list[str], asked: Sequence[str]) -> list[str]:
    place = "evaluate.test_sets"
    if not there:
        cure = "add `split: {}` to the configuration, or give a source `split: test`"
        raise ConfigError("no row that was tokenised belongs to a test set", place="evaluate", cure=cure)
    names = [name.removeprefix(f"{TEST}:") for name in asked]
    for name in names:
        if name not in there:
            raise ConfigError(
                f"there is no test set {name!r}{did_you_mean(name, there)}",
                place=place,
                cure=f"test sets of this run: {', '.join(there)}",
            )
    return sorted(set(names)) or there


def _is_test() -> pl.Expr:
    return (pl.col("split") == TEST) | pl.col("split").str.starts_with(f"{TEST}:")


def _test_set() -> pl.Expr:
    return pl.col("split").str.strip_prefix(f"{TEST}:")
