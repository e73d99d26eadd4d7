"""What the rules compare: one number a row and statistic, each computed once, however many rules use it.

All are expressions of Polars or kernels over whole columns. Where a statistic means nothing (an echo without a prompt)
it is null, and no rule fires. Answers are the assistant turns; of raw text, the text itself. Words are runs of letters
and digits; Chinese, Japanese and Korean characters count one each.

    empty_answers      answers without a visible character
    damaged_share      remnants of wrong decoding, of all characters of the row
    answer_words       words of all answers
    answer_chars, prompt_chars
    echo_share         1 if the last answer is the last prompt; its share of the answer if the answer contains it
    boilerplate_share  of the answers, those that speak of being a language model
    refusal_share      of the answers, those that do nothing but refuse
    open_fences        answers whose last code block is not closed
    template_marks     marks of a chat template, outside code
    tag_share          of the answers' characters outside code
    cut_off            1 if the last answer is long and ends in the middle of a sentence
    duplicate_lines    share of the answers' lines that were there before, of at least 4 lines
    duplicate_ngrams   share of the answers' 4-grams that were there before, of at least 20 words
"""

from collections.abc import Iterable

import numpy as np
import polars as pl

from tasks.kernels.rows import answer_text, prompt_text, whole_text
from tasks.kernels.text import from_strings, shingles
from tasks.quality import patterns

_MIN_LINES = 4
_MIN_LINE_CHARS = 10  # shorter lines (`}`, `return`) repeat in good code
_MIN_WORDS = 20
_NGRAM = 4
_ECHO_WORDS = 4  # a shorter prompt may well come back: "Hello" – "Hello"
_CUT_OFF_WORDS = 30

ROLES = pl.element().struct.field("role")
CONTENT = pl.element().struct.field("content").fill_null("")


def measure(rows: pl.LazyFrame, names: Iterable[str]) -> pl.DataFrame:
    """Compute statistics.

    Args:
        rows: `messages`.
        names: of statistics above.

    Returns:
        a Float32 column for each name, in the order of the rows.
    """
    wanted = set(names)
    texts = rows.select(
        prompt_text().alias("prompt"),
        answer_text().alias("answer"),
        whole_text().alias("whole"),
        _turns("assistant", "text").alias("answers"),
        _turns("user").list.last().alias("question"),
    )
    derived = texts.with_columns(
        pl.col("answers").list.last().alias("last_answer"),
        pl.col("answer").str.replace_all(patterns.CODE, " ").alias("answer_prose"),
        _lines(pl.col("answer")).alias("lines"),
    )
    by_expression = [expression.alias(name) for name, expression in _expressions().items() if name in wanted]
    frame = derived.select(
        *by_expression, pl.col("answer").alias("_answer"), _words("answer").alias("_words")
    ).collect()
    if "duplicate_ngrams" in wanted:
        frame = frame.with_columns(_duplicate_ngrams(frame["_answer"], frame["_words"]).alias("duplicate_ngrams"))
    return frame.select(pl.col(name).cast(pl.Float32) for name in sorted(wanted))


def _expressions() -> dict[str, pl.Expr]:
    answer, prose, last = pl.col("answer"), pl.col("answer_prose"), pl.col("last_answer")
    marks = pl.col("whole").str.replace_all(patterns.CODE, " ").str.count_matches(patterns.TEMPLATE_MARKS)
    tag_chars = prose.str.extract_all(patterns.TAG).list.eval(pl.element().str.len_chars()).list.sum()
    unended = pl.when(last.str.contains(patterns.CUT_OFF)).then(last).otherwise(pl.lit(""))
    cut_off = pl.when(last.is_not_null()).then(unended.str.count_matches(patterns.TOKEN) >= _CUT_OFF_WORDS)
    refuses = pl.element().str.slice(0, patterns.HEAD_CHARS).str.contains(patterns.REFUSAL)
    return {
        "empty_answers": _count_turns(~pl.element().str.contains(r"[^\s\p{Cc}\p{Cf}]")),
        "damaged_share": pl.col("whole").str.count_matches(patterns.DAMAGE) / (pl.col("whole").str.len_chars() + 1),
        "answer_words": _words("answer"),
        "answer_chars": answer.str.len_chars(),
        "prompt_chars": pl.col("prompt").str.len_chars(),
        "echo_share": _echo_share(),
        "boilerplate_share": _share_of_turns(
            pl.element().str.slice(0, patterns.HEAD_CHARS).str.contains(patterns.BOILERPLATE)
        ),
        "refusal_share": _share_of_turns(
            refuses & (pl.when(refuses).then(pl.element()).str.count_matches(patterns.TOKEN) <= patterns.REFUSAL_WORDS)
        ),
        "open_fences": _count_turns(pl.element().str.count_matches(patterns.FENCE) % 2 == 1),
        "template_marks": marks,
        "tag_share": pl.when(prose.str.len_chars() > 0).then(tag_chars / prose.str.len_chars()),
        "cut_off": cut_off,
        "duplicate_lines": _duplicate_share(pl.col("lines"), _MIN_LINES),
    }


def _turns(*roles: str) -> pl.Expr:
    """The contents of the turns of some roles, as a list."""
    return pl.col("messages").list.eval(CONTENT.filter(ROLES.is_in(list(roles))))


def _count_turns(condition: pl.Expr) -> pl.Expr:
    return pl.col("answers").list.eval(condition).list.sum()


def _share_of_turns(condition: pl.Expr) -> pl.Expr:
    return pl.col("answers").list.eval(condition.cast(pl.Float32)).list.mean()


def _words(column: str) -> pl.Expr:
    return pl.col(column).str.count_matches(patterns.TOKEN)


def _lines(text: pl.Expr) -> pl.Expr:
    """Lines long enough to count, trimmed."""
    stripped = pl.element().str.strip_chars()
    return text.str.split("\n").list.eval(stripped.filter(stripped.str.len_chars() >= _MIN_LINE_CHARS))


def _duplicate_share(items: pl.Expr, least: int) -> pl.Expr:
    total = items.list.len()
    return pl.when(total >= least).then(1 - items.list.n_unique() / total)


def _echo_share() -> pl.Expr:
    """How much of the last answer is the last question; null without a question of some length."""
    asked, answered = pl.col("question").fill_null(""), pl.col("last_answer").fill_null("")
    long_enough = asked.str.count_matches(patterns.TOKEN) >= _ECHO_WORDS
    may_hold = long_enough & (asked.str.len_chars() <= 2 * answered.str.len_chars())  # a longer one is not contained
    question, answer = (normal(pl.when(may_hold).then(text).otherwise(pl.lit(""))) for text in (asked, answered))
    share = question.str.len_chars() / answer.str.len_chars()
    contained = answer.str.contains(question, literal=True)
    says = long_enough & answered.str.contains(r"\w")
    return pl.when(says).then(pl.when(may_hold & contained).then(share).otherwise(0.0))


def normal(text: pl.Expr) -> pl.Expr:
    """Lower case, punctuation and white space collapsed to single spaces."""
    return text.str.to_lowercase().str.replace_all(r"[^\w]+", " ").str.strip_chars()


def _duplicate_ngrams(answers: pl.Series, words: pl.Series) -> pl.Series:
    """1 - distinct / all shingles; the tokens are those of `tasks.kernels.text`."""
    enough = words >= _MIN_WORDS
    distinct = np.diff(shingles(from_strings(answers.filter(enough)), _NGRAM).offsets)
    frame = pl.DataFrame({"distinct": pl.Series(distinct, dtype=pl.Int64), "words": words.filter(enough)})
    share = frame.select((1 - pl.col("distinct") / (pl.col("words") - _NGRAM + 1)).clip(0, 1)).to_series()
    empty = pl.repeat(None, len(words), dtype=pl.Float64, eager=True)
    return empty.scatter(enough.arg_true(), share)
