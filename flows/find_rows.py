"""Rows found by what they say, and the records that gave no row."""

from typing import Any

import polars as pl

from flows.fates import Trail, fate_words, fates, short, text_of
from pipeline_config.errors import ConfigError

_AROUND = 60  # characters shown on each side of what was found


def rows_with(text: str, trail: Trail, limit: int) -> tuple[int, list[dict[str, Any]]]:
    """Rows of ingest, and records in quarantine, that contain a text, upper and lower case alike.

    Returns:
        how many there are, and of the first `limit`: `row_id, source, fate, excerpt` (personal data masked).

    Raises:
        ConfigError: the text is empty.
    """
    if not text.strip():
        raise ConfigError("there is nothing to look for", place="--text", cure='say what: --text "some words"')
    ingest = trail.artifacts[0]
    wanted = pl.lit(text).str.to_lowercase()
    rows, held = ingest.own_rows(), ingest.ledger("quarantine")
    hits = rows.filter(pl.any_horizontal(_says(column, wanted) for column in ("messages", "rejected")))
    among = held.filter(pl.col("excerpt").fill_null("").str.to_lowercase().str.contains(wanted, literal=True))
    named = [frame.select("row_id", "source").collect() for frame in (hits, among)]
    found = pl.concat(named)
    shown = found.head(limit)
    ids = shown["row_id"].to_list()
    texts = {r["row_id"]: text_of(r) for r in _of(rows.select("row_id", "messages"), ids)}
    texts |= {r["row_id"]: r["excerpt"] or "" for r in _of(held.select("row_id", "excerpt"), ids)}
    became = {r["row_id"]: fate_words(r["fate"], r["stage"], r["rule"]) for r in _of(fates(trail.artifacts), ids)}
    return found.height, [
        {
            "row_id": row_id,
            "source": source,
            "fate": became.get(row_id, "unknown"),
            "excerpt": _around(texts.get(row_id, ""), text),
        }
        for row_id, source in shown.iter_rows()
    ]


def quarantined_rows(trail: Trail, limit: int) -> tuple[int, list[dict[str, Any]]]:
    """Every record and row that a stage held back.

    Returns:
        how many there are, and of the first `limit`: `row_id, stage, source, line, reason, detail`.
    """
    columns = ("row_id", "stage", "source", "line", "reason", "detail")
    held = ((a.stage, a.ledger("quarantine")) for a in trail.artifacts)
    found = pl.concat(frame.with_columns(stage=pl.lit(stage)).select(columns) for stage, frame in held).collect()
    return found.height, found.head(limit).to_dicts()


def _says(column: str, wanted: pl.Expr) -> pl.Expr:
    contents = pl.col(column).list.eval(pl.element().struct.field("content")).list.join("\n", ignore_nulls=True)
    return contents.fill_null("").str.to_lowercase().str.contains(wanted, literal=True)


def _of(frame: pl.LazyFrame, row_ids: list[str]) -> list[dict[str, Any]]:
    return frame.filter(pl.col("row_id").is_in(row_ids)).collect().to_dicts()


def _around(text: str, wanted: str) -> str:
    """What surrounds the first place; the beginning where a mask hides it."""
    flat = " ".join(text.split())
    at = max(flat.lower().find(" ".join(wanted.lower().split())), 0)
    start = max(at - _AROUND, 0)
    cut = short(flat[start:], len(wanted) + 2 * _AROUND)
    return f"… {cut}" if start else cut
