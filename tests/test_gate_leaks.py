"""What is planted is found: leaks between splits and duplicates that stay are counted, named by id, and stop a run."""

from pathlib import Path
from typing import Any

import polars as pl

from pipeline_config.data_schema import Dedupe
from pipeline_config.sets_schema import Split
from tasks.dedupe.decide import decide as dedupe
from tasks.gates.bounds import Subject
from tasks.gates.judge import judge
from tasks.gates.verdict import Verdict
from tasks.ledger import Decision, counts
from tasks.split.decide import decide as split
from tests import test_dedupe, test_split

ANSWER = "seven plus five is twelve because five more than seven lands on twelve exactly every time"


def rows_of_split(*planted: dict[str, Any]) -> pl.DataFrame:
    return test_split.frame([*planted, *test_split.unlike(60)])


def verdict(stage: str, decision: Decision, rows: pl.DataFrame, config: Any, tmp_path: Path) -> Verdict:
    left = rows.height - decision.removed.height - decision.quarantined.height
    subject = Subject(stage, counts(decision, rows.height, left), decision.facts, decision.metrics)
    return judge(subject, config.gate, tmp_path)


def test_a_near_duplicate_across_splits_that_the_user_let_be_is_found(tmp_path: Path) -> None:
    question = "what is seven plus five when you count it out slowly on your fingers"
    train = test_split.row(question, ANSWER, split="train")
    test = test_split.row(question, ANSWER + " indeed", split="test")
    rows = rows_of_split(train, test)
    config = Split.model_validate({"decontaminate": False, "gate": {"max_leakage": 0}})
    found = split(rows, config, 1)
    assert {train["row_id"], test["row_id"]} <= set(found.facts["leaked_rows"])
    failed = verdict("split", found, rows, config, tmp_path).failed
    assert [check.expectation for check in failed] == ["near-duplicates across splits"]
    assert failed[0].observed is not None
    assert failed[0].observed >= 1
    clean = split(rows, Split.model_validate({"gate": {"max_leakage": 0}}), 1)
    assert clean.facts["leaked_rows"] == []
    assert verdict("split", clean, rows, config, tmp_path).passed


def test_a_test_row_hidden_in_a_long_train_row_is_found(tmp_path: Path) -> None:
    question = " ".join(f"question{i}" for i in range(30))
    answer = " ".join(f"answer{i}" for i in range(30))
    filler = " ".join(f"filler{i}" for i in range(400))
    test = test_split.row(question, answer, split="test")
    train = test_split.row("", f"{filler} {question}\n{answer} {filler}", split="train")
    rows = rows_of_split(test, train)
    config = Split.model_validate({"decontaminate": False, "gate": {"max_leakage": 0}})
    found = split(rows, config, 1)
    assert found.facts["contamination_let_be"] == 1
    assert found.facts["leaked_rows"] == [train["row_id"]]
    assert not verdict("split", found, rows, config, tmp_path).passed
    silent = Split.model_validate({"decontaminate": False})
    assert verdict("split", found, rows, silent, tmp_path).passed, "the user let it be, and set no bound"


def test_exact_copies_that_stay_are_found(tmp_path: Path) -> None:
    rows = test_dedupe.frame([test_dedupe.text(f"text number {i} " * 9) for i in (1, 2, 3, 3, 3)])
    off = Dedupe.model_validate({"exact": False, "near": False, "gate": {"max_duplicates_left": 0.3}})
    found = dedupe(rows.lazy(), off, ["s"])
    assert found.facts["copies_let_be"] == 2
    assert found.facts["copied_rows"] == ["r3", "r4"]
    failed = verdict("dedupe", found, rows, off, tmp_path).failed
    assert [check.expectation for check in failed] == ["share of rows left that repeat another (estimate)"]
    assert failed[0].observed == 0.4
    assert verdict("dedupe", found, rows, Dedupe(), tmp_path).passed, "the user let them be, and set no bound"
    on = dedupe(rows.lazy(), Dedupe(), ["s"])
    assert on.facts["copies_let_be"] == 0
    assert verdict("dedupe", on, rows, off, tmp_path).passed
