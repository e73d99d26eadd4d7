"""Records for the tests of ingest and export: Hypothesis strategies for each format, and short ways in and out."""

import json
from pathlib import Path
from typing import Any

import polars as pl
from hypothesis import strategies as st

from pipeline_config.data_schema import Ingest
from tasks.ingest.task import read_sources
from tasks.kernels.export import export_rows
from tasks.ledger import Decision

any_text = st.text(st.characters(exclude_categories=["Cs"]), max_size=12)
said = st.one_of(
    st.sampled_from(["What is it?", "它是什么？", "$m0", "$$", '{"name": 1}', "line\n\nline ", "=", "a\r\nb"]),
    any_text.filter(lambda text: text.strip() != ""),
)
blank = st.sampled_from(["", None, " "])
scalars = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.integers(min_value=1 << 63, max_value=1 << 70),
    st.floats(allow_nan=False),
    any_text,
)
values = st.recursive(
    scalars,
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(any_text, inner, max_size=3)),
    max_leaves=6,
)
_extra_names = st.one_of(
    st.sampled_from(["id", "source", "_winnow", "meta", "split", "task", "weight", "lang", "$x"]),
    any_text.map(lambda text: "x" + text),
)
extras = st.dictionaries(_extra_names, values, max_size=3)
tools = st.one_of(
    st.just('[{"name": "weather"}]'),
    st.just("no json"),
    st.just([{"name": "weather", "n": 1 << 66}]),
    blank,
    st.just([]),
)
arguments = st.one_of(
    st.just('{"city":"Paris"}'),
    st.just(' {"city": 1} '),
    st.just("broken {"),
    st.just(""),
    values,
    st.just('{\n "a": 1}'),
)


def shuffled(record: st.SearchStrategy[dict[str, Any]]) -> st.SearchStrategy[dict[str, Any]]:
    """A record with other fields among its own, in any order of keys."""
    return st.tuples(record, extras).flatmap(
        lambda both: st.permutations(list({**both[1], **both[0]}.items())).map(dict)
    )


def optional(required: dict[str, Any], others: dict[str, Any]) -> st.SearchStrategy[dict[str, Any]]:
    """A record with some fields that must be there and some that may."""
    return st.fixed_dictionaries(required, optional=others)


calls = st.lists(
    st.one_of(
        st.fixed_dictionaries(
            {
                "type": st.just("function"),
                "function": st.fixed_dictionaries({"name": said}, optional={"arguments": arguments}),
            },
            optional={"id": any_text, "index": st.integers(0, 9)},
        ),
        st.fixed_dictionaries({"name": said, "arguments": arguments}),
    ),
    min_size=1,
    max_size=3,
)
parts = st.lists(
    st.fixed_dictionaries({"type": st.just("text"), "text": said}, optional={"n": scalars}), min_size=1, max_size=3
)
_turn_extras = {"name": any_text, "weight": st.sampled_from([0, 1, 0.5, True]), "tool_call_id": any_text, "x": values}
openai_turn = st.one_of(
    st.fixed_dictionaries(
        {"role": st.sampled_from(["user", "assistant", "User", "developer"]), "content": st.one_of(said, parts)},
        optional=_turn_extras,
    ),
    st.fixed_dictionaries(
        {"role": st.sampled_from(["tool", "system"]), "content": st.one_of(said, blank)}, optional=_turn_extras
    ),
    st.fixed_dictionaries(
        {"role": st.just("assistant"), "content": st.one_of(said, parts, blank), "tool_calls": calls},
        optional=_turn_extras,
    ),
    st.fixed_dictionaries({"role": st.just("assistant"), "tool_calls": calls}),
    st.fixed_dictionaries(
        {
            "role": st.just("assistant"),
            "content": st.none(),
            "function_call": st.fixed_dictionaries({"name": said, "arguments": arguments}),
        }
    ),
    st.fixed_dictionaries({"role": st.sampled_from(["user", "assistant"]), "content": said}),
)
sharegpt_turn = st.one_of(
    st.fixed_dictionaries({"from": st.sampled_from(["human", "gpt", "observation", "function_call"]), "value": said}),
    st.fixed_dictionaries(
        {"from": st.sampled_from(["system", "user", "ChatGPT", "tool"]), "value": said}, optional=_turn_extras
    ),
)
_answer = st.fixed_dictionaries({"role": st.just("assistant"), "content": said}, optional=_turn_extras)
_gpt = st.fixed_dictionaries({"from": st.just("gpt"), "value": said})
_both = {"system": st.one_of(said, blank), "tools": tools}


def ended(turn: st.SearchStrategy[Any], answer: st.SearchStrategy[Any]) -> st.SearchStrategy[list[Any]]:
    """Turns with an answer at their end."""
    return st.tuples(st.lists(turn, max_size=4), answer).map(lambda both: [*both[0], both[1]])


_prompt = st.one_of(said, st.lists(openai_turn, max_size=3))
_whole = st.tuples(st.lists(openai_turn, min_size=1, max_size=3), _answer, _answer).map(
    lambda all_: {"chosen": [*all_[0], all_[1]], "rejected": [*all_[0], all_[2]]}
)
RECORDS: dict[str, st.SearchStrategy[dict[str, Any]]] = {
    "alpaca": optional(
        {"instruction": said, "output": said},
        {"input": st.one_of(said, blank), "history": st.lists(st.tuples(said, said).map(list), max_size=2), **_both},
    ),
    "sharegpt": optional({"conversations": ended(sharegpt_turn, _gpt)}, _both),
    "messages": optional({"messages": ended(openai_turn, _answer)}, _both),
    "prompt_completion": optional(
        {"prompt": _prompt, "completion": st.one_of(said, _answer, ended(openai_turn, _answer))}, _both
    ),
    "preference": st.one_of(
        optional({"prompt": _prompt, "chosen": said, "rejected": said}, _both),
        optional({"prompt": _prompt, "chosen": _answer, "rejected": ended(_answer, _answer)}, _both),
        optional({"conversations": ended(sharegpt_turn, _gpt), "chosen": _gpt, "rejected": _gpt}, _both),
        optional({"instruction": said, "chosen": said, "rejected": said}, {"input": st.one_of(said, blank)}),
        _whole,
        _whole.map(lambda record: {"prompt": record["chosen"][:1], **record}),
    ),
    "text": optional({"text": said}, {}),
    "labelled": optional({"text": said, "label": st.one_of(said, st.integers(), st.booleans())}, {}),
}


def same(left: Any, right: Any) -> bool:
    """Equal in value, type and order of keys, NaN included."""
    return json.dumps(left) == json.dumps(right)


def write_lines(path: Path, records: list[Any]) -> Path:
    """A JSON Lines file."""
    path.write_text("".join(json.dumps(record, ensure_ascii=False) + "\n" for record in records), "utf-8")
    return path


def read_lines(path: Path) -> list[Any]:
    """The records of a JSON Lines file."""
    return [json.loads(line) for line in path.read_text("utf-8").split("\n") if line]


def read(*sources: dict[str, Any] | Path, **settings: Any) -> Decision:
    """Ingest sources, given as settings or paths."""
    listed = [{"path": str(source)} if isinstance(source, Path) else source for source in sources]
    return read_sources(Ingest.model_validate({"sources": listed, **settings}))


def rows_of(decision: Decision) -> pl.DataFrame:
    """The rows that a decision brings in."""
    assert decision.assigned is not None
    return decision.assigned


def export(decision: Decision, record_format: str, out: Path) -> tuple[list[Any], list[str]]:
    """The records of an export as JSON Lines, and what was said."""
    told: list[str] = []
    export_rows(rows_of(decision).lazy(), record_format, out, say=told.append)
    return read_lines(out), told
