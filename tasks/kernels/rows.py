"""The row: its columns, how its id is made, and the text that other kernels read from it.

row_id       16 hex digits of xxh3 over source name, canonical record, and its n-th occurrence in that source
messages     list of {role, content, weight}; roles system, user, assistant, tool, text (raw text)
rejected     the other half of a preference pair, or null
meta         JSON of every other field of the record
"""

from typing import Any

import polars as pl
import xxhash

MESSAGE = pl.Struct({"role": pl.String, "content": pl.String, "weight": pl.Float32})
ROW_SCHEMA: dict[str, Any] = {
    "row_id": pl.String,
    "source": pl.String,
    "task": pl.String,
    "label": pl.String,
    "lang": pl.String,
    "split": pl.String,
    "fold": pl.Int32,
    "weight": pl.Float32,
    "parent_row_id": pl.String,
    "messages": pl.List(MESSAGE),
    "rejected": pl.List(MESSAGE),
    "tools": pl.String,
    "meta": pl.String,
}
TEXT_COLUMNS = ("messages", "rejected", "tools", "meta")
ROLES = ("system", "user", "assistant", "tool", "text")
SEPARATOR = "\x1f"


def digest(*parts: str) -> str:
    """16 hex digits of xxh3-64 over the parts, kept apart by a control character."""
    return xxhash.xxh3_64_hexdigest(SEPARATOR.join(parts).encode("utf-8", "surrogatepass"))


def added_row_id(parent_row_id: str, stage: str, n: int) -> str:
    """The id of the n-th row (from 0) that a stage adds for a parent."""
    return digest(parent_row_id, stage, str(n))


def joined(column: str, roles: tuple[str, ...] | None = None, separator: str = "\n") -> pl.Expr:
    """The contents of a message list joined to one string; only some roles if given."""
    elements = pl.col(column).list
    if roles is None:
        return elements.eval(pl.element().struct.field("content")).list.join(separator)
    kept = pl.element().filter(pl.element().struct.field("role").is_in(list(roles)))
    return elements.eval(kept.struct.field("content")).list.join(separator)


def prompt_text() -> pl.Expr:
    """Everything a row asks: system, user and tool turns; empty for raw text."""
    return joined("messages", ("system", "user", "tool"))


def answer_text() -> pl.Expr:
    """Everything a row answers: assistant turns; the text itself for raw text."""
    return joined("messages", ("assistant", "text"))


def whole_text() -> pl.Expr:
    """All contents of a row, joined by a newline."""
    return joined("messages")
