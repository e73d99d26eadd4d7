"""Which rows need cleaning, found by compiled filters; those are cleaned, all others cost a scan and nothing else.

One rule can uncover work for another (a decoded entity a tag, a stripped tag an address), so what was edited is
filtered and cleaned again until nothing changes: cleaning the result once more does nothing. A row made to need more
than `PASSES` keeps its text and is redacted only.
"""

from collections import Counter
from collections.abc import Iterable
from typing import Any

import polars as pl

from pipeline_config.data_schema import Clean
from tasks.clean.characters import CONTROL_CLASS, MAY_COMPOSE, MOJIBAKE_SUSPECT
from tasks.clean.markup import SUSPECT as MARKUP_SUSPECT
from tasks.clean.row import DOCUMENT, Row, Rules, Texts
from tasks.clean.whitespace import SEPARATOR
from tasks.clean.whitespace import SUSPECT as WHITESPACE_SUSPECT
from tasks.kernels.pii import KINDS, suspects
from tasks.kernels.pii import SUSPECT as PII_SUSPECT
from tasks.kernels.progress import track
from tasks.kernels.rows import ROW_SCHEMA, joined
from tasks.ledger import CHANGED_SCHEMA, REMOVED_SCHEMA, Decision, changed_frame

TEXTS = ("messages", "rejected", *DOCUMENT)
BATCH = 16_384  # rows scanned at once; decides memory, not results
PASSES = 8
_ANSWERS = ("assistant", "text")
_CONTROL = f"[{CONTROL_CLASS}--{SEPARATOR}]"


def decide(batches: Iterable[pl.DataFrame], config: Clean) -> Decision:
    """Clean the rows that need it.

    Args:
        batches: frames of `row_id`, `messages`, `rejected` and the document's parts, in source order; rows are judged
            one by one, so that where batches end makes no difference.
        config: which rules run.

    Returns:
        the edited rows' texts (`assigned`), one ledger line for each row, rule and pass that edited it, and rows
        removed because personal data of a kind to be removed was found (`pii_<kind>`, value: how many) or because
        nothing was left of the answers (`empty_after_clean`).
    """
    rules = Rules(config)
    tally = _Tally()
    for batch in batches:
        _clean_batch(batch, rules, tally)
    return tally.decision()


def _clean_batch(batch: pl.DataFrame, rules: Rules, tally: "_Tally") -> None:
    lists = [joined(column, separator=SEPARATOR) for column in ("messages", "rejected")]
    frame = batch.select(
        pl.concat_str(lists, separator=SEPARATOR, ignore_nulls=True).alias("text"),
        pl.concat_str(*DOCUMENT, separator=SEPARATOR, ignore_nulls=True).alias("document"),
    )
    tally.rows += batch.height
    tally.characters += int(frame["text"].str.len_chars().sum())
    suspected = _suspected(frame, rules)
    places = list(suspected)
    given = batch.select("row_id", *TEXTS)[places].rows(named=True)
    rows = [Row(_texts(row), rules) for row in given]
    again = [
        row for row, place in zip(track(rows, "clean", len(rows)), places, strict=True) if row.clean(suspected[place])
    ]
    for _ in range(1, PASSES):
        if not again:
            break
        frame = pl.DataFrame(
            {
                "text": [SEPARATOR.join(row.texts.messages) for row in again],
                "document": [SEPARATOR.join(row.texts.document.values()) for row in again],
            }
        )
        again = [again[place] for place, names in _suspected(frame, rules).items() if again[place].clean(names)]
    for row in again:
        row.redact_only()
    tally.unstable += len(again)
    for original, row in zip(given, rows, strict=True):
        tally.add(original, row)


def _suspected(frame: pl.DataFrame, rules: Rules) -> dict[int, set[str]]:
    """Place of each row in which a rule could find something, and those rules.

    One compiled scan asks for all rules at once; only where it finds something is each rule asked by itself.

    Args:
        frame: `text` (all messages, joined by `SEPARATOR`) and `document`.
    """
    text, document = pl.col("text"), pl.col("document")
    personal = rules.policy.active()
    wide = text.str.len_bytes() != text.str.len_chars()
    odd = MAY_COMPOSE if rules.form == "NFC" else r"[^\x00-\x7f]"
    narrow = "|".join(f"(?:{pattern})" for pattern in (_CONTROL, WHITESPACE_SUSPECT, *([PII_SUSPECT] * personal)))
    found = text.str.contains(narrow) | text.str.contains(MARKUP_SUSPECT) | (suspects(document) & personal)
    odd_found = _where(wide, text).str.contains(f"{MOJIBAKE_SUSPECT}|{odd}")
    few = frame.select(pl.int_range(pl.len(), dtype=pl.UInt32).alias("place"), text, document).filter(
        (found | odd_found).fill_null(False)
    )
    strange = _where(text.str.contains(odd), text)
    flags = few.select(
        "place",
        _where(wide, text).str.contains(MOJIBAKE_SUSPECT).alias("mojibake"),
        text.str.contains(_CONTROL).alias("control"),
        text.str.contains(MARKUP_SUSPECT).alias("markup"),
        (strange.str.normalize(rules.form) != strange).alias("unicode"),
        text.str.contains(WHITESPACE_SUSPECT).alias("whitespace"),
        ((suspects(text) | suspects(document)) & personal).alias("pii"),
    )
    names = [*rules.repairs, "pii"]
    flags = flags.select("place", pl.col(names).fill_null(False)).filter(pl.any_horizontal(names))
    return {place: {name for name, on in zip(names, marks, strict=True) if on} for place, *marks in flags.iter_rows()}


def _where(condition: pl.Expr, text: pl.Expr) -> pl.Expr:
    """The texts that a condition holds for, the empty text for the others."""
    return pl.when(condition).then(text).otherwise(pl.lit(""))


def _texts(row: dict[str, Any]) -> Texts:
    messages = [*row["messages"], *(row["rejected"] or [])]
    return Texts(
        [message["role"] for message in messages],
        [message["content"] for message in messages],
        {part: row[name] for name, part in DOCUMENT.items() if row[name] is not None},
    )


class _Tally:
    """Ledgers, edited rows and counts, gathered row by row."""

    def __init__(self) -> None:
        self.rows = 0
        self.characters = 0
        self._grown = 0
        self.unstable = 0
        self._edited: list[dict[str, Any]] = []
        self._changed: list[tuple[str, ...]] = []
        self._spans: list[int] = []  # three numbers a span
        self._span_lines: list[int] = []  # the ledger line of each span
        self._removed: list[tuple[Any, ...]] = []
        self._by_rule: Counter[str] = Counter()
        self._placeholders: Counter[str] = Counter()

    def add(self, given: dict[str, Any], row: Row) -> None:
        """Enter one row that was looked at."""
        row_id = given["row_id"]
        if row.removed_by:
            kind, count = row.removed_by
            self._removed.append((row_id, f"pii_{kind}", float(count), 1.0, None, None))
            return
        if not row.lines:
            return
        before = _texts(given)
        if _answers(before) and not _answers(row.texts):
            used = ", ".join(dict.fromkeys(line[0] for line in row.lines))
            self._removed.append((row_id, "empty_after_clean", 0.0, None, None, f"nothing left after {used}"))
            return
        for rule, digest_before, digest_after, spans in row.lines:
            self._spans += [number for span in spans for number in span]
            self._span_lines += [len(self._changed)] * len(spans)
            self._changed.append((row_id, rule, digest_before, digest_after))
        self._by_rule.update({line[0] for line in row.lines})
        self._placeholders += row.placeholders
        self._grown += sum(map(len, row.texts.messages)) - sum(map(len, before.messages))
        self._edited.append(_row(given, row.texts))

    def decision(self) -> Decision:
        """Everything entered, as the stage's decision."""
        schema = {name: ROW_SCHEMA[name] for name in ("row_id", *TEXTS)}
        placeholders = {kind: self._placeholders[kind] for kind in KINDS}
        share = len(self._edited) / self.rows if self.rows else 0.0
        after = self.characters + self._grown
        return Decision(
            removed=pl.DataFrame(self._removed, schema=REMOVED_SCHEMA, orient="row"),
            changed=self._ledger(),
            assigned=pl.DataFrame(self._edited, schema=schema),
            metrics={
                "edited_rows": len(self._edited),
                "edited_share": share,
                "placeholders": sum(placeholders.values()),
                "characters_before": self.characters,
                "characters_after": after,
            },
            facts={
                "edited_rows": len(self._edited),
                "edited_share": share,
                "edited_by_rule": dict(sorted(self._by_rule.items())),
                "placeholders": placeholders,
                "characters_before": self.characters,
                "characters_after": after,
                "unstable_rows": self.unstable,
            },
        )

    def _ledger(self) -> pl.DataFrame:
        lines = {name: kind for name, kind in CHANGED_SCHEMA.items() if name != "spans"}
        if not self._changed:
            return changed_frame()
        spans = pl.Series("spans", self._spans, dtype=pl.Int32).reshape((-1, 3)).cast(pl.List(pl.Int32))
        spans_by_line = pl.DataFrame({"line": self._span_lines, "spans": spans}).group_by("line", maintain_order=True)
        return pl.DataFrame(self._changed, schema=lines, orient="row").with_columns(spans_by_line.all()["spans"])


def _answers(texts: Texts) -> bool:
    """Whether a row has a word to learn from: anything in an assistant's turn or in raw text."""
    return any(text.strip() for role, text in zip(texts.roles, texts.messages, strict=True) if role in _ANSWERS)


def _row(row: dict[str, Any], texts: Texts) -> dict[str, Any]:
    contents = iter(texts.messages)
    return {
        "row_id": row["row_id"],
        "messages": [{**message, "content": next(contents)} for message in row["messages"]],
        "rejected": row["rejected"] and [{**message, "content": next(contents)} for message in row["rejected"]],
        **{name: texts.document.get(part) for name, part in DOCUMENT.items()},
    }
