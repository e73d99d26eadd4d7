"""Records that gave no row, as quarantine shows them: file, line, reason, and an excerpt without personal data."""

import re

import polars as pl

from tasks.kernels.reading.columns import number_repeats
from tasks.ledger import EXCERPT_BYTES, quarantine_frame

_ESCAPED = re.compile(r"\\u([0-9a-fA-F]{4})")
_ESCAPES = str.maketrans({"\0": "␀", "\r": " "})


def quarantined(unread: pl.DataFrame, source: str) -> pl.DataFrame:
    """The unread records of one source as a quarantine ledger.

    Args:
        unread: `reading.columns.UNREAD_SCHEMA` and `file` (base name, or the data set's), in the source's order.
        source: its name.
    """
    ids = number_repeats(unread["row_id"])
    lines = [
        {
            "row_id": row_id,
            "source": source,
            "line": line,
            "reason": reason,
            "detail": _masked(f"{detail} ({file})"),
            "excerpt": excerpt(head),
        }
        for row_id, line, reason, detail, file, head in zip(
            ids, *(unread[name] for name in ("line", "reason", "detail", "file", "head")), strict=True
        )
    ]
    return quarantine_frame(lines)


def excerpt(head: bytes) -> str:
    """The beginning of a record as text of at most 2 kB, personal data masked.

    Escapes are undone first (`\\u8bdd138…`), so that they hide no number from the mask; it is cut after masking, so
    that the cut leaves no half of an address.
    """
    text = head.decode("utf-8", "replace").translate(_ESCAPES)
    text = _ESCAPED.sub(_character, text)
    masked = _masked(text)
    return masked.encode("utf-8", "replace")[:EXCERPT_BYTES].decode("utf-8", "ignore")


def _character(match: re.Match[str]) -> str:
    code = int(match[1], 16)
    is_text = code >= 0x20 and not 0xD800 <= code <= 0xDFFF
    return chr(code) if is_text else " "


def _masked(text: str) -> str:
    from tasks.kernels.pii import mask

    return mask(text)
