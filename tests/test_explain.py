"""`winnow explain`: the life of any row, found by its id or by what it says."""

import json
from pathlib import Path
from typing import Any

import pytest

from flows.fates import Trail, trail
from flows.find_rows import quarantined_rows, rows_with
from flows.story import full_id, story
from flows.word_diff import word_diff
from pipeline_config.errors import ConfigError
from tasks.runs import RunRecord
from tests.command import Workplace
from tests.plain_run import records, run_stages, write_config, write_source


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("explain")
    other = {
        "instruction": records()[0]["instruction"],
        "output": "Nobody has looked into that with any care, it seems.",
    }
    long = {
        "instruction": "What is there at the lakes? " * 11,
        "output": "At Vänern there is a fort and a ferry.",
    }
    evil = {"instruction": "What does this \x1b[31msign mean, pray?", "output": "It turns what follows red, no more."}
    write_source(folder, [*records(), other, long, evil], broken=2)
    quality = {"thresholds": {"max_prompt_chars": 200, "min_answer_words": 4}}
    balance = {"mode": "apply", "by": "source", "cap": 100, "max_repeats": 2}
    write_config(folder, quality=quality, balance=balance, augment={"share": 0.5, "min_similarity": None})
    return folder


@pytest.fixture(scope="module")
def record(place: Path) -> RunRecord:
    found = run_stages(place / "data", place / "mine.yaml")
    assert found.status == "done"
    return found


@pytest.fixture(scope="module")
def stages(place: Path, record: RunRecord) -> Trail:
    return trail(record, place / "data")


def row_ids(stages: Trail, stage: str, ledger: str) -> list[str]:
    artifact = next(artifact for artifact in stages.artifacts if artifact.stage == stage)
    frame = artifact.own_rows() if ledger == "rows" else artifact.ledger(ledger)
    ids: list[str] = frame.collect()["row_id"].to_list()
    return ids


def said(events: list[dict[str, Any]], stage: str) -> str:
    return "\n".join(event["text"] for event in events if event["stage"] == stage)


def test_every_row_of_every_stage_has_a_story(stages: Trail) -> None:
    known: set[str] = set()
    for artifact in stages.artifacts:
        for ledger in ("rows", "removed", "quarantine"):
            known |= set(row_ids(stages, artifact.stage, ledger))
    kept = set(row_ids(stages, "augment", "rows"))
    for row_id in sorted(known):
        events = story(row_id, stages)
        assert events[0]["event"] in ("ingested", "added", "quarantined")
        assert (events[-1]["event"] == "kept") == (row_id in kept)
        assert json.loads(json.dumps(events)) == events


def test_a_duplicate_is_told_beside_the_row_that_is_kept(stages: Trail) -> None:
    (row_id,) = row_ids(stages, "dedupe", "removed")
    last = story(row_id, stages)[-1]
    assert "removed by near_duplicate" in last["text"]
    assert "against the threshold 0.85" in last["text"]
    assert last["values"]["kept_row_id"] in last["text"]
    assert "first{+ of all?+}[-.-]" in last["difference"] or "first[-.-]{+ of all?+}" in last["difference"]


def test_scores_stand_beside_their_bounds_and_splits_are_told(stages: Trail) -> None:
    events = story(row_ids(stages, "split", "rows")[0], stages)
    assert "min_answer_words removes < 4" in said(events, "quality")
    assert "split = " in said(events, "split")
    (long,) = row_ids(stages, "quality", "removed")
    assert "removed by max_prompt_chars: 307 against the threshold 200" in story(long, stages)[-1]["text"]


def test_an_edit_shows_what_it_did_without_what_it_hid(stages: Trail) -> None:
    edited = row_ids(stages, "clean", "changed")
    events = [event for row in edited for event in story(row, stages)]
    assert "edited by pii_email" in said(events, "clean")
    assert "{+[EMAIL_1]+}" in said(events, "clean")
    assert "ann.lee@example.com" not in json.dumps(events)
    assert "\x1b" not in str(events)


def test_an_added_row_names_its_parent_and_the_parent_the_row(stages: Trail) -> None:
    artifact = next(artifact for artifact in stages.artifacts if artifact.stage == "augment")
    child, parent, rule = artifact.ledger("added").collect().row(0)
    told = story(child, stages)
    assert f"added for its parent {parent} by {rule}" in told[0]["text"]
    assert "{+" in told[0]["difference"] or "[-" in told[0]["difference"]
    assert f"gave {child} ({rule})" in said(story(parent, stages), "augment")


def test_two_answers_to_one_prompt_are_told(stages: Trail) -> None:
    total, matches = rows_with(records()[0]["instruction"].upper(), stages, 5)
    assert total == 2
    for match in matches:
        assert "answers the same prompt otherwise" in said(story(match["row_id"], stages), "dedupe")


def test_a_prefix_is_enough_and_what_is_no_id_is_refused(stages: Trail) -> None:
    row_id = row_ids(stages, "split", "rows")[0]
    assert full_id(row_id[:12].upper(), stages) == row_id
    (held, _) = row_ids(stages, "ingest", "quarantine")
    assert full_id(held[:12], stages) == held
    for wrong, message in (("", "empty"), ("  ", "empty"), ("no id", "is no row id"), ("f" * 17, "is no row id")):
        with pytest.raises(ConfigError, match=message):
            full_id(wrong, stages)
    with pytest.raises(ConfigError, match="no row of this run") as caught:
        story(full_id("f" * 16, stages), stages)
    assert f"`winnow explain --text WORDS --data-dir {stages.data_dir}`" in caught.value.cure


def test_rows_are_found_by_content_whatever_the_case(stages: Trail) -> None:
    texts = next(a for a in stages.artifacts if a.stage == "ingest").rows().collect()
    for needle in ("MOON", "vänern", "VÄNERN", "ann.lee@example.com", "explain in a few", "it is known that b"):
        slow = [
            row["row_id"]
            for row in texts.to_dicts()
            if any(needle.lower() in message["content"].lower() for message in row["messages"])
        ]
        total, matches = rows_with(needle, stages, 3)
        assert (total, [match["row_id"] for match in matches]) == (len(slow), slow[:3])
        assert "ann.lee@example.com" not in str(matches)
    total, matches = rows_with("{broken", stages, 9)
    assert {match["fate"] for match in matches} == {"ingest: quarantined, not_json"}
    assert total == 2
    with pytest.raises(ConfigError, match="nothing to look for"):
        rows_with(" ", stages, 3)


def test_what_was_held_back_is_listed_with_its_line(stages: Trail) -> None:
    total, lines = quarantined_rows(stages, 1)
    assert total == 2
    assert (lines[0]["source"], lines[0]["line"], lines[0]["reason"]) == ("mine", len(records()) + 4, "not_json")


def test_a_story_ends_where_the_run_did(place: Path) -> None:
    stopped = run_stages(place / "data", place / "mine.yaml", overrides=["dedupe.gate.min_rows=99"])
    stages = trail(stopped, place / "data")
    assert story(row_ids(stages, "dedupe", "rows")[0], stages)[-1]["text"] == "kept so far (dedupe failed)"


@pytest.mark.parametrize(
    ("old", "new", "told"),
    [
        ("a b c", "a b c", "the same text"),
        ("the red ball", "the blue ball", "the [-red-]{+blue+} ball"),
        ("one two", "one two three", "one two{+ three+}"),
        ("一二三", "一三", "一[-二-]三"),
        ("", "new", "{+new+}"),
        ("x" * 500 + " end", "x" * 500 + " fin", "[-end-]{+fin+}"),
    ],
)
def test_a_difference_reads_as_one_text(old: str, new: str, told: str) -> None:
    assert told in word_diff(old, new)
    assert len(word_diff(old, new)) < 200
    assert ("\x1b[31m" in word_diff(old, new, colour=True)) == ("[-" in told)


def test_the_command_knows_three_ways_and_refuses_the_rest(place: Path, record: RunRecord, stages: Trail) -> None:
    here = Workplace(place / "data", place / "prefect")
    (duplicate,) = row_ids(stages, "dedupe", "removed")
    told = here.document("explain", duplicate, record.run_id)
    assert (told["row_id"], told["events"][-1]["event"]) == (duplicate, "removed")
    one = here.winnow("explain", "--text", "vänern", record.run_id)
    assert (one.returncode, "removed by max_prompt_chars" in one.stdout) == (0, True)
    assert here.document("explain", "--text", "the", record.run_id, "--limit", "2")["total"] > 2
    assert here.document("explain", "--quarantined", record.run_id)["total"] == 2
    for words in ((), ("",), ("--text", ""), ("--text", "a", "--quarantined"), ("--text", "a", "b", "c")):
        refused = here.winnow("explain", *words)
        assert (refused.returncode, "what to do:" in refused.stderr) == (2, True), words


def test_a_story_reads_no_text_but_its_own(stages: Trail, monkeypatch: pytest.MonkeyPatch) -> None:
    """The rows of a decision are never joined with their text: that would read all of it for every stage."""
    monkeypatch.setattr("tasks.artifact.Artifact.rows", lambda self: pytest.fail("all rows were read"))
    assert story(row_ids(stages, "split", "rows")[0], stages)
