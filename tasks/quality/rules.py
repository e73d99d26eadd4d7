"""The rule sets, as data: which statistic of a row, compared with what, and why.

A rule fires where `statistic comparison threshold` holds and none of its exceptions does; the row is then removed. The
statistics are in `statistics.py`, the exceptions in `exceptions.py`, by these names. A set's order is the order of
judgement: the first rule that fires is the one in the ledger. This module imports nothing, so that a mistyped rule
name is found before anything runs.
"""

from dataclasses import dataclass
from typing import Literal

Comparison = Literal["<", "<=", ">", ">="]


@dataclass(frozen=True)
class Rule:
    """One reason for a row to go.

    Attributes:
        name: in ledgers and configurations.
        statistic: a column of `statistics.py`; where it is null, the rule does not apply.
        comparison: the row goes where `statistic comparison threshold` holds.
        threshold: in the statistic's unit.
        why: what is wrong with such a row, and where the rule comes from.
        unless: exceptions, by name.
    """

    name: str
    statistic: str
    comparison: Comparison
    threshold: float
    why: str
    unless: tuple[str, ...] = ()


LANGUAGE_RULE = "language"

INSTRUCT: tuple[Rule, ...] = (
    Rule("empty_answer", "empty_answers", ">=", 1, "an answer says nothing", unless=("calls_tools",)),
    Rule("damaged_text", "damaged_share", ">", 0.005, "what a wrong decoding left and no repair can bring back"),
    Rule(
        "min_answer_words",
        "answer_words",
        "<",
        2,
        "one word teaches no style; Chinese, Japanese and Korean are counted by characters",
        unless=("labelled", "asks_for_a_word", "short_task", "calls_tools"),
    ),
    Rule("max_answer_chars", "answer_chars", ">", 40_000, "longer than any context worth training on", ("raw_text",)),
    Rule("max_prompt_chars", "prompt_chars", ">", 40_000, "longer than any context worth training on"),
    Rule("echo", "echo_share", ">=", 0.8, "the answer says the prompt again", unless=("calls_tools",)),
    Rule(
        "boilerplate",
        "boilerplate_share",
        ">=",
        0.5,
        "half of the answers speak of being a language model (the filter of many cleaned instruction sets)",
        unless=("raw_text",),
    ),
    Rule(
        "refusal",
        "refusal_share",
        ">=",
        0.5,
        "half of the answers only refuse; refusals of abusive prompts are wanted and stay",
        unless=("raw_text", "abusive_prompt", "calls_tools"),
    ),
    Rule("unclosed_code", "open_fences", ">=", 1, "a code block that never ends: the answer was cut off"),
    Rule("template_marks", "template_marks", ">=", 1, "marks of a chat template inside the text"),
    Rule(
        "markup",
        "tag_share",
        ">",
        0.3,
        "mostly tags, outside code, where none were asked for",
        unless=("asks_for_markup", "calls_tools"),
    ),
    Rule("truncated", "cut_off", ">=", 1, "a long answer that ends in a comma, an open bracket or a word like “the”"),
    Rule(
        "duplicate_lines",
        "duplicate_lines",
        ">",
        0.5,
        "half of the lines were there before (as in Gopher, Rae et al. 2021; looser)",
    ),
    Rule(
        "duplicate_ngrams",
        "duplicate_ngrams",
        ">",
        0.5,
        "half of the 4-grams were there before: a generating model in a loop (as in Gopher; looser)",
    ),
    Rule(LANGUAGE_RULE, "unwanted_language", ">=", 0.5, "in a language that is not wanted"),
    Rule(
        "language_differs",
        "language_gap",
        ">=",
        0.8,
        "prompt and answer are in two languages, and no translation was asked for",
        unless=("asks_for_language", "calls_tools"),
    ),
)

RULE_SETS: dict[str, tuple[Rule, ...]] = {"instruct": INSTRUCT}
