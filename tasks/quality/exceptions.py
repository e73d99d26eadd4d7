"""When a rule does not apply to a row: what was asked for, what kind of row it is, what its task is like.

raw_text           no conversation
calls_tools        tools are offered, called or answer: short and structured turns belong there
asks_for_a_word    the last prompt, code aside, asks for a fact or a choice or holds the answer, or that is a number
asks_for_markup    the prompt speaks of HTML and the like
asks_for_language  the prompt asks for a translation or names a language
labelled           the row has a label: the answer is a class
short_task         most answers of its task are that short, so shortness is the task's form
abusive_prompt     the toxicity stage finds the user turns abusive
"""

import polars as pl

from tasks.kernels.rows import prompt_text
from tasks.quality import patterns
from tasks.quality.statistics import normal

_SHORT_WORDS = 3
_SHORT_TASK_ROWS = 20
_SHORT_CHARS = 60  # answers longer than this are not looked for in the prompt
_ABUSIVE = 0.9

BY_TEXT = ("raw_text", "calls_tools", "asks_for_a_word", "asks_for_markup", "asks_for_language")


def of_text() -> list[pl.Expr]:
    """The exceptions that the row's text decides, as Boolean columns over `messages` and `tools`."""
    roles = pl.col("messages").list.eval(pl.element().struct.field("role"))
    user = pl.element().struct.field("content").filter(pl.element().struct.field("role") == "user")
    question = pl.col("messages").list.eval(user).list.last().fill_null("").str.replace_all(patterns.CODE, " ")
    answer = pl.col("messages").list.last().struct.field("content").fill_null("")
    flags = {
        "raw_text": roles.list.contains("text"),
        "calls_tools": pl.col("tools").is_not_null() | roles.list.contains("tool"),
        "asks_for_a_word": (answer.str.len_chars() <= _SHORT_CHARS)
        & (_asks(question, patterns.ASKS_FOR_A_WORD) | answer.str.contains(r"\d") | _holds(question, answer)),
        "asks_for_markup": _asks(prompt_text(), patterns.ASKS_FOR_MARKUP),
        "asks_for_language": _asks(prompt_text(), patterns.ASKS_FOR_LANGUAGE),
    }
    return [flags[name].fill_null(False).alias(name) for name in BY_TEXT]


def _asks(prompt: pl.Expr, pattern: str) -> pl.Expr:
    """Whether the beginning or the end of a prompt asks for something."""
    ends = pl.concat_str(prompt.str.slice(0, patterns.ASKING_CHARS), prompt.str.tail(patterns.ASKING_CHARS))
    return ends.str.contains(pattern)


def _holds(question: pl.Expr, answer: pl.Expr) -> pl.Expr:
    """Whether a short answer stands in the question, as whole words."""
    short = answer.str.len_chars() <= _SHORT_CHARS
    wanted = pl.format(" {} ", normal(pl.when(short).then(answer).otherwise(pl.lit(""))))
    searched = pl.format(" {} ", normal(pl.when(short).then(question).otherwise(pl.lit(""))))
    return (wanted != "  ") & searched.str.contains(wanted, literal=True)


def of_row(columns: list[str]) -> list[pl.Expr]:
    """The exceptions that other columns decide.

    Args:
        columns: of the frame; `task`, `source`, `label` and `answer_words` must be among them.
    """
    group = pl.coalesce("task", "source")
    usual = pl.col("answer_words").median().over(group) <= _SHORT_WORDS
    known = pl.len().over(group) >= _SHORT_TASK_ROWS
    abusive = pl.col("score_toxicity_prompt") >= _ABUSIVE if "score_toxicity_prompt" in columns else pl.lit(False)
    flags = {
        "labelled": pl.col("label").is_not_null(),
        "short_task": usual & known,
        "abusive_prompt": abusive,
    }
    return [flag.fill_null(False).alias(name) for name, flag in flags.items()]
