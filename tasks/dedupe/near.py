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
from tasks.dedupe.exact import equal_to
from tasks.kernels.candidates import Int32s, Int64s
from tasks.kernels.lsh import FIRST_KEPT, Walked, walk
from tasks.kernels.minhash import Bands, Signatures, choose_bands, signatures
from tasks.kernels.rows import ROLES
from tasks.kernels.text import Sets, Texts, digests, role_mask, shingles

ANSWER = ("assistant", "text")
PROMPT = tuple(role for role in ROLES if role not in ANSWER)
PARTS: dict[str, dict[str, tuple[str, ...]]] = {
    "pair": {"prompt": PROMPT, "answer": ANSWER},
    "whole": {"text": ROLES},
    "prompt": {"prompt": PROMPT},
    "answer": {"answer": ANSWER},
}


class Near(NamedTuple):
    """What the walk found, and in which terms.

    Attributes:
        walked: positions of removed rows and their matches.
        parts: names of the parts that were verified, in the order of `walked.jaccard`.
        bands: how the signatures were cut.
        recall: share of the pairs at the threshold that the bands find, at least.
    """

    walked: Walked
    parts: tuple[str, ...]
    bands: Bands
    recall: float


def near_duplicates(
    rows: pl.DataFrame, said: Texts, rejected: Texts, active: Int64s, unit: str, threshold: float, config: Dedupe
) -> Near:
    """Match each active row with an earlier kept one that it resembles.

    Args:
        rows: `messages`, `rejected`, `tools`, `label`, in the order of keeping.
        said: their messages.
        rejected: the messages of their other halves.
        active: positions of the rows that take part, ascending.
        unit: pair, whole, prompt or answer.
        threshold: Jaccard that each part must reach.
        config: for shingles, signatures and bands.

    Raises:
        ConfigError: more bands than permutations.
    """
    bands = _bands(threshold, config)
    units = PARTS[unit] if config.near else {}
    parts = {name: shingles(said, config.shingle, role_mask(*roles)) for name, roles in units.items()}
    signature = _signature(rows.height, list(parts.values()), bands, config.num_perm)
    apart = unit in ("pair", "whole")  # what else a row holds counts too
    preference = rows["rejected"].is_not_null()
    if parts and apart and preference.any():
        parts["rejected"] = shingles(rejected, config.shingle)
    checked = len(parts)
    kind = equal_to(rows.select("tools", preference.alias("preference"))).astype(np.int32)
    prompt = _prompts(rows, said, kind)
    if "answer" not in parts and ((prompt >= 0).any() or not parts):
        parts["answer"] = shingles(said, config.shingle, role_mask(*ANSWER))
    if not apart:
        active = active[_says_something(rows, PARTS[unit][unit])[active]]
    walked = walk(
        FIRST_KEPT,
        list(parts.values()),
        signature,
        bands.width,
        threshold,
        checked=checked,
        order=active,
        kind=kind if apart else None,
        label=_labels(rows["label"]),
        prompt=prompt,
        answer=list(parts).index("answer") if "answer" in parts else -1,
        refuse=config.conflicting_answer == "quarantine",
    )
    return Near(walked, tuple(parts)[:checked], bands, bands.recall(threshold))


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


def _says_something(rows: pl.DataFrame, roles: tuple[str, ...]) -> np.ndarray[tuple[int], np.dtype[np.bool_]]:
    """Which rows have a turn of these roles that is not blank."""
    turn = pl.element().struct
    said = turn.field("role").is_in(roles) & (turn.field("content").str.strip_chars() != "")
    return rows.select(pl.col("messages").list.eval(said).list.any()).to_series().fill_null(False).to_numpy()


def _labels(labels: pl.Series) -> Int32s:
    """A number for each label, -1 for none."""
    first = equal_to(labels.to_frame()).astype(np.int32)
    first[labels.is_null().to_numpy()] = -1
    return first


def _prompts(rows: pl.DataFrame, said: Texts, kind: Int32s) -> Int32s:
    """A number for each prompt as normalised, with its tools, -1 where nothing is asked."""
    asks = _says_something(rows, ("user", "tool"))
    if not asks.any():
        return np.full(rows.height, -1, np.int32)
    prompt = digests(said, role_mask(*PROMPT))
    first = equal_to(pl.DataFrame({"a": prompt[:, 0], "b": prompt[:, 1], "kind": kind}))
    return np.where(asks, first, -1).astype(np.int32)
