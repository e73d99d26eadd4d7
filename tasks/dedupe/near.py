"""Near-duplicates: rows whose shingles overlap an earlier kept row's in every part that counts.

The parts are those of the unit: `pair` wants prompt (every turn but the assistant's) and answer (the assistant's) each
above the threshold, so that two questions about one passage both stay; `whole`, `prompt` and `answer` look at one part.
For `pair` and `whole`, of two preference pairs the rejected halves must resemble too, and tools must be equal.

Bands for a pair take their values from both parts, about half each. If both parts reach the threshold t, a band of w
values agrees with a chance of at least t^w, as it would within one part, so nothing is lost; and rows meet only if
*both* parts resemble: neither a thousand rows that answer "yes" nor a thousand answers to one prompt do.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import polars as pl

from pipeline_config.data_schema import Dedupe
from pipeline_config.errors import ConfigError
from tasks.dedupe.exact import ANSWER, PROMPT, equal_to
from tasks.dedupe.passages import Passage
from tasks.kernels.candidates import Hashes, Int32s, Int64s
from tasks.kernels.lsh import FIRST_KEPT, Walk, Walked
from tasks.kernels.minhash import Bands, Signatures, choose_bands, signatures
from tasks.kernels.rows import ROLES
from tasks.kernels.text import Sets, from_strings, role_mask, shingles

PARTS: dict[str, dict[str, tuple[str, ...]]] = {
    "pair": {"prompt": PROMPT, "answer": ANSWER},
    "whole": {"text": ROLES},
    "prompt": {"prompt": PROMPT},
    "answer": {"answer": ANSWER},
}


class Numbers(NamedTuple):
    """What of all rows is compared by number: equal numbers, equal values.

    Attributes:
        kind: by tools and whether the row is a preference pair.
        label: -1 for none.
        prompt: as normalised, with its tools; -1 where nothing is asked.
    """

    kind: Int32s
    label: Int32s
    prompt: Int32s


class Near(NamedTuple):
    """What the walk found, and in which terms.

    Attributes:
        walked: numbers of removed rows and their matches.
        parts: names of the parts that were verified, in the order of `walked.jaccard`.
        bands: how the signatures were cut.
        recall: share of the pairs at the threshold that the bands find, at least.
    """

    walked: Walked
    parts: tuple[str, ...]
    bands: Bands
    recall: float


class Sketched(NamedTuple):
    """What a walk needs of some rows: the sets of each part, and signatures."""

    fields: list[Sets]
    signature: Signatures


def unit_of(config: Dedupe) -> str:
    """What of conversations must resemble."""
    return "pair" if config.unit == "auto" else config.unit


def numbers(says: pl.DataFrame) -> Numbers:
    """Number what rows share; `says` as `exact.SAYING` has it."""
    kind = equal_to(says.select("tools", "preference")).astype(np.int32)
    label = equal_to(says.select("label")).astype(np.int32)
    label[says["label"].is_null().to_numpy()] = -1
    prompt = np.full(says.height, -1, np.int32)
    asks = says["asks"].to_numpy()
    if asks.any():
        prompt[asks] = equal_to(says.select("prompt_0", "prompt_1").with_columns(pl.Series("kind", kind)))[asks]
    return Numbers(kind, label, prompt)


class Nearness:
    """The walk over the rows of one group: conversations, or raw text.

    Args:
        rows: how many rows there are, of both groups.
        said: what is compared by number, of all rows.
        unit: pair, whole, prompt or answer.
        threshold: Jaccard that each part must reach.
        preference: whether a row of the group is a preference pair.
        asked: whether a row of the group asks something.

    Raises:
        ConfigError: more bands than permutations.
    """

    def __init__(
        self, rows: int, said: Numbers, unit: str, threshold: float, config: Dedupe, *, preference: bool, asked: bool
    ) -> None:
        self._said, self._unit, self._config = said, unit, config
        self._bands = _bands(threshold, config)
        self.sketched = tuple(PARTS[unit]) if config.near else ()
        self._apart = unit in ("pair", "whole")  # what else a row holds counts too
        checked = (*self.sketched, *(("rejected",) if self.sketched and self._apart and preference else ()))
        needs_answer = "answer" not in checked and (asked or not checked)
        self.checked = checked
        self.parts = (*checked, *(("answer",) if needs_answer else ()))
        self._walk = Walk(
            FIRST_KEPT,
            rows,
            len(self.parts),
            self._bands.bands if self.sketched else 0,
            self._bands.width,
            threshold,
            checked=len(checked),
            answer=self.parts.index("answer") if "answer" in self.parts else -1,
            refuse=config.conflicting_answer == "quarantine",
        )

    def sketch(self, passage: Passage, which: Int64s) -> Sketched:
        """The sets and signatures of rows of a block; may be called while another block is taken.

        Args:
            which: their places in the block.
        """
        return self._sketched([self._shingles(part, passage, which) for part in self.parts], which.size)

    def take(self, sketched: Sketched, rows: Int64s) -> None:
        """Match rows with earlier kept ones.

        Args:
            rows: their numbers among all rows, in the order of keeping.
        """
        if rows.size:
            self._take(sketched, rows, given=False)

    def take_given(self, sets: dict[str, Sets], rows: Int64s) -> None:
        """Rows that another run kept: they stay whatever they resemble.

        Args:
            sets: by part; one that is missing is empty in all these rows.
            rows: their numbers among all rows.
        """
        empty = shingles(from_strings(pl.Series([""])), self._config.shingle).values
        nothing = Sets(np.repeat(empty, rows.size), np.arange(rows.size + 1))
        if rows.size:
            fields = [sets.get(part, nothing) for part in self.parts]
            self._take(self._sketched(fields, rows.size), rows, given=True)

    def near(self) -> Near:
        """What was found."""
        return Near(self._walk.walked(), self.checked, self._bands, self._bands.recall(self._walk.threshold))

    def held(self) -> Int64s:
        """The numbers of the rows that the walk kept, those that were given first."""
        return self._walk.held()[0]

    def sets_of(self, rows: Int64s) -> tuple[Hashes, Int64s]:
        """The sets of rows, one behind the other, and how many shingles each of `parts` has: (n_rows, n_parts).

        Args:
            rows: numbers; of one that the walk does not hold the sets are empty.
        """
        held, begins, values = self._walk.held()
        place = np.full(self._said.kind.size, -1, np.int64)
        place[held] = np.arange(held.size)
        there = place[rows][place[rows] >= 0]
        sizes = np.zeros((rows.size, len(self.parts)), np.int64)
        sizes[place[rows] >= 0] = np.diff(begins[there], axis=1)
        if there.size and (np.diff(there) == 1).all():
            return values[begins[there[0], 0] : begins[there[-1], -1]], sizes
        lengths = begins[there, -1] - begins[there, 0]
        shift = begins[there, 0] - (np.cumsum(lengths) - lengths)
        return values[np.repeat(shift, lengths) + np.arange(lengths.sum())], sizes

    def _sketched(self, fields: list[Sets], rows: int) -> Sketched:
        return Sketched(fields, _signature(rows, fields[: len(self.sketched)], self._bands, self._config.num_perm))

    def _take(self, sketched: Sketched, rows: Int64s, *, given: bool) -> None:
        self._walk.take(
            sketched.fields,
            sketched.signature,
            rows,
            kind=self._said.kind[rows] if self._apart else None,
            label=self._said.label[rows],
            prompt=self._said.prompt[rows],
            given=given,
        )

    def _shingles(self, part: str, passage: Passage, which: Int64s) -> Sets:
        if part == "rejected":
            return shingles(passage.rejected, self._config.shingle, which=which)
        roles = ANSWER if part == "answer" else PARTS[self._unit][part]
        return shingles(passage.said, self._config.shingle, role_mask(*roles), which)


def by_part(parts: Sequence[str], values: Hashes, sizes: Int64s) -> dict[str, Sets]:
    """Sets that stand one behind the other, apart.

    Args:
        sizes: (n_rows, n_parts) shingles of each part.
    """
    part_of = np.repeat(np.tile(np.arange(len(parts)), sizes.shape[0]), sizes.ravel())
    found = {}
    for k, part in enumerate(parts):
        offsets = np.zeros(sizes.shape[0] + 1, np.int64)
        np.cumsum(sizes[:, k], out=offsets[1:])
        found[part] = Sets(values[part_of == k], offsets)
    return found


def _bands(threshold: float, config: Dedupe) -> Bands:
    try:
        return choose_bands(threshold, config.num_perm, config.recall, config.bands)
    except ValueError as error:
        raise ConfigError(
            str(error), place="dedupe.bands", cure="lower dedupe.bands or raise dedupe.num_perm"
        ) from None


def _signature(rows: int, parts: Sequence[Sets], bands: Bands, num_perm: int) -> Signatures:
    """Signatures whose bands take their values from the parts in turn: (n_rows, bands * width), or no columns."""
    used = np.arange(bands.bands * bands.width if parts else 0)
    if len(parts) == 1:
        return signatures(parts[0], num_perm, used)
    out = np.empty((rows, used.size), np.uint32)
    for k, part in enumerate(parts):
        columns = used[used % bands.width % len(parts) == k]
        out[:, columns] = signatures(part, num_perm, columns)
    return out
