"""Great Expectations' Data Docs: a page for each verdict, rendered by its own renderers, and an index of all of them.

The pages as Great Expectations makes them load scripts, styles and a logo from seven hosts, the logo with a time stamp,
and their index is empty without those scripts. Here everything that is not in the page itself is taken out, a content
security policy forbids the rest, and the index is a plain table: the site works without a network and tells nobody that
it was opened. It holds counts, names of rules and ids of rows; no text of a row.
"""

import contextlib
import html
import json
import os
import re
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

from tasks.gates.verdict import Check

FOLDER = "docs"
_MOST = 200  # verdicts in the index; older ones keep their page

_POLICY = (
    '<meta http-equiv="Content-Security-Policy" '
    "content=\"default-src 'none'; style-src 'unsafe-inline'; img-src data:\">"
)
_STYLE = """<style>
:root { color-scheme: light dark; }
body { font: 15px/1.5 system-ui, sans-serif; margin: 0 auto; max-width: 75rem; padding: 1rem; }
table { border-collapse: collapse; width: 100%; margin: .3rem 0 1rem; }
th, td { text-align: left; padding: .35rem .6rem; border-bottom: 1px solid #8885; vertical-align: top; }
a { color: #2a6fdb; } h1 { font-size: 1.4rem; }
.alert, .card-header { background: #8882; padding: .5rem .8rem; border-radius: .3rem; margin: .8rem 0 .3rem; }
.badge { background: #8883; border-radius: .3rem; padding: 0 .35rem; }
h4, h5, h6 { font-size: 1rem; margin: 0; } .table-responsive { overflow-x: auto; } .collapse { display: none; }
.failed, .text-danger { color: #c62828; } .passed, .text-success { color: #2e7d32; }
.fa-times::before { content: "✗"; } .fa-check-circle::before { content: "✓"; }
.fa-exclamation-triangle::before { content: "!"; } i.fas { font-style: normal; font-weight: bold; }
.navbar, .col-lg-2, .cooltip > .top { display: none; }
.list-unstyled, ul.nav { list-style: none; padding: 0; }
</style>"""
_OUTSIDE = (
    re.compile(r"<script\b.*?</script\s*>", re.DOTALL | re.IGNORECASE),
    re.compile(r"<link\b[^>]*>", re.IGNORECASE),
    re.compile(r"<img\b[^>]*>", re.IGNORECASE),
    re.compile(r"<footer\b.*?</footer\s*>", re.DOTALL | re.IGNORECASE),
    re.compile(r"<title></title>"),
    re.compile(r"@font-face\s*\{[^}]*\}"),
    re.compile(r"\son\w+=\"[^\"]*\""),
)
_LINK = re.compile(r"<a\b[^>]*>(.*?)</a>", re.DOTALL | re.IGNORECASE)


def data_docs_index(data_dir: Path) -> Path | None:
    """The front page of the Data Docs below a data folder; None if no gate was judged yet."""
    path = data_dir / "gates" / FOLDER / "index.html"
    return path if path.is_file() else None


def data_docs_page(data_dir: Path, digest: str) -> Path | None:
    """The page of one verdict; None if it was not kept."""
    path = data_dir / "gates" / FOLDER / "validations" / f"{digest}.html"
    return path if path.is_file() else None


def write_page(stage: str, result: Any, checks: Sequence[Check], digest: str, gates: Path) -> str | None:
    """Render a validation result, what failed and what to do about it first.

    Args:
        result: Great Expectations' validation result.
        gates: `data/gates`.

    Returns:
        the page's path below the folder of the site; None if it can't be written, which stops no run.
    """
    from great_expectations.render.renderer import ValidationResultsPageRenderer

    for one in result.results:
        if "observed_value" in one.result:  # NumPy's floats print as np.float64(…), which the renderer can't read
            one.result["observed_value"] = float(one.result["observed_value"])
    document = ValidationResultsPageRenderer().render(result)
    page = _view().render(document, show_how_to_buttons=False)
    name = f"validations/{digest}.html"
    return name if _replace(gates / FOLDER / name, self_contained(page, stage, checks)) else None


@cache
def _view() -> Any:
    """Their page template, compiled once a process."""
    from great_expectations.render.view import DefaultJinjaPageView

    return DefaultJinjaPageView()


def self_contained(page: str, stage: str, checks: Sequence[Check]) -> str:
    """A page with nothing from elsewhere: no script, no font, no picture; links to pages that are not made are text."""
    for pattern in _OUTSIDE:
        page = pattern.sub("", page)
    page = _LINK.sub(r"\1", page)
    title = f"<title>Gate after {html.escape(stage)}</title>"
    page = re.sub(r"<title>.*?</title>", lambda _: _POLICY + title, page, count=1, flags=re.DOTALL)
    page = page.replace("</head>", _STYLE + "</head>", 1)
    heading = f'<p><a href="../index.html">All gates</a></p><h1>Gate after {html.escape(stage)}</h1>'
    failed = [f"<li>{html.escape(check.words())}<br>{html.escape(check.cure)}</li>" for check in checks]
    heading += f'<ul class="failed">{"".join(failed)}</ul>' if failed else ""
    page = page.replace("Show more info...", "")
    return page.replace("<body>", "<body>" + heading, 1)


def write_index(gates: Path) -> None:
    """The front page: every verdict that has a page, the newest first."""
    verdicts = sorted(_verdicts(gates), key=lambda each: (each["judged"], each["stage"]), reverse=True)[:_MOST]
    lines = [_line(verdict) for verdict in verdicts]
    page = (
        f'<!DOCTYPE html><html lang="en"><head><meta charset="utf-8">{_POLICY}<title>Winnow: data docs</title>'
        f'<meta name="viewport" content="width=device-width, initial-scale=1">{_STYLE}</head><body>'
        "<h1>Data docs: the gates of all runs</h1>"
        "<table><thead><tr><th>Gate</th><th>Stage</th><th>Judged</th><th>Expectations</th><th>Failed</th></tr></thead>"
        f"<tbody>{''.join(lines)}</tbody></table></body></html>"
    )
    _replace(gates / FOLDER / "index.html", page)


def _line(verdict: dict[str, Any]) -> str:
    failed = [check["expectation"] for check in verdict["checks"] if not check["passed"]]
    state = "failed" if not verdict["passed"] else "warned" if failed else "passed"
    sign = {"failed": "✗", "warned": "!", "passed": "✓"}[state]
    cells = (
        f'<a class="{state}" href="{html.escape(verdict["page"])}">{sign} {state}</a>',
        html.escape(verdict["stage"]),
        html.escape(verdict["judged"].replace("T", " ").replace("+00:00", " UTC")),
        str(len(verdict["checks"])),
        html.escape("; ".join(failed)),
    )
    return "<tr>" + "".join(f"<td>{cell}</td>" for cell in cells) + "</tr>"


def _verdicts(gates: Path) -> list[dict[str, Any]]:
    stamped = []
    for path in gates.glob("*.json"):
        with contextlib.suppress(OSError):  # collected meanwhile
            stamped.append((path.stat().st_mtime_ns, path))
    found = []
    for _, path in sorted(stamped, reverse=True)[:_MOST]:
        try:
            verdict = json.loads(path.read_text("utf-8"))
            if verdict.get("page") and verdict["judged"] and verdict["stage"]:
                found.append(verdict)
        except (OSError, ValueError, KeyError, AttributeError):
            continue
    return found


def _replace(path: Path, text: str) -> bool:
    """Replace a file in one step; False where nothing can be written."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary.write_text(text, encoding="utf-8")
        temporary.replace(path)
    except OSError:
        return False
    return True
