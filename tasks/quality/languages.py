"""The language of a row's answer, and whether its prompt is in another one.

The answer is what is learned, so its language is the row's. Where the model is not sure of it, or it is short, prompt
and answer are judged together: a few words that look Cebuano, in answer to an English question, are English. A prompt
often holds two languages, an instruction in one and the material in another; so prompt and answer differ only if
neither the prompt's beginning nor its end is in the answer's language, nor has it some of its Chinese characters.
"""

import polars as pl

from tasks.kernels.language import UNDETERMINED, detect, sample
from tasks.kernels.rows import answer_text, prompt_text

_SURE = 0.8
_FEW_LETTERS = 50  # Latin ones; of fewer the model is often sure and wrong
_TAIL_CHARS = 1000


def languages(rows: pl.LazyFrame) -> pl.DataFrame:
    """Detect.

    Args:
        rows: `messages`.

    Returns:
        `detected` (ISO code or null), `detected_score` (Float32 in [0, 1]; 0 where unknown), and `language_gap`
        (Float32: the lower of the two scores where prompt and answer differ, else 0; null without a prompt).
    """
    texts = _texts(rows)
    alone = detect(texts["answer"])
    few = texts["answer"].str.count_matches(r"\p{Latin}").is_between(1, _FEW_LETTERS)
    doubtful = ((alone["score"] < _SURE) | few) & texts["has_prompt"]
    together = texts.filter(doubtful).select(pl.concat_str("prompt", "answer", separator=" ")).to_series()
    judged = _put(alone, doubtful, detect(together))
    return judged.select(
        pl.col("lang").replace(UNDETERMINED, None).alias("detected"),
        pl.col("score").alias("detected_score"),
        _gap(texts, alone, ~doubtful).alias("language_gap"),
    )


def _texts(rows: pl.LazyFrame) -> pl.DataFrame:
    prompt, answer = prompt_text(), answer_text()
    return rows.select(
        sample(prompt).alias("prompt"),
        sample(answer).alias("answer"),
        prompt.str.tail(_TAIL_CHARS).alias("tail"),
        (prompt.str.count_matches(r"\p{Han}") >= 2).alias("has_han"),
        (prompt.str.len_chars() > 0).alias("has_prompt"),
    ).collect()


def _gap(texts: pl.DataFrame, answer: pl.DataFrame, sure: pl.Series) -> pl.Series:
    """The lower score where prompt and answer are known to differ, else 0; null without a prompt."""
    frame = texts.with_columns(answer["lang"], answer["score"]).with_row_index("row").filter(sure & texts["has_prompt"])
    prompt = detect(frame["prompt"])
    both = pl.min_horizontal("score", prompt["score"])
    has_its_script = (pl.col("lang") == "zh") & pl.col("has_han")
    suspected = (prompt["lang"] != UNDETERMINED) & (pl.col("lang") != prompt["lang"]) & ~has_its_script
    suspects = frame.with_columns(both.alias("gap")).filter(suspected)
    at_end = detect(suspects.select(sample(pl.col("tail"))).to_series())
    differing = suspects.filter(at_end["lang"] != suspects["lang"])
    gaps = texts.select(pl.when("has_prompt").then(pl.lit(0.0, pl.Float32))).to_series()
    return gaps.scatter(differing["row"], differing["gap"])


def _put(found: pl.DataFrame, where: pl.Series, values: pl.DataFrame) -> pl.DataFrame:
    """The frame with other values in the rows where a condition holds."""
    places = where.arg_true()
    return pl.DataFrame({name: found[name].clone().scatter(places, values[name]) for name in found.columns})
