"""What a user may demand of a stage, in words: the keys below `<stage>.gate`, and the bounds that hold without any.

Every bound is neutral: changing one reruns nothing, the verdict alone is judged anew. Shares lie in [0, 1]. A bound
that is left out takes the default of `DEFAULTS` below, or does not exist.
"""

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import Field, field_validator, model_validator

from pipeline_config.fields import Gate, Range, Section, Sparse, neutral

Share = Annotated[float, Field(ge=0, le=1)]
Shares = dict[str, Share]
Mix = dict[str, Range]
Column = Literal["task", "label", "lang", "split", "weight", "rejected", "tools"]
MIXES = {"sources": "source", "tasks": "task", "labels": "label", "languages": "lang"}  # key → column

_ROWS: Mapping[str, float] = {"min_rows": 1, "max_removed_share": 0.95, "max_quarantined_share": 0.5}
DEFAULTS: Mapping[str, Mapping[str, float]] = {
    "ingest": _ROWS,
    "clean": _ROWS,
    "dedupe": {**_ROWS, "max_duplicates_left": 0.05},
    "toxicity": _ROWS,
    "quality": _ROWS,
    "select": {**_ROWS, "max_removed_share": 1},  # to leave rows out is what it is for
    "split": {**_ROWS, "max_leakage": 0},
    "balance": {**_ROWS, "max_removed_share": 1},
    "augment": _ROWS,
    "tokenize": {**_ROWS, "min_trained_tokens": 1},
}
"""Stage → bound → its default. Besides, and not to be loosened: no row is lost (the accounting equation), row ids are
there and stand once, every duplicate's kept row is kept, and no metric or loss is NaN or infinite."""

DRIFT_NOTICED = 0.25  # population stability index from which a shift is called large (Siddiqi 2006); it warns, no more
DRIFT_STAGES = ("ingest", "split")  # where it does, so that one shift is not told after every stage
DRIFT_ROWS = 500  # rows on both sides from which that default is judged; with fewer the index is mostly chance


class Lengths(Sparse):
    """Bounds on quantiles of the rows' lengths."""

    min: Range | None = neutral(None)
    p1: Range | None = neutral(None)
    p5: Range | None = neutral(None)
    p25: Range | None = neutral(None)
    p50: Range | None = neutral(None)
    p75: Range | None = neutral(None)
    p90: Range | None = neutral(None)
    p95: Range | None = neutral(None)
    p99: Range | None = neutral(None)
    max: Range | None = neutral(None)


class Drift(Sparse):
    """Largest population stability index against the previous run's artifact; one number stands for all five."""

    sources: float | None = neutral(None, ge=0)
    tasks: float | None = neutral(None, ge=0)
    labels: float | None = neutral(None, ge=0)
    languages: float | None = neutral(None, ge=0)
    length: float | None = neutral(None, ge=0)

    @model_validator(mode="before")
    @classmethod
    def _one_for_all(cls, given: Any) -> Any:
        if isinstance(given, int | float) and not isinstance(given, bool):
            return dict.fromkeys(cls.model_fields, given)
        return given


class RowGate(Gate):
    """Bounds on the rows that a data stage leaves."""

    min_rows: int | None = neutral(None, ge=0, description="rows that must be left (default 1)")
    max_rows: int | None = neutral(None, ge=0, description="rows that may be left")
    min_kept_share: float | None = neutral(None, ge=0, le=1, description="least share of the rows in that must stay")
    max_removed_share: float | None = neutral(
        None, ge=0, le=1, description="largest share of the rows in that may be removed (default 0.95)"
    )
    max_removed_share_by_rule: Shares = neutral(
        default_factory=dict, description="rule → largest share of the rows in that it may remove"
    )
    max_quarantined_share: float | None = neutral(
        None, ge=0, le=1, description="largest share of the rows in that may be quarantined (default 0.5)"
    )
    max_quarantined_share_by_reason: Shares = neutral(
        default_factory=dict, description="reason → largest share of the rows in that may be quarantined for it"
    )
    max_edited_share: float | None = neutral(
        None, ge=0, le=1, description="largest share of the rows in that may be edited"
    )
    max_edited_share_by_rule: Shares = neutral(
        default_factory=dict, description="rule → largest share of the rows in that it may edit"
    )
    max_null_share: dict[Column, Share] = neutral(
        default_factory=dict, description="column → largest share of the rows without a value in it"
    )
    languages: Mix = neutral(
        default_factory=dict, description="language → min and max share of the rows that have one, {en: {min: 0.5}}"
    )
    tasks: Mix = neutral(default_factory=dict, description="task → min and max share of the rows that have one")
    labels: Mix = neutral(default_factory=dict, description="label → min and max share of the rows that have one")
    sources: Mix = neutral(default_factory=dict, description="source → min and max share of the rows")
    min_languages: int | None = neutral(None, ge=0, description="different languages that must be there")
    min_tasks: int | None = neutral(None, ge=0, description="different tasks that must be there")
    min_labels: int | None = neutral(None, ge=0, description="different labels that must be there")
    min_sources: int | None = neutral(None, ge=0, description="different sources that must be there")
    characters: Lengths = neutral(
        default_factory=Lengths, description="quantile → min and max characters of a row, {p99: {max: 8000}}"
    )
    max_drift: Drift = neutral(
        default_factory=Drift,
        description="largest population stability index against the newest earlier run with other rows "
        "(one number, or sources, tasks, labels, languages, length; 0.1 is little, 0.25 much)",
    )


class DedupeGate(RowGate):
    """Bounds on what deduplication leaves."""

    max_duplicates_left: float | None = neutral(
        None, ge=0, le=1, description="largest share of the rows left that still repeat one, estimated (default 0.05)"
    )


class SplitGate(RowGate):
    """Bounds on a split."""

    max_leakage: int | None = neutral(
        None, ge=0, description="rows and near-duplicate pairs on two sides of train, validation and test (default 0)"
    )
    splits: Mix = neutral(default_factory=dict, description="split → min and max share of the rows")


class TokenizeGate(RowGate):
    """Bounds on tokens."""

    min_trained_tokens: int | None = neutral(None, ge=0, description="tokens that are learned (default 1)")
    max_truncated_share: float | None = neutral(None, ge=0, le=1, description="largest share of rows cut to fit")
    tokens: Lengths = neutral(
        default_factory=Lengths, description="quantile → min and max tokens of a row, {p95: {max: 512}}"
    )

    @field_validator("languages", "labels", "sources", "characters")
    @classmethod
    def _not_here(cls, given: Any) -> Any:
        if given and given != Lengths():
            raise ValueError("tokens have no language, label, source or characters; bound those at an earlier stage")
        return given


class DataSection(Section):
    """The section of a data stage."""

    gate: RowGate = neutral(default_factory=RowGate, description="bounds on the rows that this stage leaves")
