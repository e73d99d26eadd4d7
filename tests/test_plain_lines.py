"""Lines and cells read without being parsed: the same rows, ids, ledgers and bytes as from the exact readers."""

import json
import sys
from unittest import mock

import numpy as np
import orjson
import polars as pl
import pytest
import xxhash
from hypothesis import given, settings
from hypothesis import strategies as st

from tasks.artifact import write_frame
from tasks.kernels import xxh3
from tasks.kernels.reading import cells, columns, delimited, files, json_lines, json_scan, plain_lines, tables
from tasks.kernels.reading.columns import RowBuilder, number_repeats
from tasks.kernels.rows import digest
from tests.records import RECORDS, any_text, read, rows_of, shuffled, values

NASTY = [
    '{"text": "twice", "text": "the key"}',
    '{"te\\u0078t": "an escaped key"}',
    '{"text": "half \\ud800 a pair"}',
    '{"text": "a pair \\ud83d\\ude00, \\u0041\\u00e9\\u4e2d"}',
    '{"text": "low first \\ude00\\ud83d"}',
    '{"text": "nul \\u0000"}',
    '{"text": "escapes \\" \\\\ \\/ \\b \\f \\n \\r \\t \\u001f \\u007f"}',
    '{"text": "no escape \\x"}',
    '{"text": "cut \\u12"}',
    '{"text": "tab \t inside"}',
    '{"text": "\u2028\u00a0\u3000"}',
    '{"text": "\\u2003\\n"}',
    '{"text": ""}',
    '{"text": null}',
    '{"text": 3}',
    '{"text": "comma",}',
    '{"text": "two"} {"text": "objects"}',
    '{"text": "open',
    '{"text": "open"',
    '{"text" "no colon"}',
    '{"text": "a" "b": 1}',
    "{}",
    "[]",
    "null",
    "not JSON",
    "",
    "   \r",
    "\x0b",
    ' \t{ "text"\t:  "white space" , "n" : 1 } \r',
    '{"":"an empty key","text":"x"}',
    '{"text": "odd", "n": 123456789012345678901234567890}',
    '{"text": "digits 12345678901234567890", "n": NaN}',
    '{"text": "deep", "n": ' + "[" * 2000 + "]" * 2000 + "}",
    '{"text": "nested", "n": {"b": 1, "a": [1, 2.50]}}',
    '{"text": "marks \ue0000\ue002", "\ue0000\ue002": "\ue001"}',
    '{"text": "own", "_winnow": {"a": 1}}',
    '{"text": "own", "_winnow": "mine"}',
    '{"a": 1, "text": "more keys than there is room for", ' + ", ".join(f'"k{i}": {i}' for i in range(20)) + "}",
    '{"messages": []}',
    '{"messages": [{"role": "user", "content": "no answer"}]}',
    '{"messages": [{"role": "user", "content": "a"}, {"role": "assistant", "content": " "}]}',
    '{"messages": [{"content": "a", "role": "user"}, {"role": "assistant", "content": "b"}]}',
    '{"messages": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b", "name": "x"}]}',
    '{"messages": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "\\/b"}], "system": "s"}',
    '{"messages": [{"role": "tool", "content": "a"}, {"role": "assistant", "content": "b"}], "extra": [1]}',
    '{"messages": [{"from": "human", "value": "a"}, {"from": "gpt", "value": "b"}]}',
    '{"conversations": [{"from": "human", "value": "a"}, {"from": "function_call", "value": "{}"}]}',
    '{"conversations": [{"from": "system", "value": "s"}, {"from": "gpt", "value": "b"}]}',
    '{"conversations": [{"from": "human", "value": "a"}, {"from": "gpt", "value": "b"}], "tools": "[]"}',
    '{"instruction": "a", "input": " ", "output": "b"}',
    '{"instruction": "", "input": "a", "output": "b"}',
    '{"instruction": "a\\n \\n", "input": "\u00e9\\n\\nc", "output": "b", "history": []}',
    '{"prompt": "a", "completion": "b", "tools": "[]", "system": "s", "history": [["q", "a"]]}',
    '{"prompt": "a", "chosen": "b", "rejected": "c", "instruction": 3}',
    '{"text": "label", "label": ""}',
    '{"text": "label", "label": 1.0, "weight": true, "id": "\\u0031"}',
    '{"text": "own", "task": 1.5, "lang": "en-GB", "split": " Dev", "weight": 0.1, "id": 7}',
    '{"text": "own", "task": "", "lang": "English", "split": "test:a", "weight": "3", "id": null}',
    '{"text": "own", "task": true, "lang": null, "split": false, "weight": 1e3, "id": ""}',
]
NUMBERS = (
    "0 -0 00 1 -1 01 1.0 1.50 0.1 -0.5 0.0 -0.0 0.001 0.0001 0.00001 1e5 1E5 1.e5 .5 5. + - 100.0 123456789012345.6 "
    "12345678901234.5 123456789012345 999999999999999999 9999999999999999999 0.123456789012345 0.1234567890123456 1.10"
)
NUMBERS += " 0.10000000000000001 12345678.123456789 0.30000000000000004"
NASTY += [f'{{"text": "number", "n": {number}, "weight": {number}}}' for number in NUMBERS.split()]
NASTY_BYTES = [
    b'{"text": "\xff"}',
    b'{"text": "\xc0\x80"}',
    b'{"text": "\xed\xa0\x80"}',
    b'{"text": "cut \xe4\xb8"}',
    b'{"te\xffxt": "x"}',
]
NASTY_BYTES += [b'{"text": "\xf4\x90\x80\x80"}', b'{"text": "\xf0\x9f\x98\x80 \xf4\x8f\xbf\xbf"}', b'{"text": "a\0b"}']
SETTINGS = [
    {},
    {"task": "t", "lang": "de", "split": "train"},
    {"fields": {"text": "body", "prompt": "text", "completion": "text", "label": "task"}},
    {"fields": {"role": "content", "content": "role", "id": "messages"}, "encoding": "utf-8"},
]

dumps = st.sampled_from(
    [
        json.dumps,
        lambda value: json.dumps(value, ensure_ascii=False),
        lambda value: json.dumps(value, separators=(",", ":")),
        lambda value: json.dumps(value).replace("/", "\\/"),
        lambda value: json.dumps(value, ensure_ascii=False, separators=(" ,\t", " :  ")),
    ]
)
plain = st.dictionaries(
    st.sampled_from(["text", "prompt", "completion", "instruction", "input", "output", "n", "id", "task", "lang", "é"]),
    st.one_of(
        any_text,
        st.text('a \n"\\\u3000é中😀\x1f\x7f', min_size=1),
        st.integers(),
        st.floats(),
        st.none(),
        st.booleans(),
    ),
    max_size=6,
)


def both_ways(path, content, **setting):
    """What is read without parsing and line by line, as the bytes of rows and quarantine, facts and numbers."""
    if content is not None:
        path.write_bytes(content)
    found = []
    for worth in (0, 1 << 60):
        with (
            mock.patch.object(json_lines, "WORTH_SCANNING", worth),
            mock.patch.object(files, "WORTH_SCANNING", worth),
            mock.patch.object(delimited, "WORTH_SCANNING", worth),
            mock.patch.object(tables, "WORTH_SCANNING", worth),
            mock.patch.object(json_lines, "_PARSED_LINES", 1),
            mock.patch.object(delimited, "_LINES_BY_HAND", 2),
            mock.patch.object(tables, "_FIRST_ROWS", 1),
            mock.patch.object(cells, "_MOST_CELLS", 7),
            mock.patch.object(plain_lines, "_LINES", 7),
            mock.patch.object(plain_lines, "_FIELDS", 3 * json_scan.MOST_FIELDS),
            mock.patch.object(plain_lines, "_TURNS", 5),
        ):
            decision = read({"path": str(path), "name": "s", **setting}, max_record_mb=0.002)
        written = []
        for frame in (rows_of(decision), decision.quarantined):
            write_frame(frame, path.with_name("written"))
            written.append((path.with_name("written").read_bytes(), frame.to_dicts()))
        found.append((written, decision.metrics, decision.facts))
    return found


@pytest.mark.parametrize("record_format", RECORDS)
@pytest.mark.parametrize("setting", SETTINGS, ids=range(len(SETTINGS)))
def test_a_nasty_line_is_read_as_by_the_exact_parser(tmp_path, record_format, setting):
    lines = [line.encode() for line in NASTY] + NASTY_BYTES
    lines += [b'{"text": "' + b"long" * 1000 + b'"}', *lines]
    unscanned, parsed = both_ways(tmp_path / "a.jsonl", b"\n".join(lines), format=record_format, **setting)
    assert unscanned == parsed


@given(data=st.data(), record_format=st.sampled_from(list(RECORDS)), setting=st.sampled_from(SETTINGS))
@settings(max_examples=60, deadline=None)
def test_any_records_are_read_as_by_the_exact_parser(tmp_path_factory, data, record_format, setting):
    path = tmp_path_factory.mktemp("plain") / "a.jsonl"
    records = st.one_of(RECORDS[record_format], shuffled(RECORDS[record_format]), plain, values)
    lines = [data.draw(dumps)(record) for record in data.draw(st.lists(records, min_size=1, max_size=12))]
    lines += data.draw(st.lists(st.sampled_from(NASTY), max_size=2))
    content = "\n".join(data.draw(st.permutations(lines))).encode("utf-8", "surrogatepass")
    unscanned, parsed = both_ways(path, content, format=record_format, **setting)
    assert unscanned == parsed


@given(st.binary(max_size=60), st.integers(0, 60))
@settings(max_examples=50, deadline=None)
def test_damage_to_a_plain_line_is_seen(tmp_path_factory, damage, place):
    path = tmp_path_factory.mktemp("damaged") / "a.jsonl"
    line = '{"prompt": "Wo? \\u4e2d\\n😀", "completion": "Da \\"é\\".", "task": "t", "n": -1.25}'.encode()
    content = b"\n".join([line, line[:place] + damage + line[place + len(damage) :], line])
    unscanned, parsed = both_ways(path, content, format="prompt_completion", encoding="utf-8")
    assert unscanned == parsed


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "gb18030"])
def test_lines_of_any_encoding(tmp_path, encoding):
    lines = [json.dumps({"text": f"第 {n} 行：这是中文的句子"}, ensure_ascii=False) for n in range(30)]
    unscanned, parsed = both_ways(tmp_path / "a.jsonl", "\r\n".join(lines).encode(encoding))
    assert unscanned == parsed
    assert len(parsed[0][0][1]) == 30


ODD_CELLS = ["", '""', '"a"', "a", "é中😀", " ", "\u3000", "\u2003", "\u2030", "\xa0", "\xa1", '"a""b"', '"', '"a']
ODD_CELLS += ['"a"b', 'a"b', "a\r", '"x\ny"', '"x\r\ny"', '"\n"', "\0", '"\0"', "a\x1fb\\", "\ufffe", "long" * 600]
ODD_CELLS += ["\u205f", "\u1680", "1", "true", "\r", '""""', '"a,b"', "\x85"]


@given(
    rows=st.lists(st.lists(st.sampled_from(ODD_CELLS), min_size=1, max_size=4), max_size=14),
    end=st.sampled_from(["\n", "\r\n", "\n\n"]),
    header=st.sampled_from(["prompt,completion", "prompt,completion,task", 'prompt,"completion",label']),
    encoding=st.sampled_from(["utf-8", "utf-8", "gb18030", "utf-16"]),
)
@settings(max_examples=100, deadline=None)
def test_any_csv_is_read_as_line_by_line(tmp_path_factory, rows, end, header, encoding):
    path = tmp_path_factory.mktemp("plain") / "a.csv"
    columns = header.count(",") + 1
    lines = [header, *(",".join((row * 3)[: columns if len(row) > 1 else None]) for row in rows)]
    unscanned, parsed = both_ways(path, end.join(lines).encode(encoding, "replace"), format="prompt_completion")
    assert unscanned == parsed


def test_every_odd_line_of_text_is_read_as_by_itself(tmp_path):
    unscanned, parsed = both_ways(tmp_path / "a.txt", "\n".join(["first", *ODD_CELLS]).encode())
    assert unscanned == parsed


@given(lines=st.lists(st.one_of(st.sampled_from(ODD_CELLS), any_text), max_size=20), broken=st.booleans())
@settings(max_examples=60, deadline=None)
def test_any_lines_of_text_are_read_as_one_by_one(tmp_path_factory, lines, broken):
    path = tmp_path_factory.mktemp("plain") / "a.txt"
    content = "\n".join(["first", *lines]).encode() + (b"\n\xff" if broken else b"")
    unscanned, parsed = both_ways(path, content)
    assert unscanned == parsed


_turn = st.one_of(
    st.none(),
    st.fixed_dictionaries(
        {
            "role": st.sampled_from(["user", "assistant", "assistant", "tool", "system", "odd", None]),
            "content": st.sampled_from(["a", 'b "\n\\', "é", " ", "", None]),
        }
    ),
)
_texts = st.one_of(st.none(), any_text, st.sampled_from(["a", " ", "", '"\\\x01\n', "中"]))
TABLES = {
    "prompt_completion": {"prompt": _texts, "completion": st.sampled_from(["x", "y\n"]), "é": _texts},
    "alpaca": {"instruction": _texts, "input": _texts, "output": st.sampled_from(["x", "é"]), "id": st.integers(0, 9)},
    "labelled": {
        "text": _texts,
        "label": st.one_of(st.none(), st.integers(-5, 2**62)),
        "weight": st.one_of(st.none(), st.booleans()),
        "split": st.sampled_from(["Train", "x", None]),
    },
    "messages": {"messages": st.one_of(st.none(), st.lists(_turn, max_size=4)), "task": _texts},
    "text": {"text": _texts, "task": st.one_of(st.none(), st.booleans()), "lang": st.sampled_from(["de-AT", None])},
}


@given(data=st.data(), record_format=st.sampled_from(list(TABLES)))
@settings(max_examples=60, deadline=None)
def test_any_table_is_read_as_row_by_row(tmp_path_factory, data, record_format):
    path = tmp_path_factory.mktemp("plain") / "a.parquet"
    records = data.draw(st.lists(st.fixed_dictionaries(TABLES[record_format]), min_size=1, max_size=12))
    pl.DataFrame(records, infer_schema_length=None).write_parquet(path)
    unscanned, parsed = both_ways(path, None, format=record_format)
    assert unscanned == parsed


@pytest.mark.parametrize("kind", ["csv", "txt", "parquet"])
def test_plain_cells_make_no_records(tmp_path, kind):
    rows = pl.DataFrame({"text": ["A sentence of some length. " * 9] * 9000, "task": ["t", None, "u"] * 3000})
    path = tmp_path / f"a.{kind}"
    write = {"csv": rows.write_csv, "parquet": rows.write_parquet, "txt": rows.select("text").write_csv}
    write[kind](path)
    with mock.patch.object(RowBuilder, "add", side_effect=RowBuilder.add, autospec=True) as add:
        assert rows_of(read(path)).height == 9000 + (kind == "txt")
    assert add.call_count <= 2000


def test_a_table_of_conversations_makes_no_records(tmp_path):
    said = [{"role": "user", "content": "Wo?\n"}, {"role": "assistant", "content": "Da."}]
    pl.DataFrame({"messages": [said] * 5000, "n": [None, 1] * 2500}).write_parquet(tmp_path / "a.parquet")
    with mock.patch.object(RowBuilder, "add", side_effect=RowBuilder.add, autospec=True) as add:
        rows = rows_of(read(tmp_path / "a.parquet"))
    assert rows["messages"].to_list() == [[turn | {"weight": 1.0} for turn in said]] * 5000
    assert add.call_count <= 128 + 5000 % 4096, "the first rows, and a last batch that is not worth it"


TURNS = [{"role": "user", "content": "W/o?\n"}, {"role": "assistant", "content": "D\u00e4 \U0001f600"}]
UNPARSED = [
    {"text": "some text"},
    {"text": "some text", "label": "good", "n": 0.25, "url": None, "is_it": True, "id": "a"},
    {"prompt": "Wo?", "completion": "Da.", "task": "t"},
    {"prompt": "Wo?", "chosen": "Da.", "rejected": "Hier.", "system": "Kurz."},
    {"instruction": "Wo?", "output": "Da."},
    {"instruction": "Wo?", "input": "", "output": "Da."},
    {"instruction": "Wo?\n", "input": "Hm?", "output": "Da.", "system": ""},
    {"messages": TURNS, "tools": None},
    {"conversations": [{"from": "human", "value": "Wo?"}, {"from": "gpt", "value": "Da."}], "system": "Kurz."},
]


@pytest.mark.parametrize("record", UNPARSED, ids=range(len(UNPARSED)))
@pytest.mark.parametrize("write", [orjson.dumps, lambda value: json.dumps(value).encode()], ids=["orjson", "json"])
def test_plain_lines_are_not_parsed(tmp_path, record, write):
    content = b"\n".join([write(record)] * 3)
    unscanned, parsed = both_ways(tmp_path / "a.jsonl", content)
    assert unscanned == parsed
    with (
        mock.patch.object(json_lines, "WORTH_SCANNING", 0),
        mock.patch.object(json_lines, "_PARSED_LINES", 1),
        mock.patch.object(RowBuilder, "add", side_effect=RowBuilder.add, autospec=True) as add,
    ):
        assert rows_of(read(tmp_path / "a.jsonl")).height == 3
    assert add.call_count == 1, "only the first line, which tells the format"


def test_a_large_file_is_read_without_parsing(tmp_path):
    record = {"text": "A sentence of some length. " * 20}
    (tmp_path / "a.jsonl").write_bytes((orjson.dumps(record) + b"\n") * 4000)
    with mock.patch.object(RowBuilder, "add", side_effect=RowBuilder.add, autospec=True) as add:
        rows = rows_of(read(tmp_path / "a.jsonl"))
    assert rows.height == 4000
    assert add.call_count < 200
    assert rows["messages"].n_unique() == 1


def test_white_space_is_what_python_says():
    every = [point for point in range(sys.maxunicode + 1) if not 0xD800 <= point < 0xE000]
    assert [point for point in every if json_scan.is_space(point)] == [point for point in every if chr(point).isspace()]


def test_hashes_are_those_of_the_library():
    drawn = np.random.default_rng(1).integers(0, 256, 6000, np.uint8).tobytes()
    strings = [drawn[n : 2 * n] for n in [*range(520), 1023, 1024, 1025, 1087, 1088, 1089, 2048, 2100, 3000]]
    data = np.frombuffer(b"".join(strings) + bytes(xxh3.SPARE), np.uint8)
    offsets = np.cumsum([0, *map(len, strings)])
    found, digits = np.empty(len(strings), np.uint64), np.empty(16 * len(strings), np.uint8)
    xxh3.hashes(data, offsets, found)
    xxh3.hexadecimal(found, digits)
    assert found.tolist() == [xxhash.xxh3_64_intdigest(string) for string in strings]
    assert digits.tobytes().decode() == "".join(xxhash.xxh3_64_hexdigest(string) for string in strings)


@given(st.lists(st.sampled_from("abcdefgh"), max_size=60))
@settings(max_examples=30, deadline=None)
def test_repeats_are_numbered_the_same_whether_hashed_one_by_one_or_together(names):
    ids = pl.Series("row_id", [f"{name * 16}" for name in names], dtype=pl.String)
    numbered = number_repeats(ids)
    with mock.patch.object(columns, "_WORTH_COMPILING", 0):
        assert number_repeats(ids).equals(numbered)
    seen: dict[str, int] = {}
    expected = []
    for one in ids:
        n = seen[one] = seen.get(one, -1) + 1
        expected.append(digest(one, str(n)) if n else one)
    assert numbered.to_list() == expected
