"""Kinds of files and encodings: the same records read the same from each."""

import csv
import gzip
import json
import random

import polars as pl
import pytest
import zstandard

from pipeline_config.errors import SourceError
from tasks.kernels.reading.encodings import from_block
from tasks.kernels.reading.rows_of_file import read_rows
from tests.records import read, rows_of, write_lines

RECORDS = [
    {"prompt": "What does `len` do?", "completion": "It counts the items.", "id": 1},
    {"prompt": "字典怎么按值排序？", "completion": "用 sorted 和 key 参数：\n先取出键值对。", "id": 2},
    {"prompt": "Et en français ?", "completion": "C'est « déjà » fait, 💾 compris.", "id": 3},
]


def conversations(decision):
    return [[turn["content"] for turn in turns] for turns in rows_of(decision)["messages"].to_list()]


WANTED = [[record["prompt"], record["completion"]] for record in RECORDS]


def as_lines(records=RECORDS):
    return "".join(json.dumps(record, ensure_ascii=False) + "\n" for record in records)


def as_csv(path):
    with path.open("w", newline="", encoding="utf-8") as stream:
        writer = csv.DictWriter(stream, list(RECORDS[0]), delimiter="\t" if path.suffix == ".tsv" else ",")
        writer.writeheader()
        writer.writerows(RECORDS)


WRITERS = {
    "a.jsonl": lambda path: path.write_text(as_lines(), "utf-8"),
    "a.ndjson": lambda path: path.write_text(as_lines().rstrip("\n"), "utf-8"),
    "crlf.jsonl": lambda path: path.write_bytes(as_lines().replace("\n", "\r\n").encode()),
    "lines.json": lambda path: path.write_text(as_lines(), "utf-8"),
    "array.json": lambda path: path.write_text(json.dumps(RECORDS, ensure_ascii=False), "utf-8"),
    "pretty.json": lambda path: path.write_text(json.dumps(RECORDS, indent=2), "utf-8"),
    "array.jsonl": lambda path: path.write_text(json.dumps(RECORDS, indent=1), "utf-8"),
    "wrapped.json": lambda path: path.write_text(json.dumps({"version": 1, "tags": ["a"], "data": RECORDS}), "utf-8"),
    "splits.json": lambda path: path.write_text(json.dumps({"a": RECORDS[:1], "b": RECORDS[1:]}), "utf-8"),
    "a.csv": as_csv,
    "a.tsv": as_csv,
    "a.parquet": lambda path: pl.DataFrame(RECORDS).write_parquet(path),
    "a.jsonl.gz": lambda path: path.write_bytes(gzip.compress(as_lines().encode())),
    "a.jsonl.zst": lambda path: path.write_bytes(zstandard.compress(as_lines().encode())),
    "two.jsonl.zst": lambda path: path.write_bytes(
        b"".join(zstandard.compress(as_lines([record]).encode()) for record in RECORDS) + b"\x50\x2a\x4d\x18\3\0\0\0abc"
    ),
    "two.jsonl.gz": lambda path: path.write_bytes(
        gzip.compress(as_lines(RECORDS[:1]).encode()) + gzip.compress(as_lines(RECORDS[1:]).encode())
    ),
}


@pytest.mark.parametrize("name", list(WRITERS))
def test_every_kind_of_file_gives_the_same_conversations(tmp_path, name):
    WRITERS[name](tmp_path / name)
    decision = read({"path": str(tmp_path / name), "name": "s"})
    assert conversations(decision) == WANTED
    assert decision.quarantined.is_empty()
    assert read_rows(tmp_path / name, "s").equals(rows_of(decision))


@pytest.mark.parametrize(
    ("codec", "setting"),
    [
        ("utf-8", "utf-8"),
        ("utf-8-sig", "utf-8"),
        ("utf-16", "utf-16"),
        ("utf-16-le", "utf-16"),
        ("utf-16-be", "utf-16"),
        ("gb18030", "gb18030"),
    ],
)
@pytest.mark.parametrize("name", ["a.jsonl", "array.json", "a.csv", "a.jsonl.gz"])
def test_every_encoding_is_told_from_the_bytes(tmp_path, codec, setting, name):
    plain = tmp_path / name.removesuffix(".gz")
    records = [record for record in RECORDS if codec != "gb18030" or record["id"] < 3] * 20
    {
        "a.jsonl": lambda: write_lines(plain, records),
        "array.json": lambda: plain.write_text(json.dumps(records, ensure_ascii=False), "utf-8"),
        "a.csv": lambda: pl.DataFrame(records).write_csv(plain),
    }[plain.name]()
    data = plain.read_text("utf-8").encode(codec)
    (tmp_path / name).write_bytes(gzip.compress(data) if name.endswith(".gz") else data)
    decision = read({"path": str(tmp_path / name), "name": "s"})
    assert conversations(decision) == [[record["prompt"], record["completion"]] for record in records]
    named = read({"path": str(tmp_path / name), "name": "s", "encoding": setting})
    assert rows_of(named).equals(rows_of(decision))


@pytest.mark.parametrize("compress", [gzip.compress, zstandard.compress])
@pytest.mark.parametrize("missing", [1, 10, 0.5])
def test_a_compressed_file_that_was_copied_in_part_is_refused(tmp_path, compress, missing):
    rng = random.Random(1)
    text = as_lines([{"prompt": rng.randbytes(20).hex(), "completion": rng.randbytes(40).hex()} for _ in range(4000)])
    data = compress(text.encode())
    name = "a.jsonl.gz" if compress is gzip.compress else "a.jsonl.zst"
    (tmp_path / name).write_bytes(data[: -missing if missing >= 1 else int(len(data) * missing)])
    with pytest.raises(SourceError, match="can't be read to its end"):
        read({"path": str(tmp_path / name), "name": "s"})


def test_a_damaged_line_does_not_turn_an_english_file_into_chinese(tmp_path):
    lines = [b'{"text": "plain ascii"}', b'{"text": "caf\xe9s and na\xefve r\xe9sum\xe9s"}', b'{"text": "more ascii"}']
    (tmp_path / "a.jsonl").write_bytes(b"\n".join(lines))
    decision = read(tmp_path / "a.jsonl")
    assert rows_of(decision).height == 2
    assert decision.quarantined["reason"].to_list() == ["invalid_utf8"]


def test_damaged_lines_do_not_turn_a_chinese_utf8_file_into_gb18030(tmp_path):
    good = [json.dumps({"text": f"第{n}行是中文"}, ensure_ascii=False).encode() for n in range(5)]
    broken = [line.replace(b"\xe4", b"\xff", 1) for line in good[:4]]
    (tmp_path / "a.jsonl").write_bytes(b"\n".join(good + broken))
    decision = read(tmp_path / "a.jsonl")
    assert rows_of(decision).height == 5
    assert decision.quarantined["reason"].to_list() == ["invalid_utf8"] * 4


def test_a_broken_line_of_a_gb18030_file_is_quarantined_alone(tmp_path):
    good = [json.dumps({"text": f"第{n}行是中文"}, ensure_ascii=False).encode("gb18030") for n in range(5)]
    (tmp_path / "a.jsonl").write_bytes(b"\n".join([*good, b'{"text": "\xff\xff"}']))
    decision = read(tmp_path / "a.jsonl")
    assert rows_of(decision).height == 5
    assert decision.quarantined.select("reason", "line").row(0) == ("invalid_gb18030", 6)


@pytest.mark.parametrize(
    ("text", "encoding"),
    [
        ("été à la plage, naïveté où ça", "latin-1"),
        ("資料處理與機器學習的範例", "big5"),
        ("日本語のテキスト", "shift-jis"),
    ],
)
def test_other_encodings_are_refused_not_misread(text, encoding):
    assert from_block(b"\n".join([text.encode(encoding)] * 10)) == "utf-8"


def test_half_a_character_at_the_end_of_a_utf16_file_is_quarantined(tmp_path):
    (tmp_path / "a.jsonl").write_bytes('{"text": "one"}\n{"text": "two"}'.encode("utf-16")[:-1])
    decision = read(tmp_path / "a.jsonl")
    assert rows_of(decision).height == 1
    assert decision.quarantined["reason"].to_list() == ["invalid_utf16"]


def test_lines_of_a_text_file_are_records(tmp_path):
    (tmp_path / "a.txt").write_text("first\n\n  second \r\n", "utf-8")
    assert conversations(read(tmp_path / "a.txt")) == [["first"], ["  second "]]


def test_a_pattern_reads_its_files_in_the_order_of_their_names(tmp_path):
    for name in ("b", "a", "c"):
        write_lines(tmp_path / f"{name}.jsonl", [{"text": name}])
    (tmp_path / "empty.jsonl").touch()
    assert conversations(read({"path": str(tmp_path / "*.jsonl"), "name": "s"})) == [["a"], ["b"], ["c"]]


def test_a_csv_cell_that_is_missing_is_not_an_empty_one(tmp_path):
    path = tmp_path / "a.csv"
    path.write_text('text,label,note,other\nx,a,,""\n')
    (meta,) = rows_of(read(path))["meta"].to_list()
    assert {key: value for key, value in json.loads(meta).items() if key in ("note", "other")} == {
        "note": None,
        "other": "",
    }


@pytest.mark.parametrize("data", [b"\x1f\x8b\x08\x00broken", gzip.compress(b'{"text": "a"}\n' * 9000)[:-40]])
def test_a_damaged_archive_is_an_error_and_not_half_a_source(tmp_path, data):
    (tmp_path / "a.jsonl.gz").write_bytes(data)
    with pytest.raises(SourceError, match=r"a\.jsonl\.gz can't be read to its end"):
        read(tmp_path / "a.jsonl.gz")


def test_two_columns_of_one_name_are_an_error(tmp_path):
    (tmp_path / "a.csv").write_text("text,label,text\na,b,c\n")
    with pytest.raises(SourceError, match="two columns named 'text'"):
        read(tmp_path / "a.csv")


def test_blocks_cut_anywhere_give_the_same_records(tmp_path, monkeypatch):
    from tasks.kernels.reading import streams

    write_lines(tmp_path / "a.jsonl", RECORDS * 5)
    (tmp_path / "a.json").write_text(json.dumps(RECORDS * 5, indent=1, ensure_ascii=False))
    pl.DataFrame(RECORDS * 5).write_csv(tmp_path / "a.csv")
    whole = {path.name: rows_of(read({"path": str(path), "name": "s"})) for path in sorted(tmp_path.iterdir())}

    def few_bytes(stream, path, size=0):
        return stream.read(7)

    for module in ("streams", "files", "json_values"):
        monkeypatch.setattr(f"tasks.kernels.reading.{module}.guarded", few_bytes)
    assert streams.guarded is few_bytes
    for name, rows in whole.items():
        assert rows.height == 15
        assert rows_of(read({"path": str(tmp_path / name), "name": "s", "encoding": "utf-8"})).equals(rows)
