"""Values that strict JSON can't say, kept exactly: integers beyond 64 bits, NaN and infinities, dates, decimals, bytes.

A reader that walks `meta` must be able to use any JSON library, and several of them turn a long integer into a rounded
float without a word. So such a value stands in `meta` as a string, and its place and kind are remembered beside it
(`[["price"], "decimal"]`). Only records that can hold one are walked: those that the fast parser did not take, and rows
of typed tables.
"""

import base64
import datetime
import decimal
import math
from collections.abc import Callable, Sequence
from typing import Any

_INT64 = range(-(1 << 63), 1 << 64)  # what every JSON library in use here reads exactly

Place = tuple[list[str | int], str]


class Odd(str):
    """A value that JSON can't say, as the string that stands for it."""

    __slots__ = ("kind",)
    kind: str

    def __new__(cls, text: str, kind: str) -> "Odd":
        self = super().__new__(cls, text)
        self.kind = kind
        return self


_DECODE: dict[str, Callable[[str], Any]] = {
    "int": int,
    "float": float,
    "decimal": decimal.Decimal,
    "datetime": datetime.datetime.fromisoformat,
    "date": datetime.date.fromisoformat,
    "time": datetime.time.fromisoformat,
    "timedelta": lambda text: datetime.timedelta(microseconds=int(text)),
    "bytes": lambda text: base64.b64decode(text.encode()),
}


def json_safe(value: Any) -> Any:
    """The same value with every odd one replaced by an `Odd` string; tuples and sets become lists."""
    if value is None or isinstance(value, (str, bool)):
        return value
    if isinstance(value, int):
        return value if value in _INT64 else Odd(str(value), "int")
    if isinstance(value, float):
        return value if math.isfinite(value) else Odd(repr(value), "float")
    if isinstance(value, dict):
        return {str(key): json_safe(item) for key, item in value.items()}
    if isinstance(value, (list, tuple, set)):
        return [json_safe(item) for item in value]
    return _scalar(value)


def _scalar(value: Any) -> Any:
    if isinstance(value, bytes):
        return Odd(base64.b64encode(value).decode(), "bytes")
    if isinstance(value, decimal.Decimal):
        return Odd(str(value), "decimal")
    if isinstance(value, datetime.timedelta):
        return Odd(str(value // datetime.timedelta(microseconds=1)), "timedelta")
    for kind, isotype in (("datetime", datetime.datetime), ("date", datetime.date), ("time", datetime.time)):
        if isinstance(value, isotype):
            return Odd(value.isoformat(), kind)
    return str(value)


def odd_places(value: Any, path: tuple[str | int, ...] = ()) -> list[Place]:
    """Where odd values stand: path of keys and indices, and kind."""
    if isinstance(value, Odd):
        return [(list(path), value.kind)]
    if isinstance(value, dict):
        return [place for key, item in value.items() for place in odd_places(item, (*path, key))]
    if isinstance(value, list):
        return [place for index, item in enumerate(value) for place in odd_places(item, (*path, index))]
    return []


def real(value: Any) -> Any:
    """The value that an `Odd` string stands for, throughout a nested value."""
    if isinstance(value, Odd):
        return _DECODE[value.kind](str(value))
    if isinstance(value, dict):
        return {key: real(item) for key, item in value.items()}
    if isinstance(value, list):
        return [real(item) for item in value]
    return value


def put_back(value: Any, places: Sequence[Sequence[Any]]) -> None:
    """Replace the strings at these places by what they stand for; a place that was edited away is left alone."""
    for path, kind in places:
        holder = value
        try:
            for step in path[:-1]:
                holder = holder[step]
            holder[path[-1]] = _DECODE[kind](holder[path[-1]])
        except (KeyError, IndexError, TypeError, ValueError, ArithmeticError):
            continue
