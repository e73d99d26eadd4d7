"""JSON objects that name a key twice: parsers keep the last value and lose the others without a word.

Parsing with a hook that sees every pair is many times slower, so blocks are sieved first: written again from what was
parsed, a block has as many `":` as it was read with, unless a key got lost. Where quote and colon are spelled in a rare
way a slow look follows. A few searches and one dump a block, in compiled code.
"""

import json
from collections.abc import Sequence
from typing import Any

import orjson

from tasks.kernels.reading.records import NotReadable, Read

_UNCOUNTED = (b"\\u0022", b'"\t', b'"\r', b'"  ', b'" \t', b'" \r')  # spellings that hide a key from the count


def refuse_repeated(pairs: Sequence[tuple[str, Any]]) -> dict[str, Any]:
    """The `object_pairs_hook` of a parser that loses no value.

    Raises:
        NotReadable: a key stands twice.
    """
    found = dict(pairs)
    if len(found) != len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise NotReadable("repeated_key", f"the key {twice!r} stands twice in one object")
    return found


def suspects(records: Sequence[Read]) -> list[int]:
    """Indices of records that may name a key twice; every one that does is among them.

    Args:
        records: as parsed, with their bytes (those without any are passed over).
    """
    if _looks_whole(b"\n".join(r.raw for r in records if r.raw), [r.value for r in records if r.raw]):
        return []
    return [i for i, r in enumerate(records) if r.raw and not _looks_whole(r.raw, r.value)]


def repeated_key(raw: bytes) -> NotReadable | None:
    """What is wrong with a record that names a key twice; None if none does."""
    try:
        json.loads(raw, object_pairs_hook=refuse_repeated)
    except NotReadable as error:
        return error
    except RecursionError:
        return NotReadable("nested_too_deep", "objects inside objects inside objects")
    return None


def _looks_whole(raw: bytes, value: Any) -> bool:
    if any(spelling in raw for spelling in _UNCOUNTED):
        return False
    try:
        return _colons(raw) == _colons(orjson.dumps(value))
    except TypeError:  # nested too deep to be written
        return False


def _colons(text: bytes) -> int:
    return text.count(b'":') + text.count(b'" :')
