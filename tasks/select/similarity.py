"""How near each row is to the target: the mean cosine to its nearest examples.

The mean over a few nearest examples, not over all: a target domain has several corners, and a row that sits in one of
them is relevant although it is far from the others. One nearest example alone would follow every odd seed.

The encoder reads few tokens, so a conversation shows it the opening of its first question and of its last answer; a
long prompt may not push the answer out. all-MiniLM-L6-v2 was trained on English: Chinese falls into few word pieces
there and its cosines say little, so a Chinese target needs a multilingual encoder (`select.encoder`).
"""

import numpy as np
import polars as pl

_CJK = r"[\p{Han}\p{Hiragana}\p{Katakana}\p{Hangul}]"
_CHARS_PER_TOKEN = 3  # of text with spaces and of code; Chinese, Japanese and Korean have about one token a character
_DECIMALS = 4  # a cosine's fourth decimal is what a threshold can mean
_CHUNK = 8192  # rows whose cosines to every example are in memory at once


def view(max_length: int) -> pl.Expr:
    """What the encoder reads of a row: half of its tokens for the question, what is left for the answer.

    Args:
        max_length: tokens that the encoder reads.

    Returns:
        a string from the column `messages`; of raw text its beginning.
    """
    question = _opening(_contents("user").list.first().fill_null(""), max_length // 2)
    answer = _opening(_contents("assistant", "text").list.last().fill_null(""), max_length)
    return pl.concat_str(question, answer, separator="\n").str.strip_chars()


def nearest_mean(rows: np.ndarray, examples: np.ndarray, nearest: int) -> np.ndarray:
    """Mean cosine of each row to its nearest examples, rounded to four decimals.

    Summed in float64, so that how many rows are compared at once, and on how many threads, is far below the rounding.

    Args:
        rows: (n, d) float32, rows of length 1.
        examples: (m, d) float32, rows of length 1; m at least 1.
        nearest: examples that count; all, if there are fewer.

    Returns:
        (n,) float32 in [-1, 1].
    """
    count = min(nearest, examples.shape[0])
    against = examples.T.astype(np.float64)
    found = np.empty(rows.shape[0], dtype=np.float64)
    for start in range(0, rows.shape[0], _CHUNK):
        cosines = rows[start : start + _CHUNK].astype(np.float64) @ against  # (chunk, m)
        best = np.partition(cosines, examples.shape[0] - count, axis=1)[:, examples.shape[0] - count :]
        found[start : start + _CHUNK] = best.mean(axis=1)
    return np.round(found, _DECIMALS).astype(np.float32)


def _contents(*roles: str) -> pl.Expr:
    spoken = pl.element().filter(pl.element().struct.field("role").is_in(list(roles)))
    return pl.col("messages").list.eval(spoken.struct.field("content"))


def _opening(text: pl.Expr, tokens: int) -> pl.Expr:
    """About so many tokens of a text's beginning."""
    head = text.str.slice(0, tokens * _CHARS_PER_TOKEN)
    dense = head.str.count_matches(_CJK) * 2 > head.str.len_chars()
    return pl.when(dense).then(head.str.slice(0, tokens)).otherwise(head)
