"""What a run leaves in Prefect's dashboard: a table for each stage that ran, and one lineage for the run.

Counts and rules only; the text of a row never goes into Prefect's database.
"""

from pathlib import Path
from typing import Any

from tasks.artifact import Artifact
from tasks.runs import RunRecord


def draw_stage(artifact: Artifact, reason: str) -> None:
    """A Markdown artifact for the stage whose task is running."""
    from prefect.artifacts import create_markdown_artifact

    create_markdown_artifact(
        markdown=stage_markdown(artifact.manifest, reason), key=f"winnow-{artifact.stage}", description=artifact.stage
    )


def draw_run(record: RunRecord, upstream: dict[str, Artifact], report: Path | None) -> None:
    """A Markdown artifact for the run: the lineage as a Mermaid graph, states, and where the report is."""
    from prefect.artifacts import create_markdown_artifact

    create_markdown_artifact(
        markdown=run_markdown(record, upstream, report), key="winnow-run", description=f"run {record.run_id}"
    )


def stage_markdown(manifest: dict[str, Any], reason: str) -> str:
    """Rows in and out, rules, metrics of one stage."""
    rows = manifest["rows"]
    lines = [f"## {manifest['stage']}", "", reason, "", "| rows | |", "|---|---:|"]
    lines += [f"| in | {rows['in']:,} |", f"| out | {rows['out']:,} |"]
    for kind in ("removed", "changed", "added", "quarantined"):
        lines += [f"| {kind}: {rule} | {n:,} |" for rule, n in sorted(rows[kind].items())]
    if manifest["metrics"]:
        lines += ["", "| metric | value |", "|---|---:|"]
        lines += [f"| {name} | {value:,.4g} |" for name, value in sorted(manifest["metrics"].items())]
    lines += ["", f"{manifest['seconds']:.1f} s, {manifest['peak_rss_mb']:,.0f} MB, key `{manifest['key'][:12]}`"]
    return "\n".join(lines)


def run_markdown(record: RunRecord, upstream: dict[str, Artifact], report: Path | None) -> str:
    """The lineage of a run: an arrow from each artifact to the ones made from it."""
    lines = [f"# run {record.run_id}", "", "```mermaid", "flowchart TD"]
    for name, artifact in upstream.items():
        rows = artifact.manifest["rows"]
        count = f"<br/>{rows['out']:,} rows" if rows["out"] else ""
        lines.append(f'  {name}["{name}{count}<br/>{record.stage(name).state}"]')
        parents = dict.fromkeys(parent["stage"] for parent in artifact.manifest["parents"])
        lines += [f"  {parent} --> {name}" for parent in parents if name != "report"]
    if "report" in upstream and len(upstream) > 1:
        lines.append(f"  {list(upstream)[-2]} --> report")
    lines += ["```", "", "| stage | state | seconds | why |", "|---|---|---:|---|"]
    for stage in record.stages:
        seconds = "" if stage.seconds is None else f"{stage.seconds:.1f}"
        lines.append(f"| {stage.name} | {stage.state} | {seconds} | {stage.reason.replace('|', '/')} |")
    if report is not None:
        lines += ["", f"Report: `{report}`"]
    return "\n".join(lines)
