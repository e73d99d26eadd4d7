"""Row-local scores: only rows that are not known yet are scored, and nobody can tell from the bytes."""

import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from flows.planner import load_stage
from pipeline_config.schema import Config
from tasks.artifact import Store
from tasks.execute import Workspace, examine, produce
from tasks.kernels.rows import ROW_SCHEMA
from tasks.ledger import Decision
from tasks.scores import row_digests
from tasks.stage import Apart, Stage, StageInput
from tests.cached_place import DIRT, RECORDS
from tests.records import read, rows_of, write_lines

Score = Callable[[StageInput[Any]], pl.DataFrame]
SAMPLE = Path(__file__).parent.parent / "data" / "sample"
ROWS = [(f"id{n:02}", f"text {n}") for n in range(12)]
ASKED: list[list[str]] = []
ROWS_OF_ONE = [{"row_id": "i", "source": "s", "messages": [{"role": "text", "content": "t"}]}]


def length(given: StageInput[Any]) -> pl.DataFrame:
    """One line a row, but none for `text 3`, as a stage that leaves some rows out gives."""
    content = pl.col("messages").list.first().struct.field("content")
    rows = given.rows.select("row_id", content).collect()
    ASKED.append(rows["row_id"].to_list())
    kept = rows.filter(pl.col("content") != "text 3")
    return kept.select("row_id", score_length=pl.col("content").str.len_chars().cast(pl.Float32))


def keep(given: StageInput[Any]) -> Decision:
    assert given.scores is not None
    return Decision(assigned=given.scores)


TOXICITY = Stage("toxicity", keep, (), length, None, ("messages",))


def score(data: Path, rows: list[tuple[str, str]], judge: str = "assistant") -> tuple[list[str], Path]:
    """Run the stage over rows, given as id and text: the ids that were scored, and the scores' folder."""

    def read(given: StageInput[Any]) -> Decision:
        lines = [{"row_id": i, "source": "s", "messages": [{"role": "text", "content": t}]} for i, t in rows]
        return Decision(assigned=pl.DataFrame(lines, schema=ROW_SCHEMA))

    settings = {"ingest": {"sources": [{"path": "a.txt"}]}, "toxicity": {"judge": judge}}
    work = Workspace(Config.model_validate(settings), data, Store(data), force=frozenset({"ingest"}))
    ingest = Stage("ingest", read, (), None, None)
    work.upstream["ingest"] = produce(ingest, examine(ingest, work), work)
    before = set((data / "artifacts/toxicity/scores").glob("*"))
    ASKED.clear()
    produce(TOXICITY, examine(TOXICITY, work), work)
    new = set((data / "artifacts/toxicity/scores").glob("*")) - before
    return [i for ids in ASKED for i in ids], next(iter(new), Path())


@pytest.mark.parametrize(
    ("rows", "scored"),
    [
        pytest.param([("new", "in front"), *ROWS], ["new"], id="a row in front"),
        pytest.param([*ROWS, ("new", "behind")], ["new"], id="a row behind"),
        pytest.param(ROWS[4:9], [], id="rows left out"),
        pytest.param(list(reversed(ROWS)), [], id="another order"),
        pytest.param([*ROWS[:3], ("id03", "edited"), *ROWS[4:]], ["id03"], id="a text edited"),
        pytest.param([*ROWS[:3], ("id03", "text 4"), ("id04", "text 3"), *ROWS[5:]], ["id03", "id04"], id="swapped"),
        pytest.param([ROWS[3]], [], id="only the row without a score"),
    ],
)
def test_only_new_rows_are_scored_and_the_bytes_are_those_of_a_fresh_start(
    tmp_path: Path, rows: list[tuple[str, str]], scored: list[str]
) -> None:
    assert score(tmp_path / "grown", ROWS)[0] == [i for i, _ in ROWS]
    found, grown = score(tmp_path / "grown", rows)
    assert found == scored
    everything, fresh = score(tmp_path / "fresh", rows)
    assert everything == [i for i, _ in rows]
    for name in ("scores.parquet", "rows.parquet"):
        assert (grown / name).read_bytes() == (fresh / name).read_bytes()


def test_scores_made_in_another_way_are_not_taken(tmp_path: Path) -> None:
    score(tmp_path, ROWS)
    assert len(score(tmp_path, [("new", "x"), *ROWS], judge="all")[0]) == 13


@pytest.mark.parametrize(
    ("settings", "asked"),
    [
        pytest.param({"rules": ["gopher"]}, ["own"], id="another rule set"),
        pytest.param({"perplexity": {"max_length": 9}}, ["perplexity"], id="another perplexity"),
        pytest.param({"perplexity": {"max": 9}}, [], id="a bound on the perplexity"),
        pytest.param({"difficulty": {}}, ["difficulty"], id="the difficulty too"),
        pytest.param({"perplexity": None}, [], id="no perplexity"),
    ],
)
def test_what_a_model_says_and_the_rules_measure_do_not_ask_for_each_other(
    tmp_path: Path, settings: dict[str, Any], asked: list[str]
) -> None:
    told: list[str] = []

    def telling(name: str) -> Score:
        def run(given: StageInput[Any]) -> pl.DataFrame:
            told.append(name)
            return given.rows.select("row_id").collect().with_columns(pl.lit(1.0).alias(name))

        run.__module__, run.__name__ = length.__module__, length.__name__
        return run

    def references(section: Any, *_: Any) -> dict[str, str]:
        return {"language_model": "0"} | {f"{name}_model": "1" for name in apart if getattr(section, name) is not None}

    apart = {name: Apart(telling(name), (name,)) for name in ("perplexity", "difficulty")}

    def decided(more: dict[str, Any]) -> list[str]:
        sections = {"ingest": {"sources": [{"path": "a.txt"}]}, "quality": {"perplexity": {}} | more}
        work = Workspace(Config.model_validate(sections), tmp_path, Store(tmp_path), force=frozenset({"ingest"}))
        ingest = Stage("ingest", lambda _: Decision(assigned=pl.DataFrame(ROWS_OF_ONE, ROW_SCHEMA)), (), None, None)
        ingest.run.__module__, ingest.run.__name__ = keep.__module__, keep.__name__
        work.upstream["ingest"] = produce(ingest, examine(ingest, work), work)
        own = Stage("quality", keep, (), telling("own"), references, ("messages",), apart)
        return produce(own, examine(own, work), work).own_rows().collect_schema().names()

    assert decided({})[-2:] == ["own", "perplexity"] == told
    told.clear()
    decided(settings)
    assert told == asked


def test_damaged_scores_are_not_taken(tmp_path: Path) -> None:
    _, folder = score(tmp_path, ROWS)
    (folder / "scores.parquet").write_bytes(b"PAR1")
    assert len(score(tmp_path, [("new", "x"), *ROWS])[0]) == 13


def test_two_sources_in_turn_each_keep_their_scores(tmp_path: Path) -> None:
    others = [(f"other{n}", f"other text {n}") for n in range(5)]
    score(tmp_path, ROWS)
    score(tmp_path, others)
    assert score(tmp_path, [*ROWS, ("new", "x")])[0] == ["new"]
    assert score(tmp_path, [*others, ROWS[0], ("newer", "y")])[0] == ["newer"]


def test_the_log_says_how_many_were_new(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    logging.getLogger("winnow").propagate = True
    with caplog.at_level(logging.INFO, "winnow"):
        score(tmp_path, ROWS)
        score(tmp_path, [("new", "x"), *ROWS])
        score(tmp_path, ROWS[1:])
    told = [record.message for record in caplog.records if "score" in record.message]
    assert told == [
        "toxicity: scored 12 rows",
        "toxicity: scored 1 of 13 rows, the rest were known",
        "toxicity: the scores of all 11 rows were known",
    ]


def test_every_column_counts_in_a_digest_and_no_other() -> None:
    def digest(**changes: Any) -> int:
        message = {"role": "user", "content": "a", "weight": None}
        row = {"row_id": "i", "lang": None, "messages": [message], "tools": None, "meta": "{}"} | changes
        frame = pl.DataFrame([row], schema={n: ROW_SCHEMA[n] for n in ("row_id", "lang", "messages", "tools", "meta")})
        return int(row_digests(frame.lazy(), ("lang", "messages", "tools"))["digest"][0])

    def said(*turns: tuple[str, str]) -> list[dict[str, Any]]:
        return [{"role": role, "content": content, "weight": None} for role, content in turns]

    different = [
        digest(),
        digest(lang=""),
        digest(lang="null"),
        digest(tools="null"),
        digest(messages=[]),
        digest(messages=None),
        digest(messages=said(("user", "a "))),
        digest(messages=said(("user", "a"), ("user", ""))),
        digest(messages=said(("user", 'a"},{"role":"user'))),
        digest(messages=said(("assistant", "a"))),
        digest(messages=[{"role": "user", "content": "a", "weight": 0.5}]),
    ]
    assert len(set(different)) == len(different)
    assert digest(meta="{1}") == digest(row_id="j") == digest()


@pytest.mark.parametrize("name", ["toxicity", "quality"])
def test_a_row_scored_alone_has_the_scores_it_has_among_others(tmp_path: Path, name: str) -> None:
    """What reuse rests on, for the stages that score by expressions and kernels; the encoder's is in its own tests."""
    stage = load_stage(name)
    assert stage.score is not None
    rows = rows_of(read(*sorted(SAMPLE.glob("*.jsonl")), write_lines(tmp_path / "many.jsonl", [*RECORDS, *DIRT])))
    section = Config.model_validate({"ingest": {"sources": [{"path": "a"}]}, name: {}}).section(name)

    def scores(given: pl.DataFrame) -> pl.DataFrame:
        assert stage.score is not None
        asked = given.lazy().select("row_id", *stage.reads)
        return stage.score(StageInput(section, None, 0, asked, None, {}, tmp_path, tmp_path, tmp_path))  # type: ignore[arg-type]

    whole = scores(rows)
    for part in (rows[:1], rows[5:6], rows[::7], rows[::-1], rows[40:]):
        assert scores(part).equals(part.select("row_id").join(whole, on="row_id", maintain_order="left"))
