"""Who goes against whom: the walk over shingles, then, if asked, the one over meanings, until nothing is left open.

A row that goes because of its meaning may have been the reason why others went because of their shingles. Those are
judged again, against the rows that are kept by then. Each round judges fewer rows than the one before, and most runs
need no second one. So every removal names a row that is kept, with a value that was computed.
"""

from collections.abc import Iterator, Sequence

import numpy as np
import polars as pl

from pipeline_config.data_schema import Dedupe
from tasks.dedupe.everyone import Everyone
from tasks.dedupe.exact import SAYING
from tasks.dedupe.index import Group, Index
from tasks.dedupe.near import PARTS, Near, Nearness, Sketched, by_part, numbers, unit_of
from tasks.dedupe.passages import Passages
from tasks.dedupe.semantic import Alike, Encode, Meanings
from tasks.kernels.candidates import Int64s
from tasks.kernels.text import one_ahead

_ROWS = 4096  # sketched at once, while the walk goes over as many before them
Bools = np.ndarray[tuple[int], np.dtype[np.bool_]]


class Rounds:
    """The rounds of one run.

    Args:
        rows: this run's, with `messages`.
        active: which of all rows are judged here; the others say the same as an earlier one, or nothing.

    Attributes:
        match: (n_rows,) the kept row that each goes against, or -1.
        value: (n_rows,) the least Jaccard or cosine of the pair.
        semantic: (n_rows,) whether it is a cosine.
        details: `at` and `detail`, the values of the parts where there are several; the last line of a row counts.
        near: what each walk found.
        walks: the last walk of each group, and
        meanings: what its kept rows mean.
    """

    def __init__(
        self,
        rows: pl.LazyFrame,
        passages: Passages,
        people: Everyone,
        active: Bools,
        config: Dedupe,
        encode: Encode | None,
    ) -> None:
        self._rows, self._passages, self._people, self._config = rows, passages, people, config
        count = people.lines.height
        self._said = numbers(people.lines.select(list(SAYING)))
        raw = people.lines["raw"].to_numpy()
        members: dict[Group, Bools] = {"conversation": ~raw, "text": raw}
        self._members = {group: here for group, here in members.items() if here.any()}
        self._active = active
        self.match, self.value = np.full(count, -1, np.int64), np.full(count, np.nan)
        self.semantic = np.zeros(count, np.bool_)
        self.other_label, self.other_answer = np.full(count, -1, np.int64), np.full(count, -1, np.int64)
        self.details: list[pl.DataFrame] = []
        self.near: list[Near] = []
        self.walks: dict[Group, Nearness] = {}
        self.meanings: dict[Group, Meanings] = {}
        if config.semantic is not None and encode is not None:
            for group in self._members:
                parts = PARTS[unit_of(config) if group == "conversation" else "whole"]
                self.meanings[group] = Meanings(config.semantic, encode, parts, self._said.kind, self._said.label)

    def run(self, against: Sequence[Index]) -> None:
        """Judge all rows."""
        begin = 0
        self.walks = {group: self._nearness(group) for group in self._members}
        for index in against:
            for group, walk in self.walks.items():
                for rows, sets in index.sets(group):
                    walk.take_given(sets, rows + begin)
            for group, meant in self.meanings.items():
                for known in index.meanings(group, len(meant.parts)):
                    meant.give(known._replace(rows=known.rows + begin))
            begin += index.rows
        judged = self._active
        while True:
            self._walk(judged)
            gone = self._by_meaning(judged) if self.meanings else np.empty(0, np.int64)
            orphans = np.flatnonzero(np.isin(self.match, gone) & ~self.semantic & self._active)
            if not orphans.size:
                return
            judged = np.zeros_like(self._active)
            judged[orphans] = True
            self.match[orphans], self.value[orphans] = -1, np.nan
            for group, walk in self.walks.items():
                kept = walk.held()[self.match[walk.held()] < 0]
                self.walks[group] = self._nearness(group)
                self.walks[group].take_given(by_part(walk.parts, *walk.sets_of(kept)), kept)

    def _nearness(self, group: Group) -> Nearness:
        here, unit = self._members[group], unit_of(self._config) if group == "conversation" else "whole"
        return Nearness(
            here.size,
            self._said,
            unit,
            threshold_of(group, self._config),
            self._config,
            preference=bool(self._people.lines["preference"].to_numpy()[here].any()),
            asked=bool((self._said.prompt[here] >= 0).any()),
        )

    def _walk(self, judged: Bools) -> None:
        for walk, sketched, rows in one_ahead(self._sketched(judged)):
            walk.take(sketched, rows)
        for walk in self.walks.values():
            near = walk.near()
            found = near.walked
            self.near.append(near)
            self._note(Alike(found.row.astype(np.int64), found.match.astype(np.int64), found.jaccard), near.parts)
            self.other_answer = np.maximum(self.other_answer, found.other_answer)
            self.other_label = np.maximum(self.other_label, found.other_label)

    def _sketched(self, judged: Bools) -> Iterator[tuple[Nearness, Sketched, Int64s]]:
        """The rows to judge in the order of keeping, a few thousand at a time, with their sets and numbers."""
        given, places = self._people.given, self._people.places
        for passage in self._passages.again():
            numbered = slice(given + passage.start, given + passage.start + passage.rows)
            for group, walk in self.walks.items():
                chosen = np.flatnonzero(judged[numbered] & self._members[group][numbered])
                for start in range(0, chosen.size, _ROWS):
                    few = chosen[start : start + _ROWS]
                    at = places[few + passage.start] - passage.start
                    yield walk, walk.sketch(passage, at), few + given + passage.start

    def _by_meaning(self, judged: Bools) -> Int64s:
        """Hold what the walks kept against each other by meaning; who goes."""
        gone = []
        for group, meant in self.meanings.items():
            rows = self.walks[group].held()
            rows = rows[judged[rows]]
            places = self._people.places[rows - self._people.given]
            wanted = pl.DataFrame({"place": places.astype(np.uint32)})
            placed = self._rows.select("messages").with_row_index("place")
            messages = wanted.join(
                placed.filter(pl.col("place").is_in(wanted["place"].implode())).collect(),
                on="place",
                how="left",
                maintain_order="left",
            )
            found = meant.take(rows, messages)
            self._note(found, meant.parts)
            self.semantic[found.row] = True
            gone.append(found.row)
        return np.concatenate(gone)

    def _note(self, found: Alike, parts: Sequence[str]) -> None:
        self.match[found.row] = found.match
        self.value[found.row] = found.cosine.min(axis=1) if parts else 1.0
        if len(parts) > 1 and found.row.size:
            each = {part: found.cosine[:, k].round(4) for k, part in enumerate(parts)}
            words = pl.format(", ".join(f"{part} {{}}" for part in parts), *parts)
            at = pl.Series("at", found.row, dtype=pl.Int64)
            self.details.append(pl.DataFrame(each).select(at, words.alias("detail")))


def threshold_of(group: Group, config: Dedupe) -> float:
    """The Jaccard that rows of a group must reach."""
    return config.threshold if group == "conversation" else config.text_threshold
