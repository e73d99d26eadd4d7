"""How every chart is drawn: by Vega-Lite (through altair and vl-convert, offline) as inline SVG, coloured by the page.

Colours are the page's CSS variables, so that one chart serves light and dark. Every chart is as wide as a phone; on
wide screens they stand side by side instead of growing. `svg` gives each its own ids, a title and a description.
"""

import html
import io
import re
from collections.abc import Sequence
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


def drawn(name: str, title: str, note: str, chart: Any, about: str = "", above: int = 0) -> Chart:
    """An altair chart, styled and drawn.

    Args:
        name: prefix of the ids in its markup; unique in the page.
        about: the title for those who hear it, without the headings around; by default the title.
        above: px kept free over the plot, for labels that stand there.
    """
    edges = {"top": 2 + above, "left": 2, "right": 12, "bottom": 2}  # right: half of the last label of an axis
    styled = (
        chart.properties(padding=edges, autosize={"type": "fit", "contains": "padding"})
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
            padding=0, offset=8 + above,
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


def colours(field: str, names: Sequence[str], values: Sequence[str]) -> Any:
    """A colour for each name of a field; a legend where there are two or more."""
    import altair as alt

    legend = alt.Legend() if len(names) > 1 else None
    scale = alt.Scale(domain=list(names), range=list(values)[: len(names)])
    return alt.Color(f"{field}:N", sort=None, legend=legend, scale=scale)


def names_axis(names: Sequence[str]) -> Any:
    """An axis of names, wide enough for them in a wide font, since the page's own font is not known here."""
    import altair as alt

    width = 8 + max((sum(13 if east_asian_width(c) in "WF" else 7 for c in name) for name in names), default=0)

    return alt.Axis(labelLimit=width, minExtent=width, maxExtent=width, grid=False, labelFontSize=11.5)


def reach(labels: Sequence[str]) -> int:
    """Width in px that labels of digits take at most in the page's fonts, 11 px high."""
    return 8 + round(6.8 * max((len(label) for label in labels), default=0))
