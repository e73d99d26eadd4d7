"""The sample files: what they are meant to show is in them, and they come out of an export as they went in."""

import json
from pathlib import Path

import pytest

from tasks.kernels.export import export_rows
from tasks.kernels.pii import find
from tests.planted import ALLOWED, PLANTED
from tests.records import export, read, rows_of

SAMPLE = Path(__file__).parents[1] / "data" / "sample"
FORMATS = {
    "alpaca.jsonl": "alpaca",
    "sharegpt.jsonl": "sharegpt",
    "messages.jsonl": "messages",
    "preference.jsonl": "preference",
    "labelled.csv": "labelled",
    "notes.txt": "text",
    "seed.jsonl": "prompt_completion",
}


def source(name):
    return {"path": str(SAMPLE / name), "format": FORMATS[name]}


@pytest.mark.parametrize("name", [name for name in FORMATS if name.endswith(".jsonl")])
def test_a_sample_file_comes_out_byte_for_byte_but_for_its_broken_lines(tmp_path, name):
    decision = read(source(name))
    broken = set(decision.quarantined["line"])
    lines = (SAMPLE / name).read_text("utf-8").splitlines(keepends=True)
    export_rows(rows_of(decision).lazy(), "original", tmp_path / "out.jsonl")
    wanted = "".join(line for number, line in enumerate(lines, 1) if number not in broken)
    assert (tmp_path / "out.jsonl").read_text("utf-8") == wanted


def test_the_csv_sample_comes_out_with_its_columns_and_its_missing_and_empty_cells(tmp_path):
    decision = read(source("labelled.csv"))
    export_rows(rows_of(decision).lazy(), "original", tmp_path / "out.csv")
    again = read({"path": str(tmp_path / "out.csv"), "name": "labelled"})
    assert rows_of(again).equals(rows_of(decision))
    notes = [json.loads(meta)["note"] for meta in rows_of(decision)["meta"]]
    assert notes[:3] == [None, "", "nearly the same as 001"]


def test_the_notes_come_out_as_lines(tmp_path):
    records, _ = export(read(source("notes.txt")), "text", tmp_path / "out.jsonl")
    assert "".join(record["text"] + "\n" for record in records) == (SAMPLE / "notes.txt").read_text("utf-8")


def test_every_planted_value_stands_in_the_sample_and_is_known_as_personal_data():
    whole = "\n".join((SAMPLE / name).read_text("utf-8") for name in FORMATS)
    assert not [value for value in PLANTED if value not in whole]
    assert ALLOWED in whole
    found = {whole[item.start : item.end] for item in find(whole)}
    assert not [value for value in PLANTED if value not in found]
    assert found <= {*PLANTED, ALLOWED}


def test_the_quarantine_of_the_sample_says_why_and_shows_no_personal_data():
    decision = read(*(source(name) for name in FORMATS))
    assert set(decision.quarantined["reason"]) == {
        "content_empty",
        "content_not_text",
        "content_null",
        "missing_field",
        "no_assistant",
        "not_an_object",
        "not_json",
        "ragged_row",
        "unknown_role",
    }
    shown = "\n".join([*decision.quarantined["excerpt"], *decision.quarantined["detail"]])
    assert not [value for value in PLANTED if value in shown]
    assert decision.metrics["duplicate_ids"] == 1


def test_the_seed_set_is_all_rows():
    assert read(source("seed.jsonl")).quarantined.is_empty()
