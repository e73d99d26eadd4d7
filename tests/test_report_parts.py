"""What the report's page is made of: places, texts, differences, distributions, verdicts and words, each on its own."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline_config.fields import key_values
from pipeline_config.schema import STAGES, Config
from tasks.artifact import Artifact
from tasks.report import charts, difference, lines, models, next_steps, places, recipe, spread, story, text, training
from tasks.report.counts import stage_counts
from tasks.report.task import report
from tests import report_run
from tests.page import Page


def test_a_moved_file_changes_nothing_and_another_model_does(tmp_path: Path) -> None:
    def key(**sections: object) -> dict[str, str]:
        run = report_run.config(**sections)
        assert report.references is not None
        assert run.report is not None
        return report.references(run.report, run, tmp_path)

    here, there = ({"sources": [{"name": "a", "path": f"/{place}/x.jsonl"}]} for place in ("here", "there"))
    assert key(ingest=here) == key(ingest=there)
    assert key(model="some/model") != key(model="another/model")


@pytest.mark.parametrize(
    ("place", "shown"),
    [
        ("asset:python-stdlib", "asset:python-stdlib"),
        ("org/model", "org/model"),
        ("/srv/secret/model", places.LOCAL),
        ("C:\\models\\mine", places.LOCAL),
        ("../mine.jsonl", places.LOCAL),
        ("https://user:hunter2@host.example/data.jsonl?token=abc", "https://host.example/data.jsonl"),
    ],
)
def test_places_tell_names_and_no_paths_or_passwords(place: str, shown: str) -> None:
    assert places.shown_place(place) == shown


def test_the_configuration_shown_loads_and_gives_the_same_settings(tmp_path: Path) -> None:
    sections = {"select": {"seed_set": "/home/somebody/seed.jsonl", "keep": 40}, "toxicity": {"chinese": None}}
    run, upstream = report_run.make_run(tmp_path, rows=80, train=None, distill=None, compress=None, **sections)
    manifests = {name: artifact.manifest for name, artifact in upstream.items()}
    shown = recipe.configuration(manifests, places.shown_places(run), "again")
    assert "/home" not in shown
    again = Config.model_validate(yaml.safe_load(shown))
    for name, manifest in manifests.items():
        section = again.section(name)
        assert section is not None
        assert key_values(section) | {"seed": again.stage_seed(name)} == manifest["config"], name
    assert [name for name in STAGES if again.section(name) is None] == ["train", "distill", "compress"]


def test_a_path_in_a_setting_is_not_shown() -> None:
    manifests = {"quality": {"config": {"rules": ["instruct", "/home/somebody/rules.py"]}}}
    shown = recipe.configuration(manifests, {"model": "m", "sources": {}}, "t")
    assert "somebody" not in shown
    assert yaml.safe_load(shown)["quality"]["rules"] == ["instruct", places.LOCAL]


@pytest.mark.parametrize("before", range(380, 425, 3))
def test_text_is_masked_before_it_is_cut(before: int) -> None:
    mail = report_run.PLANTED[0]
    shown = text.shown("word " * (before // 5) + "x" * (before % 5) + f" {mail} " + "word " * 90)
    assert "mary" not in shown
    assert len(shown) <= text.LIMIT + 2


def test_text_keeps_the_page_s_direction_and_draws_controls() -> None:
    assert text.shown("a\u202eb\x00c\td\r\n") == "ab\u2400c\td"


def test_a_verdict_needs_an_interval_without_zero() -> None:
    def verdict(metric: str, low: float, high: float) -> str:
        line = {f"{metric}_diff": (low + high) / 2, f"{metric}_diff_low": low, f"{metric}_diff_high": high, metric: 1.0}
        base = {"test_set": "t", "model": "base", metric: 2.0}
        return models.findings([base, {"test_set": "t", "model": "tuned", **line}])[0].verdict

    assert verdict("loss", -0.9, -0.1) == "better"
    assert verdict("loss", 0.1, 0.9) == "worse"
    assert verdict("rouge_l", 0.1, 0.9) == "better"
    assert verdict("rouge_l", -0.9, -0.1) == "worse"
    assert verdict("loss", -0.1, 0.9) == verdict("rouge_l", -0.9, 0.1) == "unclear"


@pytest.mark.parametrize("content", ["", "{", "[1, 2]", '{"loss": 1}', '[{"step": 1, "loss": NaN}]'])
def test_a_history_in_another_form_draws_nothing(tmp_path: Path, content: str) -> None:
    (tmp_path / "history.json").write_text(content)
    assert training.loss_charts(training.losses({"train": Artifact(tmp_path, {"stage": "train"})})) == []


def test_the_parts_of_a_loss_are_drawn_where_there_are_several(tmp_path: Path) -> None:
    def titles(**parts: float) -> list[str]:
        lines = [{"step": n, "loss": 3.0, "learning_rate": 0.1, "tokens": n, **parts} for n in (1, 2)]
        (tmp_path / "history.json").write_text(json.dumps(lines))
        charts = training.loss_charts(training.losses({"train": Artifact(tmp_path, {"stage": "train"})}))
        return [f"{chart.title}: {chart.note}" for chart in charts[1:]]

    assert titles(cross_entropy=3.0) == []
    several = titles(cross_entropy=3.0, kl=0.5, contrastive=1.0, mine=2.0)
    assert len(several) == 2
    assert all(name in " ".join(several) for name in ("cross entropy", "kl 0.50", "contrastive", "mine"))


def test_a_loss_that_was_measured_once_is_said_beside_its_point(tmp_path: Path) -> None:
    def chart(*validation: dict[str, float]) -> Any:
        lines = [{"step": n, "loss": 3.4 - n / 40} for n in range(1, 41)]
        (tmp_path / "history.json").write_text(json.dumps([*lines, *validation]))
        return training.loss_charts(training.losses({"distill": Artifact(tmp_path, {"stage": "distill"})}))[0]

    last = {"step": 40, "eval_loss": 2.714}
    assert ">validation 2.71</text>" in chart(last).svg
    assert "validation 2.71, measured once at step 40;" in chart(last).note
    assert ">validation 3" not in chart({"step": 20, "eval_loss": 3.0}, last).svg


@given(st.text(max_size=60), st.text(max_size=60))
def test_a_difference_keeps_both_texts_and_marks_nothing_where_they_agree(left: str, right: str) -> None:
    mine, theirs = difference.difference(left, right)
    assert ("".join(t for _, t in mine), "".join(t for _, t in theirs)) == (left, right)
    same = ("".join(t for differs, t in side if not differs) for side in (mine, theirs))
    assert len(set(same)) == 1
    assert not any(differs for side in difference.difference(left, left) for differs, _ in side)


@given(st.lists(st.tuples(st.booleans(), st.text(alphabet="ab \n中", min_size=1))))
def test_marks_are_on_words_and_no_text_is_lost(pieces: list[tuple[bool, str]]) -> None:
    short = difference.trimmed(pieces)
    assert "".join(t for _, t in short) == "".join(t for _, t in pieces)
    assert all(t == t.strip() or not t.strip() for differs, t in short if differs)


@given(st.integers(0, 3000), st.integers(0, 3000))
def test_a_difference_far_down_a_long_text_stays_in_sight(before: int, after: int) -> None:
    pieces = [(False, "a" * before), (True, "HERE"), (False, "b" * after)]
    short = difference.condensed(pieces, 420)
    assert (True, "HERE") in short
    assert sum(len(t) for _, t in short) <= 430


@settings(deadline=None)
@given(st.lists(st.floats(-1e6, 1e6), min_size=1, max_size=40), st.booleans(), st.floats(0.5, 1e6))
def test_every_value_is_in_a_bin_and_the_threshold_on_the_axis(values: list[float], log: bool, bound: float) -> None:
    drawn = spread.bins({"kept": np.array(values)}, log, bound, bound)
    assert sum(drawn.counts["kept"]) == len(values)
    assert drawn.edges[0] <= bound * (1 + 1e-5) or log
    assert drawn.edges[-1] >= bound * (1 - 1e-5)
    assert drawn.edges == sorted(drawn.edges)


@given(st.dictionaries(st.text(max_size=3), st.integers(0, 99), max_size=30))
def test_shares_of_a_mixture_add_up(before: dict[str, int]) -> None:
    groups = spread.shifted(before, {name: n for name, n in before.items() if n % 2})
    for place, counts in ((1, before.values()), (2, [n for n in before.values() if n % 2])):
        assert sum(group[place] for group in groups) == pytest.approx(1.0 if sum(counts) else 0.0)


def test_hostile_names_stay_text_in_a_chart() -> None:
    drawn = lines.shift(
        "x", report_run.HOSTILE, report_run.HOSTILE, [(report_run.HOSTILE, 0.2, 0.4), ("中文", 0.8, 0.6)]
    )
    assert not {"script", "img"} & set(Page(drawn.svg).elements)
    assert "中文" in drawn.svg


def test_the_story_counts_what_the_stages_counted() -> None:
    rows = {"in": 10, "out": 6, "removed": {"exact": 3}, "changed": {}, "added": {}, "quarantined": {"bad": 1}}
    stages = stage_counts({"dedupe": {"rows": rows}})
    facts = {"tokenize": {"rows_by_split": {"train": 4, "test": 2}}}
    said = story.rows_sentence(stages, facts)
    assert said == "Of 10 rows read, 4 are there to learn from (40 %). 2 more are held out for validation and test."
    assert story.losses_sentence(stages).startswith("Left out: 4 that repeat another.")
    one = stage_counts({"toxicity": {"rows": rows | {"removed": {"toxic": 1}, "quarantined": {}}}})
    assert story.losses_sentence(one).startswith("Left out: 1 that is harmful.")


def test_what_to_look_at_next_names_its_number_and_place() -> None:
    read = {"in": 1000, "out": 990, "removed": {}, "changed": {}, "added": {}, "quarantined": {"not_json": 10}}
    judged = {"in": 990, "out": 690, "removed": {"max_words": 300}, "changed": {}, "added": {}, "quarantined": {}}
    chosen = {"in": 690, "out": 90, "removed": {"beyond_quota": 600}, "changed": {}, "added": {}, "quarantined": {}}
    stages = stage_counts({"ingest": {"rows": read}, "quality": {"rows": judged}, "select": {"rows": chosen}})
    steps = next_steps.next_steps(stages, {}, [], {"tuned": [(10, 2.0), (20, 1.5), (30, 1.9)]})
    assert [step.anchor for step in steps] == ["training", "why-quality", "why-ingest"]
    assert "lowest at step 20 (1.50) and ended at 1.90" in steps[0].text
    assert "“max words” of quality took 300 rows, 30 %" in steps[1].text
    assert steps[2].text.startswith("10 records went to quarantine in ingest")


def test_a_model_that_is_worse_comes_before_what_is_unclear() -> None:
    found = [
        models.Finding("chat", name, "loss", 2.0, 1.5, 0.5, low, 0.9, verdict)
        for name, low, verdict in (("small", -0.1, "unclear"), ("tuned", 0.1, "worse"))
    ]
    steps = next_steps.next_steps([], {"evaluate": {"examples": {"chat": 48}}}, found, {})
    assert [step.anchor for step in steps] == ["models", "models"]
    assert steps[0].text.startswith("Worse than the base: tuned on chat.")
    assert steps[1].text.startswith("1 of 2 comparisons with the base is within chance; more test rows (now 48)")
    assert story.models_sentences(found, ["train", "evaluate"]) == [
        "By held-out loss the small model is not clearly different on chat.",
        "By held-out loss the tuned model is worse on chat.",
    ]


def test_nothing_to_look_at_is_no_step() -> None:
    rows = {"in": 10, "out": 10, "removed": {}, "changed": {}, "added": {}, "quarantined": {}}
    assert next_steps.next_steps(stage_counts({"ingest": {"rows": rows}}), {}, [], {}) == []
    assert story.models_sentences([], ["train"]) == ["A model was trained and not measured."]


@given(st.lists(st.floats(0, 1), max_size=6, unique=True))
def test_labels_of_near_thresholds_stand_on_different_lines(parts: list[float]) -> None:
    bins = charts.Bins([0.0, 1.0], {"kept": [1]})
    levels = charts.levels_of(bins, {str(n): at for n, at in enumerate(parts)})
    for n, one in enumerate(parts):
        for m, other in enumerate(parts[:n]):
            assert abs(one - other) >= 0.15 or levels[n] != levels[m]


def test_lengths_are_those_of_the_rows_read_and_of_those_trained_on(tmp_path: Path) -> None:
    _, upstream = report_run.make_run(tmp_path, rows=300, tokenize=None, train=None, distill=None, compress=None)
    found = {chart.title: chart.note for chart in spread.length_charts(upstream)}
    answers = [m[-1]["content"] for m in upstream["ingest"].rows().select("messages").collect()["messages"].to_list()]
    median = text.number(float(np.median([len(answer) for answer in answers])))
    assert found["Characters of the answer"].startswith(f"Median {median} characters as read, ")
