"""Tokenised rows as a person can read them: the text of the tokens, and which of it is learned.

A token may hold half of a character (byte-level vocabularies split Chinese and emoji), so tokens are not decoded one by
one: a run of tokens with the same mark is decoded whole, and where such a run ends inside a character, the broken
tokens go to the learned side of the border.
"""

import html
from itertools import groupby
from typing import Any

import polars as pl

from tasks.kernels.draws import draw_bits

Piece = tuple[str, bool]  # text, and whether it is learned

_BROKEN = "\ufffd"
_LONGEST_CHARACTER = 4  # bytes in UTF-8, so at most as many tokens
_TRAINED = "\x1b[1;32m"
_CONTEXT = "\x1b[2m"
_RESET = "\x1b[0m"
# a row's own control characters (escape sequences among them) must not reach the terminal
_CONTROLS = {code: 0x2400 + code for code in range(32) if code not in (9, 10)} | dict.fromkeys(range(127, 160), 0x2421)


def preview_rows(tokens: pl.LazyFrame, tokenizer: Any, samples: int) -> list[dict[str, Any]]:
    """A few rows of a tokenize artifact, decoded.

    Train rows come first; of them those with the smallest draws, one a task (or source) as long as there are others.

    Args:
        tokens: `row_id, split, input_ids, loss_mask, n_tokens, n_trained`, perhaps `source` or `task`.
        tokenizer: the one that made the tokens.
        samples: rows wanted.

    Returns:
        for each row `row_id`, `split`, `task` (or source; empty where unknown), `n_tokens`, `n_trained`, and `pieces`:
        (text, learned) pairs, in order, that give the whole row's text.
    """
    ids = _choose(tokens, samples)
    rows = tokens.filter(pl.col("row_id").is_in(ids)).collect()
    lines = {line["row_id"]: line for line in rows.iter_rows(named=True)}
    group = _group_column(rows.columns)
    return [
        {
            "row_id": row_id,
            "split": lines[row_id]["split"] or "",
            "task": (lines[row_id][group] if group else None) or "",
            "n_tokens": lines[row_id]["n_tokens"],
            "n_trained": lines[row_id]["n_trained"],
            "pieces": pieces(lines[row_id]["input_ids"], lines[row_id]["loss_mask"], tokenizer),
        }
        for row_id in ids
    ]


def pieces(input_ids: list[int], loss_mask: list[bool], tokenizer: Any) -> list[Piece]:
    """Decoded runs of tokens with the same mark; no character is broken at their borders."""
    marks = _whole_characters(input_ids, list(loss_mask), tokenizer)
    found: list[Piece] = []
    end, before = 0, 0  # tokens, characters
    for mark, run in groupby(marks):
        end += len(list(run))
        text = _decode(input_ids[:end], tokenizer)  # from the start: some tokenizers drop a leading space
        found.append((text[before:], mark))
        before = len(text)
    return found


def render_terminal(rows: list[dict[str, Any]], colour: bool) -> str:
    """Rows for a terminal: learned text in colour, or between ⟦ and ⟧ without."""
    return "\n\n".join(
        _title(row).translate(_CONTROLS) + "\n" + "".join(_drawn(text, mark, colour) for text, mark in row["pieces"])
        for row in rows
    )


def render_html(rows: list[dict[str, Any]]) -> str:
    """Rows as escaped HTML: one `<figure class="sample">` each, learned text in `<mark class="learned">`."""
    return "\n".join(
        f'<figure class="sample"><figcaption>{html.escape(_title(row))}</figcaption>'
        f'<pre tabindex="0">{"".join(_marked(*piece) for piece in row["pieces"])}</pre></figure>'
        for row in rows
    )


def _choose(tokens: pl.LazyFrame, samples: int) -> list[str]:
    names = tokens.collect_schema().names()
    group = _group_column(names)
    frame = tokens.select("row_id", "split", pl.col(group).alias("group") if group else pl.lit("").alias("group"))
    rows = frame.filter(pl.col("row_id").is_not_null()).collect()
    bits = pl.Series("bits", draw_bits(rows["row_id"], 0, "preview"), dtype=pl.UInt64)
    ranked = (
        rows.with_columns(bits, (pl.col("split").fill_null("train") != "train").alias("held_out"))
        .sort("held_out", "bits", "row_id")
        .with_columns(pl.int_range(pl.len()).over("held_out", "group").alias("round"))
        .sort("held_out", "round", "bits", "row_id")
    )
    return ranked["row_id"].head(samples).to_list()


def _group_column(names: list[str]) -> str | None:
    return next((name for name in ("source", "task") if name in names), None)


def _whole_characters(input_ids: list[int], marks: list[bool], tokenizer: Any) -> list[bool]:
    """Move the borders between learned and other tokens until none stands inside a character."""
    borders = [n for n in range(1, len(marks)) if marks[n] != marks[n - 1]]
    for border in borders:
        before, after = _broken_before(input_ids, border, tokenizer), _broken_after(input_ids, border, tokenizer)
        if not (before and after):
            continue
        if marks[border]:
            marks[border - before : border] = [True] * before
        else:
            marks[border : border + after] = [True] * after
    return marks


def _broken_before(input_ids: list[int], border: int, tokenizer: Any) -> int:
    """Tokens directly before a border that are the beginning of a character which goes on behind it."""
    for n in range(1, min(_LONGEST_CHARACTER, border) + 1):
        if not _decode(input_ids[border - n : border], tokenizer).endswith(_BROKEN):
            return 0
        if not _decode(input_ids[: border - n][-_LONGEST_CHARACTER:], tokenizer).endswith(_BROKEN):
            return n
    return 0


def _broken_after(input_ids: list[int], border: int, tokenizer: Any) -> int:
    """Tokens directly behind a border that are the end of a character which began before it."""
    for n in range(1, _LONGEST_CHARACTER + 1):
        if not _decode(input_ids[border : border + n], tokenizer).startswith(_BROKEN):
            return 0
        if not _decode(input_ids[border + n :][:_LONGEST_CHARACTER], tokenizer).startswith(_BROKEN):
            return n
    return 0


def _decode(input_ids: list[int], tokenizer: Any) -> str:
    text: str = tokenizer.decode(input_ids, skip_special_tokens=False, clean_up_tokenization_spaces=False)
    return text


def _title(row: dict[str, Any]) -> str:
    place = " · ".join(part for part in (row["task"], row["split"]) if part)
    return f"{row['row_id']}  {place}  {row['n_trained']:,} of {row['n_tokens']:,} tokens learned"


def _drawn(text: str, trained: bool, colour: bool) -> str:
    text = text.translate(_CONTROLS)
    if colour:
        return f"{_TRAINED if trained else _CONTEXT}{text}{_RESET}"
    return f"⟦{text}⟧" if trained else text


def _marked(text: str, trained: bool) -> str:
    escaped = html.escape(text)
    return f'<mark class="learned">{escaped}</mark>' if trained else escaped
