"""Charts as inline SVG: drawn by Vega-Lite (through altair and vl-convert, offline), coloured by the page.

Colours are the page's CSS variables, so that one chart serves light and dark. Every chart is as wide as a phone; on
wide screens they stand side by side instead of growing. `svg` gives each its own ids, a title and a description.
"""

import html
import io
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from unicodedata import east_asian_width

WIDTH = 360  # px, axes included
NARROW = 270
ACCENT, SOFT, CHAFF = "var(--accent)", "var(--accent-soft)", "var(--chaff)"
INK, MUTED, LINE = "var(--ink)", "var(--muted)", "var(--line)"

_ID = re.compile(r'\b(id="|url\(#|xlink:href="#|href="#)')
_SIZE = re.compile(r'^<svg[^>]*? width="([\d.]+)" height="([\d.]+)" viewBox="([^"]*)"[^>]*>')
_EMPTY = re.compile(r'<path class="(?:background|foreground)" aria-hidden="true" d="[^"]*"[^>]*/>')


@dataclass(frozen=True)
class Chart:
    """A drawn chart.

    Attributes:
        title: what is shown, in a few words.
        note: how to read it; may be empty.
        svg: safe markup.
    """

    title: str
    note: str
    svg: Any


@dataclass(frozen=True)
class Bins:
    """A histogram: n + 1 edges, and for each series n counts."""

    edges: list[float]
    counts: Mapping[str, list[int]]
    log: bool = False


def histogram(
    name: str, title: str, note: str, bins: Bins, x_title: str, thresholds: Mapping[str, float], y_log: bool = False
) -> Chart:
    """Counts by value, one layer a series, what was removed in grey; thresholds drawn in.

    Args:
        thresholds: label → value.
        y_log: counts on a symmetric logarithmic scale.
    """
    import altair as alt

    series = list(bins.counts)
    values = [
        {"low": bins.edges[n], "high": bins.edges[n + 1], "rows": count, "none": 0, "series": each}
        for each, counts in bins.counts.items()
        for n, count in enumerate(counts)
        if count
    ]
    x_scale = alt.Scale(
        type="log" if bins.log else "linear", domain=[bins.edges[0], bins.edges[-1]], nice=False, zero=False
    )
    y_scale = alt.Scale(type="symlog" if y_log else "linear")
    bars = (
        alt.Chart(alt.InlineData(values=values))
        .mark_bar(opacity=0.85, binSpacing=1)
        .encode(
            x=alt.X("low:Q", scale=x_scale, title=x_title, axis=_log_axis(bins) if bins.log else alt.Axis(tickCount=6)),
            x2="high:Q",
            y=alt.Y(
                "rows:Q",
                stack=None,
                scale=y_scale,
                title="rows, logarithmic" if y_log else "rows",
                axis=_count_axis(bins, y_log),
            ),
            y2="none:Q",
            color=_colours(series, [CHAFF if each == "removed" else ACCENT for each in series]),
        )
    )
    layers = [bars]
    if thresholds:
        marks = alt.InlineData(values=[{"at": at, "label": label} for label, at in thresholds.items()])
        base = alt.Chart(marks).encode(x=alt.X("at:Q", scale=x_scale))
        middle = _middle(bins)
        layers.append(base.mark_rule(stroke=INK, strokeWidth=1.5, strokeDash=[4, 3]))
        for right in (False, True):
            side = f"datum.at {'<' if right else '>='} {middle}"
            text = base.transform_filter(side).mark_text(align="left" if right else "right", dx=5 if right else -5)
            layers.append(text.encode(y=alt.value(6), text="label:N", color=alt.value(INK)))
    return _drawn(name, title, note, alt.layer(*layers).properties(width=WIDTH, height=190))


def shift(name: str, title: str, note: str, groups: Sequence[tuple[str, float, float]]) -> Chart:
    """Shares before (open) and after (filled) of each group, joined by a line.

    Args:
        groups: label, share before, share after, in the order they are drawn; shares in [0, 1].
    """
    import altair as alt

    lines = [{"group": group, "before": before, "after": after} for group, before, after in groups]
    ends = [
        {"group": group, "share": value, "when": when}
        for group, before, after in groups
        for when, value in (("read", before), ("trained on", after))
    ]
    y = alt.Y(
        "group:N", sort=[group for group, _, _ in groups], title=None, axis=_names([group for group, _, _ in groups])
    )
    axis = alt.Axis(format="~%", tickCount=4)
    bars = alt.Chart(alt.InlineData(values=lines)).mark_rule(strokeWidth=2, stroke=LINE)
    dots = alt.Chart(alt.InlineData(values=ends)).mark_point(filled=True, size=70, opacity=1)
    layered = alt.layer(
        bars.encode(x=alt.X("before:Q", title="share of rows", axis=axis), x2="after:Q", y=y),
        dots.encode(x="share:Q", y=y, color=_colours(["read", "trained on"], [CHAFF, ACCENT])),
    )
    return _drawn(name, title, note, layered.properties(width=WIDTH, height=70 + 20 * len(groups)))


def curves(
    name: str, title: str, note: str, series: Mapping[str, Sequence[tuple[float, float]]], y_title: str
) -> Chart:
    """Values over steps: the first series as a thin line, the others with points."""
    import altair as alt

    names = list(series)
    y = alt.Y("value:Q", title=y_title, scale=alt.Scale(zero=False), axis=alt.Axis(tickCount=5))
    layers = []
    for place, (each, points) in enumerate(series.items()):
        values = [{"step": step, "value": value, "series": each} for step, value in points]
        marks = alt.Chart(alt.InlineData(values=values)).mark_line(
            strokeWidth=1.5 if place == 0 else 2.5,
            point=False if place == 0 and len(points) > 1 else alt.OverlayMarkDef(filled=True, size=45),
        )
        colour = _colours(names, [CHAFF, ACCENT, INK])
        layers.append(
            marks.encode(
                x=alt.X("step:Q", title="step", axis=alt.Axis(tickCount=6, tickMinStep=1, format="d")),
                y=y,
                color=colour,
            )
        )
    return _drawn(name, title, note, alt.layer(*layers).properties(width=WIDTH, height=200))


def intervals(name: str, title: str, note: str, lines: Sequence[Mapping[str, Any]], digits: int, about: str) -> Chart:
    """A point and its interval for each line, the base's value as a dashed rule.

    Args:
        lines: `model`, `value`, `low`, `high` (None: no interval), in the order they are drawn.
        digits: decimals of the values.
        about: the title for those who hear it, without the headings around.
    """
    import altair as alt

    order = [str(line["model"]) for line in lines]
    values = [
        {**line, "low": line["value"] if line["low"] is None else line["low"],
         "high": line["value"] if line["high"] is None else line["high"],
         "kind": "base" if line["model"] == "base" else "ours"}
        for line in lines
    ]  # fmt: skip
    y = alt.Y("model:N", sort=order, title=None, axis=_names(order))
    colour = alt.Color("kind:N", legend=None, scale=alt.Scale(domain=["base", "ours"], range=[MUTED, ACCENT]))
    base = alt.Chart(alt.InlineData(values=values))
    x = alt.X("low:Q", title=None, scale=alt.Scale(zero=False), axis=alt.Axis(tickCount=4))
    reference = base.transform_filter("datum.kind == 'base'").mark_rule(stroke=MUTED, strokeDash=[3, 3])
    layered = alt.layer(
        reference.encode(x="value:Q"),
        base.mark_rule(strokeWidth=3, opacity=0.55, strokeCap="round").encode(x=x, x2="high:Q", y=y, color=colour),
        base.mark_point(filled=True, size=80, opacity=1).encode(x="value:Q", y=y, color=colour),
        base.mark_text(dy=-11, fontSize=11).encode(
            x="value:Q", y=y, color=alt.value(INK), text=alt.Text("value:Q", format=f".{digits}f")
        ),
    )
    return _drawn(name, title, note, layered.properties(width=NARROW, height=44 + 36 * len(lines)), about)


def _drawn(name: str, title: str, note: str, chart: Any, about: str = "") -> Chart:
    styled = (
        chart.properties(padding=2, autosize={"type": "fit", "contains": "padding"})
        .configure(aria=False, background="transparent", font="sans-serif")
        .configure_view(stroke=None)
        .configure_axis(
            labelColor=MUTED, titleColor=MUTED, gridColor=LINE, domain=False, ticks=False,
            labelFontSize=11, titleFontSize=11, titleFontWeight="normal", labelPadding=6,
            labelOverlap=True, labelSeparation=9,
        )
        .configure_text(fontSize=11)
        .configure_legend(
            orient="top", title=None, labelColor=INK, labelFontSize=12, symbolType="circle", symbolStrokeWidth=0,
            padding=0, offset=8,
        )
    )  # fmt: skip
    stream = io.StringIO()
    styled.save(stream, format="svg")
    return Chart(title, note, svg(stream.getvalue(), name, about or title, note))


def svg(drawn: str, name: str, title: str, note: str) -> Any:
    """Vega's SVG made fit for a page: its own ids, no fixed size, a title and a description for those who don't see it.

    Args:
        name: prefix of its ids; unique in the page.
    """
    from markupsafe import Markup

    found = _SIZE.match(drawn)
    assert found is not None
    about = f"<title>{html.escape(title)}</title>" + (f"<desc>{html.escape(note)}</desc>" if note else "")
    head = f'<svg class="chart" role="img" viewBox="{found[3]}" xmlns="http://www.w3.org/2000/svg">{about}'
    body = _EMPTY.sub("", drawn[found.end() :])
    return Markup(head + _ID.sub(rf"\g<1>{name}-", body))


def _colours(names: list[str], colours: list[str]) -> Any:
    import altair as alt

    legend = alt.Legend() if len(names) > 1 else None
    return alt.Color("series:N" if "read" not in names else "when:N", sort=None, legend=legend,
                     scale=alt.Scale(domain=names, range=colours[: len(names)]))  # fmt: skip


def _names(names: Sequence[str]) -> Any:
    """An axis of names, wide enough for them in a wide font, since the page's own font is not known here."""
    import altair as alt

    width = 8 + max((sum(13 if east_asian_width(c) in "WF" else 7 for c in name) for name in names), default=0)

    return alt.Axis(labelLimit=width, minExtent=width, maxExtent=width, grid=False, labelFontSize=11.5)


def _count_axis(bins: Bins, log: bool) -> Any:
    """Whole numbers; on a logarithmic scale the powers of ten."""
    import altair as alt

    highest = max((count for counts in bins.counts.values() for count in counts), default=0)
    if not log:
        return alt.Axis(tickCount=4, tickMinStep=1, format=",d")
    return alt.Axis(values=[0, *(10**n for n in range(12) if 10**n <= highest)], format=",d")


def _log_axis(bins: Bins) -> Any:
    import altair as alt

    low, high = bins.edges[0], bins.edges[-1]
    ticks = [2**n for n in range(24) if low <= 2**n <= high]
    step = -(-len(ticks) // 7) or 1
    return alt.Axis(values=ticks[::step], format="~s")


def _middle(bins: Bins) -> float:
    low, high = bins.edges[0], bins.edges[-1]
    return float((low * high) ** 0.5 if bins.log else (low + high) / 2)
