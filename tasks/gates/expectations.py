"""From a stage's gate to its list of bounds: on row counts, rules and reasons, and on what only one stage counts.

The defaults are `gate_schema.DEFAULTS`; the user's bounds stand in their place. `population.py` has the bounds on
which rows are left.
"""

import math
from collections.abc import Mapping
from typing import Any

from pipeline_config.fields import Gate, Range
from pipeline_config.gate_schema import DEFAULTS, DedupeGate, RowGate, SplitGate, TokenizeGate
from pipeline_config.schema import DATA_STAGES
from pipeline_config.suggest import did_you_mean
from tasks.gates.bounds import Bound, Sample, Subject
from tasks.gates.finite import NOT_FINITE, finite_only
from tasks.gates.population import drift_bounds, length_bounds, mix_bounds, null_bounds

_DEFECT = "this is a defect of Winnow, please report it"


def expectations(subject: Subject, gate: Gate) -> list[Bound]:
    """The stage's bounds: what always holds, the defaults, the user's."""
    bounds = [_finite(subject), *_metric_bounds(subject, gate)]
    if subject.stage not in DATA_STAGES:
        return bounds
    if not isinstance(gate, RowGate):
        gate = RowGate.model_validate(gate.model_dump(exclude_none=True))
    bounds = [*_row_bounds(subject, gate), *_rule_bounds(subject, gate), *_own_bounds(subject, gate), *bounds]
    population = subject.facts.get("population")
    return [
        *bounds,
        *null_bounds(population, gate),
        *mix_bounds(population, gate),
        *length_bounds(population, gate),
        *drift_bounds(population, subject.reference, gate, stage=subject.stage),
    ]


def default(stage: str, key: str) -> float | None:
    """A bound of `DEFAULTS`."""
    return DEFAULTS.get(stage, {}).get(key)


def _wanted(gate: Gate, stage: str, key: str) -> float | None:
    own = getattr(gate, key, None)
    return default(stage, key) if own is None else own


def _row_bounds(subject: Subject, gate: RowGate) -> list[Bound]:
    stage, rows = subject.stage, subject.rows
    removed, added, quarantined = (subject.total(kind) for kind in ("removed", "added", "quarantined"))
    because, lost = _heaviest(subject)
    kept = rows["in"] - removed - quarantined
    too_many = gate.max_rows is not None and rows["out"] > gate.max_rows
    bounds = [
        Bound("in + added - out - removed - quarantined",
              rows["in"] + added - rows["out"] - removed - quarantined, 0, 0, advice=_DEFECT),
        Bound("rows left", rows["out"], _wanted(gate, stage, "min_rows"), gate.max_rows, "max_rows" if too_many
              else "min_rows", "" if too_many else because, None if too_many else lost),
        Bound("share of rows removed", subject.share_in(removed), None, _wanted(gate, stage, "max_removed_share"),
              "max_removed_share", because, lost),
        Bound("share of rows quarantined", subject.share_in(quarantined), None,
              _wanted(gate, stage, "max_quarantined_share"), "max_quarantined_share",
              "each line of quarantine.parquet says what is wrong with its record", Sample("quarantined")),
    ]  # fmt: skip
    if gate.min_kept_share is not None:
        bounds.append(
            Bound("share of rows kept", subject.share_in(kept) if rows["in"] else None, gate.min_kept_share, None,
                  "min_kept_share", because, lost)
        )  # fmt: skip
    if gate.max_edited_share is not None:
        edited = subject.facts.get("edited_rows")
        share = None if edited is None else subject.share_in(edited)
        bounds.append(
            Bound("share of rows edited", share, None, gate.max_edited_share, "max_edited_share",
                  sample=Sample("changed"))
        )  # fmt: skip
    return bounds


def _rule_bounds(subject: Subject, gate: RowGate) -> list[Bound]:
    """A bound for each rule and reason that the user names (`rule_names.py` knows them all); one that never applied has
    taken nothing."""
    kinds: tuple[tuple[str, str, str, Mapping[str, float], Sample], ...] = (
        ("removed by", "removed", "max_removed_share_by_rule", gate.max_removed_share_by_rule, Sample("removed")),
        ("quarantined for", "quarantined", "max_quarantined_share_by_reason", gate.max_quarantined_share_by_reason,
         Sample("quarantined")),
        ("edited by", "changed", "max_edited_share_by_rule", gate.max_edited_share_by_rule, Sample("changed")),
    )  # fmt: skip
    bounds = []
    for words, kind, key, wanted, sample in kinds:
        for rule, most in sorted(wanted.items()):
            observed = subject.share_in(subject.rows[kind].get(rule, 0))
            advice = f"loosen {rule}" if kind == "removed" else ""
            bounds.append(
                Bound(f"share of rows {words} {rule}", observed, None, most, f"{key}.{rule}", advice,
                      Sample(sample.which, rule))
            )  # fmt: skip
    return bounds


def _own_bounds(subject: Subject, gate: RowGate) -> list[Bound]:
    """What the stage's own facts say."""
    stage, facts = subject.stage, subject.facts
    named = (
        ("row_id_duplicates", "row ids that stand twice", _DEFECT),
        ("null_row_ids", "rows without an id", _DEFECT),
        ("duplicates_left", "removed rows whose duplicate is not kept", _DEFECT),
    )
    bounds = [Bound(words, _number(facts[name]), 0, 0, advice=cure) for name, words, cure in named if name in facts]
    if isinstance(gate, DedupeGate) or stage == "dedupe":
        bounds += _bounded(subject, gate, "max_duplicates_left", "share of rows left that repeat another (estimate)",
                           _repeating(subject, gate), "set dedupe.exact, or ask for more dedupe.recall",
                           Sample("named", ids=tuple(facts.get("copied_rows", ()))))  # fmt: skip
    if isinstance(gate, SplitGate) or stage == "split":
        bounds += _leakage(subject, gate)
        bounds += mix_bounds(facts.get("population"), gate, {"splits": "split"})
    if isinstance(gate, TokenizeGate) or stage == "tokenize":
        bounds += _bounded(subject, gate, "min_trained_tokens", "trained tokens", facts.get("trained_tokens"),
                           "look at the chat template: winnow preview", None)  # fmt: skip
        bounds += _bounded(subject, gate, "max_truncated_share", "share of rows cut to fit",
                           facts.get("truncated_share"), "raise tokenize.max_length",
                           Sample("changed", "truncate_context"))  # fmt: skip
        bounds += length_bounds(facts.get("population"), gate, "tokens")
    return bounds


def _repeating(subject: Subject, gate: RowGate) -> float | None:
    """What the bands are estimated to have missed, as a share; with a bound of the user's also copies let be."""
    missed = _number(subject.facts.get("expected_missed"))
    if missed is None:
        return None
    copies: int = subject.facts.get("copies_let_be", 0) if getattr(gate, "max_duplicates_left", None) is not None else 0
    return round((missed + copies) / max(1, int(subject.rows["out"])), 6)


def _leakage(subject: Subject, gate: RowGate) -> list[Bound]:
    """By default what the stage promises to have removed; with a bound of the user's all that is there."""
    facts = subject.facts
    parts = [facts[name] for name in ("leakage", "leakage_let_be") if name in facts]
    if getattr(gate, "max_leakage", None) is not None:
        parts += [facts[name] for name in ("leakage_placed_by_user", "contamination_let_be") if name in facts]
    elif "leakage" not in facts:
        return []
    observed = sum(parts) if parts else None
    return _bounded(subject, gate, "max_leakage", "near-duplicates across splits", observed,
                    "lower split.near_threshold, or set split.decontaminate to true",
                    Sample("named", ids=tuple(facts.get("leaked_rows", ()))))  # fmt: skip


def _bounded(
    subject: Subject, gate: Gate, key: str, name: str, observed: Any, advice: str, sample: Sample | None
) -> list[Bound]:
    """One bound of the stage's own; nothing if the user gave none and there is no default, or nothing to hold it to."""
    limit = _wanted(gate, subject.stage, key)
    if limit is None or (observed is None and getattr(gate, key, None) is None):
        return []
    low, high = (limit, None) if key.startswith("min_") else (None, limit)
    return [Bound(name, _number(observed), low, high, key, advice, sample)]


def _metric_bounds(subject: Subject, gate: Gate) -> list[Bound]:
    bounds = []
    for name, wanted in sorted(gate.metrics.items()):
        measured = ", ".join(sorted(subject.metrics)[:12]) or "none"
        unknown = f"no metric is called so{did_you_mean(name, subject.metrics)}; measured were: {measured}"
        advice = "" if name in subject.metrics else unknown
        bounds.append(ranged(name, subject.metrics.get(name), wanted, f"metrics.{name}", advice))
    return bounds


def ranged(name: str, observed: Any, wanted: Range, key: str, advice: str = "", sample: Sample | None = None) -> Bound:
    """A bound from a range of the user's."""
    return Bound(name, _number(observed), wanted.min, wanted.max, key, advice, sample)


def _finite(subject: Subject) -> Bound:
    """The manifest lists what was NaN or infinite: a loss, with a learning rate too high or a precision too low."""
    odd = [*subject.facts.get(NOT_FINITE, ()), *finite_only(subject.facts)[1], *finite_only(subject.metrics)[1]]
    named = f": {', '.join(odd[:5])}" if odd else ""
    return Bound("numbers that are not finite", len(odd), 0, 0, advice=f"look at the metrics of {subject.stage}{named}")


def _heaviest(subject: Subject) -> tuple[str, Sample | None]:
    """The rule or reason that took most rows, in words, and its rows."""
    gone = {("removed", rule): n for rule, n in subject.rows["removed"].items()}
    gone |= {("quarantined", reason): n for reason, n in subject.rows["quarantined"].items()}
    if not gone:
        return f"look at {subject.stage}'s input", None
    kind, rule = max(gone, key=lambda each: gone[each])
    sample = Sample("removed" if kind == "removed" else "quarantined", rule)
    return f"the rule {rule} took most rows; loosen it under {subject.stage}:", sample


def _number(value: Any) -> float | None:
    """A value as a finite number; None for anything else."""
    if not isinstance(value, int | float) or not math.isfinite(value):
        return None
    return float(value)
