"""The preview: the text a model sees, whole characters, what is learned marked, the same rows every time."""

import html
import json
import re
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flows.cli import main
from tasks.kernels.preview import pieces, preview_rows, render_html, render_terminal
from tests import toy_model


@pytest.fixture(scope="module")
def tokenizer() -> Any:
    """Byte-level, so that nearly every Chinese character and emoji is several tokens."""
    return toy_model._tokenizer()


def _rows(tokenizer: Any, texts: list[tuple[str, str]], **columns: list[Any]) -> pl.LazyFrame:
    """Tokenize rows of (context, learned) text; row ids are 0, 1, …"""
    ids = [[tokenizer(part)["input_ids"] for part in text] for text in texts]
    masks = [[False] * len(context) + [True] * len(learned) for context, learned in ids]
    frame = {
        "row_id": [f"{n:016x}" for n in range(len(texts))],
        "split": ["train"] * len(texts),
        "input_ids": [context + learned for context, learned in ids],
        "loss_mask": masks,
        "n_tokens": [len(mask) for mask in masks],
        "n_trained": [sum(mask) for mask in masks],
    }
    return pl.DataFrame(frame | columns).lazy()


@settings(deadline=None)
@given(st.text(alphabet="ab é天气🙂\n", max_size=12), st.integers(0, 30), st.integers(0, 30))
def test_no_border_breaks_a_character_and_no_text_is_lost(tokenizer: Any, text: str, start: int, end: int) -> None:
    ids = tokenizer(text)["input_ids"]
    mask = [start <= n < end for n in range(len(ids))]
    found = pieces(ids, mask, tokenizer)
    assert "".join(piece for piece, _ in found) == text
    assert all("\ufffd" not in piece for piece, _ in found)
    if any(mask):
        assert any(learned for _, learned in found)


def test_borders_between_whole_characters_stay_where_they_are(tokenizer: Any) -> None:
    ids = [tokenizer(part)["input_ids"] for part in ("问题：", "天气很好", "。")]
    mask = [n == 1 for n, part in enumerate(ids) for _ in part]
    assert pieces([i for part in ids for i in part], mask, tokenizer) == [
        ("问题：", False),
        ("天气很好", True),
        ("。", False),
    ]


def test_special_tokens_are_shown(tokenizer: Any) -> None:
    row = preview_rows(_rows(tokenizer, [("<|im_start|>user\nhi", "yes<|im_end|>")]), tokenizer, 1)[0]
    assert row["pieces"] == [("<|im_start|>user\nhi", False), ("yes<|im_end|>", True)]


def test_samples_do_not_depend_on_the_order_and_take_train_rows_of_different_tasks_first(tokenizer: Any) -> None:
    texts = [("q", f"answer {n}") for n in range(40)]
    tasks = ["big"] * 36 + ["small"] * 3 + ["held out"]
    rows = _rows(tokenizer, texts, task=tasks, split=["train"] * 39 + ["test:x"])
    chosen = preview_rows(rows, tokenizer, 3)
    assert chosen == preview_rows(rows.reverse(), tokenizer, 3)
    assert {row["task"] for row in chosen[:2]} == {"big", "small"}
    assert [row["split"] for row in preview_rows(rows, tokenizer, 40)].index("test:x") == 39


def test_fewer_rows_than_wanted_and_none_at_all(tokenizer: Any) -> None:
    rows = _rows(tokenizer, [("a", "b")])
    assert len(preview_rows(rows, tokenizer, 9)) == 1
    assert preview_rows(rows.head(0), tokenizer, 3) == []
    assert render_terminal([], colour=True) == render_html([]) == ""


def test_the_terminal_marks_what_is_learned_with_and_without_colour(tokenizer: Any) -> None:
    rows = preview_rows(_rows(tokenizer, [("question ", "answer")]), tokenizer, 1)
    plain, coloured = render_terminal(rows, colour=False), render_terminal(rows, colour=True)
    assert "question ⟦answer⟧" in plain
    assert "\x1b" not in plain
    assert re.search(r"\x1b\[1;32manswer\x1b\[0m", coloured)


def test_a_row_s_own_escape_sequences_do_not_reach_the_terminal() -> None:
    row = {"row_id": "0", "split": "train", "task": "\x1b[2J", "n_tokens": 1, "n_trained": 1}
    row["pieces"] = [("\x1b]0;title\x07 \x9b2J", True)]
    assert not {"\x1b", "\x07", "\x9b"} & set(render_terminal([row], colour=False))


def test_html_is_escaped() -> None:
    hostile = "</pre><script>alert(1)</script>"
    row = {"row_id": "0", "split": "train", "task": hostile, "n_tokens": 2, "n_trained": 1}
    row["pieces"] = [(hostile, False), (hostile, True)]
    page = render_html([row])
    assert "<script" not in page
    assert page.count(html.escape(hostile)) == 3


def test_texts_of_a_whole_run_are_previewed_alike_from_a_file(tokenizer: Any, tmp_path: Path) -> None:
    rows = _rows(tokenizer, [("q", f"a{n}") for n in range(9)])
    rows.collect().write_parquet(tmp_path / "part-00000.parquet")
    stored = pl.scan_parquet(tmp_path / "part-00000.parquet")
    assert preview_rows(stored, tokenizer, 3) == preview_rows(rows, tokenizer, 3)


def test_the_command_prints_one_json_document(
    tokenizer: Any, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = _rows(tokenizer, [("问题：\x1b", "天气很好")] * 3)
    record, artifact = SimpleNamespace(run_id="R", config={"model": "toy"}), SimpleNamespace(rows=lambda: rows)
    monkeypatch.setattr("flows.outputs.read_run", lambda *_: record)
    monkeypatch.setattr("flows.outputs.stage_artifact", lambda *_: artifact)
    monkeypatch.setattr("tasks.kernels.models.model_folder", lambda *_: "toy")
    monkeypatch.setattr("tasks.kernels.models.load_tokenizer", lambda *_: tokenizer)
    monkeypatch.setattr("sys.unraisablehook", sys.unraisablehook)  # main() sets its own
    monkeypatch.setattr("sys.argv", ["winnow", "preview", "--samples", "2", "--json"])
    with pytest.raises(SystemExit, match="0"):
        main()
    document = json.loads(capsys.readouterr().out)
    assert (document["run_id"], len(document["samples"])) == ("R", 2)
    sample = document["samples"][0]
    assert sample["pieces"] == [{"text": "问题：\x1b", "learned": False}, {"text": "天气很好", "learned": True}]
    assert set(sample) == {"row_id", "split", "task", "n_tokens", "n_trained", "pieces"}
