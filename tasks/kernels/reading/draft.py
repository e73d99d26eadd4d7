"""What a record turned out to say, before it becomes a row."""

from dataclasses import dataclass, field
from typing import Any

from tasks.kernels.records.shape import Message


@dataclass(slots=True)
class Draft:
    """A conversation in the making, and what of its record's shape is not plain (`records/shape.py`).

    Attributes:
        messages: turns so far.
        rejected: the rejected turns of a preference pair.
        tools: JSON text.
        used: the record's own keys that were read into the conversation, so not into `meta`.
        plain: the format's fields that the plain writer would give, in its order.
        templates: fields that it would give otherwise.
        parts: seams of joined messages.
        calls: indices of tool-call messages.
    """

    messages: list[Message] = field(default_factory=list)
    rejected: list[Message] | None = None
    tools: str | None = None
    used: list[str] = field(default_factory=list)
    plain: list[str] = field(default_factory=list)
    templates: dict[str, Any] = field(default_factory=dict)
    parts: dict[str, Any] = field(default_factory=dict)
    calls: list[int] = field(default_factory=list)
