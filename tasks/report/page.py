"""The page: sections gathered from the run, put into the template.

The template is rendered with automatic escaping and strict names; a section that has nothing to say is left out. Equal
artifacts give an equal page, timings apart.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline_config.model_schema import Report
from tasks.key import row_artifact
from tasks.report import models, recipe, spread, story, text, training
from tasks.report.costs import cost_charts
from tasks.report.counts import funnel, stage_counts
from tasks.report.examples import stage_examples
from tasks.report.next_steps import next_steps
from tasks.report.templates import environment

if TYPE_CHECKING:
    from tasks.artifact import Artifact

ANSWERS = 3  # questions shown of a test set


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
    page: str = (
        environment(template)
        .get_template("page.html")
        .render(
            **_overview(config, upstream, places, samples, template),
            **_evaluation(upstream, config),
            **_data(upstream, config),
        )
    )
    return page


def _overview(
    config: Report, upstream: "Mapping[str, Artifact]", places: Mapping[str, Any], samples: str, template: Path
) -> dict[str, Any]:
    from markupsafe import Markup

    manifests = {name: artifact.manifest for name, artifact in upstream.items()}
    facts = {name: manifest["facts"] for name, manifest in manifests.items()}
    stages = stage_counts(manifests)
    title = text.shown(config.title, 120)
    return {
        "title": title,
        "style": Markup((template / "style.css").read_text("utf-8")),
        "stages": stages,
        "bands": funnel(stages),
        "figures": story.key_figures(stages, facts),
        "rows_sentence": story.rows_sentence(stages, facts),
        "losses_sentence": story.losses_sentence(stages),
        "cost_charts": cost_charts(stages),
        "unbalanced": [stage.name for stage in stages if not stage.balanced],
        "samples": Markup(samples),
        "created": max((str(manifest.get("created", "")) for manifest in manifests.values()), default=""),
        "recipe": recipe.configuration(manifests, places, title),
        "seeds": recipe.seeds(manifests),
        "identities": recipe.identities(manifests),
        "versions": recipe.versions(manifests),
        "inputs": recipe.inputs(manifests),
    }


def _evaluation(upstream: "Mapping[str, Artifact]", config: Report) -> dict[str, Any]:
    manifests = {name: artifact.manifest for name, artifact in upstream.items()}
    facts = {name: manifest["facts"] for name, manifest in manifests.items()}
    lines = models.lines_of(upstream)
    rows = row_artifact("evaluate", dict(upstream))
    findings = models.findings(lines)
    losses = training.losses(upstream)
    validation = {model.model: model.validation for model in losses}
    return {
        "model_lines": models.table(lines),
        "findings": findings,
        "measured_on": models.measured_on(upstream),
        "models_sentences": story.models_sentences(findings, list(upstream)),
        "difference_charts": models.difference_charts(findings),
        "metric_charts": models.metric_charts(lines),
        "questions": models.sample_answers(upstream, rows, min(config.examples, ANSWERS)),
        "loss_charts": training.loss_charts(losses),
        "diagnoses": training.diagnoses(upstream),
        "training_facts": training.training_facts(upstream),
        "next_steps": next_steps(stage_counts(manifests), facts, findings, validation),
    }


def _data(upstream: "Mapping[str, Artifact]", config: Report) -> dict[str, Any]:
    return {
        "examples": stage_examples(upstream, config.examples),
        "score_charts": spread.score_charts(upstream),
        "length_charts": spread.length_charts(upstream),
        "mixture_charts": spread.mixture_charts(upstream),
    }
