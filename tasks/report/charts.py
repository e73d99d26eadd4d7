"""Distributions and curves: counts by value with thresholds drawn in, and values over steps."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from tasks.report.drawing import ACCENT, CHAFF, INK, WIDTH, Chart, colours, drawn, reach

_BEFORE = ("removed", "read")  # series in grey: what is no longer there
_LEVEL = 13  # px of a line of labels
_NEAR = 0.16  # of the axis; labels closer than this stand above each other


@dataclass(frozen=True)
class Bins:
    """A histogram: n + 1 edges, and for each series n counts."""

    edges: list[float]
    counts: Mapping[str, list[int]]
    log: bool = False


def histogram(
    name: str, title: str, note: str, bins: Bins, x_title: str, thresholds: Mapping[str, float], y_log: bool = False
) -> Chart:
    """Counts by value, one layer a series, what is gone in grey; thresholds drawn in, their labels above.

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
            color=colours("series", series, [CHAFF if each in _BEFORE else ACCENT for each in series]),
        )
    )
    layers = [bars]
    levels = levels_of(bins, thresholds)
    if thresholds:
        lines = [{"at": at, "label": label} for label, at in thresholds.items()]
        rules = alt.Chart(alt.InlineData(values=lines)).mark_rule(stroke=INK, strokeWidth=1.5, strokeDash=[4, 3])
        layers.append(rules.encode(x=alt.X("at:Q", scale=x_scale)))
    for line, level in zip(thresholds.items(), levels, strict=True):
        right = _part(bins, line[1]) < 0.5
        text = alt.Chart(alt.InlineData(values=[{"label": line[0], "at": line[1]}])).mark_text(
            align="left" if right else "right", dx=-3 if right else 3, baseline="bottom", color=INK
        )
        layers.append(text.encode(x=alt.X("at:Q", scale=x_scale), y=alt.value(-3 - _LEVEL * level), text="label:N"))
    above = _LEVEL * (max(levels) + 1) if levels else 0
    return drawn(name, title, note, alt.layer(*layers).properties(width=WIDTH, height=190), above=above)


def curves(
    name: str, title: str, note: str, series: Mapping[str, Sequence[tuple[float, float]]], y_title: str
) -> Chart:
    """Values over steps: the first series as a thin line, the others with points; of a single point the value too."""
    import altair as alt

    names = list(series)
    steps = [step for points in series.values() for step, _ in points]
    middle = (min(steps) + max(steps)) / 2
    lone = any(len(points) == 1 for points in series.values())
    axis = alt.Axis(tickCount=5, minExtent=reach(["0.00"]))
    scale = alt.Scale(zero=False, padding=16) if lone else alt.Scale(zero=False)  # px: room for its label
    x = alt.X("step:Q", title="step", axis=alt.Axis(tickCount=6, tickMinStep=1, format="d"))
    y = alt.Y("value:Q", title=y_title, scale=scale, axis=axis)
    layers = []
    for place, (each, points) in enumerate(series.items()):
        values = [{"step": step, "value": value, "series": each} for step, value in points]
        marks = alt.Chart(alt.InlineData(values=values)).mark_line(
            strokeWidth=1.5 if place == 0 else 2.5,
            point=False if place == 0 and len(points) > 1 else alt.OverlayMarkDef(filled=True, size=45),
        )
        colour = colours("series", names, [CHAFF, ACCENT, INK])
        layers.append(marks.encode(x=x, y=y, color=colour))
        if len(points) == 1:
            step, value = points[0]
            label = alt.Chart(alt.InlineData(values=[values[0] | {"said": f"{each} {value:.2f}"}])).mark_text(
                align="left" if step < middle else "right", dy=-12, fontWeight="bold", color=INK
            )
            layers.append(label.encode(x=x, y=y, text="said:N"))
    return drawn(name, title, note, alt.layer(*layers).properties(width=WIDTH, height=200))


def _count_axis(bins: Bins, log: bool) -> Any:
    """Whole numbers; on a logarithmic scale the powers of ten."""
    import altair as alt

    highest = max((count for counts in bins.counts.values() for count in counts), default=0)
    if not log:
        return alt.Axis(tickCount=4, tickMinStep=1, format=",d", minExtent=reach([f"{highest:,}"]))
    ticks = [0, *(10**n for n in range(12) if 10**n <= highest)]
    return alt.Axis(values=ticks, format=",d", minExtent=reach([f"{ticks[-1]:,}"]))


def _log_axis(bins: Bins) -> Any:
    import altair as alt

    low, high = bins.edges[0], bins.edges[-1]
    ticks = [2**n for n in range(24) if low <= 2**n <= high]
    step = -(-len(ticks) // 7) or 1
    return alt.Axis(values=ticks[::step], format=",d")


def _part(bins: Bins, at: float) -> float:
    """Where on the axis a value is, in [0, 1]."""
    low, high = bins.edges[0], bins.edges[-1]
    if bins.log:
        return math.log(max(at, low) / low) / math.log(high / low)
    return (at - low) / (high - low)


def levels_of(bins: Bins, thresholds: Mapping[str, float]) -> list[int]:
    """Lines above the plot on which the labels stand, so that none covers another."""
    parts = [_part(bins, at) for at in thresholds.values()]
    levels: list[int] = []
    for n, part in enumerate(parts):
        taken = {levels[m] for m in range(n) if abs(parts[m] - part) < _NEAR}
        levels.append(next(level for level in range(n + 1) if level not in taken))
    return levels
