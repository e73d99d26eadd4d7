"""Great Expectations holds the bounds against what was observed, on one narrow frame of aggregates, never on text.

A verdict depends on the observed values, the bounds and the rows named for a failure alone, so it is kept in
`data/gates/<digest>.json`, and an unchanged one is read back without importing Great Expectations.
"""

import json
import logging
import os
import warnings
from collections.abc import Sequence
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline_config.fields import Gate
from tasks.gates.bounds import Bound, Subject
from tasks.gates.expectations import expectations
from tasks.gates.verdict import Check, Verdict, allowed, cure_of
from tasks.kernels.digests import json_digest, write_memo
from tasks.runs import explain_command

if TYPE_CHECKING:
    from collections.abc import Iterator

_HARMLESS = str.maketrans({"<": "‹", ">": "›", "&": "＆", '"': "″", "'": "′", "$": "＄", "{": "｛", "}": "｝"})


def judge(subject: Subject, gate: Gate, data_dir: Path) -> Verdict:
    """Hold what a stage left against its bounds.

    Returns:
        every check; of those that failed up to five row ids each, if the subject has its artifact.
    """
    checks = [_unjudged(subject, bound, data_dir) for bound in expectations(subject, gate)]
    reference = subject.reference
    digest = json_digest([subject.stage, [_facts(check) for check in checks], reference and reference.digest])
    path = data_dir / "gates" / f"{digest}.json"
    results = _remembered(path, checks)
    fresh = results is None
    if results is None:
        results = _judged(subject.stage, checks, digest, path)
    judged = tuple(replace(check, passed=passed) for check, passed in zip(checks, results, strict=True))
    return Verdict(subject.stage, judged, digest, gate.on_fail, reference.run_id if reference else None, fresh)


def _unjudged(subject: Subject, bound: Bound, data_dir: Path) -> Check:
    """A bound ready to be judged. Rows are looked up where plain arithmetic says it will fail."""
    samples: tuple[str, ...] = ()
    if bound.sample is not None and subject.artifact is not None and _outside(bound):
        from tasks.gates.samples import sample_ids

        samples = sample_ids(subject.artifact, bound.sample)
    look = explain_command(samples[0], subject.run_id, data_dir) if samples else ""
    return Check(
        bound.name,
        None if bound.observed is None else float(bound.observed),
        allowed(bound.minimum, bound.maximum),
        False,
        bound.minimum,
        bound.maximum,
        samples,
        cure_of(subject.stage, bound.key, bound.advice, look),
        bound.advisory,
    )


def _outside(bound: Bound) -> bool:
    if bound.observed is None:
        return True
    low = bound.minimum is not None and bound.observed < bound.minimum
    return low or (bound.maximum is not None and bound.observed > bound.maximum)


def _facts(check: Check) -> list[Any]:
    """What a verdict depends on."""
    return [check.expectation, check.observed, check.minimum, check.maximum, check.advisory, list(check.samples)]


def _judged(stage: str, checks: Sequence[Check], digest: str, path: Path) -> list[bool]:
    with quietly():
        result = validate(stage, checks, digest)
        passed = {one.expectation_config.kwargs["column"]: bool(one.success) for one in result.results}
        results = [passed[column] for column in columns(checks)]
        from tasks.gates.docs import write_page

        failed = [check for check, ok in zip(checks, results, strict=True) if not ok]
        page = write_page(stage, result, failed, digest, path.parent)
    lines = [check.__dict__ | {"passed": ok} for check, ok in zip(checks, results, strict=True)]
    passed_all = all(ok or check.advisory for check, ok in zip(checks, results, strict=True))
    record = {"stage": stage, "passed": passed_all, "judged": datetime.now(UTC).isoformat(timespec="seconds")}
    write_memo(path, {**record, "page": page, "checks": lines})
    if page is not None:
        from tasks.gates.docs import write_index

        write_index(path.parent)
    return results


def columns(checks: Sequence[Check]) -> list[str]:
    """A column for each check, called what it expects; names stay apart if two checks have the same words.

    The names of labels and rules in them are the user's, and Great Expectations writes a column's name into its pages
    as it is, so signs that HTML or its templates would read are replaced by their likes.
    """
    seen: dict[str, int] = {}
    found = []
    for check in checks:
        name = check.expectation.translate(_HARMLESS)
        n = seen[name] = seen.get(name, 0) + 1
        found.append(name if n == 1 else f"{name} ({n})")
    return found


def validate(stage: str, checks: Sequence[Check], digest: str) -> Any:
    """Judge with Great Expectations: one row, one column an expectation; its validation result."""
    import great_expectations as gx
    import pandas as pd
    from great_expectations.core.run_identifier import RunIdentifier

    context = _context()
    frame = pd.DataFrame({name: [check.observed] for name, check in zip(columns(checks), checks, strict=True)})
    wanted = [_expectation(gx, name, check) for name, check in zip(columns(checks), checks, strict=True)]
    suite = context.suites.add(gx.ExpectationSuite(name=stage, expectations=wanted))
    asset = context.data_sources.add_pandas("facts").add_dataframe_asset(stage)
    batch = asset.add_batch_definition_whole_dataframe("all")
    definition = gx.ValidationDefinition(name=stage, data=batch, suite=suite)
    context.validation_definitions.add(definition)
    return definition.run(
        batch_parameters={"dataframe": frame}, result_format="SUMMARY", run_id=RunIdentifier(run_name=digest[:12])
    )


def _context() -> Any:
    """An ephemeral context that writes nothing; by default it leaves a temporary folder behind for its own site."""
    import great_expectations as gx
    from great_expectations.data_context.types.base import DataContextConfig, InMemoryStoreBackendDefaults

    defaults = InMemoryStoreBackendDefaults(init_temp_docs_sites=False)
    config = DataContextConfig(
        store_backend_defaults=defaults, analytics_enabled=False, progress_bars={"globally": False}
    )
    return gx.get_context(mode="ephemeral", project_config=config)


def _expectation(gx: Any, column: str, check: Check) -> Any:
    """The largest (and only) value lies between the bounds; what was not measured is expected to be there."""
    if check.observed is None:
        return gx.expectations.ExpectColumnValuesToNotBeNull(column=column)
    return gx.expectations.ExpectColumnMaxToBeBetween(column=column, min_value=check.minimum, max_value=check.maximum)


@contextmanager
def quietly() -> "Iterator[None]":
    """Great Expectations without analytics, log lines or warnings."""
    os.environ.setdefault("GX_ANALYTICS_ENABLED", "false")
    logging.getLogger("great_expectations").setLevel(logging.ERROR)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def _remembered(path: Path, checks: Sequence[Check]) -> list[bool] | None:
    try:
        lines = json.loads(path.read_text("utf-8"))["checks"]
        results = [bool(line["passed"]) for line in lines]
        names = [line["expectation"] for line in lines]
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return results if names == [check.expectation for check in checks] else None
