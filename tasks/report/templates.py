"""The template engine of the page: automatic escaping, strict names, and the few filters that the templates use."""

from pathlib import Path
from typing import Any

from tasks.report import story, text
from tasks.report.counts import total


def environment(template: Path) -> Any:
    """An environment for the templates in a folder."""
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    made = Environment(
        loader=FileSystemLoader(template),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    made.filters |= {"number": text.number, "total": total, "width": lambda value: f"{value:.2f}"}
    made.tests |= {"codelike": text.codelike}
    made.globals |= {
        "share": text.share,
        "sentence": story.finding_sentence,
        "metrics": story.METRICS,
        "duration": story.duration,
    }
    return made
