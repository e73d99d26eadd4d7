"""Report: one self-contained HTML page about a run, from the manifests, ledgers and rows of every stage above.

The page loads nothing and runs no script. What is shown passes through `text.shown`, which masks personal data.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from pipeline_config.model_schema import Report
from pipeline_config.schema import Config
from tasks.kernels.digests import json_digest, sha256_file
from tasks.report.places import shown_places
from tasks.stage import StageInput, stage

if TYPE_CHECKING:
    from tasks.artifact import Artifact
    from tasks.ledger import Output

TEMPLATE = Path(__file__).parent / "template"
OF_A_RUN = "run.html"  # what a run adds; no part of the artifact


def references(config: Report, run: Config, data_dir: Path) -> dict[str, str]:
    """What the page shows beyond the artifacts: its template and style, and where data and model come from."""
    files = sorted(path for path in TEMPLATE.iterdir() if path.suffix in (".html", ".css") and path.name != OF_A_RUN)
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

    data = _page(given.config, given.upstream, given.run, given.data_dir).encode("utf-8")
    (given.out / "report.html").write_bytes(data)
    return Output(metrics={"size_kb": round(len(data) / 1024, 1)})


def page_of(run: Config, upstream: "Mapping[str, Artifact]", data_dir: Path) -> str:
    """The page of a run that stopped before its report stage, from the artifacts that it made."""
    return _page(run.report or Report(), upstream, run, data_dir)


def _page(config: Report, upstream: "Mapping[str, Artifact]", run: Config, data_dir: Path) -> str:
    from tasks.report.page import render
    from tasks.report.tokens import token_samples

    return render(config, upstream, shown_places(run), token_samples(upstream, run, data_dir), TEMPLATE)
