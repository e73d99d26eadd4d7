"""The page: sections gathered from the run, put into the template.

The template is rendered with automatic escaping and strict names; a section that has nothing to say is left out. Equal
artifacts give an equal page, timings apart.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline_config.model_schema import Report
from tasks.report import text
from tasks.report.counts import funnel, stage_counts

if TYPE_CHECKING:
    from tasks.artifact import Artifact


def render(
    config: Report, upstream: "Mapping[str, Artifact]", places: Mapping[str, Any], samples: str, template: Path
) -> str:
    """The whole page as HTML.

    Args:
        upstream: the artifacts of the run, by stage.
        places: model and sources as `shown_places` tells them.
        samples: tokenised rows as HTML.
        template: the folder of `page.html` and `style.css`.
    """
    from markupsafe import Markup

    manifests = {name: artifact.manifest for name, artifact in upstream.items()}
    stages = stage_counts(manifests)
    environment = _environment(template)
    page: str = environment.get_template("page.html").render(
        title=text.shown(config.title, 120),
        style=Markup((template / "style.css").read_text("utf-8")),
        stages=stages,
        bands=funnel(stages),
        samples=Markup(samples),
    )
    return page


def _environment(template: Path) -> Any:
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    environment = Environment(
        loader=FileSystemLoader(template),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"number": text.number, "words": text.words}
    environment.globals |= {"share": text.share}
    return environment
