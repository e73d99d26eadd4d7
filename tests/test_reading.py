"""The readers' parts, held against plain definitions of the same thing."""

import csv
import io
import json
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tasks.kernels.reading.delimited import DelimitedReader
from tasks.kernels.reading.encodings import LineDecoder, TextDecoder
from tasks.kernels.reading.files import read_file
from tasks.kernels.reading.json_lines import parse_block
from tasks.kernels.reading.json_values import read_json_values
from tasks.kernels.reading.streams import Lines, line_blocks
from tasks.kernels.records.calls import join_calls, split_calls
from tasks.kernels.records.odd import json_safe, odd_places, put_back, real
from tasks.kernels.records.shape import fill, join_parts, literal, split_parts
from tests.records import any_text, read, rows_of, same, values

cells = st.text(st.sampled_from('a,";\n\t é字'), max_size=6)
HERE = Path("mine.csv")


class Slowly:
    """A stream that gives a few bytes at a time."""

    def __init__(self, data, few):
        self._stream = io.BytesIO(data)
        self._few = few

    def read(self, size=-1, /):
        return self._stream.read(self._few)


@settings(max_examples=200, deadline=None)
@given(
    rows=st.lists(st.lists(cells, min_size=2, max_size=2), max_size=5),
    quoting=st.sampled_from([csv.QUOTE_ALL, csv.QUOTE_MINIMAL]),
    end=st.sampled_from(["\n", "\r\n"]),
    few=st.sampled_from([1, 3, 1000]),
)
def test_csv_cells_are_those_of_the_standard_librarys_reader(rows, quoting, end, few):
    written = io.StringIO()
    csv.writer(written, quoting=quoting, lineterminator=end).writerows([["one", "two"], *rows])
    blocks = line_blocks(Slowly(written.getvalue().encode(), few), HERE, 10**6)
    batches = list(DelimitedReader(HERE, LineDecoder("utf-8"), 10**6).read(blocks))
    assert not [one for batch in batches for one in batch.unread]
    found = [list(record.value.values()) for batch in batches for record in batch.records]
    wanted = list(csv.reader(io.StringIO(written.getvalue(), newline="")))[1:]
    assert [[cell or "" for cell in row] for row in found] == wanted
    if quoting == csv.QUOTE_ALL:
        assert found == wanted


@settings(max_examples=100, deadline=None)
@given(st.lists(st.lists(st.one_of(st.none(), cells), min_size=2, max_size=3), max_size=5))
def test_a_csv_line_that_is_no_row_is_never_lost(rows):
    text = "".join(",".join(cell or "" for cell in row) + "\n" for row in [["one", "two"], *rows])
    lines = [number for number, line in enumerate(text.split("\n"), 1) if number > 1 and line]
    blocks = line_blocks(io.BytesIO(text.encode()), HERE, 10**6)
    covered: list[int] = []
    for batch in DelimitedReader(HERE, LineDecoder("utf-8"), 10**6).read(blocks):
        for record in batch.records:
            covered += range(record.line, record.line + record.raw.count(b"\n") + 1)
        covered += [one.line for one in batch.unread]
    assert set(lines) <= set(covered)


@settings(max_examples=150, deadline=None)
@given(
    st.lists(st.dictionaries(any_text, values, max_size=3), max_size=4), st.sampled_from([None, 1]), st.integers(1, 9)
)
def test_the_elements_of_a_json_array_are_those_of_the_standard_librarys_parser(records, indent, few):
    data = json.dumps(records, indent=indent, ensure_ascii=False).encode()
    stream = Slowly(data[few:], few)
    batches = read_json_values(stream, HERE, TextDecoder("utf-8"), 10**6, data[:few], lambda value: True)
    found = [real(record.value) for batch in batches for record in batch.records]
    assert same(found, records)


def test_bytes_that_are_no_utf8_cost_one_element_of_an_array(tmp_path):
    elements = ['{"text": "字"}'.encode(), b'{"text": "\xff"}', b'{"text": "c"}']
    (tmp_path / "a.json").write_bytes(b"[" + b", ".join(elements) + b"]")
    decision = read(tmp_path / "a.json")
    assert rows_of(decision).height == 2
    assert decision.quarantined["reason"].to_list() == ["invalid_utf8"]


def test_a_file_that_is_one_record_is_not_taken_for_a_list_of_turns(tmp_path):
    record = {"messages": [{"role": "user", "content": "q"}, {"role": "assistant", "content": "a"}], "id": 1}
    (tmp_path / "a.json").write_text(json.dumps(record, indent=1))
    assert rows_of(read(tmp_path / "a.json")).height == 1


objects = st.recursive(
    st.one_of(any_text, st.integers(-9, 9)),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(any_text, inner, max_size=3)),
    max_leaves=8,
)
spacing = st.sampled_from([(",", ":"), (", ", ": "), (", ", " : "), (", ", "\t:")])


@settings(max_examples=200, deadline=None)
@given(st.dictionaries(any_text, objects, min_size=1, max_size=4), spacing, st.booleans(), st.booleans())
def test_a_record_is_refused_if_and_only_if_an_object_in_it_names_a_key_twice(record, separators, is_ascii, is_twice):
    text = json.dumps(record, separators=separators, ensure_ascii=is_ascii)
    if is_twice:
        again = json.dumps({next(iter(record)): "again"}, separators=separators, ensure_ascii=is_ascii)
        text = f"{text[:-1]},{again[1:]}"
    data = f'{{"text": "first"}}\n{text}'.encode()
    batch = parse_block(Lines(1, data), LineDecoder("utf-8"), 10**6)
    assert [refused.reason for refused in batch.unread] == ["repeated_key"] * is_twice
    if not is_twice:
        assert batch.records[1].value == record


def test_a_json_array_gives_up_only_the_record_that_names_a_key_twice(tmp_path):
    (tmp_path / "a.json").write_text('[{"text": "a"}, {"text": "b", "text": "c"}, {"text": "d"}]')
    decision = read(tmp_path / "a.json")
    assert [messages[0]["content"] for messages in rows_of(decision)["messages"]] == ["a", "d"]
    assert decision.quarantined["reason"].to_list() == ["repeated_key"]


def test_text_behind_a_json_value_is_quarantined(tmp_path):
    (tmp_path / "a.json").write_text('[\n{"text": "a"}\n] and more')
    decision = read(tmp_path / "a.json")
    assert rows_of(decision).height == 1
    assert decision.quarantined["reason"].to_list() == ["not_json"]


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\n\r\0"), min_size=1), min_size=1),
    st.sampled_from(["utf-8-sig", "utf-16", "gb18030"]),
)
def test_any_text_is_read_back_from_its_encoding(tmp_path_factory, lines, codec):
    path = tmp_path_factory.mktemp("text") / "a.txt"
    path.write_bytes("\n".join(lines).encode(codec))
    setting = codec.removesuffix("-sig")
    found = [one.value["text"] for batch in read_file(path, setting, 10**6, bool) for one in batch.records]
    assert found == [line for line in lines if line.strip(" \t\x0b\x0c")]


@given(st.lists(any_text, min_size=1, max_size=4))
def test_joined_parts_come_apart_where_they_met(parts):
    content, seams = join_parts(parts)
    assert split_parts(content, seams) == parts
    assert split_parts(content, json.loads(json.dumps(seams))) == parts


@given(st.lists(any_text.filter(str.strip), min_size=2, max_size=4), st.text(max_size=40))
def test_parts_of_any_edited_text_are_all_of_it(parts, edited):
    _, seams = join_parts(parts)
    apart = split_parts(edited, seams)
    assert len(apart) == len(parts)
    assert "\n".join(apart).rstrip("\n") == edited.rstrip("\n")


@given(st.lists(st.tuples(any_text, values.map(json.dumps)), min_size=1, max_size=3))
def test_tool_calls_keep_the_spelling_of_their_arguments(calls):
    assert split_calls(join_calls(calls)) == calls
    assert json.loads(join_calls(calls)) is not None


@given(any_text)
def test_what_is_no_tool_call_is_not_taken_for_one(text):
    assert split_calls(text) is None


@given(values)
def test_values_that_json_cannot_say_are_put_back(value):
    safe = {"value": json_safe(value)}
    stored = json.loads(json.dumps(safe))
    put_back(stored, json.loads(json.dumps(odd_places(safe))))
    assert same(stored["value"], value)
    assert same(real(safe["value"]), value)


@given(values)
def test_a_literal_template_fills_to_itself(value):
    assert same(fill(literal(value), None), value)


@pytest.mark.parametrize("space", ["\t", "  ", "\r", " \t", "\\u0022"])
def test_a_repeated_key_is_found_however_another_lines_keys_are_spelled(space):
    lines = ['{"a": 1, "a": 2}', f'{{"b"{space}: 1}}' if "u" not in space else '{"b\\u0022": 1}']
    batch = parse_block(Lines(1, "\n".join(lines).encode()), LineDecoder("utf-8"), 10**6)
    assert [one.reason for one in batch.unread] == ["repeated_key"]
    assert len(batch.records) == 1
