"""The report as it is seen: on a desktop, on a phone, in the dark and on paper, in a real browser."""

import json
import random
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tasks.report import charts, lines, places
from tasks.report.page import render
from tasks.report.run_page import run_page
from tasks.report.task import TEMPLATE
from tests import report_run
from tests.browser import Browser, browser

pytestmark = pytest.mark.browser

LONG = "share of rows removed by " + "a_rule_with_a_very_long_name_" * 4
CHECKS = [
    {"expectation": LONG, "observed": 0.31234, "allowed": "at most 0.25", "passed": False, "cure": LONG},
    {"expectation": "rows left", "observed": 1234567, "allowed": "at least 1", "passed": True},
]
WIDER = """
    const wide = [...document.querySelectorAll('main *, header *')].filter(each =>
      each.getBoundingClientRect().right > innerWidth + 1 && !each.closest('.scroll, pre, .turn, svg'));
    return wide.map(each => each.outerHTML.slice(0, 120));
"""
TEXTS = """
    const found = [];
    for (const chart of document.querySelectorAll('svg.chart')) {
      const frame = chart.getBoundingClientRect();
      const texts = [...chart.querySelectorAll('text')].filter(t => t.textContent.trim() && t.getBBox().width > 0
        && getComputedStyle(t).opacity > 0 && t.getAttribute('opacity') !== '0');
      const boxes = texts.map(t => [t.textContent, t.getBoundingClientRect()]);
      const about = chart.querySelector('title').textContent;
      boxes.forEach(([text, box], n) => {
        if (box.left < frame.left - 1 || box.right > frame.right + 1 || box.top < frame.top - 1
            || box.bottom > frame.bottom + 1) found.push(`${about}: ${text} is cut off`);
        for (const [other, its] of boxes.slice(n + 1))
          if (Math.min(box.right, its.right) - Math.max(box.left, its.left) > 1
              && Math.min(box.bottom, its.bottom) - Math.max(box.top, its.top) > 2)
            found.push(`${about}: ${text} and ${other} overlap`);
      });
    }
    return found;
"""


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory, chromium: str) -> Path:
    """A run with every stage, hostile names, failed checks, everything unfolded."""
    folder = tmp_path_factory.mktemp("seen")
    run, upstream = report_run.make_run(folder, rows=600)
    assert run.report is not None
    base = render(run.report, upstream, places.shown_places(run), "", TEMPLATE)
    gate = {"passed": False, "on_fail": "warn", "checks": CHECKS, "reference": "20260101T000000-0000"}
    stages = [{"name": name, "state": "cached", "reason": LONG, "gate": gate} for name in upstream]
    error = {"message": LONG, "cure": report_run.HOSTILE}
    record = {"run_id": "20260102T030405-abcd", "status": "failed", "stages": stages, "error": error}
    path = folder / "page.html"
    whole = run_page(base, record | {"config_name": "demo"}, folder, TEMPLATE)
    path.write_text(whole.replace("<details>", "<details open>"), "utf-8")
    return path


@pytest.fixture(scope="module")
def window(chromium: str) -> Iterator[Browser]:
    with browser() as window:
        yield window


@pytest.mark.parametrize("width", [320, 360, 600, 800, 1280, 1900])
def test_nothing_overflows_at_any_width(page: Path, window: Browser, width: int) -> None:
    window.see_as(width, 800)
    window.open(page.as_uri())
    scroll, inner = window.ask("return [document.documentElement.scrollWidth, innerWidth]")
    assert inner == width, "the window is as wide as was asked"
    assert scroll <= inner
    assert window.ask(WIDER) == []


@pytest.mark.parametrize("width", [360, 1280])
def test_no_label_of_a_chart_is_cut_off_or_covers_another(page: Path, window: Browser, width: int) -> None:
    window.see_as(width, 800)
    window.open(page.as_uri())
    assert window.ask("return document.querySelectorAll('svg.chart').length") > 15
    assert window.ask(TEXTS) == []


def test_labels_of_awkward_charts_are_whole_and_apart(tmp_path: Path, window: Browser) -> None:
    draw = random.Random(5)
    drawn = []
    for n in range(6):
        size = 10 ** draw.randint(-3, 2)
        names = ["tuned", "蒸馏后的小模型", "a_very_long_na…"]
        line = [
            {"model": name, "value": at, "low": at - size / 3, "high": at + size / 3, "verdict": "better"}
            for name, at in ((name, draw.uniform(-size, size)) for name in names)
        ]
        drawn.append(lines.differences(f"d{n}", f"d{n}", "", line, 3, f"difference {n}"))
        drawn.append(lines.intervals(f"i{n}", f"i{n}", "", line, 3, f"interval {n}"))
        drawn.append(lines.bars(f"b{n}", f"b{n}", "", [(name, size * draw.random(), "11 h 59 min") for name in names]))
        edges = [0.0 if n % 2 else 1.0, *(size * k + 1.0 for k in range(1, 37))]
        counts = {"kept": [draw.randrange(10**7) for _ in range(36)], "removed": [1] * 36}
        at = draw.uniform(edges[0], edges[-1])
        bins = charts.Bins(edges, counts, log=n % 2 == 0)
        marks = {"0.85": at, "limit 512": at * 1.02, "0.7": edges[-1], "1": edges[0]}
        drawn.append(charts.histogram(f"h{n}", f"h{n}", "", bins, "words", marks, y_log=n % 3 == 0))
    style = (TEMPLATE / "style.css").read_text("utf-8")
    page = tmp_path / "charts.html"
    page.write_text(
        f"<style>{style}</style><main class=charts>{''.join(str(each.svg) for each in drawn)}</main>", "utf-8"
    )
    window.see_as(1280, 800)
    window.open(page.as_uri())
    assert window.ask("return document.querySelectorAll('svg.chart').length") == len(drawn)
    assert window.ask(TEXTS) == []


def test_a_check_s_verdict_is_in_sight_on_a_phone(page: Path, window: Browser) -> None:
    window.see_as(360, 800)
    window.open(page.as_uri())
    rights = window.ask(
        "return [...document.querySelectorAll('.checks .mark')].map(e => e.getBoundingClientRect().right)"
    )
    assert rights
    assert max(rights) <= 360


def test_nothing_is_loaded_and_nothing_goes_wrong(page: Path, window: Browser) -> None:
    window.see_as(1280, 800)
    window.messages("performance")
    window.messages()
    window.open(page.as_uri())
    events = [json.loads(line["message"])["message"] for line in window.messages("performance")]
    asked = [event["params"]["request"]["url"] for event in events if event["method"] == "Network.requestWillBeSent"]
    assert [url for url in asked if not url.startswith("data:")] == [page.as_uri()]
    assert window.messages() == []


def test_the_page_follows_the_wish_for_dark_or_light(page: Path, window: Browser) -> None:
    for scheme, order in (("light", 1), ("dark", -1)):
        window.see_as(1280, 800, scheme)
        window.open(page.as_uri())
        paper, ink = _luminance(window, "body", "backgroundColor"), _luminance(window, "body", "color")
        assert order * (paper - ink) > 0.5, scheme
        axis = _luminance(window, "svg.chart text", "fill")
        assert _contrast(axis, _luminance(window, "figure", "backgroundColor")) >= 4.5, scheme


def test_paper_is_light_whole_and_not_wider_than_itself(page: Path, window: Browser) -> None:
    window.see_as(718, 1000, "dark", "print")  # A4 without its margins
    window.open(page.as_uri())
    assert _luminance(window, "body", "backgroundColor") > 0.8
    assert window.ask("return getComputedStyle(document.querySelector('nav')).display") == "none"
    assert window.ask("return document.documentElement.scrollWidth") <= 718
    assert window.ask("return getComputedStyle(document.querySelector('.mark.failed')).printColorAdjust") == "exact"


def test_sections_can_be_reached_with_the_keyboard_alone(page: Path, window: Browser) -> None:
    window.see_as(1280, 800)
    window.open(page.as_uri())
    targets = window.ask("return [...document.querySelectorAll('nav a')].map(a => a.hash)")
    assert {"#top", "#models", "#rows", "#why", "#gates", "#scores", "#training", "#recipe"} <= set(targets)
    hidden = "return arguments[0].filter(h => !document.querySelector(h))"
    assert window.ask(hidden, targets) == []
    scrolled = "return [...document.querySelectorAll('.scroll, pre.file')].filter(e => e.tabIndex < 0).length"
    assert window.ask(scrolled) == 0


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_and_marks_stand_out_from_what_is_behind_them(scheme: str) -> None:
    colours = _variables(scheme)
    pairs = [(ink, paper, 4.5) for ink in ("ink", "muted", "accent-ink") for paper in ("paper", "card")]
    pairs += [("ink", "accent-soft", 4.5), ("muted", "chaff-tint", 4.5), ("paper", "bad", 4.5)]
    pairs += [("accent", "card", 3), ("accent", "paper", 3), ("chaff", "card", 2.9), ("chaff", "paper", 2.8)]
    weak = [
        (one, other, round(_contrast(colours[one], colours[other]), 2))
        for one, other, least in pairs
        if _contrast(colours[one], colours[other]) < least
    ]
    assert weak == []


def _variables(scheme: str) -> dict[str, float]:
    style = (TEMPLATE / "style.css").read_text("utf-8")
    light, dark = style.split("@media screen and (prefers-color-scheme: dark)", 1)
    block = light if scheme == "light" else dark.split("}", 1)[0]
    found = re.findall(r"--([\w-]+): #([0-9a-f]{6});", block)
    return {name: _relative([int(value[n : n + 2], 16) for n in (0, 2, 4)]) for name, value in found}


def _luminance(window: Browser, selector: str, prop: str) -> float:
    script = "return getComputedStyle(document.querySelector(arguments[0]))[arguments[1]]"
    value: Any = window.ask(script, selector, prop)
    return _relative([float(part) for part in re.findall(r"[\d.]+", value)[:3]])


def _relative(rgb: list[float] | list[int]) -> float:
    """Relative luminance of sRGB in 0-255 (WCAG 2.2)."""
    linear = [c / 255 / 12.92 if c / 255 <= 0.04045 else ((c / 255 + 0.055) / 1.055) ** 2.4 for c in rgb]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def _contrast(one: float, other: float) -> float:
    low, high = sorted((one, other))
    return (high + 0.05) / (low + 0.05)
