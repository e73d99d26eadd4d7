"""The rule sets, as data: which statistic of a row, compared with what, and why.

A rule fires where `statistic comparison threshold` holds and none of its exceptions does; the row is then removed. The
statistics are in `statistics.py` and `web.py`, the exceptions in `exceptions.py`, by these names. A set's order is the
order of judgement: the first rule that fires is the one in the ledger. `instruct` is for conversations; `gopher`, `c4`
and `fineweb` were published for web pages, and delete good short answers (50 words, 5 sentences). This module imports
nothing, so that a mistyped rule name is found before anything runs.
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
        why: what is wrong with such a row.
        unless: exceptions, by name.
        source: where rule and threshold were published; empty for our own.
    """

    name: str
    statistic: str
    comparison: Comparison
    threshold: float
    why: str
    unless: tuple[str, ...] = ()
    source: str = ""


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

_TABLE_A1 = "Rae et al. 2021 (Gopher), table A1"
_QUALITY = "Rae et al. 2021 (Gopher), appendix A.1.1, quality filtering"
_RAFFEL = "Raffel et al. 2020 (C4), section 2.2"
_PENEDO = "Penedo et al. 2024 (FineWeb), section 3.6"

GOPHER: tuple[Rule, ...] = (
    *(
        Rule(f"gopher_{statistic}", statistic, ">", threshold, f"{what} were there before", source=_TABLE_A1)
        for statistic, threshold, what in (
            ("repeated_paragraphs", 0.30, "paragraphs"),
            ("repeated_paragraph_chars", 0.20, "characters of the paragraphs"),
            ("repeated_lines", 0.30, "lines"),
            ("repeated_line_chars", 0.20, "characters of the lines"),
        )
    ),
    *(
        Rule(
            f"gopher_top_{n}gram_chars",
            f"top_{n}gram_chars",
            ">",
            threshold,
            f"the most frequent run of {n} words takes too much of the text",
            source=_TABLE_A1,
        )
        for n, threshold in ((2, 0.20), (3, 0.18), (4, 0.16))
    ),
    *(
        Rule(
            f"gopher_repeated_{n}gram_chars",
            f"repeated_{n}gram_chars",
            ">",
            threshold,
            f"too much of the text stands in runs of {n} words that were there before",
            source=_TABLE_A1,
        )
        for n, threshold in ((5, 0.15), (6, 0.14), (7, 0.13), (8, 0.12), (9, 0.11), (10, 0.10))
    ),
    Rule("gopher_min_words", "words", "<", 50, "too short", source=_QUALITY),
    Rule("gopher_max_words", "words", ">", 100_000, "too long", source=_QUALITY),
    Rule("gopher_min_word_chars", "mean_word_chars", "<", 3, "words too short on the average", source=_QUALITY),
    Rule("gopher_max_word_chars", "mean_word_chars", ">", 10, "words too long on the average", source=_QUALITY),
    Rule("gopher_hashes", "hashes_per_word", ">", 0.1, "too many #", source=_QUALITY),
    Rule("gopher_ellipses", "ellipses_per_word", ">", 0.1, "too many ellipses", source=_QUALITY),
    Rule("gopher_bullet_lines", "bullet_lines", ">", 0.9, "nearly all lines are items of a list", source=_QUALITY),
    Rule("gopher_ellipsis_lines", "ellipsis_lines", ">", 0.3, "lines end in ellipses", source=_QUALITY),
    Rule("gopher_alpha_words", "alpha_words", "<", 0.8, "words without a letter", source=_QUALITY),
    Rule("gopher_stop_words", "stop_words", "<", 2, "no running English text", source=_QUALITY),
)

C4: tuple[Rule, ...] = (
    Rule("c4_lorem_ipsum", "lorem_ipsum", ">=", 1, "placeholder text", source=_RAFFEL),
    Rule("c4_curly_brackets", "curly_brackets", ">=", 1, "program code", source=_RAFFEL),
    Rule("c4_min_sentences", "c4_sentences", "<", 5, "too few sentences in lines worth keeping", source=_RAFFEL),
)

FINEWEB: tuple[Rule, ...] = (
    Rule("fineweb_punctuated_lines", "punctuated_lines", "<=", 0.12, "few lines end a sentence", source=_PENEDO),
    Rule("fineweb_short_lines", "short_lines", ">=", 0.67, "most lines are short", source=_PENEDO),
    Rule("fineweb_repeated_lines", "repeated_line_share", ">=", 0.1, "lines were there before", source=_PENEDO),
    Rule(
        "fineweb_newlines",
        "newlines_per_word",
        ">",
        0.3,
        "a list rather than a text",
        source="the filter that FineWeb was made with (datatrove, FineWebQualityFilter); not in the paper",
    ),
)

RULE_SETS: dict[str, tuple[Rule, ...]] = {"gopher": GOPHER, "c4": C4, "fineweb": FINEWEB, "instruct": INSTRUCT}

_INFINITE = float("inf")
_IFD = "Li et al. 2024, From Quantity to Quality; Superfiltering"
MODEL_RULES: tuple[Rule, ...] = (  # their bounds are the configuration's, and without one they don't apply
    Rule("low_perplexity", "perplexity", "<", -_INFINITE, "the text is too plain"),
    Rule("high_perplexity", "perplexity", ">", _INFINITE, "the text is nothing that the model knows"),
    Rule("low_difficulty", "difficulty", "<", -_INFINITE, "the answer follows by itself", source=_IFD),
    Rule("high_difficulty", "difficulty", ">", _INFINITE, "the prompt does not help the answer", source=_IFD),
    Rule("low_classifier", "classifier", "<", -_INFINITE, "the user's classifier says so"),
    Rule("high_classifier", "classifier", ">", _INFINITE, "the user's classifier says so"),
)
