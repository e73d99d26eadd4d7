"""Text as duplicates see it: normalised, cut into tokens, hashed; compiled over Arrow's offsets and bytes.

Definitions. Normalised: Unicode NFC, then case folding (`str.casefold`). A token is a run of `\\w` as Python's `re` has
it, but each Han, Kana or Hangul character is a token by itself. The shingles of a text are the set of its runs of n
consecutive tokens; a text of fewer tokens is one shingle, its whole token sequence; a text without tokens is one
shingle, the normalised text. Digits stay: two problems that differ in a number are two problems.

A shingle is hashed as the UTF-8 bytes of its tokens joined by a space, by xxh64 with seed 0, so that any xxhash
library gives the same value. Two sets of 1,000 shingles hold two different shingles of one hash with a chance of 5e-14.
"""

import unicodedata
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, NamedTuple, TypeVar

import numpy as np
import polars as pl

from tasks.kernels import tokens
from tasks.kernels.rows import ROLES
from tasks.kernels.tokens import Bytes, Hashes, Offsets
from tasks.kernels.unicode import tables

Result = TypeVar("Result")

_BLOCK_BYTES = 1 << 20  # of text in one call of a kernel: bounds the scratch memory, and is what threads share


class Texts(NamedTuple):
    """Rows of one or more pieces of text, in NFC.

    Attributes:
        data: the UTF-8 bytes of all pieces.
        pieces: (n_pieces + 1,) where each piece begins in `data`.
        rows: (n_rows + 1,) where each row begins in `pieces`.
        roles: (n_pieces,) uint8, index in `ROLES`; pieces without a role are `text`.
    """

    data: Bytes
    pieces: Offsets
    rows: Offsets
    roles: Bytes


class Sets(NamedTuple):
    """A set of hashes for each row.

    Attributes:
        values: (n_values,) uint64, each once in its row, in the order of the text.
        offsets: (n_rows + 1,) where each row begins in `values`.
    """

    values: Hashes
    offsets: Offsets


def role_mask(*roles: str) -> np.uint8:
    """The bit set of roles that the kernels below take; all of them if none is named."""
    return np.uint8(sum(1 << ROLES.index(role) for role in roles or ROLES))


def from_strings(texts: pl.Series) -> Texts:
    """Rows of one piece each; null is the empty text."""
    rows = np.arange(len(texts) + 1, dtype=np.int64)
    return _with_nfc(texts.fill_null(""), rows, np.full(len(texts), ROLES.index("text"), np.uint8))


def from_messages(messages: pl.Series) -> Texts:
    """Rows of one piece a message; a null list has none, null content is the empty text."""
    lists = messages.rechunk().to_arrow(compat_level=pl.CompatLevel.oldest())
    flat = pl.Series(values=lists.flatten(), dtype=messages.dtype.inner)  # type: ignore[attr-defined]
    rows = np.zeros(len(messages) + 1, np.int64)
    np.cumsum(messages.list.len().fill_null(0).to_numpy(), out=rows[1:])
    known = pl.Enum(ROLES)
    roles = flat.struct.field("role").cast(known).to_physical().cast(pl.UInt8).to_numpy()
    return _with_nfc(flat.struct.field("content").fill_null(""), rows, np.array(roles, np.uint8))


def shingle_hashes(texts: pl.Series, n: int) -> tuple[Hashes, Offsets]:
    """The shingles of each text as hashes.

    Args:
        texts: String.
        n: tokens in a shingle.

    Returns:
        values (uint64; sorted within a row, each once) and offsets (int64, rows + 1): row i is
        `values[offsets[i]:offsets[i + 1]]`, and never empty.
    """
    values, offsets = shingles(from_strings(texts), n)
    tokens.sort_rows(values, offsets)
    return values, offsets


def shingles(texts: Texts, n: int, roles: np.uint8 | None = None, which: Offsets | None = None) -> Sets:
    """The shingles of each row over its pieces of the roles given, as if joined by a newline; no row is left empty.

    Args:
        which: only these rows, in this order.
    """
    table, mask = tables(), role_mask() if roles is None else roles
    chosen = np.arange(texts.rows.size - 1) if which is None else which
    begins = texts.pieces[texts.rows]
    sizes = np.zeros(chosen.size + 1, np.int64)
    np.cumsum(begins[chosen + 1] - begins[chosen], out=sizes[1:])

    def block(first: int, last: int) -> tuple[Hashes, Offsets]:
        room = int(sizes[last] - sizes[first]) + last - first
        values, counts = np.empty(room, np.uint64), np.empty(last - first, np.int64)
        total = tokens.shingles(*texts, mask, n, *table, chosen[first:last], values, counts)
        return values[:total].copy(), counts

    return Sets(*_in_order(sizes, block))


def sequences(texts: pl.Series) -> tuple[Hashes, Offsets]:
    """The tokens of each text as hashes, in order, each as often as it stands there.

    Returns:
        values (uint64) and offsets (int64, rows + 1); row i is `values[offsets[i]:offsets[i + 1]]`, and may be empty.
    """
    given, table, mask = from_strings(texts), tables(), role_mask()

    def block(first: int, last: int) -> tuple[Hashes, Offsets]:
        room = int(given.pieces[given.rows[last]] - given.pieces[given.rows[first]])
        values, counts = np.empty(room, np.uint64), np.empty(last - first, np.int64)
        total = tokens.sequences(*given, mask, *table, first, last, values, counts)
        return values[:total].copy(), counts

    return _in_order(given.pieces[given.rows], block)


def digests(texts: Texts, roles: np.uint8 | None = None) -> Hashes:
    """What a row says, in 128 bits: equal for rows whose pieces have equal roles and equal normalised text.

    Here white space is collapsed too: runs of it count as one space, none at the ends of a piece. The digest is
    xxh64, with seeds 0 and 1, over the byte FF, the role's index and the text of each piece of the roles given.

    Returns:
        (n_rows, 2) uint64
    """
    table, mask = tables(), role_mask() if roles is None else roles

    def block(first: int, last: int) -> Hashes:
        out = np.empty((last - first, 2), np.uint64)
        tokens.digests(*texts, mask, *table, first, last, out)
        return out

    return np.concatenate([np.empty((0, 2), np.uint64), *in_blocks(texts.pieces[texts.rows], _BLOCK_BYTES, block)])


def _in_order(begins: Offsets, block: Callable[[int, int], tuple[Hashes, Offsets]]) -> tuple[Hashes, Offsets]:
    """The values of all blocks, and where each row begins in them."""
    parts = list(in_blocks(begins, _BLOCK_BYTES, block))
    offsets = np.zeros(begins.size, np.int64)
    if parts:
        np.cumsum(np.concatenate([counts for _, counts in parts]), out=offsets[1:])
    return np.concatenate([values for values, _ in parts] or [np.empty(0, np.uint64)]), offsets


def _with_nfc(contents: pl.Series, rows: Offsets, roles: Bytes) -> Texts:
    data, pieces = buffers(contents)
    flagged = np.flatnonzero(tokens.suspects(data, pieces, tables().kind))
    if flagged.size:
        fixed = [unicodedata.normalize("NFC", text) for text in contents.gather(flagged).to_list()]
        data, pieces = buffers(contents.clone().scatter(flagged, pl.Series(fixed, dtype=pl.String)))
    return Texts(data, pieces, rows, roles)


def buffers(contents: pl.Series) -> tuple[Bytes, Offsets]:
    if contents.is_empty():
        data, pieces = np.empty(0, np.uint8), np.zeros(1, np.int64)
    else:
        array: Any = contents.rechunk().to_arrow(compat_level=pl.CompatLevel.oldest())
        _, offsets, values = array.buffers()
        pieces = np.frombuffer(offsets, np.int64)[array.offset : array.offset + len(array) + 1].copy()
        data = np.frombuffer(values, np.uint8) if values is not None and values.size else np.empty(0, np.uint8)
    data.flags.writeable = False  # one type for the kernels, Arrow's memory or not
    return data, pieces


def one_ahead(items: Iterator[Result]) -> Iterator[Result]:
    """The same items; the next is made on another thread while one is used, if Polars uses several."""
    if pl.thread_pool_size() == 1:
        yield from items
        return
    end = object()
    with ThreadPoolExecutor(1) as pool:
        ahead: Future[Any] = pool.submit(next, items, end)
        while (item := ahead.result()) is not end:
            ahead = pool.submit(next, items, end)
            yield item


def in_blocks(begins: Offsets, size: int, work: Callable[[int, int], Result]) -> Iterator[Result]:
    """Run the work over blocks of whole rows, on as many threads as Polars uses.

    Args:
        begins: (n_rows + 1,) where each row begins, in bytes or values.
        size: about so many bytes or values in a block.
        work: takes the first row and the one behind the last.

    Returns:
        the results in row order; none if there are no rows.
    """
    marks = np.arange(int(begins[0]) + size, int(begins[-1]), size)
    cuts = np.unique(np.append(np.searchsorted(begins, marks), [0, begins.size - 1]))
    with ThreadPoolExecutor(pl.thread_pool_size()) as pool:
        yield from pool.map(work, cuts[:-1].tolist(), cuts[1:].tolist())
