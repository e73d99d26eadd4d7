"""Sources: found before anything runs, told apart by content, and rows that keep their ids."""

import json
import os
import shutil
import subprocess
import sys

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from pipeline_config.data_schema import Ingest
from pipeline_config.errors import SourceError
from pipeline_config.schema import Config
from tasks.ingest.task import references
from tasks.kernels.rows import ROW_SCHEMA, digest
from tests.records import read, rows_of, write_lines

PAIR = {"prompt": "What?", "completion": "That."}


def check(folder, *sources):
    config = Config.model_validate({"ingest": {"sources": list(sources)}})
    return references(config.ingest, config, folder / "data")


def text(path, content):
    path.write_text(content, "utf-8")
    return str(path)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda folder: str(folder / "gone.jsonl"), "there is no file"),
        (lambda folder: str(folder / "*.jsonl"), "no file matches"),
        (lambda folder: text(folder / "a.jsonl", ""), "is empty"),
        (lambda folder: text(folder / "a.jsonl", "\ufeff"), "nothing but white space"),
        (lambda folder: text(folder / "a.jsonl", " \n\n"), "nothing but white space"),
        (lambda folder: text(folder / "a.xlsx", "x"), "no kind of file we know"),
        (lambda folder: str(folder), "is a folder"),
        (lambda folder: text(folder / "a.parquet", "PAR1, and then nothing"), "no complete Parquet file"),
        (lambda folder: text(folder / "a.jsonl.gz", "not gzip at all"), "can't be read to its end"),
        (lambda folder: text(folder / "a.jsonl.zst", "not zstandard"), "can't be read to its end"),
        (lambda folder: text(folder / "a.jsonl", '{"frage": "Was?", "antwort": "Das."}\n'), "frage, antwort"),
        (lambda folder: text(folder / "a.jsonl", "[1]\n[2]\n"), "are no objects"),
        (lambda folder: text(folder / "a.csv", "frage,antwort\nWas?,Das.\n"), "frage, antwort"),
    ],
)
def test_a_bad_source_is_found_before_anything_runs(tmp_path, make, message):
    with pytest.raises(SourceError, match=message) as caught:
        check(tmp_path, {"path": make(tmp_path), "name": "s"})
    assert caught.value.exit_code == 2
    assert caught.value.place
    assert caught.value.cure


def test_a_format_that_no_record_has_is_found_before_anything_runs(tmp_path):
    path = write_lines(tmp_path / "a.jsonl", [PAIR] * 30)
    with pytest.raises(SourceError, match="alpaca needs the fields instruction, output") as caught:
        check(tmp_path, {"path": str(path), "format": "alpaca"})
    assert caught.value.place == "ingest.sources.0.format"


@pytest.mark.parametrize("record_format", ["auto", "prompt_completion"])
def test_a_field_that_no_record_has_is_named_before_anything_runs(tmp_path, record_format):
    path = write_lines(tmp_path / "a.jsonl", [{"question": "Was?", "completion": "Das."}])
    fields = {"prompt": "qestion"}
    with pytest.raises(SourceError, match="no record has the field 'qestion'; did you mean 'question'") as caught:
        check(tmp_path, {"path": str(path), "format": record_format, "fields": fields})
    assert caught.value.place == "ingest.sources.0.fields.prompt"


def test_an_unknown_field_name_is_a_config_error():
    with pytest.raises(ValidationError, match="promt"):
        Ingest.model_validate({"sources": [{"path": "a.jsonl", "fields": {"promt": "question"}}]})


def test_a_moved_file_keeps_its_digest_and_an_edited_one_does_not(tmp_path):
    here = write_lines(tmp_path / "a.jsonl", [PAIR])
    first = check(tmp_path, {"path": str(here), "name": "s"})
    (tmp_path / "sub").mkdir()
    there = shutil.move(here, tmp_path / "sub" / "z.jsonl")
    assert check(tmp_path, {"path": str(there), "name": "s"}) == first
    write_lines(tmp_path / "sub" / "z.jsonl", [{**PAIR, "n": 1}])
    assert check(tmp_path, {"path": str(there), "name": "s"}) != first


def test_finding_sources_imports_nothing_heavy():
    heavy = "('polars', 'pyarrow', 'datasets', 'torch')"
    program = f"import sys, tasks.ingest.locate; print([m for m in {heavy} if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


@settings(max_examples=25, deadline=None)
@given(
    before=st.lists(st.integers(0, 3), max_size=4),
    records=st.lists(st.integers(0, 3), min_size=1, max_size=6),
)
def test_rows_put_in_front_change_no_id_of_other_records(tmp_path_factory, before, records):
    folder = tmp_path_factory.mktemp("ids")

    def ids(numbers):
        path = write_lines(folder / "a.jsonl", [{**PAIR, "n": n} for n in numbers])
        return rows_of(read(path))["row_id"].to_list()

    alone, behind = ids(records), ids(before + records)
    assert len(set(behind)) == len(behind)
    assert set(alone) <= set(behind)
    unrelated = [position for position, n in enumerate(records) if n not in before]
    assert [alone[p] for p in unrelated] == [behind[len(before) + p] for p in unrelated]


def test_an_id_is_over_source_and_canonical_record_and_repeat(tmp_path):
    write_lines(tmp_path / "a.jsonl", [PAIR, dict(reversed(PAIR.items())), {**PAIR, "n": 1}])
    first, repeat, other = rows_of(read({"path": str(tmp_path / "a.jsonl"), "name": "s"}))["row_id"]
    canonical = json.dumps(PAIR, sort_keys=True, separators=(",", ":"))
    assert first == digest("s", canonical)
    assert repeat == digest(first, "1")
    assert other not in (first, repeat)
    elsewhere = rows_of(read({"path": str(tmp_path / "a.jsonl"), "name": "t"}))["row_id"]
    assert elsewhere[0] != first


def test_the_columns_are_the_row_schema_whatever_comes_in(tmp_path):
    write_lines(tmp_path / "a.jsonl", [PAIR])
    (tmp_path / "b.jsonl").write_text("oops\n")
    for path in (tmp_path / "a.jsonl", tmp_path / "b.jsonl"):
        assert dict(rows_of(read(path)).schema) == ROW_SCHEMA


def test_a_record_names_its_own_task_label_language_split_and_weight(tmp_path):
    own = {"task": "faq", "label": 3, "lang": "zh-CN", "split": "dev", "weight": 0.5}
    odd = {"task": ["no word"], "label": True, "lang": "English", "split": "holdout", "weight": "much"}
    path = write_lines(tmp_path / "a.jsonl", [PAIR | own, PAIR | odd, PAIR | {"split": "test:faq"}])
    decision = read({"path": str(path), "task": "other", "lang": "en"})
    columns = rows_of(decision).select("task", "label", "lang", "split", "weight").rows()
    assert columns == [
        ("faq", "3", "zh", "validation", 0.5),
        ("other", "true", "en", None, 1.0),
        ("other", None, "en", "test:faq", 1.0),
    ]
    assert decision.metrics["unknown_splits"] == 1
    assert rows_of(read({"path": str(path), "split": "test"}))["split"].to_list() == ["test"] * 3


def test_a_field_that_the_format_does_not_have_is_no_silent_wish(tmp_path):
    path = tmp_path / "a.jsonl"
    path.write_text('{"instruction": "i", "output": "o", "frage": "f"}\n')
    with pytest.raises(SourceError, match="alpaca has no field prompt") as caught:
        check(tmp_path, {"path": str(path), "format": "alpaca", "fields": {"prompt": "frage"}})
    assert caught.value.place == "ingest.sources.0.fields.prompt"
    assert "instruction" in str(caught.value.cure)


def test_a_mistyped_optional_field_is_refused_and_one_that_may_come_later_is_warned_of(tmp_path, caplog):
    path = write_lines(tmp_path / "a.jsonl", [{**PAIR, "category": "x"}] * 3)
    with pytest.raises(SourceError, match="no record has the field 'categry'; did you mean 'category'"):
        check(tmp_path, {"path": str(path), "fields": {"task": "categry"}})
    check(tmp_path, {"path": str(path), "fields": {"label": "verdict"}})
    assert "fields.label: none of the first records has the field 'verdict'" in caplog.text


def test_no_field_is_read_as_two(tmp_path):
    path = write_lines(tmp_path / "a.jsonl", [{"instruction": "i", "output": "o"}])
    with pytest.raises(SourceError, match="'instruction' would be read as instruction and as output"):
        check(tmp_path, {"path": str(path), "format": "alpaca", "fields": {"output": "instruction"}})


def test_fields_named_otherwise_are_read_by_the_names_given(tmp_path):
    record = {"q": "What?", "a": "That.", "kind": "faq", "prompt": "not this one"}
    path = write_lines(tmp_path / "a.jsonl", [record])
    decision = read({"path": str(path), "fields": {"prompt": "q", "completion": "a", "task": "kind"}})
    (row,) = rows_of(decision).to_dicts()
    assert [turn["content"] for turn in row["messages"]] == ["What?", "That."]
    assert row["task"] == "faq"
    assert json.loads(row["meta"])["prompt"] == "not this one"


def test_a_saved_data_set_and_a_folder_of_files_are_read(tmp_path, monkeypatch):
    import datasets

    monkeypatch.setenv("HF_DATASETS_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", tmp_path / "cache")
    records = [PAIR, {**PAIR, "prompt": "Why?"}]
    datasets.disable_progress_bars()
    datasets.Dataset.from_list(records).save_to_disk(tmp_path / "saved")
    datasets.DatasetDict({"train": datasets.Dataset.from_list(records)}).save_to_disk(tmp_path / "splits")
    (tmp_path / "files").mkdir()
    write_lines(tmp_path / "files" / "train.jsonl", records)
    for folder in ("saved", "splits", "files"):
        source = {"dataset": str(tmp_path / folder), "name": "s"}
        assert check(tmp_path, source)
        prompts = [turns[0]["content"] for turns in rows_of(read(source))["messages"].to_list()]
        assert prompts == ["What?", "Why?"]
    with pytest.raises(SourceError, match="split 'nothing', can't be loaded"):
        read({"dataset": str(tmp_path / "splits"), "dataset_split": "nothing"})
    with pytest.raises(SourceError, match="no split 'tran'; did you mean 'train'"):
        check(tmp_path, {"dataset": str(tmp_path / "splits"), "dataset_split": "tran[:50%]", "name": "s"})


def test_a_data_set_out_of_reach_is_an_error_with_a_cure(tmp_path, monkeypatch):
    monkeypatch.setattr("datasets.config.HF_HUB_OFFLINE", True)
    with pytest.raises(SourceError, match="can't be loaded") as caught:
        read({"dataset": "nobody/nothing-of-that-name"})
    assert caught.value.cure
    with pytest.raises(SourceError, match="there is no folder"):
        check(tmp_path, {"dataset": str(tmp_path / "gone")})


def test_a_cached_hub_data_set_is_pinned_to_its_commit(tmp_path, monkeypatch):
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path))
    source = {"dataset": "someone/something", "name": "s"}
    before = check(tmp_path, source)
    ref = tmp_path / "datasets--someone--something" / "refs" / "main"
    ref.parent.mkdir(parents=True)
    ref.write_text("0123abcd")
    assert check(tmp_path, source) != before


def test_packaged_conversations_stay_whole(tmp_path):
    decision = read({"path": "asset:chatterbot-chinese", "lang": "zh"})
    rows = rows_of(decision)
    assert rows.height > 300
    assert rows["messages"].list.len().max() > 2
    assert rows["task"].null_count() == 0


def test_facts_count_what_came_in(tmp_path):
    turns = [{"role": role, "content": role} for role in ("user", "assistant", "user", "assistant")]
    write_lines(tmp_path / "a.jsonl", [{"messages": turns, "task": "a"}, {"messages": turns[:2]}, {"messages": 1}])
    facts = read(tmp_path / "a.jsonl").facts
    assert facts["rows_by_source"] == {"a": 2}
    assert facts["rows_by_task"] == {"": 1, "a": 1}
    assert (facts["conversations"], facts["conversations_of_several_turns"]) == (2, 1)
    assert facts["quarantined_share"] == pytest.approx(1 / 3)
    assert facts["row_id_duplicates"] == 0
    assert facts["null_share"]["task"] == 0.5
    assert (facts["turns"]["p0"], facts["turns"]["p100"]) == (2, 4)
    assert facts["characters"]["p100"] == 26


@pytest.mark.parametrize("threads", [1, 4])
def test_rows_are_the_same_at_any_number_of_threads(tmp_path, threads):
    write_lines(tmp_path / "a.jsonl", [{**PAIR, "n": n % 7} for n in range(500)])
    program = (
        "import sys; from pathlib import Path; from tests.records import read, rows_of;"
        "sys.stdout.write(str(rows_of(read(Path(sys.argv[1])))['row_id'].to_list()))"
    )
    environment = os.environ | {"POLARS_MAX_THREADS": str(threads)}
    command = [sys.executable, "-c", program, str(tmp_path / "a.jsonl")]
    done = subprocess.run(command, capture_output=True, text=True, check=True, env=environment)
    assert done.stdout == str(rows_of(read(tmp_path / "a.jsonl"))["row_id"].to_list())


def test_typed_tables_keep_their_rows_in_order(tmp_path):
    frame = pl.DataFrame({"text": [f"row {n}" for n in range(10_000)], "n": range(10_000)})
    frame.write_parquet(tmp_path / "a.parquet", row_group_size=700)
    contents = [turns[0]["content"] for turns in rows_of(read(tmp_path / "a.parquet"))["messages"].to_list()]
    assert contents == frame["text"].to_list()
