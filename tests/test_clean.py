"""The clean stage: every edit in the ledger, personal data out of every column, nothing else touched."""

import json
from itertools import pairwise
from pathlib import Path
from typing import Any, cast

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from polars.testing import assert_frame_equal

from pipeline_config.data_schema import Clean, Pii
from tasks.clean.decide import PASSES, TEXTS, decide
from tasks.clean.row import DOCUMENT, Row, Rules, Texts
from tasks.clean.task import clean
from tasks.kernels.pii import find
from tasks.kernels.rows import ROW_SCHEMA
from tasks.ledger import Decision
from tasks.stage import StageInput

SCHEMA = {name: ROW_SCHEMA[name] for name in ("row_id", *TEXTS)}
ROLES = ("user", "assistant")


def rows(*conversations: Any, **columns: Any) -> pl.DataFrame:
    """A frame of rows; a conversation is a raw text or a list of turns; columns are the same for every row."""
    lines = []
    for number, turns in enumerate(conversations):
        pairs = [("text", turns)] if isinstance(turns, str) else [(ROLES[i % 2], turn) for i, turn in enumerate(turns)]
        messages = [{"role": role, "content": content, "weight": 1.0} for role, content in pairs]
        lines.append({"row_id": f"{number:016x}", "messages": messages, "meta": "{}", **columns})
    return pl.DataFrame(lines, schema=SCHEMA)


def cleaned(frame: pl.DataFrame, config: Clean | None = None) -> Decision:
    return decide([frame], config or Clean())


def applied(frame: pl.DataFrame, decision: Decision) -> pl.DataFrame:
    """The rows that go on."""
    kept = frame.filter(~pl.col("row_id").is_in(decision.removed["row_id"].to_list()))
    assert decision.assigned is not None
    edited = {row["row_id"]: row for row in decision.assigned.iter_rows(named=True)}
    return pl.DataFrame([edited.get(row["row_id"], row) for row in kept.iter_rows(named=True)], schema=SCHEMA)


def contents(frame: pl.DataFrame) -> list[list[str]]:
    return [[message["content"] for message in messages] for messages in frame["messages"].to_list()]


def test_clean_rows_are_not_mentioned() -> None:
    frame = rows(["What is 2 + 2?", "4"], "普通的一行。", meta='{"id": 7, "when": "2023-01-15"}')
    decision = cleaned(frame)
    assert decision.assigned is not None
    assert decision.assigned.is_empty()
    assert decision.changed.is_empty()
    assert decision.removed.is_empty()
    assert decision.facts["edited_rows"] == 0


def test_no_rows_give_an_empty_decision() -> None:
    decision = decide([rows()], Clean())
    assert decision.metrics["edited_share"] == 0
    assert decide([], Clean()).removed.is_empty()


def test_one_line_for_each_rule_with_spans_in_the_text_before_it() -> None:
    text = "<b>Ã©</b>  \n\n\n\nbob@example.com"
    decision = cleaned(rows(text))
    assert contents(decision.assigned) == [["é\n\n[EMAIL_1]"]]
    assert decision.changed.select("rule", "spans").rows() == [
        ("mojibake", [[0, 3, 5]]),
        ("markup", [[0, 0, 3], [0, 4, 8]]),
        ("whitespace", [[0, 1, 5]]),
        ("pii_email", [[0, 3, 18]]),
    ]


def test_lines_of_a_row_form_a_chain_of_digests() -> None:
    frame = rows("<p>&lt;b&gt;cafÃ©&lt;/b&gt; bob@example.com 13812345678</p>\r\n")
    lines = cleaned(frame).changed.rows(named=True)
    assert len(lines) >= 4
    for line, following in pairwise(lines):
        assert line["after"] == following["before"]
        assert line["before"] != line["after"]
    texts = Texts(["text"], contents(frame)[0], {-1: "{}"})
    assert lines[0]["before"] == texts.digest()
    texts.messages = contents(cleaned(frame).assigned)[0]
    assert lines[-1]["after"] == texts.digest()


def test_the_ledger_holds_no_text() -> None:
    frame = rows(["I am bob@example.com, 13812345678", "password=hunter2"], meta='{"mail": "ann@example.com"}')
    decision = cleaned(frame, Clean(pii=Pii(phone="remove")))
    everything = decision.changed.write_json() + decision.removed.write_json() + json.dumps(dict(decision.facts))
    decision = cleaned(frame)
    everything += decision.changed.write_json() + json.dumps(dict(decision.facts))
    for secret in ("bob", "ann", "1381", "hunter2", "example.com"):
        assert secret not in everything


def test_a_value_has_one_placeholder_in_the_whole_conversation() -> None:
    frame = rows(
        ["I'm Bob@Example.com, call 138 1234 5678", "Hello bob@example.com, not ann@example.com; +86 13812345678"],
        rejected=[{"role": "assistant", "content": "ann@example.com? carl@example.com!", "weight": 1.0}],
        meta='{"mail": "carl@example.com", "nested": {"to": ["BOB@example.com"]}}',
        tools='[{"name": "send", "default": "dora@example.com"}]',
        label="ann@example.com",
        task="eve@example.com",
    )
    row = cleaned(frame).assigned.row(0, named=True)
    assert [message["content"] for message in row["messages"]] == [
        "I'm [EMAIL_1], call [PHONE_1]",
        "Hello [EMAIL_1], not [EMAIL_2]; [PHONE_1]",
    ]
    assert row["rejected"][0]["content"] == "[EMAIL_2]? [EMAIL_3]!"
    assert row["meta"] == '{"mail": "[EMAIL_3]", "nested": {"to": ["[EMAIL_1]"]}}'
    assert row["tools"] == '[{"name": "send", "default": "[EMAIL_4]"}]'
    assert (row["label"], row["task"]) == ("[EMAIL_2]", "[EMAIL_5]")


def test_another_conversation_counts_from_one_again() -> None:
    decision = cleaned(rows("ann@example.com", "bob@example.com"))
    assert contents(decision.assigned) == [["[EMAIL_1]"], ["[EMAIL_1]"]]


CONTEXTS = [
    "{}",
    "联系{}，谢谢",
    "(see {})",
    "x = '{}'",
    "<p>{}</p>",
    "`{}`",
    "```\nmail = {}\n```",
    '{{"to": "{}"}}',
    "| {} | b |",
    "a\\n{}\\tb",
]


@pytest.mark.parametrize("column", ["messages", "rejected", "meta", "tools", "label", "task", "lang"])
def test_no_canary_survives_in_any_column(column: str) -> None:
    """Fifty addresses and numbers, each planted in every column and kind of surrounding."""
    mails = [f"canary.{n}@host{n}.example.{top}" for n, top in enumerate(["com", "org", "cn", "co.uk", "dev"] * 5)]
    numbers = [f"+1 202-555-{1000 + n}" for n in range(8)] + [f"1{3 + n % 7}{n}1234{5670 + n}" for n in range(9)]
    numbers += [f"+44 20 7946 0{100 + n}" for n in range(4)] + [f"(303) 555-0{110 + n}" for n in range(4)]
    canaries = mails + numbers
    assert len(set(canaries)) == 50
    texts = [CONTEXTS[n % len(CONTEXTS)].format(canary) for n, canary in enumerate(canaries)]
    frame = rows(*texts) if column == "messages" else rows(*["plain"] * 50)
    if column == "rejected":
        frame = frame.with_columns(rejected=rows(*texts)["messages"])
    elif column in ("meta", "tools"):
        frame = frame.with_columns(pl.Series(column, [json.dumps({"note": text}) for text in texts]))
    elif column != "messages":
        frame = frame.with_columns(pl.Series(column, texts))
    decision = cleaned(frame)
    left = applied(frame, decision).write_json() + decision.changed.write_json() + decision.removed.write_json()
    assert [canary for canary in canaries if canary in left] == []
    assert decision.removed.is_empty()
    assert applied(frame, decision).height == 50


def test_numbers_that_stand_in_the_text_are_not_given_again() -> None:
    decision = cleaned(rows("[EMAIL_1] wrote to ann@example.com"))
    assert contents(decision.assigned) == [["[EMAIL_1] wrote to [EMAIL_2]"]]


def test_meta_keeps_everything_but_the_personal_data() -> None:
    meta = '{"z": 1.50, "a": [1e3, null], "note": "\\u4f60\\n\\"x\\": bob@example.com", "tel": 62345678, "n": 62345678}'
    decision = cleaned(rows("hi", meta=meta))
    changed = decision.assigned["meta"][0]
    assert changed == (
        '{"z": 1.50, "a": [1e3, null], "note": "\\u4f60\\n\\"x\\": [EMAIL_1]", "tel": "[PHONE_1]", "n": 62345678}'
    )
    assert list(json.loads(changed)) == ["z", "a", "note", "tel", "n"]
    assert {span[0] for spans in decision.changed["spans"].to_list() for span in spans} == {-1}


@pytest.mark.parametrize(
    ("key", "value", "hidden"),
    [
        ("phone", "5551234567", True),
        ("userPhone", 5551234567, True),
        ("contact", 13812345678, True),
        ("id", 5551234567, False),
        ("password", "hunter22", True),
        ("api_key", "9f86d081884c7d659a2f", True),
        ("hash", "9f86d081884c7d659a2f", False),
        ("bob@example.com", 1, True),
        ("created", 1700000000, False),
    ],
)
def test_a_field_is_read_behind_its_name(key: str, value: object, hidden: bool) -> None:
    meta = json.dumps({key: value}, ensure_ascii=False)
    decision = cleaned(rows("hi", meta=meta))
    after = applied(rows("hi", meta=meta), decision)["meta"][0]
    assert (after != meta) == hidden
    json.loads(after)


def test_keys_and_values_are_both_hidden() -> None:
    meta = '{"bob@example.com": "ann@example.com", "13812345678": {"bob@example.com": "x"}}'
    after = cleaned(rows("hi", meta=meta)).assigned["meta"][0]
    assert after == '{"[EMAIL_1]": "[EMAIL_2]", "[PHONE_1]": {"[EMAIL_1]": "x"}}'


def test_tool_calls_stay_valid_json() -> None:
    call = (
        '<tool_call>\n{"name": "dial", "arguments": {"number": 13812345678, "to": "a\\nbob@example.com"}}</tool_call>'
    )
    result = '{"phone": 13812345678, "ok": true}'
    after = contents(cleaned(rows([call, result])).assigned)[0]
    inner = json.loads(after[0].removeprefix("<tool_call>").removesuffix("</tool_call>"))
    assert inner["arguments"] == {"number": "[PHONE_1]", "to": "a\n[EMAIL_1]"}
    assert json.loads(after[1]) == {"phone": "[PHONE_1]", "ok": True}


def test_allowed_values_stay_whatever_their_spelling() -> None:
    config = Clean(pii=Pii(allow=["support@acme.example", "+86 400-820-8820"]))
    frame = rows("Mail Support@acme.example or ann@acme.example, call 400-820-8820")
    assert contents(cleaned(frame, config).assigned) == [["Mail Support@acme.example or [EMAIL_1], call 400-820-8820"]]


def test_kinds_to_keep_stay() -> None:
    config = Clean(pii=Pii(email="keep", ip="keep"))
    frame = rows("bob@example.com from 203.0.113.7, phone 13812345678")
    assert contents(cleaned(frame, config).assigned) == [["bob@example.com from 203.0.113.7, phone [PHONE_1]"]]


def test_remove_takes_the_row_out_and_counts() -> None:
    config = Clean(pii=Pii(bank_card="remove"))
    frame = rows("card 4111 1111 1111 1111, again 5500005555555559; bob@example.com", "<b>x</b> bob@example.com")
    decision = cleaned(frame, config)
    assert decision.removed.select("row_id", "rule", "value").rows() == [(f"{0:016x}", "pii_bank_card", 2.0)]
    assert decision.changed["row_id"].unique().to_list() == [f"{1:016x}"]


def test_a_row_that_repairs_empty_is_removed() -> None:
    frame = rows("<br>\n<!-- nothing -->", ["Hello", "<p></p>"], ["<b></b>", "kept"])
    decision = cleaned(frame)
    assert decision.removed.select("row_id", "rule").rows() == [
        (f"{0:016x}", "empty_after_clean"),
        (f"{1:016x}", "empty_after_clean"),
    ]
    assert contents(applied(frame, decision)) == [["", "kept"]]


def test_a_row_that_was_empty_before_is_left_to_the_rules_for_that() -> None:
    assert cleaned(rows(["Hi", ""])).removed.is_empty()


def test_rules_can_be_switched_off() -> None:
    off = Clean(
        mojibake=False,
        unicode="keep",
        markup="keep",
        whitespace=False,
        control=False,
        pii=Pii(**dict.fromkeys(Pii.model_fields.keys() - {"allow"}, "keep")),
    )
    assert cleaned(rows("<b>cafÃ©</b> e\u0301 \x00 bob@example.com  \r\n\n\n\n"), off).changed.is_empty()


def test_repairs_leave_the_document_alone() -> None:
    meta = '{"html": "<b>x</b>  \\r\\n", "mojibake": "cafÃ©"}'
    decision = cleaned(rows("<b>x</b> bob@example.com", meta=meta, label=" <b>a</b> ", tools="[]"))
    row = decision.assigned.row(0, named=True)
    assert (row["meta"], row["label"], row["tools"]) == (meta, " <b>a</b> ", "[]")


def test_weights_roles_and_order_survive() -> None:
    frame = rows(["a  ", "b", "c"])
    before, after = frame["messages"][0].to_list(), cleaned(frame).assigned["messages"][0].to_list()
    assert [{**message, "content": ""} for message in before] == [{**message, "content": ""} for message in after]


def test_encodings_and_markup_may_be_talked_about() -> None:
    frame = rows(["Why does Python show cafÃ©?", "The encoding is wrong."], ["Make a div tag", "<div>hi</div>"])
    assert cleaned(frame).changed.is_empty()


def test_data_hidden_by_damage_is_found() -> None:
    frame = rows(
        "138\u200b1234\u200b5678 <b>bob</b>@example.com &#97;nn&#64;example.com ｂｏｂ＠ｅｘａｍｐｌｅ．ｃｏｍ"
    )
    assert contents(cleaned(frame).assigned) == [["[PHONE_1] [EMAIL_1] [EMAIL_2] [EMAIL_1]"]]


def test_facts_and_metrics_count_what_happened() -> None:
    decision = cleaned(rows("<b>x</b> bob@example.com ann@example.com", "clean", "trailing  "))
    assert decision.facts["edited_by_rule"] == {"markup": 1, "pii_email": 1, "whitespace": 1}
    assert decision.facts["placeholders"]["email"] == 2
    assert decision.metrics["edited_share"] == pytest.approx(2 / 3)
    assert decision.metrics["characters_before"] == len(
        "<b>x</b> bob@example.com ann@example.com" + "clean" + "trailing  "
    )
    assert decision.metrics["characters_after"] == len("x [EMAIL_1] [EMAIL_2]" + "clean" + "trailing")


def test_the_stage_reads_its_rows_lazily() -> None:
    frame = rows("a  ", "b", "bob@example.com").with_columns(score_x=pl.lit(1.0))
    given = StageInput(Clean(), cast(Any, None), 0, frame.lazy(), None, {}, Path(), Path(), Path())
    decision = clean.run(given)
    assert isinstance(decision, Decision)
    assert_frame_equal(decision.assigned, cleaned(frame).assigned)
    assert_frame_equal(decision.changed, cleaned(frame).changed)


def test_where_batches_end_makes_no_difference() -> None:
    frame = rows("a  ", "b", "<br>", "bob@example.com", "c\r\n")
    whole, parts = decide([frame], Clean()), decide(frame.iter_slices(2), Clean())
    assert_frame_equal(whole.assigned, parts.assigned)
    assert_frame_equal(whole.changed, parts.changed)
    assert_frame_equal(whole.removed, parts.removed)
    assert whole.metrics == parts.metrics


def test_a_text_without_a_fixed_point_is_redacted_only() -> None:
    text = "bob@example.com <b>x</b>"
    row = Row(Texts(["text"], [text], {}), Rules(Clean()))
    row.clean({"markup"})
    row.redact_only()
    assert row.texts.messages == ["[EMAIL_1] <b>x</b>"]
    assert [line[0] for line in row.lines] == ["pii_email"]
    nested = "<" * PASSES * 2 + "wbr>" * PASSES * 2 + " bob@example.com"
    decision = cleaned(rows(nested))
    assert find(contents(decision.assigned)[0][0]) == []


DIRT = [
    "<p>Hi <b>you</b></p>",
    "&lt;b&gt;x&lt;/b&gt;",
    "cafÃ©",
    "e\u0301",
    "\u200b",
    "\x07",
    "  \n\n\n\n",
    "\r\n",
    "标签",
]
DIRT += ["bob@example.com", "BOB@example.com", "13812345678", "+1 201 555 0123", "4111 1111 1111 1111", "203.0.113.7"]
DIRT += [
    "password=hunter2",
    "https://a:b1@h.example/",
    "11010519491231002X",
    "[EMAIL_1]",
    "[PHONE_7]",
    "电话",
    "62345678",
]
DIRT += ["```\n<b>x</b>  \n```", "`", "<", ">", "<br>", "</b>", "<b>", "&", "amp;", "lt;", "@", ".com", "1", "-"]
DIRT += ["def f():\n    return '<b>'\n", "<pre>a &lt; b\n</pre>", "<code>x</code>"]
dirty = st.lists(st.one_of(st.sampled_from(DIRT), st.text(max_size=4)), max_size=9).map("".join)


@settings(max_examples=250, deadline=None)
@given(st.lists(st.one_of(dirty, st.lists(dirty, min_size=2, max_size=3)), min_size=1, max_size=3), dirty)
def test_cleaning_twice_changes_nothing(conversations: list[Any], note: str) -> None:
    frame = rows(*conversations, meta=json.dumps({"note": note, note: 1}, ensure_ascii=False))
    first = cleaned(frame)
    after = applied(frame, first)
    second = cleaned(after)
    assert second.changed.is_empty()
    assert second.removed.is_empty()
    for before, meta in zip(frame["meta"], after["meta"], strict=False):
        assert len(json.loads(meta)) == len(json.loads(before))


@settings(max_examples=250, deadline=None)
@given(dirty)
def test_no_personal_data_is_left(text: str) -> None:
    frame = rows(text)
    for message in contents(applied(frame, cleaned(frame))):
        assert find(message[0]) == []


@settings(max_examples=250, deadline=None)
@given(st.sampled_from(["mojibake", "control", "markup", "whitespace", "pii"]), dirty)
def test_outside_the_spans_nothing_changes(rule: str, text: str) -> None:
    """With one rule on, the stretches between a line's spans stand in the new text, in order, untouched."""
    row = Row(Texts(["text"], [text], {}), Rules(Clean()))
    if not row.clean({rule}) or len(row.lines) > 1:
        return
    kept, at = [], 0
    for index, start, end in row.lines[0][3]:
        assert index == 0
        assert at <= start <= end <= len(text)
        kept.append(text[at:start])
        at = end
    kept.append(text[at:])
    place = 0
    for piece in kept:
        place = row.texts.messages[0].index(piece, place) + len(piece)


def test_document_parts_have_an_index_each() -> None:
    frame = rows("x", meta='"bob@example.com"', tools='"bob@example.com"', label="bob@example.com", task="a", lang="en")
    spans = cleaned(frame).changed["spans"].to_list()[0]
    assert sorted(span[0] for span in spans) == sorted([DOCUMENT["meta"], DOCUMENT["tools"], DOCUMENT["label"]])
