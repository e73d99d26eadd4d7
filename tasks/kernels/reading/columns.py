"""Records into rows, column by column, and into quarantine.

A record's fields that became no message stay in `meta`. Those named `task`, `label`, `lang`, `split` and `weight` (or
as the source's `fields` say) are copied to the row's columns: later stages may change them there, and the record still
comes out of an export as it went in.

A `row_id` is xxh3-64 over the source's name and the record's canonical JSON (sorted keys, so their order does not
count); the n-th repeat of a record in its source takes xxh3-64 over the first one's id and n. So a row's id never
depends on other records, and only equal records number each other. A record that could not be read has its bytes in
place of the JSON.
"""

import re
from array import array
from collections.abc import Mapping, Sequence
from typing import Any

import orjson
import polars as pl
import xxhash

from tasks.kernels.reading.draft import Draft
from tasks.kernels.reading.formats import FormatReader
from tasks.kernels.reading.records import EXCERPT_SOURCE_BYTES, NotReadable, Read, Unread
from tasks.kernels.records.odd import Odd, odd_places
from tasks.kernels.records.shape import SHAPE, Message
from tasks.kernels.rows import MESSAGE, ROW_SCHEMA, SEPARATOR, digest

_SPLITS = {
    "train": "train",
    "training": "train",
    "validation": "validation",
    "valid": "validation",
    "val": "validation",
    "dev": "validation",
    "test": "test",
}
_TEST_SET = re.compile(r"test:[\w.-]+")
_LANGUAGE = re.compile(r"([a-z]{2,3})(?:[-_]\w+)*$")
READ_SCHEMA: dict[str, Any] = ROW_SCHEMA | {"own_id": pl.String, "own_split": pl.String}  # as the record has them
OWN = ("task", "label", "lang", "split", "weight", "id")  # a record's fields that have a column of their own
_GATHERED = ("row_id", "meta", "tools", "task", "label", "lang", "split", "weight", "own_id", "own_split")
_WORTH_COMPILING = 20_000  # hashes
UNREAD_SCHEMA = {
    "row_id": pl.String,
    "line": pl.Int64,
    "reason": pl.String,
    "detail": pl.String,
    "head": pl.Binary,
}


class _Turns:
    """A column of message lists, as flat columns and the places where rows end."""

    def __init__(self) -> None:
        self._turns: list[Message] = []
        self._ends = array("i", [0])
        self._nulls: list[int] = []

    def add(self, turns: list[Message] | None) -> None:
        if turns is None:
            self._nulls.append(len(self._ends) - 1)
        else:
            self._turns += turns
        self._ends.append(len(self._turns))

    def series(self, name: str) -> pl.Series:
        import pyarrow as pa

        roles, contents, weights = zip(*self._turns, strict=True) if self._turns else ((), (), ())
        text = pa.large_string()
        is_null = bytearray(len(self._ends) - 1)
        for row in self._nulls:
            is_null[row] = 1
        mask = pa.array(map(bool, is_null), pa.bool_()) if self._nulls else None
        turns = (pa.array(roles, text), pa.array(contents, text), pa.array(weights, pa.float32()))
        return message_lists(name, turns, pa.array(self._ends, pa.int32()), mask)


def message_lists(name: str, turns: Sequence[Any], ends: Any, mask: Any = None) -> pl.Series:
    """A column of message lists.

    Args:
        turns: Arrow arrays of roles, contents and weights.
        ends: int32, 0 and where each row's turns end.
        mask: which rows have no list; none: all have one.
    """
    import pyarrow as pa

    values = pa.StructArray.from_arrays(turns, names=["role", "content", "weight"])
    return pl.Series(name, pa.ListArray.from_arrays(ends, values, mask=mask), dtype=pl.List(MESSAGE))


class RowBuilder:
    """Gathers the rows of some records of one source.

    Args:
        source: its name.
        reader: of the source's format.
        fields: the source's names for our fields.
        defaults: `task`, `lang` for rows that name none; `split` for every row.
    """

    def __init__(
        self, source: str, reader: FormatReader, fields: Mapping[str, str], defaults: Mapping[str, str | None]
    ) -> None:
        self._source = source
        self.prefix = source.encode() + b"\x1f"
        self._reader = reader
        self._defaults = defaults
        self.names = [fields.get(field, field) for field in OWN]
        self._without_own = self._own_values({})
        renamed = {ours: theirs for ours, theirs in fields.items() if ours != theirs}
        self._shape: dict[str, Any] = {"format": reader.record_format} | ({"names": renamed} if renamed else {})
        self._plain_meta = orjson.dumps({SHAPE: self._shape}).decode()
        self._messages, self._rejected = _Turns(), _Turns()
        self._gathered: list[tuple[Any, ...]] = []
        self.lines: list[int] = []  # of the rows
        self._unread: list[Unread] = []

    def add(self, record: Read) -> None:
        """Turn a record into a row, or note why it is none."""
        raw = record.raw
        try:
            canonical = _json(record.value, orjson.OPT_SORT_KEYS)
            raw = canonical if raw is None else raw
            draft = self._reader.read(record.value)
            meta = self.meta(record, draft)
        except NotReadable as error:
            self._refuse(record.line, error.reason, error.detail, raw or b"")
        else:
            row_id = xxhash.xxh3_64_hexdigest(self.prefix + canonical)
            has_more = len(record.value) > len(draft.used)
            own = self._own_values(record.value) if has_more else self._without_own
            self.lines.append(record.line)
            self._gathered.append((row_id, meta, draft.tools, *own))
            self._messages.add(draft.messages)
            self._rejected.add(draft.rejected)

    def refuse(self, unread: Unread) -> None:
        """Note a record that could not be read."""
        self._unread.append(unread)

    def _refuse(self, line: int, reason: str, detail: str, raw: bytes) -> None:
        self._unread.append(Unread(line, reason, detail, raw[:EXCERPT_SOURCE_BYTES], xxhash.xxh3_64_hexdigest(raw)))

    def meta(self, record: Read, draft: Draft) -> str:
        """JSON of the record's other fields, and its shape."""
        value: dict[str, Any] = record.value
        names = self._reader.fields.name
        expected = [names(field) for field in draft.plain]
        used = draft.used
        is_plain = not (draft.templates or draft.parts or draft.calls)
        if is_plain and len(used) == len(value) and list(value) == expected:
            return self._plain_meta
        extra = {key: item for key, item in value.items() if key not in used}
        shape = dict(self._shape)
        if SHAPE in extra:
            shape["own"] = extra.pop(SHAPE)
            expected.append(SHAPE)
        if list(value) != [*expected, *extra]:
            shape["keys"] = list(value)
        if draft.templates:
            shape["fields"] = draft.templates
            if any(isinstance(template, list) for template in draft.templates.values()):
                shape["turns"] = len(draft.messages)
        if draft.parts:
            shape["parts"] = draft.parts
        if draft.calls:
            shape["calls"] = draft.calls
        meta = {**extra, SHAPE: shape}
        if record.may_be_odd:
            places = odd_places(meta)
            if places:
                shape["odd"] = places
        return _json(meta).decode()

    def _own_values(self, value: dict[str, Any]) -> tuple[Any, ...]:
        """Task, label, lang, split, weight, id and split as the record has it."""
        task, label, lang, split, weight, own_id = [value.get(name) for name in self.names]
        defaults = self._defaults
        return (
            word(task) or defaults.get("task"),
            word(label),
            language(lang) or defaults.get("lang"),
            defaults.get("split") or split_name(split),
            float(weight) if isinstance(weight, (int, float)) else 1.0,
            None if own_id is None else _json(own_id).decode(),
            word(split),
        )

    def rows(self) -> pl.DataFrame:
        """The rows so far (`READ_SCHEMA`); ids not yet numbered (`number_repeats`)."""
        columns = zip(*self._gathered, strict=True) if self._gathered else iter([()] * len(_GATHERED))
        series = {name: pl.Series(name, next(columns), dtype=READ_SCHEMA[name]) for name in _GATHERED}
        series |= {"messages": self._messages.series("messages"), "rejected": self._rejected.series("rejected")}
        return whole_rows(series, {"source": self._source})

    def unread(self) -> pl.DataFrame:
        """Records that gave no row (`UNREAD_SCHEMA`); ids not yet numbered."""
        unread = sorted(self._unread, key=lambda one: one.line)
        lines = [(digest(self._source, one.digest), one.line, one.reason, one.detail, one.head) for one in unread]
        return pl.DataFrame(lines, schema=UNREAD_SCHEMA, orient="row")


def whole_rows(given: Mapping[str, pl.Series], same: Mapping[str, Any]) -> pl.DataFrame:
    """Rows (`READ_SCHEMA`) of some columns, and others that have the same value in all rows (left out: null)."""
    height = len(given["row_id"])
    alike = {
        name: pl.Series(name, [same.get(name)], dtype=kind).new_from_index(0, height)
        for name, kind in READ_SCHEMA.items()
        if name not in given
    }
    return pl.DataFrame([given[name] if name in given else alike[name] for name in READ_SCHEMA])


def _json(value: Any, option: int = 0) -> bytes:
    """JSON of a value that was read from JSON; all that can be wrong with it is its depth."""
    try:
        return orjson.dumps(value, option=option)
    except TypeError as error:
        raise NotReadable("nested_too_deep", "objects inside objects inside objects") from error


def number_repeats(row_ids: pl.Series) -> pl.Series:
    """Ids of one source in its order, the second and later of equal ones made their own."""
    is_first = row_ids.is_first_distinct()
    if is_first.all():
        return row_ids
    places = row_ids.is_duplicated().arg_true()
    seen = pl.DataFrame({"row_id": row_ids.gather(places)}).select("row_id", n=pl.int_range(pl.len()).over("row_id"))
    repeats = seen.filter(pl.col("n") > 0)
    if repeats.height < _WORTH_COMPILING:
        numbered = pl.Series([digest(row_id, str(n)) for row_id, n in repeats.iter_rows()])
    else:
        from tasks.kernels.hashing import digests

        numbered = digests(repeats.select(pl.concat_str("row_id", "n", separator=SEPARATOR)).to_series())
    return row_ids.scatter((~is_first).arg_true(), numbered)


def word(value: Any) -> str | None:
    """A string, number or truth value as a column's string."""
    if isinstance(value, str):
        return None if not value or isinstance(value, Odd) else value
    if isinstance(value, bool):
        return "true" if value else "false"
    return str(value) if isinstance(value, (int, float)) else None


def split_name(value: Any) -> str | None:
    """A record's own split, where its name is known."""
    if not isinstance(value, str):
        return None
    name = value.strip()
    return name if _TEST_SET.fullmatch(name) else _SPLITS.get(name.lower())


def language(value: Any) -> str | None:
    """A language code without its region; words such as "English" are no code."""
    match = _LANGUAGE.match(value.strip().lower()) if isinstance(value, str) else None
    return match[1] if match else None
