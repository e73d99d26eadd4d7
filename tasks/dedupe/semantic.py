"""Semantic near-duplicates: rows that say the same in other words, by the cosine of their sentence embeddings.

Of what the shingles let pass, greedy in the order of keeping; of a pair both prompt and answer must be near. Long texts
are read whole: the vector is the mean over pieces that the encoder can read, weighted by length, since two rows on one
passage differ only behind what a truncating encoder sees. An encoder hardly sees digits, so rows whose numbers differ
are never matched: two problems that differ in a number are two problems.
"""

from collections.abc import Callable, Mapping
from typing import NamedTuple

import numpy as np
import polars as pl

from pipeline_config.data_schema import Semantic
from tasks.dedupe.exact import equal_to
from tasks.kernels.candidates import Floats, Int32s, Int64s
from tasks.kernels.cosines import Vectors, first_alike
from tasks.kernels.rows import joined

Encode = Callable[[list[str]], Vectors]
_TINY = np.float32(1e-12)
_BYTES = 3  # of text for each token that the encoder reads: an English token has more, a Chinese one as many


class Meaning(NamedTuple):
    """What rows mean.

    Attributes:
        rows: (n_rows,) their numbers among all rows.
        vectors: (n_rows, n_parts, width) unit vectors.
        digits: (n_rows,) the digits of the parts' text; rows with different ones are never matched.
    """

    rows: Int64s
    vectors: Vectors
    digits: pl.Series


class Alike(NamedTuple):
    """What was found: numbers of rows that go and of their matches, and the cosine of each part."""

    row: Int64s
    match: Int64s
    cosine: Floats


class Meanings:
    """What the kept rows of one group mean.

    Args:
        parts: name of each part that counts → its roles.
        kind: of all rows; rows of different kinds are never matched.
        label: nor are those with different labels.
    """

    def __init__(
        self, config: Semantic, encode: Encode, parts: Mapping[str, tuple[str, ...]], kind: Int32s, label: Int32s
    ) -> None:
        self.parts = tuple(parts)
        self._roles = tuple(parts.values())
        self._config, self._encode, self._kind, self._label = config, encode, kind, label
        self.kept: Meaning | None = None

    def give(self, meant: Meaning) -> None:
        """Rows that another run kept."""
        self.kept = meant if self.kept is None else _joined(self.kept, meant)

    def take(self, rows: Int64s, messages: pl.DataFrame) -> Alike:
        """Match rows, in the order of keeping, with those kept so far and earlier ones; the others are kept.

        Args:
            rows: their numbers.
            messages: `messages` of each.
        """
        if not rows.size:
            return Alike(rows, rows, np.empty((0, len(self.parts))))
        meant, given = self._meaning(rows, messages), 0
        if self.kept is not None:
            given, meant = self.kept.rows.size, _joined(self.kept, meant)
        number = meant.rows
        like = pl.DataFrame({"digits": meant.digits, "kind": self._kind[number], "label": self._label[number]})
        match, cosines = first_alike(meant.vectors, equal_to(like), self._config.threshold, given)
        gone, stay = np.flatnonzero(match >= 0), np.flatnonzero(match < 0)
        self.kept = Meaning(number[stay], meant.vectors[stay], meant.digits.gather(stay))
        return Alike(number[gone], number[match[gone]], cosines[gone])

    def _meaning(self, rows: Int64s, messages: pl.DataFrame) -> Meaning:
        texts = [messages.select(joined("messages", roles).fill_null("")).to_series() for roles in self._roles]
        digits = [text.str.extract_all(r"\d+").list.join(" ").alias(str(k)) for k, text in enumerate(texts)]
        spelled = pl.DataFrame(digits).select(pl.concat_str(pl.all(), separator="|")).to_series()
        vectors = [_vectors(text.to_list(), self._config.max_length, self._encode) for text in texts]
        return Meaning(rows, np.stack(vectors, axis=1), spelled)


def _joined(one: Meaning, two: Meaning) -> Meaning:
    return Meaning(
        np.concatenate([one.rows, two.rows]),
        np.concatenate([one.vectors, two.vectors]),
        pl.concat([one.digits, two.digits]),
    )


def _vectors(texts: list[str], max_length: int, encode: Encode) -> Vectors:
    """Unit vectors of whole texts; of a long one the mean over its pieces."""
    pieces = [_pieces(text, _BYTES * max_length) for text in texts]
    flat = encode([piece for each in pieces for piece in each])
    sizes = np.array([len(each) for each in pieces], np.int64)
    weights = np.array([len(piece) for each in pieces for piece in each], np.float32)
    begins = np.cumsum(sizes) - sizes
    if not sizes.size or (sizes == 1).all():
        return flat
    mean = np.add.reduceat(flat * weights[:, None], begins, axis=0)
    mean = np.where((sizes == 1)[:, None], flat[begins], mean)
    length = np.linalg.norm(mean, axis=1, keepdims=True)
    return np.asarray(mean / np.maximum(length, _TINY), np.float32)


def _pieces(text: str, size: int) -> list[str]:
    """Pieces of about so many bytes, of equal length."""
    count = -(-len(text.encode("utf-8", "surrogatepass")) // size)
    step = -(-len(text) // max(count, 1)) or 1
    return [text[start : start + step] for start in range(0, len(text), step)] or [""]
