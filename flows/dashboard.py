"""What a run leaves in Prefect's dashboard: progress, a table and a page for each stage that ran, one lineage a run.

Counts, rules and ids only; the text of a row never goes into Prefect's database.
"""

import re
from pathlib import Path
from typing import Any

from tasks.artifact import Artifact
from tasks.gates.docs import data_docs_index
from tasks.kernels.diagnosis import told
from tasks.runs import RunRecord

_EXAMPLES = 3  # row ids of each rule
_LEDGERS = {"removed": "rule", "changed": "rule", "quarantined": "reason"}


class ProgressShown:
    """A watcher of loops (`tasks.kernels.progress`) that draws each as a progress artifact of the running task."""

    def __init__(self, stage: str) -> None:
        self._stage = stage
        self._drawn: dict[str, Any] = {}

    def __call__(self, label: str, done: int, total: int) -> None:
        """Create the artifact of a loop, or move it."""
        from prefect.artifacts import create_progress_artifact, update_progress_artifact

        percent = round(100 * done / total, 1)
        if label in self._drawn:
            update_progress_artifact(self._drawn[label], progress=percent)
            return
        key = re.sub(r"[^a-z0-9]+", "-", f"winnow-{self._stage}-progress-{label.lower()}").strip("-")
        self._drawn[label] = create_progress_artifact(progress=percent, key=key, description=label)


def draw_stage(artifact: Artifact, reason: str) -> None:
    """A table and a page for the stage whose task is running."""
    from prefect.artifacts import create_markdown_artifact, create_table_artifact

    name, manifest = artifact.stage, artifact.manifest
    create_table_artifact(
        table=stage_table(manifest, example_ids(artifact.path)),
        key=f"winnow-{name}-rows",
        description=f"rows in and out of {name}, by rule, with ids of examples",
    )
    create_markdown_artifact(markdown=stage_markdown(manifest, reason), key=f"winnow-{name}", description=name)


def draw_run(record: RunRecord, upstream: dict[str, Artifact], report: Path | None, data_dir: Path) -> None:
    """A page for the run: the lineage as a Mermaid graph, states, and where report and Data Docs are."""
    from prefect.artifacts import create_markdown_artifact

    create_markdown_artifact(
        markdown=run_markdown(record, upstream, report, data_docs_index(data_dir)),
        key="winnow-run",
        description=f"run {record.run_id}",
    )


def stage_table(manifest: dict[str, Any], examples: dict[tuple[str, str], list[str]]) -> list[dict[str, Any]]:
    """One line for the rows in and out, and for each rule what it did to how many rows, and to which for example."""
    rows = manifest["rows"]
    table: list[dict[str, Any]] = [{"what": "in", "rule": "", "rows": rows["in"], "examples": ""}]
    for kind in ("removed", "changed", "added", "quarantined"):
        for rule, count in sorted(rows[kind].items(), key=lambda each: (-each[1], each[0])):
            ids = ", ".join(examples.get((kind, rule), []))
            table.append({"what": kind, "rule": rule, "rows": count, "examples": ids})
    return [*table, {"what": "out", "rule": "", "rows": rows["out"], "examples": ""}]


def example_ids(folder: Path) -> dict[tuple[str, str], list[str]]:
    """(ledger, rule) → the first few row ids, of an artifact's ledgers; nothing but ids is read."""
    import polars as pl

    found: dict[tuple[str, str], list[str]] = {}
    for kind, column in _LEDGERS.items():
        path = folder / ("quarantine.parquet" if kind == "quarantined" else f"{kind}.parquet")
        if not path.exists():
            continue
        ledger = pl.scan_parquet(path, glob=False).select("row_id", pl.col(column).alias("rule"))
        heads = ledger.group_by("rule", maintain_order=True).agg(pl.col("row_id").drop_nulls().head(_EXAMPLES))
        found |= {(kind, rule): ids for rule, ids in heads.collect().iter_rows()}
    return found


def stage_markdown(manifest: dict[str, Any], reason: str) -> str:
    """Rows in and out, rules, metrics of one stage."""
    rows = manifest["rows"]
    lines = [f"## {manifest['stage']}", "", reason, "", "| rows | |", "|---|---:|"]
    lines += [f"| in | {rows['in']:,} |", f"| out | {rows['out']:,} |"]
    for kind in ("removed", "changed", "added", "quarantined"):
        lines += [f"| {kind}: {rule} | {n:,} |" for rule, n in sorted(rows[kind].items())]
    for model, verdict, seen, advice in told(manifest.get("facts", {})):
        lines += ["", f"**{f'{model}: ' if model else ''}{verdict}.** {seen} {advice}"]
    if manifest["metrics"]:
        lines += ["", "| metric | value |", "|---|---:|"]
        lines += [f"| {name} | {value:,.4g} |" for name, value in sorted(manifest["metrics"].items())]
    lines += ["", f"{manifest['seconds']:.1f} s, {manifest['peak_rss_mb']:,.0f} MB, key `{manifest['key'][:12]}`"]
    return "\n".join(lines)


def run_markdown(
    record: RunRecord, upstream: dict[str, Artifact], report: Path | None, docs: Path | None = None
) -> str:
    """The lineage of a run: an arrow from each artifact to the ones made from it.

    Args:
        report: the run's page, if it is written.
        docs: the front page of the Data Docs, if a gate was judged.
    """
    made_from = {name: _parents(name, upstream) for name in upstream}
    lines = [f"# run {record.run_id}", "", "| stage | state | rows | made from | seconds | why |"]
    lines.append("|---|---|---:|---|---:|---|")
    for stage in record.stages:
        seconds = "" if stage.seconds is None else f"{stage.seconds:.1f}"
        known = upstream.get(stage.name)
        rows = f"{known.manifest['rows']['out']:,}" if known and known.manifest["rows"]["out"] else ""
        parents = ", ".join(made_from.get(stage.name, []))
        why = stage.reason.replace("|", "/")
        lines.append(f"| {stage.name} | {stage.state} | {rows} | {parents} | {seconds} | {why} |")
    for name, page in (("Report", report), ("Data Docs of the gates", docs)):
        if page is not None:  # a browser may refuse to open a file from here, so the path stands there too
            lines += ["", f"{name}: [{page.name}]({page.absolute().as_uri()}) (`{page.absolute()}`)"]
    # Prefect's first interface shows the graph's source, its second one draws it
    lines += ["", "The lineage, drawn in Prefect's V2 interface (*Switch to V2 UI*):", "", "```mermaid", "flowchart TD"]
    for name, artifact in upstream.items():
        out = artifact.manifest["rows"]["out"]
        count = f"<br/>{out:,} rows" if out else ""
        lines.append(f'  {name}["{name}{count}<br/>{record.stage(name).state}"]')
        lines += [f"  {parent} --> {name}" for parent in made_from[name]]
    return "\n".join([*lines, "```"])


def _parents(name: str, upstream: dict[str, Artifact]) -> list[str]:
    """The stages whose artifacts a stage was made from; the report reads all of them, and only the last is named."""
    if name == "report":
        return list(upstream)[-2:-1]
    return list(dict.fromkeys(parent["stage"] for parent in upstream[name].manifest["parents"]))


def outcome(manifest: dict[str, Any]) -> str:
    """One line for the log of a stage that ran."""
    rows = manifest["rows"]
    counts = f"{rows['out']:,} of {rows['in']:,} rows, " if rows["in"] or rows["out"] else ""
    return f"{manifest['stage']}: {counts}{manifest['seconds']:.1f} s, {manifest['peak_rss_mb']:,.0f} MB"
