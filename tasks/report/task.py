"""Report: one self-contained HTML page about a run, from the manifests, ledgers and rows of every stage above.

The page loads nothing and runs no script. What is shown passes through `text.shown`, which masks personal data.
"""

from pathlib import Path
from typing import TYPE_CHECKING

from pipeline_config.model_schema import Report
from pipeline_config.schema import Config
from tasks.kernels.digests import json_digest, sha256_file
from tasks.report.places import shown_places
from tasks.stage import StageInput, stage

if TYPE_CHECKING:
    from tasks.ledger import Output

TEMPLATE = Path(__file__).parent / "template"


def references(config: Report, run: Config, data_dir: Path) -> dict[str, str]:
    """What the page shows beyond the artifacts: its template and style, and where data and model come from."""
    files = sorted(path for path in TEMPLATE.iterdir() if path.suffix in (".html", ".css"))
    return {
        "template": json_digest([[path.name, sha256_file(path)] for path in files]),
        "places": json_digest(shown_places(run)),
    }


@stage(
    "report",
    libraries=("altair", "jinja2", "vl-convert-python", "numpy", "pyyaml", "transformers"),
    references=references,
)
def report(given: StageInput[Report]) -> "Output":
    """One page."""
    from tasks.ledger import Output
    from tasks.report.page import render
    from tasks.report.tokens import token_samples

    page = render(
        given.config,
        given.upstream,
        shown_places(given.run),
        token_samples(given.upstream, given.run, given.data_dir),
        TEMPLATE,
    )
    data = page.encode("utf-8")
    (given.out / "report.html").write_bytes(data)
    return Output(metrics={"size_kb": round(len(data) / 1024, 1)})
