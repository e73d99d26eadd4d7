"""Exact duplicates: rows that say the same, in the same roles, with the same label.

Two messages say the same if they are equal after Unicode NFC, case folding and collapsing white space, nothing more:
digits and punctuation stay. The other half of a preference pair, the tools and the label belong to what a row says: one
chosen answer beside two rejected ones makes two rows, and a text with two labels is kept with both.
"""

from typing import Any

import numpy as np
import polars as pl

from tasks.dedupe.passages import Passage
from tasks.kernels.candidates import Int64s
from tasks.kernels.rows import ROLES
from tasks.kernels.text import Texts, digests, role_mask

ANSWER = ("assistant", "text")
PROMPT = tuple(role for role in ROLES if role not in ANSWER)
_ASKS = ("user", "tool")
_POSITION = "__position"
SAYING: dict[str, Any] = {
    "label": pl.String,
    "tools": pl.String,
    "raw": pl.Boolean,  # raw text, no conversation
    "preference": pl.Boolean,
    "said_0": pl.UInt64,
    "said_1": pl.UInt64,
    "rejected_0": pl.UInt64,
    "rejected_1": pl.UInt64,
    "asks": pl.Boolean,  # a turn of the user or a tool is not blank
    "prompt_0": pl.UInt64,
    "prompt_1": pl.UInt64,
}
_IDENTITY = ("label", "tools", "preference", "said_0", "said_1", "rejected_0", "rejected_1")


def equal_to(columns: pl.DataFrame) -> Int64s:
    """For each row the position of the first row that is equal to it in all columns (null equals null)."""
    first = pl.col(_POSITION).first().over(columns.columns)
    return columns.with_row_index(_POSITION).select(first.cast(pl.Int64)).to_series().to_numpy()


def sayings(rows: pl.DataFrame, passage: Passage) -> pl.DataFrame:
    """What each row says, in few bytes (`SAYING`): digests of the messages, the other half of a pair and the prompt.

    Args:
        rows: `label`, `tools`, `rejected` of the block, and its messages' roles in the passage.
    """
    said, first = passage.said, passage.said.rows[:-1]
    roles = np.append(said.roles, ROLES.index("user"))  # a row without a message is no raw text
    raw = (roles[first] == ROLES.index("text")) & (said.rows[1:] > first)
    asks = says_something(rows["messages"], said, _ASKS)
    here, there = digests(said), digests(passage.rejected)
    prompt = digests(said, role_mask(*PROMPT)) if asks.any() else np.zeros_like(here)
    return rows.select("label", "tools").with_columns(
        pl.Series("raw", raw),
        rows["rejected"].is_not_null().alias("preference"),
        *(pl.Series(f"said_{k}", here[:, k]) for k in range(2)),
        *(pl.Series(f"rejected_{k}", there[:, k]) for k in range(2)),
        pl.Series("asks", asks),
        *(pl.Series(f"prompt_{k}", prompt[:, k]) for k in range(2)),
    )


def first_equal(says: pl.DataFrame) -> Int64s:
    """For each row the position of the first that says the same."""
    return equal_to(says.select(_IDENTITY))


def other_labels(says: pl.DataFrame) -> Int64s:
    """For each labelled row the position of the first that says the same with another label; -1 if there is none."""
    labelled = says["label"].is_not_null()
    same = [name for name in _IDENTITY if name != "label"]
    first = equal_to(says.select(same).with_columns(labelled.alias("labelled")))
    return np.where(labelled & (says["label"].gather(first) != says["label"]), first, -1)


def says_something(
    messages: pl.Series, said: Texts, roles: tuple[str, ...]
) -> np.ndarray[tuple[int], np.dtype[np.bool_]]:
    """Which rows have a turn of these roles that is not blank."""
    if not np.isin(said.roles, [ROLES.index(role) for role in roles]).any():
        return np.zeros(len(messages), np.bool_)
    turn = pl.element().struct
    spoken = turn.field("role").is_in(roles) & (turn.field("content").str.strip_chars() != "")
    found = messages.to_frame("m").select(pl.col("m").list.eval(spoken).list.any()).to_series()
    return found.fill_null(False).to_numpy()
