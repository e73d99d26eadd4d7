"""The run in words: what came in, what was left out and why, what was learned, and whether it helped."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from tasks.report.counts import StageCounts, total
from tasks.report.text import number, share

if TYPE_CHECKING:
    from tasks.report.models import Finding

_REASONS = {
    "ingest": "that could not be read",
    "clean": "that could not be cleaned",
    "dedupe": "that repeat another",
    "toxicity": "that are harmful",
    "quality": "of low quality",
    "select": "too far from the target domain",
    "split": "that would have given away a test row",
    "balance": "beyond their group's share",
    "augment": "left out in augmenting",
    "tokenize": "that can't be learned from",
}
_OF_ONE = {"dedupe": "that repeats another", "toxicity": "that is harmful"}
METRICS = {"loss": "loss", "rouge_l": "ROUGE-L"}


def key_figures(stages: Sequence[StageCounts], facts: Mapping[str, Mapping[str, Any]]) -> list[tuple[str, str]]:
    """The few numbers that stand at the head of the page: value and what it counts."""
    read = rows_read(stages)
    figures = [(number(read), "rows read")]
    trained = trained_rows(stages, facts)
    if trained is not None:
        figures.append((number(trained), "rows to learn from"))
    elif stages:
        figures.append((number(rows_left(stages)), "rows left"))
    tokens = facts.get("tokenize", {}).get("trained_tokens")
    if tokens:
        figures.append((number(tokens), "tokens to learn"))
    figures.append((duration(sum(stage.seconds for stage in stages)), "of work"))
    return figures


def rows_sentence(stages: Sequence[StageCounts], facts: Mapping[str, Mapping[str, Any]]) -> str:
    """What became of the rows."""
    read, trained = rows_read(stages), trained_rows(stages, facts)
    left = rows_left(stages)
    if not read:
        return "No row was read."
    if trained is None:
        return f"Of {number(read)} rows read, {number(left)} are left ({share(left, read)})."
    held = left - trained
    also = f" {number(held)} more are held out for validation and test." if held > 0 else ""
    return f"Of {number(read)} rows read, {number(trained)} are there to learn from ({share(trained, read)}).{also}"


def losses_sentence(stages: Sequence[StageCounts]) -> str:
    """Why rows left, the heaviest reasons first."""
    gone = sorted(((stage.gone, place, stage) for place, stage in enumerate(stages) if stage.gone), key=_heaviest)
    added = sum(total(stage.added) for stage in stages)
    parts = [f"{number(n)} {_reason(stage.name, n)}" for n, _, stage in gone]
    more = f" {number(added)} {'row was' if added == 1 else 'rows were'} added." if added else ""
    if not parts:
        return f"No row was left out.{more}"
    return f"Left out: {_listed(parts)}.{more} Each of them is in a ledger, with its rule."


def models_sentences(findings: "Sequence[Finding]", made: Sequence[str]) -> list[str]:
    """What each model that was made is worth on each test set, by loss; why there is nothing to say.

    Args:
        made: stages that ran, to tell a model that was not measured from none.
    """
    said = {
        "better": "better than the base on {}",
        "worse": "worse on {}",
        "unclear": "not clearly different on {}",
    }
    sentences = []
    for model in dict.fromkeys(finding.model for finding in findings):
        losses = [finding for finding in findings if finding.model == model and finding.metric == "loss"]
        parts = [said[verdict].format(_listed(sets)) for verdict in said if (sets := _sets(losses, verdict))]
        if parts:
            sentences.append(f"By held-out loss the {model} model is {_listed(parts)}.")
    if sentences:
        return sentences
    if "evaluate" in made:
        return ["The models were measured, and there is no base to compare them with."]
    return ["A model was trained and not measured." if "train" in made else "No model was trained in this run."]


def finding_sentence(finding: "Finding") -> str:
    """One comparison with the base model, with its interval."""
    size = f"{abs(finding.difference):.3f}"
    way = f"{size} {'lower' if finding.difference < 0 else 'higher'} than" if float(size) else "as good as"
    interval = ""
    if finding.low is not None and finding.high is not None:
        interval = f" (95\u00a0% interval {_change(finding.low)} to {_change(finding.high)})"
    return f"{number(finding.value, 3)}, which is {way} the base's {number(finding.base, 3)}{interval}"


def duration(seconds: float) -> str:
    """Seconds as a person says them."""
    if seconds < 10:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {rest} s" if minutes else f"{rest} s"
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min"


def rows_read(stages: Sequence[StageCounts]) -> int:
    """Rows that the first stage saw."""
    return next((stage.rows_in or 0 for stage in stages if stage.rows_in is not None), 0)


def rows_left(stages: Sequence[StageCounts]) -> int:
    """Rows that the last data stage left."""
    return next((stage.rows_out or 0 for stage in reversed(stages) if stage.rows_out is not None), 0)


def trained_rows(stages: Sequence[StageCounts], facts: Mapping[str, Mapping[str, Any]]) -> int | None:
    """Rows of the train split behind tokenize; None where nothing was tokenised."""
    by_split = facts.get("tokenize", {}).get("rows_by_split")
    return None if by_split is None else int(by_split.get("train", 0))


def _reason(stage: str, n: int) -> str:
    """Why n rows left in a stage."""
    said = _REASONS.get(stage, f"in {stage}")
    return _OF_ONE.get(stage, said) if n == 1 else said


def _change(value: float) -> str:
    return number(value, 3, signed=True)


def _heaviest(line: tuple[int, int, StageCounts]) -> tuple[int, int]:
    return -line[0], line[1]


def _sets(findings: "Sequence[Finding]", verdict: str) -> list[str]:
    return [finding.test_set for finding in findings if finding.verdict == verdict]


def _listed(parts: Sequence[str]) -> str:
    return parts[0] if len(parts) == 1 else f"{', '.join(parts[:-1])} and {parts[-1]}"
