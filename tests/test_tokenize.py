"""Rows to tokens: nothing shortened or dropped without a line in the ledger, and the question never cut."""

from pathlib import Path
from typing import Any

import polars as pl
import pytest

from pipeline_config.errors import DataError, ModelError
from pipeline_config.load import load_config
from pipeline_config.sets_schema import Tokenize
from tasks.kernels.chat_template import chat_tokenizer
from tasks.kernels.rows import ROW_SCHEMA
from tasks.ledger import Decision, check_equation, counts
from tasks.tokenize.decide import decide
from tasks.tokenize.lengths import CUT_MARK, auto_length
from tests.toy_model import _tokenizer

END = "<|im_end|>"


@pytest.fixture(scope="module")
def tokenizer() -> Any:
    return _tokenizer()


def row(row_id: str, *turns: tuple[str, str] | tuple[str, str, float], **more: Any) -> dict[str, Any]:
    messages = [{"role": t[0], "content": t[1], "weight": t[2] if len(t) > 2 else None} for t in turns]
    return {"row_id": row_id, "source": "s", "split": "train", "messages": messages, **more}


def chat(row_id: str, question: str, answer: str, **more: Any) -> dict[str, Any]:
    return row(row_id, ("user", question), ("assistant", answer), **more)


def decided(rows: list[dict[str, Any]], tokenizer: Any, context: int | None = 512, **config: Any) -> Decision:
    frame = pl.DataFrame(rows, schema=ROW_SCHEMA).with_columns(pl.col("rejected").is_not_null().alias("preference"))
    columns = ("row_id", "source", "split", "fold", "task", "label", "weight", "messages", "preference", "tools")
    decision = decide(frame.select(columns), tokenizer, context, Tokenize(**config))
    assert decision.assigned is not None
    check_equation("tokenize", counts(decision, frame.height, decision.assigned.height))
    return decision


def text_of(decision: Decision, tokenizer: Any, row_id: str) -> str:
    assert decision.assigned is not None
    ids = decision.assigned.filter(pl.col("row_id") == row_id)["input_ids"][0]
    return tokenizer.decode(ids.to_list())


def test_one_line_a_row_in_source_order_with_its_counts(tokenizer: Any) -> None:
    rows = [chat("b", "q", "一个回答"), row("t", ("text", "raw text")), chat("a", "w", "another", split="validation")]
    tokens = decided(rows, tokenizer).assigned
    assert tokens is not None
    assert tokens["row_id"].to_list() == ["b", "t", "a"]
    assert tokens["split"].to_list() == ["train", "train", "validation"]
    assert (tokens["n_tokens"] == tokens["input_ids"].list.len()).all()
    assert (tokens["n_trained"] == tokens["loss_mask"].list.sum()).all()
    assert tokens.schema["input_ids"] == pl.List(pl.Int32)
    assert tokens.schema["loss_mask"] == pl.List(pl.Boolean)


def test_rows_of_which_nothing_is_learned_are_removed(tokenizer: Any) -> None:
    silent = row("silent", ("user", "q"), ("assistant", "never this", 0.0))
    half = row("half", ("user", "q"), ("assistant", "not this", 0.0), ("user", "q"), ("assistant", "this"))
    decision = decided([silent, half], tokenizer)
    assert decision.removed.select("row_id", "rule").rows() == [("silent", "all_masked")]
    ids, mask = decision.assigned.row(0, named=True)["input_ids"], decision.assigned.row(0, named=True)["loss_mask"]
    assert tokenizer.decode([x for x, learn in zip(ids, mask, strict=True) if learn]) == "this" + END


def test_train_on_last_learns_the_last_answer_alone(tokenizer: Any) -> None:
    talk = row("r", ("user", "q"), ("assistant", "first"), ("user", "w"), ("assistant", "last"))
    line = decided([talk], tokenizer, train_on="last").assigned.row(0, named=True)
    kept = [x for x, learn in zip(line["input_ids"], line["loss_mask"], strict=True) if learn]
    assert tokenizer.decode(kept) == "last" + END


def test_auto_length_lets_99_and_a_half_percent_of_train_in_and_never_more_than_the_context() -> None:
    lengths = pl.Series(range(1, 1001))
    assert (lengths <= auto_length(lengths, None)).mean() >= 0.995
    assert (lengths <= auto_length(lengths, None) - 2).mean() < 0.995
    assert auto_length(lengths, 512) == 512
    assert auto_length(pl.Series([7]), None) == 7


def test_what_is_cut_is_inside_the_longest_context_turn(tokenizer: Any) -> None:
    long_context = "start " + "context " * 60 + "finish"
    talk = row(
        "r",
        ("system", "Be brief."),
        ("user", long_context),
        ("assistant", "first", 0.0),
        ("user", "the last question?"),
        ("assistant", "the answer"),
    )
    decision = decided([talk], tokenizer, max_length=150)
    text = text_of(decision, tokenizer, "r")
    assert decision.assigned["n_tokens"][0] <= 150
    assert "Be brief." in text
    assert "the last question?" in text
    assert f"the answer{END}" in text
    assert "start" in text
    assert "finish" in text
    assert CUT_MARK in text
    (line,) = decision.changed.to_dicts()
    turn, start, end = line["spans"][0]
    assert (line["rule"], turn) == ("truncate_context", 1)
    assert line["before"] != line["after"]
    left = long_context[:start].rstrip() + CUT_MARK + long_context[end:].lstrip()
    assert left in text
    assert decision.facts["truncated_share"] == 1


def test_a_row_whose_question_is_too_long_is_removed_not_cut(tokenizer: Any) -> None:
    rows = [chat("long", "question " * 100, "a"), chat("short", "q", "a")]
    decision = decided(rows, tokenizer, max_length=100, max_lost_tokens=1, max_lost_of_task=1)
    (line,) = decision.removed.to_dicts()
    assert (line["row_id"], line["rule"], line["threshold"]) == ("long", "too_long", 100)
    assert line["value"] > 100
    assert decision.changed.is_empty()


def test_more_than_half_a_percent_of_the_learned_tokens_is_not_lost_silently(tokenizer: Any) -> None:
    short = [chat(f"s{n}", "q", "a") for n in range(300)]
    long = chat("long", "question " * 100, "a")
    assert decided([*short, long], tokenizer, max_length=100).removed["rule"].to_list() == ["too_long"]
    worse = row("long", ("user", "question " * 100), ("assistant", "an answer " * 9))
    with pytest.raises(DataError, match=r"of the learned tokens") as caught:
        decided([*short, worse], tokenizer, max_length=100)
    assert "max_length" in caught.value.cure
    assert decided([*short, worse], tokenizer, max_length=100, on_too_long="drop").removed.height == 1


def test_no_task_loses_more_than_two_percent_of_its_rows_silently(tokenizer: Any) -> None:
    def lose(n_rows: int, split: str = "train") -> Decision:
        rare = [chat(f"r{n}", "q", "a", task="rare") for n in range(n_rows - 1)]
        rest = [chat(f"s{n}", "q", "a", task="common") for n in range(300)]
        long = chat("long", "question " * 100, "a", task="rare", split=split)
        return decided([*rare, *rest, long], tokenizer, max_length=100)

    assert lose(50).removed["row_id"].to_list() == ["long"]
    with pytest.raises(DataError, match=r"2\.04% of the rows of task rare"):
        lose(49)
    assert lose(5, split="validation").removed["row_id"].to_list() == ["long"]


def test_an_automatic_length_is_raised_where_too_much_would_be_lost_but_not_for_a_giant(tokenizer: Any) -> None:
    rows = [chat(f"s{n}", "q", "word " * (n % 20 + 1)) for n in range(400)]
    tail = [chat(f"t{n}", "q", "word " * 40) for n in range(2)]
    decision = decided([*rows, *tail], tokenizer, context=None)
    assert decision.removed.is_empty()
    lengths = decision.assigned["n_tokens"]
    assert decision.facts["max_length"] == lengths.max() > auto_length(lengths, None)
    with pytest.raises(DataError, match="can't be shortened"):
        decided([*rows, *tail, chat("giant", "q", "word " * 400)], tokenizer, context=None)


def test_stop_and_drop(tokenizer: Any) -> None:
    talk = row("r", ("user", "context " * 60), ("assistant", "a"), ("user", "q"), ("assistant", "b"))
    with pytest.raises(DataError, match="row r") as caught:
        decided([talk], tokenizer, max_length=100, on_too_long="stop")
    assert "max_length" in caught.value.cure
    decision = decided([talk], tokenizer, max_length=100, on_too_long="drop")
    assert decision.removed["rule"].to_list() == ["too_long"]


def test_raw_text_is_cut_into_pieces_that_are_the_text(tokenizer: Any) -> None:
    text = "今天天气很好，我们去公园吧。" * 20
    decision = decided([row("t", ("text", text)), chat("r", "q", "a")], tokenizer, max_length=50)
    pieces = decision.assigned.filter(pl.col("row_id") != "r")
    assert pieces.height > 1
    assert (pieces["n_tokens"] <= 50).all()
    assert tokenizer.decode([x for ids in pieces["input_ids"].to_list() for x in ids]) == text + END
    assert not pieces["loss_mask"].list.first().any()
    assert decision.added.height == pieces.height - 1
    assert set(decision.added["parent_row_id"]) == {"t"}
    assert decision.assigned["row_id"].to_list()[-1] == "r"


def test_a_conversation_is_split_between_questions_and_every_answer_is_learned_once(tokenizer: Any) -> None:
    spoken = [(f"question {n}?", f"Answer number {n}.") for n in range(9)]
    turns = [turn for asked, said in spoken for turn in (("user", asked), ("assistant", said))]
    talk = row("r", ("system", "Be brief."), *turns)
    decision = decided([talk, chat("s", "q", "a")], tokenizer, max_length=100, on_too_long="split")
    found = decision.assigned.filter(pl.col("row_id") != "s")
    assert found.height > 2
    assert (found["n_tokens"] <= 100).all()
    learned = ""
    for line in found.iter_rows(named=True):
        text = tokenizer.decode(line["input_ids"])
        assert text.startswith(f"<|im_start|>system\nBe brief.{END}\n<|im_start|>user\n")
        kept = zip(line["input_ids"], line["loss_mask"], strict=True)
        learned += tokenizer.decode([x for x, learn in kept if learn])
    assert learned == "".join(said + END for _, said in spoken)
    assert decision.changed["rule"].to_list() == ["split_turns"]
    assert decision.added["row_id"].to_list() == found["row_id"].to_list()[1:]
    assert decision.assigned["row_id"].to_list()[-1] == "s"


def test_an_exchange_that_is_too_long_by_itself_is_not_split(tokenizer: Any) -> None:
    talk = row("r", ("user", "q"), ("assistant", "a"), ("user", "w " * 120), ("assistant", "b"))
    decision = decided([talk], tokenizer, max_length=100, on_too_long="split", max_lost_tokens=1, max_lost_of_task=1)
    assert decision.removed["rule"].to_list() == ["too_long"]
    assert decision.added.is_empty()


def test_a_test_set_does_not_depend_on_the_training_length(tokenizer: Any) -> None:
    rows = [chat("train", "q " * 100, "a"), chat("test", "q " * 100, "a", split="test:x")]
    allowed = {"max_lost_tokens": 1, "max_lost_of_task": 1}
    assert decided(rows, tokenizer, max_length=100, **allowed).assigned["row_id"].to_list() == ["test"]


def test_a_row_that_the_tokenizer_side_refuses_is_quarantined_with_its_reason(tokenizer: Any) -> None:
    rows = [chat("bad", "q", "a", tools="[1]"), chat("good", "q", "a", tools='[{"name": "f"}]')]
    decision = decided(rows, tokenizer)
    assert decision.quarantined.select("row_id", "source", "reason").rows() == [("bad", "s", "bad_tools")]
    assert '"name": "f"' in text_of(decision, tokenizer, "good")


def test_of_a_preference_pair_the_chosen_side_is_learned_and_that_is_said(tokenizer: Any) -> None:
    rejected = [{"role": "assistant", "content": "bad answer", "weight": None}]
    decision = decided([chat("p", "q", "good answer", rejected=rejected)], tokenizer)
    text = text_of(decision, tokenizer, "p")
    assert "good answer" in text
    assert "bad answer" not in text
    assert decision.facts["preference_rows_learned_from_chosen"] == 1


def test_the_order_of_chunks_does_not_show(tokenizer: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = [chat(f"c{n}", f"question {n}", "a" * (n % 7 + 1)) for n in range(23)] + [row("t", ("text", "raw"))]
    whole = decided(rows, tokenizer).assigned
    monkeypatch.setattr("tasks.tokenize.encode._ROWS_AT_ONCE", 5)
    assert decided(rows, tokenizer).assigned.equals(whole)


def test_facts_are_what_the_rows_say(tokenizer: Any) -> None:
    rows = [chat("a", "q", "one"), chat("b", "q", "one two three"), chat("v", "q", "x", split="validation")]
    decision = decided(rows, tokenizer)
    train = decision.assigned.filter(pl.col("split") == "train")
    assert decision.facts["trained_tokens"] == train["n_trained"].sum()
    assert decision.facts["length_quantiles"]["max"] == train["n_tokens"].max() == decision.facts["max_length"]
    assert decision.facts["rows_by_split"] == {"train": 2, "validation": 1}


def test_no_rows_give_no_tokens(tokenizer: Any) -> None:
    assert decided([], tokenizer).assigned.is_empty()


def test_a_conversation_needs_a_template_and_raw_text_needs_none() -> None:
    tokenizer = _tokenizer()
    tokenizer.chat_template = None
    assert decided([row("t", ("text", "raw"))], tokenizer).assigned.height == 1
    with pytest.raises(ModelError, match="no chat template") as caught:
        decided([chat("r", "q", "a")], tokenizer)
    assert "tokenize.chat_template" in caught.value.cure


def test_a_template_that_is_given_takes_the_place_of_the_models(tmp_path: Path) -> None:
    _tokenizer().save_pretrained(tmp_path / "model")
    turn = "{% for m in messages %}{{ m.role + '> ' + m.content + '<|im_end|>' }}{% endfor %}"
    (tmp_path / "t.jinja").write_text(turn + "{% if add_generation_prompt %}{{ 'assistant>' }}{% endif %}")
    (tmp_path / "model" / "config.json").write_text('{"model_type": "llama"}')
    settings = [f"model={tmp_path / 'model'}", f"tokenize.chat_template={tmp_path / 't.jinja'}"]
    run = load_config("default", ["ingest.sources=[{path: rows.jsonl}]", *settings])
    tokenizer = chat_tokenizer(run, tmp_path)
    talk = row("r", ("system", "s"), ("user", "q"), ("assistant", "a"))
    assert text_of(decided([talk], tokenizer), tokenizer, "r") == f"system> s{END}user> q{END}assistant> a{END}"


def test_the_model_context_is_the_smallest_limit_that_is_named(tmp_path: Path, tokenizer: Any) -> None:
    from tasks.tokenize.lengths import model_context

    (tmp_path / "config.json").write_text('{"text_config": {"max_position_embeddings": 64}}')
    assert model_context(tmp_path, tokenizer) == 64
    (tmp_path / "config.json").write_text("{}")
    assert model_context(tmp_path, tokenizer) is None
