"""Export: a file in its own format comes out as it went in; other formats say what they can, and count the rest."""

import datetime
import decimal
import json

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipeline_config.errors import ConfigError, DataError
from tasks.kernels.export import export_rows
from tests.records import export, read, read_lines, rows_of, same, write_lines

ALPACA = [
    {"instruction": "Translate.", "input": "Guten Tag", "output": "Good day"},
    {
        "id": "a-1",
        "instruction": "Name a colour.",
        "input": "",
        "output": "Blue.",
        "score": 0.25,
        "tags": ["x", {"y": None}],
    },
    {"output": "先头", "instruction": "顺序", "big": 123456789012345678901234567890, "none": None, "yes": True},
    {
        "instruction": "And then?",
        "output": "Nothing.",
        "system": "Be short.",
        "history": [["One?", "Two."], ["a", "b"]],
    },
]
SHAREGPT = [
    {"conversations": [{"from": "human", "value": "Hi"}, {"from": "gpt", "value": "Hello"}]},
    {
        "id": 9,
        "conversations": [
            {"from": "human", "value": "Weather in Paris?"},
            {"from": "function_call", "value": '{"name": "weather", "arguments": {"city": "Paris"}}'},
            {"from": "observation", "value": '{"sky": "clear"}'},
            {"from": "gpt", "value": "Clear."},
        ],
        "system": "Use tools.",
        "tools": '[{"name": "weather", "parameters": {"city": "string"}}]',
        "source": "made up",
    },
    {
        "conversations": [
            {"from": "system", "value": "s"},
            {"from": "user", "value": "q", "weight": 0},
            {"from": "gpt", "value": "a"},
        ]
    },
]
PREFERENCE = [
    {"prompt": "Best colour?", "chosen": "It depends.", "rejected": "Blue!!!", "margin": 1.5},
    {
        "prompt": [{"role": "user", "content": "q"}],
        "chosen": [{"role": "assistant", "content": "good"}],
        "rejected": [{"role": "assistant", "content": "bad"}],
    },
]
MESSAGES = [
    {
        "messages": [
            {"role": "user", "content": "Weather in Paris and Rome?", "name": "ann"},
            {
                "role": "assistant",
                "content": None,
                "tool_calls": [
                    {"id": "c1", "type": "function", "function": {"name": "weather", "arguments": '{"city":"Paris"}'}},
                    {"id": "c2", "type": "function", "function": {"name": "weather", "arguments": '{"city": "Rome"}'}},
                ],
            },
            {"role": "tool", "tool_call_id": "c1", "content": "clear"},
            {"role": "tool", "tool_call_id": "c2", "content": ""},
            {"role": "assistant", "content": "Clear in Paris.", "weight": 0},
        ],
        "tools": [{"type": "function", "function": {"name": "weather"}}],
        "split": "train",
    }
]
CASES = {"alpaca": ALPACA, "sharegpt": SHAREGPT, "preference": PREFERENCE, "messages": MESSAGES}


@pytest.mark.parametrize("name", list(CASES))
@pytest.mark.parametrize("record_format", ["own", "original"])
def test_a_file_comes_out_of_its_own_format_byte_for_byte(tmp_path, name, record_format):
    path = write_lines(tmp_path / "in.jsonl", CASES[name])
    record_format = name if record_format == "own" and name != "preference" else "original"
    records, told = export(read(path), record_format, tmp_path / "out.jsonl")
    assert same(records, CASES[name])
    assert (tmp_path / "out.jsonl").read_bytes() == path.read_bytes()
    assert not told


def test_a_csv_file_with_extra_columns_comes_out_byte_for_byte(tmp_path):
    path = tmp_path / "in.csv"
    path.write_text(
        'id,text,label,note,score\n001,"Good, very good",pos,,1.50\n002,"He said ""no""",neg,"",\n'
        '003,"two\nlines",pos,ok,7\n'
    )
    assert export_rows(rows_of(read(path)).lazy(), "original", tmp_path / "out.csv") == 3
    assert (tmp_path / "out.csv").read_bytes() == path.read_bytes()


def test_typed_values_of_a_parquet_file_come_back_with_their_types(tmp_path):
    table = pa.table(
        {
            "text": ["a", "b"],
            "when": [datetime.datetime(2024, 5, 1, 12, 30), None],
            "day": [datetime.date(2024, 5, 1), datetime.date(1999, 12, 31)],
            "price": [decimal.Decimal("1.50"), decimal.Decimal("2.25")],
            "raw": [b"\x00\xff", b""],
            "score": [float("inf"), -0.5],
            "nested": [{"n": 1, "at": datetime.date(2020, 1, 1)}, {"n": None, "at": None}],
        }
    )
    pq.write_table(table, tmp_path / "in.parquet")
    export_rows(rows_of(read(tmp_path / "in.parquet")).lazy(), "original", tmp_path / "out.parquet")
    assert pq.read_table(tmp_path / "out.parquet").to_pylist() == table.to_pylist()


def test_nan_comes_back(tmp_path):
    (tmp_path / "in.jsonl").write_text('{"text": "a", "score": NaN, "low": [-Infinity]}\n')
    export(read(tmp_path / "in.jsonl"), "original", tmp_path / "out.jsonl")
    assert (tmp_path / "out.jsonl").read_bytes() == (tmp_path / "in.jsonl").read_bytes()


def test_renamed_fields_come_back_in_original_and_get_the_formats_names_otherwise(tmp_path):
    record = {"id": 1, "question": "q", "context": "c", "answer": "a"}
    path = write_lines(tmp_path / "in.jsonl", [record])
    fields = {"instruction": "question", "input": "context", "output": "answer"}
    decision = read({"path": str(path), "fields": fields})
    assert export(decision, "original", tmp_path / "o.jsonl")[0] == [record]
    plain = {"id": 1, "instruction": "q", "input": "c", "output": "a"}
    assert same(export(decision, "alpaca", tmp_path / "o.jsonl")[0], [plain])


def edited(decision, change):
    """The rows with every content changed."""
    turns = pl.col("messages").list.eval(
        pl.element().struct.with_fields(pl.field("content").map_elements(change, return_dtype=pl.String))
    )
    return rows_of(decision).with_columns(turns)


def test_an_edited_text_stands_in_the_records_shape_and_its_old_form_nowhere(tmp_path):
    record = {
        "id": 1,
        "messages": [
            {"role": "user", "content": [{"type": "text", "text": "I am Ann"}, {"type": "text", "text": "Ann B"}]},
            {
                "role": "assistant",
                "content": "Ann!",
                "tool_calls": [
                    {"id": "c", "type": "function", "function": {"name": "f", "arguments": '{"who":"Ann"}'}}
                ],
            },
        ],
    }
    decision = read(write_lines(tmp_path / "in.jsonl", [record]))
    rows = edited(decision, lambda text: text.replace("Ann", "[NAME_1]"))
    export_rows(rows.lazy(), "original", tmp_path / "out.jsonl")
    assert read_lines(tmp_path / "out.jsonl") == [json.loads(json.dumps(record).replace("Ann", "[NAME_1]"))]


@pytest.mark.parametrize(
    ("change", "instruction", "given"),
    [
        (str.upper, "FIX THIS:", "A\n\n\nB"),
        (lambda text: text.replace("\n\n\n", "\n\n"), "Fix this:", "a\n\nb"),
        (lambda text: text.replace("this", "all of this"), "Fix all of this:", "a\n\n\nb"),
        (lambda text: "short", "short", ""),
    ],
)
def test_alpacas_input_is_cut_off_an_edited_prompt_where_it_began(tmp_path, change, instruction, given):
    record = {"instruction": "Fix this:", "input": "a\n\n\nb", "output": "a b"}
    rows = edited(read(write_lines(tmp_path / "in.jsonl", [record])), change)
    export_rows(rows.lazy(), "alpaca", tmp_path / "out.jsonl")
    (out,) = read_lines(tmp_path / "out.jsonl")
    assert (out["instruction"], out["input"]) == (instruction, given)


def test_a_conversation_of_several_turns_gets_a_history_in_alpaca(tmp_path):
    turns = [("human", "q1"), ("gpt", "a1"), ("human", "q2"), ("gpt", "a2")]
    record = {"id": 5, "system": "s", "conversations": [{"from": who, "value": text} for who, text in turns]}
    records, told = export(read(write_lines(tmp_path / "in.jsonl", [record])), "alpaca", tmp_path / "out.jsonl")
    wanted = {"instruction": "q2", "input": "", "output": "a2", "system": "s", "history": [["q1", "a1"]], "id": 5}
    assert same(records, [wanted])
    assert not told


def test_tool_calls_cross_from_sharegpt_to_messages_and_back(tmp_path):
    records, told = export(read(write_lines(tmp_path / "in.jsonl", SHAREGPT[1:2])), "messages", tmp_path / "m.jsonl")
    assert not told
    assert [turn["role"] for turn in records[0]["messages"]] == ["system", "user", "assistant", "tool", "assistant"]
    (call,) = records[0]["messages"][2]["tool_calls"]
    assert call["function"] == {"name": "weather", "arguments": {"city": "Paris"}}
    assert records[0]["tools"] == json.loads(SHAREGPT[1]["tools"])
    back, _ = export(read(tmp_path / "m.jsonl"), "sharegpt", tmp_path / "s.jsonl")
    assert back[0]["conversations"] == SHAREGPT[1]["conversations"]
    assert json.loads(back[0]["tools"]) == json.loads(SHAREGPT[1]["tools"])


def test_a_preference_pair_crosses_into_each_format(tmp_path):
    decision = read(write_lines(tmp_path / "in.jsonl", PREFERENCE[:1]))
    turns = {"user": [{"role": "user", "content": "Best colour?"}]}
    assert export(decision, "messages", tmp_path / "o.jsonl")[0] == [
        {
            "prompt": turns["user"],
            "chosen": [{"role": "assistant", "content": "It depends."}],
            "rejected": [{"role": "assistant", "content": "Blue!!!"}],
            "margin": 1.5,
        }
    ]
    (sharegpt,) = export(decision, "sharegpt", tmp_path / "o.jsonl")[0]
    assert (sharegpt["chosen"]["value"], sharegpt["rejected"]["value"]) == ("It depends.", "Blue!!!")
    (alpaca,) = export(decision, "alpaca", tmp_path / "o.jsonl")[0]
    assert (alpaca["instruction"], alpaca["chosen"], alpaca["rejected"]) == ("Best colour?", "It depends.", "Blue!!!")
    _, told = export(decision, "text", tmp_path / "o.jsonl")
    assert any("rejected answer" in sentence for sentence in told)


def test_what_crosses_formats_is_read_again_as_the_same_conversation(tmp_path):
    decision = read(write_lines(tmp_path / "in.jsonl", ALPACA))
    before = rows_of(decision)["messages"].to_list()
    for record_format in ("messages", "sharegpt", "alpaca"):
        export(decision, record_format, tmp_path / "out.jsonl")
        assert rows_of(read(tmp_path / "out.jsonl"))["messages"].to_list() == before


def test_what_a_format_cannot_say_is_left_out_counted_and_said(tmp_path):
    write_lines(tmp_path / "m.jsonl", [*MESSAGES, {"messages": [{"role": "assistant", "content": "alone"}]}])
    write_lines(tmp_path / "t.jsonl", [{"text": "raw"}, {"text": "raw too"}])
    decision = read(tmp_path / "m.jsonl", tmp_path / "t.jsonl")
    records, told = export(decision, "alpaca", tmp_path / "out.jsonl")
    assert records == []
    assert [sentence[-3:] for sentence in told if "left out" in sentence] == [": 2", ": 1", ": 1"]
    records, told = export(decision, "text", tmp_path / "out.jsonl")
    assert len(records) == 4
    assert any(sentence.startswith("conversations without the roles") and sentence.endswith(": 2") for sentence in told)


def test_a_field_named_as_the_format_names_its_own_is_kept_under_another_name(tmp_path):
    record = {"text": "good", "label": "pos", "messages": "mine"}
    path = write_lines(tmp_path / "in.jsonl", [{"prompt": "q", "completion": "a", "output": "mine"}, record])
    alpaca = export(read({"path": str(path), "format": "prompt_completion"}), "alpaca", tmp_path / "o.jsonl")[0]
    assert alpaca == [{"instruction": "q", "input": "", "output": "a", "meta.output": "mine"}]


def test_parquet_holds_the_rows_as_they_are(tmp_path):
    decision = read(write_lines(tmp_path / "in.jsonl", ALPACA))
    assert export_rows(rows_of(decision).lazy(), "parquet", tmp_path / "out.parquet") == len(ALPACA)
    assert pl.read_parquet(tmp_path / "out.parquet").equals(rows_of(decision))


@pytest.mark.parametrize("name", ["o.json", "o.jsonl.gz", "o.jsonl.zst", "o.parquet", "o.csv", "o.tsv"])
def test_every_kind_of_file_can_be_written_and_read_again(tmp_path, name):
    records = [
        {"prompt": "What?", "completion": 'That,\n"this"', "n": "1"},
        {"prompt": "怎么", "completion": "这样", "n": ""},
    ]
    decision = read(write_lines(tmp_path / "in.jsonl", records))
    assert export_rows(rows_of(decision).lazy(), "original", tmp_path / name) == 2
    again = read({"path": str(tmp_path / name), "name": "in"})
    assert rows_of(again)["row_id"].to_list() == rows_of(decision)["row_id"].to_list()


def test_a_file_that_could_not_be_written_whole_is_not_there(tmp_path, monkeypatch):
    def full(record):
        raise OSError(28, "No space left on device")

    decision = read(write_lines(tmp_path / "in.jsonl", ALPACA))
    monkeypatch.setattr("tasks.kernels.records.containers._line", full)
    (tmp_path / "sub").mkdir()
    with pytest.raises(ConfigError, match="No space"):
        export_rows(rows_of(decision).lazy(), "alpaca", tmp_path / "sub" / "out.jsonl")
    assert list((tmp_path / "sub").iterdir()) == []


def test_an_unknown_format_file_name_or_stage_without_text_is_an_error(tmp_path):
    rows = pl.DataFrame({"row_id": ["a"], "input_ids": [[1]]}).lazy()
    with pytest.raises(ConfigError, match="no format 'xml'"):
        export_rows(rows, "xml", tmp_path / "o.jsonl")
    with pytest.raises(DataError, match="no column messages"):
        export_rows(rows, "messages", tmp_path / "o.jsonl")
    filled = rows_of(read(write_lines(tmp_path / "in.jsonl", ALPACA))).lazy()
    with pytest.raises(ConfigError, match="does not say what kind of file"):
        export_rows(filled, "messages", tmp_path / "out")


def test_a_row_that_came_from_no_record_can_be_exported(tmp_path):
    rows = rows_of(read(write_lines(tmp_path / "in.jsonl", ALPACA[:1]))).with_columns(meta=pl.lit(None, pl.String))
    told = []
    export_rows(rows.lazy(), "original", tmp_path / "out.jsonl", say=told.append)
    assert [turn["role"] for turn in read_lines(tmp_path / "out.jsonl")[0]["messages"]] == ["user", "assistant"]
    assert told == ["rows that came from no record, written as messages or text: 1"]


@pytest.mark.parametrize("form", ["messages", "parquet"])
def test_a_folder_that_is_not_there_may_be_mistyped_and_is_not_made(tmp_path, form):
    out = tmp_path / "exprots" / "x.parquet"
    rows = rows_of(read(write_lines(tmp_path / "in.jsonl", ALPACA))).lazy()
    with pytest.raises(ConfigError, match=r"there is no folder .*exprots") as caught:
        export_rows(rows, form, out)
    assert (caught.value.place, caught.value.exit_code) == ("--out", 2)
    assert f"mkdir -p {out.parent}" in caught.value.cure
    assert not out.parent.exists()
    out.parent.mkdir()
    assert export_rows(rows, form, out) == len(ALPACA)
