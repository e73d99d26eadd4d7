"""Bad records go to quarantine with file, line and reason; the records around them become rows."""

import gzip
import json
import tracemalloc

import pytest

from pipeline_config.errors import SourceError
from tests.records import read, rows_of, write_lines

GOOD = {"instruction": "Name a colour.", "output": "Blue."}


def only_line(decision):
    (line,) = decision.quarantined.to_dicts()
    return line


def write(folder, *lines, name="mine.jsonl"):
    path = folder / name
    path.write_bytes(b"".join(line if isinstance(line, bytes) else json.dumps(line).encode() + b"\n" for line in lines))
    return path


@pytest.mark.parametrize(
    ("bad", "reason", "named"),
    [
        (b"{not json}\n", "not_json", ""),
        (b"[1, 2]\n", "not_an_object", ""),
        (b'"only text"\n', "not_an_object", ""),
        ({"instruction": "Name a colour."}, "missing_field", "output"),
        ({"instruction": "Name a colour.", "output": None}, "content_null", "output"),
        ({"instruction": None, "input": "x", "output": "y"}, "content_null", "instruction"),
        ({"instruction": "", "output": "Blue."}, "content_empty", "instruction"),
        ({"instruction": "Name a colour.", "output": " \n "}, "content_empty", "output"),
        ({"instruction": "Six by seven?", "output": 42}, "content_not_text", "output"),
        ({"instruction": "Six by seven?", "output": 1 << 70}, "content_not_text", "output"),
        ({"instruction": "Six by seven?", "output": ["42"]}, "content_not_text", "output"),
        (b'{"instruction": "a", "output": "caf\xe9"}\n', "invalid_utf8", ""),
        (b'{"instruction": "a", "output": "b"}\0\0\0\n', "nul_byte", "3"),
        (b'{"instruction": "a", "output": "b", "output": "c"}\n', "repeated_key", "output"),
        (b'{"instruction" : "a", "output":"b", "x": [{"y": 1, "y" : 2}]}\n', "repeated_key", "'y'"),
        (b'{"instruction": "a", "output": "b", "out\\u0070ut": "\\u0022:"}\n', "repeated_key", "output"),
        (b'{"instruction": "a", "output": "half \\ud83d"}\n', "invalid_unicode", ""),
        (b'{"instruction": "a", "output": "b", "x": ' + b"[" * 400 + b"]" * 400 + b"}\n", "nested_too_deep", ""),
        (b'{"instruction": "a", "output": "b", "x": ' + b"[" * 9000 + b"]" * 9000 + b"}\n", "nested_too_deep", ""),
        (b'{"instruction": "a", "output": "b", "x": ' + b"1" * 5000 + b"}\n", "number_too_long", ""),
    ],
)
def test_a_bad_line_is_quarantined_alone(tmp_path, bad, reason, named):
    decision = read(write(tmp_path, GOOD, bad, {**GOOD, "n": 2}))
    assert rows_of(decision)["source"].to_list() == ["mine", "mine"]
    line = only_line(decision)
    assert (line["reason"], line["line"], line["source"]) == (reason, 2, "mine")
    assert named in line["detail"]
    assert "mine.jsonl" in line["detail"]
    assert str(tmp_path) not in line["detail"]
    assert len(line["row_id"]) == 16


@pytest.mark.parametrize(
    ("turns", "reason", "where"),
    [
        (
            [{"role": "wizard", "content": "a"}, {"role": "assistant", "content": "b"}],
            "unknown_role",
            "messages[0].role",
        ),
        ([{"role": "user", "content": "a"}], "no_assistant", ""),
        ([], "no_assistant", ""),
        (None, "content_null", "messages"),
        ("hello", "content_not_text", "messages"),
        (
            [{"role": "user", "content": None}, {"role": "assistant", "content": "b"}],
            "content_null",
            "messages[0].content",
        ),
        (
            [{"role": "user", "content": "a"}, {"role": "assistant", "content": ""}],
            "content_empty",
            "messages[1].content",
        ),
        (
            [{"role": "user", "content": 5}, {"role": "assistant", "content": "b"}],
            "content_not_text",
            "messages[0].content",
        ),
        ([{"role": "user"}, {"role": "assistant", "content": "b"}], "missing_field", "messages[0].content"),
        ([{"content": "a"}, {"role": "assistant", "content": "b"}], "missing_field", "messages[0].role"),
        (["a", {"role": "assistant", "content": "b"}], "turn_not_object", "messages[0]"),
        (
            [{"role": "user", "content": [{"type": "image_url", "image_url": "x"}]}],
            "content_not_text",
            "messages[0].content[0]",
        ),
        (
            [{"role": "assistant", "content": None, "tool_calls": [{"id": 1}]}],
            "unknown_tool_call",
            "messages[0].tool_calls",
        ),
    ],
)
def test_a_bad_conversation_names_its_field(tmp_path, turns, reason, where):
    good = {"messages": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]}
    line = only_line(read(write(tmp_path, good, {"messages": turns})))
    assert (line["reason"], line["line"]) == (reason, 2)
    assert line["detail"].startswith(where)


def test_a_role_that_is_an_address_is_masked_in_the_detail(tmp_path):
    bad = {"messages": [{"role": "ann@example.com", "content": "a"}]}
    line = only_line(read(write(tmp_path, bad)))
    assert line["reason"] == "unknown_role"
    assert "example.com" not in line["detail"] + line["excerpt"]


def test_blank_lines_count_as_lines_and_are_no_records(tmp_path):
    decision = read(write(tmp_path, b"\n", GOOD, b"   \r\n", b"oops\n"))
    assert rows_of(decision).height == 1
    assert only_line(decision)["line"] == 4


def test_every_record_is_a_row_or_in_quarantine(tmp_path):
    lines = [GOOD, b"oops\n", GOOD, b"oops\n", {"instruction": "x"}, {**GOOD, "id": 1}]
    decision = read(write(tmp_path, *lines))
    ids = [*rows_of(decision)["row_id"], *decision.quarantined["row_id"]]
    assert len(ids) == len(set(ids)) == len(lines)


def test_the_same_id_twice_is_two_rows_and_counted(tmp_path):
    decision = read(write(tmp_path, {**GOOD, "id": 7}, {**GOOD, "output": "Red.", "id": 7}, {**GOOD, "id": 8}))
    assert rows_of(decision)["row_id"].n_unique() == 3
    assert decision.metrics["duplicate_ids"] == 1


def test_excerpts_are_short_and_hide_personal_data(tmp_path):
    secret = "ann@example.com or 13812345678"
    escaped = "".join(f"\\u{ord(character):04x}" for character in secret)
    path = write(
        tmp_path,
        f'{{"instruction": "mail {secret}", "output": null}}\n'.encode(),
        f'{{"instruction": "mail \\u8bdd{escaped}", "output": null}}\n'.encode(),
        b"x" * 2040 + f" {secret} ".encode() * 50 + b"\n",
        ("话" * 3000 + "\n").encode(),
    )
    excerpts = read({"path": str(path), "format": "alpaca"}).quarantined["excerpt"].to_list()
    assert len(excerpts) == 4
    assert all(len(excerpt.encode()) <= 2048 for excerpt in excerpts)
    assert not [excerpt for excerpt in excerpts if "example.com" in excerpt or "138123" in excerpt]


@pytest.mark.parametrize("suffix", [".jsonl", ".jsonl.gz", ".json", ".csv", ".txt"])
def test_a_record_of_50_mb_is_quarantined_without_being_put_together(tmp_path, suffix):
    giant, path = b"a" * 50_000_000, tmp_path / f"mine{suffix}"
    body = {
        ".jsonl": b'{"text": "one"}\n{"text": "%s"}\n{"text": "two"}\n' % giant,
        ".json": b'[{"text": "one"}, {"text": "%s"}, {"text": "two"}]' % giant,
        ".csv": b"text\none\n%s\ntwo\n" % giant,
        ".txt": b"one\n%s\ntwo\n" % giant,
    }[suffix.removesuffix(".gz")]
    path.write_bytes(gzip.compress(body, 1) if suffix.endswith(".gz") else body)
    del body, giant
    tracemalloc.start()
    decision = read(path, max_record_mb=10)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert [turns[0]["content"] for turns in rows_of(decision)["messages"].to_list()] == ["one", "two"]
    line = only_line(decision)
    assert line["reason"] == "record_too_long"
    assert "50.0 MB" in line["detail"]
    assert peak < 120e6


def test_a_record_just_under_the_limit_is_a_row(tmp_path):
    decision = read(write(tmp_path, {"text": "a" * 900_000}, {"text": "a" * 1_100_000}), max_record_mb=1)
    assert rows_of(decision).height == 1
    assert only_line(decision)["reason"] == "record_too_long"


@pytest.mark.parametrize(
    ("middle", "reason", "line", "rows"),
    [
        ("x,ragged\n", "ragged_row", 3, 2),
        ("one,two,three,four\n", "ragged_row", 3, 2),
        ('a,"never closed,1\n', "unclosed_quote", 3, 2),
        ('"a" b,c,1\n', "bad_quotes", 3, 2),
        ('"stray,1,2\n', "unclosed_quote", 3, 2),
    ],
)
def test_a_bad_csv_row_costs_itself_alone(tmp_path, middle, reason, line, rows):
    path = tmp_path / "mine.csv"
    path.write_text(f"text,label,n\nfine,good,1\n{middle}fine too,bad,2\n")
    decision = read(path)
    assert rows_of(decision)["label"].to_list() == ["good", "bad"][:rows]
    found = only_line(decision)
    assert (found["reason"], found["line"]) == (reason, line)


def test_a_stray_quote_does_not_swallow_the_rows_up_to_the_next_quote(tmp_path):
    path = tmp_path / "mine.csv"
    rows = [f"row {n},a" for n in range(20)]
    path.write_text("\n".join(["text,label", *rows[:5], '"stray,a', *rows[5:], '"said ""hi"" ,\nagain",b']) + "\n")
    decision = read(path)
    assert only_line(decision)["line"] == 7
    contents = [turns[0]["content"] for turns in rows_of(decision)["messages"].to_list()]
    assert contents == [*(f"row {n}" for n in range(20)), 'said "hi" ,\nagain']


def test_an_undecodable_line_inside_a_quoted_cell_is_not_left_out_of_it(tmp_path):
    path = tmp_path / "mine.csv"
    path.write_bytes(b'text,label\nfine,a\n"first\nbad \xff line\nlast",b\nfine too,a\n')
    decision = read(path)
    assert [turns[0]["content"] for turns in rows_of(decision)["messages"].to_list()] == ["fine", "fine too"]
    line = only_line(decision)
    assert (line["reason"], line["line"]) == ("invalid_utf8", 3)


def test_a_damaged_element_of_a_json_array_costs_itself_alone(tmp_path):
    records = [
        json.dumps({"messages": [{"role": "user", "content": f"q{n}"}, {"role": "assistant", "content": "a"}]})
        for n in range(6)
    ]
    records[2] = records[2].replace('"role"', '"role', 1)
    path = tmp_path / "mine.json"
    path.write_text("[" + ",\n ".join(records) + "]")
    decision = read(path)
    assert [turns[0]["content"] for turns in rows_of(decision)["messages"].to_list()] == ["q0", "q1", "q3", "q4", "q5"]
    assert only_line(decision)["reason"] == "not_json"


@pytest.mark.parametrize(("keep", "whole"), [(30, 1), (55, 2), (-1, 3)])
def test_a_json_array_cut_short_keeps_what_is_whole(tmp_path, keep, whole):
    path = tmp_path / "mine.json"
    path.write_text(json.dumps([{"text": "first one"}, {"text": "second"}, {"text": "third"}])[:keep])
    decision = read(path)
    assert rows_of(decision).height == whole
    assert only_line(decision)["reason"] == "not_json"


def test_lines_of_the_wrong_format_are_quarantined_not_guessed(tmp_path):
    path = write_lines(tmp_path / "mine.jsonl", [GOOD, {"text": "plain"}, GOOD])
    line = only_line(read(path))
    assert (line["reason"], line["line"]) == ("missing_field", 2)


@pytest.mark.parametrize("label", [None, "", {"a": 1}])
def test_a_labelled_text_needs_its_label(tmp_path, label):
    path = write_lines(tmp_path / "mine.jsonl", [{"text": "fine", "label": "a"}, {"text": "bad", "label": label}])
    assert only_line(read(path))["detail"].startswith("label")


def test_a_later_record_of_the_same_bytes_is_found_by_its_own_id(tmp_path):
    one = read(write(tmp_path, b"oops\n", GOOD, b"oops\n")).quarantined
    assert one["row_id"].n_unique() == 2
    again = read(write(tmp_path, GOOD, GOOD, b"oops\n")).quarantined
    assert again["row_id"][0] == one["row_id"][0]


def test_a_csv_file_with_carriage_returns_alone_is_refused_and_not_read_as_one_line(tmp_path):
    path = tmp_path / "a.csv"
    path.write_bytes(b"instruction,output\rWho?,You.\rWhy?,So.\r")
    with pytest.raises(SourceError, match="carriage return alone"):
        read(path)
