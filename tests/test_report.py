"""The report: nothing hostile or private gets onto the page, it loads nothing, and what it says is true."""

import re
from collections import Counter
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import polars as pl
import pytest

from tasks.artifact import Artifact, Store
from tasks.execute import Workspace, examine, produce
from tasks.ledger import Decision, Output, added_frame, quarantine_frame
from tasks.report import examples, models, places
from tasks.report.counts import funnel, stage_counts
from tasks.report.page import render
from tasks.report.task import TEMPLATE, report
from tests import report_run
from tests.page import Page

TIMED = {"seconds": 1.5, "peak_rss_mb": 100.0, "created": "2026-01-02T03:04:05+00:00"}
FEW = dict.fromkeys(("toxicity", "quality", "select", "split", "balance", "augment", "tokenize", "train"))
FEW |= dict.fromkeys(("dedupe", "distill", "compress", "evaluate"))


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, dict[str, Artifact]]:
    """The page of a run with every stage."""
    run, upstream = report_run.make_run(tmp_path_factory.mktemp("whole"), rows=600)
    return _render(run, upstream), upstream


@pytest.fixture(scope="module")
def page(whole: tuple[str, dict[str, Artifact]]) -> Page:
    return Page(whole[0])


def test_data_can_bring_no_element_into_the_page(page: Page) -> None:
    assert not {"script", "img", "iframe", "object"} & set(page.elements)
    assert not [name for _, name, _ in page.attributes if name.startswith("on")]
    assert page.words.count("<script>alert('x')</script>") > 5, "hostile text is shown as text"


def test_the_page_loads_nothing(whole: tuple[str, dict[str, Artifact]], page: Page) -> None:
    loads = [value for name in ("src", "href", "xlink:href", "srcset", "data", "action") for value in page.values(name)]
    assert all(value.startswith(("#", "data:")) for value in loads)
    assert not re.search(r"@import|url\((?!#)", whole[0])
    policy = next(value for value in page.values("content") if "default-src" in value)
    assert policy.startswith("default-src 'none'")
    assert "script-src" not in policy


def test_planted_personal_data_and_paths_are_not_shown(whole: tuple[str, dict[str, Artifact]], page: Page) -> None:
    for planted in report_run.PLANTED:
        assert planted not in whole[0]
        assert planted not in page.words
        assert planted[5:-5] not in page.words
    assert "[EMAIL]" in page.words
    assert "/home/somebody" not in whole[0]
    assert not any(str(artifact.path.parents[2]) in whole[0] for artifact in whole[1].values())


def test_personal_data_in_title_rules_and_model_answers_is_masked(tmp_path: Path) -> None:
    mail = report_run.PLANTED[0]

    def quarantined(given: object) -> Decision:
        decision = report_run.ingest(30)
        line = {"row_id": "f" * 16, "source": mail, "reason": f"bad_{mail}", "detail": f"no answer, {mail}"}
        return replace(decision, quarantined=quarantine_frame([line]))

    def answers(given: object) -> Output:
        out = report_run.evaluate(given)  # type: ignore[arg-type]
        path = given.out / "predictions.parquet"  # type: ignore[attr-defined]
        pl.read_parquet(path).with_columns(prediction=pl.lit(f"Ask {mail}")).write_parquet(path)
        return out

    run, upstream = report_run.make_run(
        tmp_path, 200, {"ingest": quarantined, "evaluate": answers}, report={"title": f"For {mail}"}
    )
    found = _render(run, upstream)
    assert mail not in Page(found).words
    assert "Ask [EMAIL]" in found


def test_equal_artifacts_give_an_equal_page_wherever_they_are(tmp_path: Path) -> None:
    pages = []
    for place in ("here", "there"):
        run, upstream = report_run.make_run(tmp_path / place, rows=150)
        pages.append(_render(run, {name: _timeless(artifact) for name, artifact in upstream.items()}))
    assert pages[0] == pages[1]


def test_ids_are_unique_and_every_reference_has_its_target(whole: tuple[str, dict[str, Artifact]], page: Page) -> None:
    ids = page.values("id")
    assert [name for name, n in Counter(ids).items() if n > 1] == []
    wanted = {value[1:] for value in page.values("href") if value.startswith("#")}
    wanted |= set(re.findall(r"url\(#([^)]+)\)", whole[0]))
    assert wanted <= set(ids)


def test_charts_take_their_colours_from_the_page_and_have_titles(whole: tuple[str, dict[str, Artifact]]) -> None:
    drawn = re.findall(r'<svg class="chart".*?</svg>', whole[0], re.DOTALL)
    assert len(drawn) > 10
    for each in drawn:
        colours = {c for c in re.findall(r'(?:fill|stroke)="([^"]+)"', each) if c not in ("none", "transparent")}
        assert all(colour.startswith(("var(--", "url(#")) for colour in colours), colours
        assert re.search(r'role="img".*?<title>[^<]+</title>', each)


def test_every_rule_of_every_stage_stands_on_the_page_with_its_rows(
    whole: tuple[str, dict[str, Artifact]], page: Page
) -> None:
    shown = " ".join(page.words.split())
    for artifact in whole[1].values():
        rows = artifact.manifest["rows"]
        for rule, n in (rows["removed"] | rows["added"] | rows["quarantined"] | rows["changed"]).items():
            assert re.search(rf"{rule.replace('_', ' ')}\W*{n}\b", shown), (artifact.stage, rule)


def test_duplicates_stand_beside_the_row_that_is_kept(whole: tuple[str, dict[str, Artifact]]) -> None:
    stages = {stage.stage: stage for stage in examples.stage_examples(whole[1], 3)}
    near = next(rule for rule in stages["dedupe"].rules if rule.rule == "near pair")
    kept = dict(whole[1]["dedupe"].ledger("removed").select("row_id", "kept_row_id").collect().iter_rows())
    assert near.opened
    for example in near.examples:
        removed, stays = example.sides
        assert kept[removed.row_id] == stays.row_id
        assert any(differs for _, pieces in removed.turns + stays.turns for differs, _ in pieces)
    assert stages["toxicity"].harmful


def test_a_run_of_two_stages_has_a_page(tmp_path: Path) -> None:
    run, upstream = report_run.make_run(tmp_path, rows=40, **FEW)
    found = Page(_render(run, upstream))
    assert set(upstream) == {"ingest", "clean"}
    assert "40 are left" in " ".join(found.words.split())
    assert not {"models", "tokens", "training", "scores"} & set(found.values("id"))
    assert "No model was trained in this run." in found.words


def test_a_run_that_removes_nothing_has_a_page(tmp_path: Path) -> None:
    rows = report_run.ingest(12).assigned

    def keep(given: object) -> Decision:
        return Decision()

    quiet = dict.fromkeys(("clean", "dedupe", "toxicity", "quality", "select", "split", "balance", "augment"), keep)
    sections = {"train": None, "distill": None, "compress": None, "evaluate": None, "tokenize": None}
    run, upstream = report_run.make_run(
        tmp_path, stages={"ingest": lambda given: Decision(assigned=rows), **quiet}, **sections
    )
    assert "No row was left out." in " ".join(Page(_render(run, upstream)).words.split())


@pytest.mark.parametrize("rows", [0, 1])
def test_a_run_of_no_row_or_one_has_a_page(tmp_path: Path, rows: int) -> None:
    frame = report_run.ingest(rows).assigned if rows else added_frame()
    ingest = {"ingest": lambda given: Decision(assigned=frame)}
    run, upstream = report_run.make_run(tmp_path, stages=ingest, **FEW)
    words = Page(_render(run, upstream)).words
    assert ("No row was read." in words) == (rows == 0)


def test_the_stage_publishes_one_small_file_and_is_cached_then(tmp_path: Path) -> None:
    run, upstream = report_run.make_run(tmp_path, rows=60, tokenize=None, train=None, distill=None, compress=None)
    work = Workspace(run, tmp_path, Store(tmp_path), dict(upstream))
    artifact = produce(report, examine(report, work), work)
    size = (artifact.path / "report.html").stat().st_size
    assert artifact.manifest["metrics"]["size_kb"] == pytest.approx(size / 1024, abs=0.1)
    assert size < 3_000_000
    assert examine(report, work).verdict == "cached"


def test_answers_are_spread_from_the_largest_gain_to_the_largest_loss(whole: tuple[str, dict[str, Artifact]]) -> None:
    scores = pl.read_parquet(whole[1]["evaluate"].path / "predictions.parquet")
    gains = scores.filter(pl.col("model") == "tuned").with_columns(gain=pl.col("rouge_l") - 0.1)
    for test_set, questions in models.sample_answers(whole[1], whole[1]["augment"], 3).items():
        ranked = gains.filter(pl.col("test_set") == test_set).sort("gain", descending=True)["row_id"].to_list()
        assert [question.row_id for question in questions][:: len(questions) - 1] == [ranked[0], ranked[-1]]
        assert all([answer.model for answer in each.answers] == ["base", "tuned", "distilled"] for each in questions)


def test_the_funnel_is_as_wide_as_its_rows(whole: tuple[str, dict[str, Artifact]]) -> None:
    stages = stage_counts({name: artifact.manifest for name, artifact in whole[1].items()})
    bands = funnel(stages)
    assert all(stage.balanced for stage in stages)
    for band, following in pairwise(bands):
        assert band.out == pytest.approx(following.kept + following.removed + following.quarantined)
    assert max(band.out + band.removed + band.quarantined for band in bands) == pytest.approx(100)


def test_a_stage_whose_rows_do_not_add_up_is_named(tmp_path: Path) -> None:
    run, upstream = report_run.make_run(tmp_path, rows=20, **FEW)
    manifest = upstream["clean"].manifest
    upstream["clean"] = replace(upstream["clean"], manifest=manifest | {"rows": manifest["rows"] | {"out": 19}})
    assert "Rows do not add up in clean" in _render(run, upstream)


def _render(run: object, upstream: dict[str, Artifact]) -> str:
    return render(run.report, upstream, places.shown_places(run), "", TEMPLATE)  # type: ignore[attr-defined, arg-type]


def _timeless(artifact: Artifact) -> Artifact:
    return replace(artifact, manifest=artifact.manifest | TIMED)
