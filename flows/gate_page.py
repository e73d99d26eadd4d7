"""What a judged gate leaves in a run: warnings, a Markdown artifact in Prefect's dashboard, or the error that stops it.

The artifact is made when a verdict is new or failed, so that a cached run does not pay for it. It names expectations,
numbers and ids of rows; the text of a row never goes into Prefect's database.
"""

import logging
from pathlib import Path

from tasks.gates.docs import data_docs_page
from tasks.gates.verdict import Check, Verdict, number

LOG = logging.getLogger("winnow")


def settle(verdict: Verdict, data_dir: Path) -> None:
    """Show a verdict, and hold the run if it must be held.

    Raises:
        GateError: the gate failed, and its `on_fail` is `stop`.
    """
    if verdict.fresh or not verdict.passed:
        from prefect.artifacts import create_markdown_artifact

        create_markdown_artifact(
            markdown=gate_markdown(verdict.stage, verdict, data_docs_page(data_dir, verdict.digest)),
            key=f"winnow-{verdict.stage}-gate",
            description=f"gate after {verdict.stage}: {'passed' if verdict.passed else 'failed'}",
        )
    for words in verdict.warnings():
        LOG.warning("%s", words)
    if not verdict.passed and verdict.on_fail == "stop":
        raise verdict.error(verdict.stage)


def gate_markdown(stage: str, verdict: Verdict, page: Path | None = None) -> str:
    """The verdict as a table, what failed first, with row ids and what to do.

    Args:
        page: the verdict's page of the Data Docs.
    """
    state = "passed" if verdict.passed else f"failed (on_fail: {verdict.on_fail})"
    lines = [f"## Gate after {stage}: {state}", ""]
    lines += ["| | expectation | observed | allowed | rows |", "|---|---|---:|---|---|"]
    ordered = sorted(verdict.checks, key=lambda check: (check.passed, check.advisory))
    lines += [f"| {_sign(check)} | {' | '.join(_cells(check))} |" for check in ordered]
    cures = list(dict.fromkeys(check.cure for check in ordered if not check.passed and check.cure))
    if cures:
        lines += ["", "What to do:", "", *(f"- {_plain(cure)}" for cure in cures)]
    if verdict.reference:
        lines += ["", f"Drift is measured against run `{verdict.reference}`."]
    if page is not None:
        lines += ["", f"Data Docs: [{page.name[:12]}]({page.as_uri()}) (`{page}`)"]
    return "\n".join(lines)


def _sign(check: Check) -> str:
    return "✓" if check.passed else "warns" if check.advisory else "✗"


def _cells(check: Check) -> list[str]:
    ids = ", ".join(f"`{row_id}`" for row_id in check.samples)
    return [_plain(check.expectation), number(check.observed), check.allowed, ids]


def _plain(text: str) -> str:
    """Text that Markdown shows as it is: names of labels and rules are the user's."""
    for sign in "\\`*_[]|<>#":
        text = text.replace(sign, f"\\{sign}" if sign not in "<>" else {"<": "&lt;", ">": "&gt;"}[sign])
    return " ".join(text.split())
