"""The record that a row came from, written again around the text that the row has now."""

from collections import Counter
from typing import Any

from tasks.kernels.records.plain import Inexpressible, Lost, plain
from tasks.kernels.records.shape import Conversation, fill


def restore(row: Conversation, lost: Lost | None = None, *, renamed: bool = True) -> dict[str, Any]:
    """The record in the shape that it came in; equal to it if nothing was edited.

    Args:
        row: the conversation, its `shape` naming the format.
        lost: counts what could not be said.
        renamed: use the source's own field names where its `fields` setting named them; otherwise the format's.

    Raises:
        Inexpressible: the row was changed so that its format can't say it any more.
    """
    lost = Counter() if lost is None else lost
    values = _fields(row, lost)
    names = row.shape.get("names", {})
    own = {(names.get(name, name) if renamed else name): value for name, value in values.items()}
    both = own | {key: value for key, value in row.extra.items() if key not in own}
    keys = row.shape.get("keys")
    if keys is None:
        return both
    if not renamed:
        back = {theirs: ours for ours, theirs in names.items()}
        keys = [back.get(key, key) for key in keys]
    known = {key: both[key] for key in keys if key in both}
    return known | {key: value for key, value in both.items() if key in row.extra and key not in known}


def _fields(row: Conversation, lost: Lost) -> dict[str, Any]:
    """The format's fields: the plain writer's, and over them what the templates give."""
    templates = row.shape.get("fields", {})
    same_turns = row.shape.get("turns", len(row.messages)) == len(row.messages)
    if not same_turns:
        lost["shape_of_edited_turns"] += 1
        templates = {name: template for name, template in templates.items() if not isinstance(template, list)}
    losses: Lost = Counter()
    try:
        values = plain(row.shape["format"], row, losses)
    except Inexpressible:
        if not templates:
            raise
        values = {}
    if not templates:
        lost.update(losses)
    for name, template in templates.items():
        try:
            values[name] = fill(template, row)
        except (LookupError, ValueError):
            lost["shape_of_edited_turns"] += 1
    return values


def convert(row: Conversation, record_format: str, lost: Lost) -> dict[str, Any]:
    """The row as a plain record of another format, the record's other fields behind it.

    A field whose name the format uses itself is written as `meta.<name>`.

    Raises:
        Inexpressible: the format can't say this row.
    """
    fields = plain(record_format, row, lost)
    return fields | {(f"meta.{key}" if key in fields else key): value for key, value in row.extra.items()}
