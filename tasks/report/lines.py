"""Charts with one line for each name: shares before and after, values and differences with intervals, bars."""

from collections.abc import Mapping, Sequence
from typing import Any

from tasks.report.drawing import ACCENT, CHAFF, INK, LINE, MUTED, NARROW, WIDTH, Chart, colours, drawn, names_axis


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
    order = [group for group, _, _ in groups]
    y = alt.Y("group:N", sort=order, title=None, axis=names_axis(order))
    axis = alt.Axis(format="~%", tickCount=4)
    bars = alt.Chart(alt.InlineData(values=lines)).mark_rule(strokeWidth=2, stroke=LINE)
    dots = alt.Chart(alt.InlineData(values=ends)).mark_point(filled=True, size=70, opacity=1)
    layered = alt.layer(
        bars.encode(x=alt.X("before:Q", title="share of rows", axis=axis), x2="after:Q", y=y),
        dots.encode(x="share:Q", y=y, color=colours("when", ["read", "trained on"], [CHAFF, ACCENT])),
    )
    return drawn(name, title, note, layered.properties(width=WIDTH, height=70 + 20 * len(groups)))


def intervals(name: str, title: str, note: str, lines: Sequence[Mapping[str, Any]], digits: int, about: str) -> Chart:
    """A point and its interval for each line, the base's value as a dashed rule.

    Args:
        lines: `model`, `value`, `low`, `high` (None: no interval), in the order they are drawn.
        digits: decimals of the values.
        about: the title for those who hear it, without the headings around.
    """
    import altair as alt

    lines = [{**line, "kind": "base" if line["model"] == "base" else "ours"} for line in lines]
    base = [{"at": line["value"]} for line in lines if line["kind"] == "base"]
    colour = alt.Color("kind:N", legend=None, scale=alt.Scale(domain=["base", "ours"], range=[MUTED, ACCENT]))
    x = alt.X("low:Q", title=None, scale=alt.Scale(zero=False), axis=alt.Axis(tickCount=4))
    layered = _with_intervals(lines, base, x, colour, f".{digits}f")
    return drawn(name, title, note, layered, about)


def differences(name: str, title: str, note: str, lines: Sequence[Mapping[str, Any]], digits: int, about: str) -> Chart:
    """A difference and its interval for each line, zero as a dashed rule.

    Args:
        lines: `model`, `value`, `low`, `high` (None: no interval), `verdict` (better, worse or unclear).
        digits: decimals of the values.
        about: the title for those who hear it, without the headings around.
    """
    import altair as alt

    verdicts = alt.Scale(domain=["better", "worse", "unclear"], range=[ACCENT, INK, MUTED])
    colour = alt.Color("verdict:N", legend=None, scale=verdicts)
    x = alt.X("low:Q", title=None, axis=alt.Axis(tickCount=4, format="+"))
    layered = _with_intervals(lines, [{"at": 0}], x, colour, f"+.{digits}f")
    return drawn(name, title, note, layered, about)


def _with_intervals(
    lines: Sequence[Mapping[str, Any]], rules: Sequence[Mapping[str, float]], x: Any, colour: Any, form: str
) -> Any:
    """Dashed rules (`at`), and on each line an interval, its point and the value as text, by `form`."""
    import altair as alt

    order = [str(line["model"]) for line in lines]
    ends = [{end: line["value"] if line[end] is None else line[end] for end in ("low", "high")} for line in lines]
    values = [{**line, **own} for line, own in zip(lines, ends, strict=True)]
    y = alt.Y("model:N", sort=order, title=None, axis=names_axis(order))
    base = alt.Chart(alt.InlineData(values=values))
    layered = alt.layer(
        alt.Chart(alt.InlineData(values=list(rules))).mark_rule(stroke=MUTED, strokeDash=[3, 3]).encode(x="at:Q"),
        base.mark_rule(strokeWidth=3, opacity=0.55, strokeCap="round").encode(x=x, x2="high:Q", y=y, color=colour),
        base.mark_point(filled=True, size=80, opacity=1).encode(x="value:Q", y=y, color=colour),
        base.mark_text(dy=-11, fontSize=11).encode(
            x="value:Q", y=y, color=alt.value(INK), text=alt.Text("value:Q", format=form)
        ),
    )
    return layered.properties(width=NARROW, height=44 + 36 * len(lines))


def bars(name: str, title: str, note: str, lines: Sequence[tuple[str, float, str]]) -> Chart:
    """A bar for each line, its value as text at its end.

    Args:
        lines: name, value, value as text, in the order they are drawn.
    """
    import altair as alt

    order = [line[0] for line in lines]
    values = [{"name": line, "value": value, "said": said} for line, value, said in lines]
    highest = max((value for _, value, _ in lines), default=0.0) or 1.0
    room = 1 + 7 * max((len(said) for _, _, said in lines), default=0) / 200  # of the longest bar, for its text
    y = alt.Y("name:N", sort=order, title=None, axis=names_axis(order))
    scale = alt.Scale(domain=[0, highest * room], nice=False)
    base = alt.Chart(alt.InlineData(values=values)).encode(x=alt.X("value:Q", title=None, axis=None, scale=scale), y=y)
    layered = alt.layer(
        base.mark_bar(color=ACCENT, height={"band": 0.62}),
        base.mark_text(align="left", dx=5, color=INK).encode(text="said:N"),
    )
    return drawn(name, title, note, layered.properties(width=WIDTH, height=16 + 22 * len(lines)))
