"""Which of our rules is which reason of datatrove's filters, and why the two differ on a few rows (read off them)."""

SAME_RULE: dict[str, dict[str, str]] = {
    "gopher": {
        "dup_para_frac": "gopher_repeated_paragraphs",
        "dup_para_char_frac": "gopher_repeated_paragraph_chars",
        "dup_line_frac": "gopher_repeated_lines",
        "dup_line_char_frac": "gopher_repeated_line_chars",
        **{f"top_{n}_gram": f"gopher_top_{n}gram_chars" for n in (2, 3, 4)},
        **{f"duplicated_{n}_n_grams": f"gopher_repeated_{n}gram_chars" for n in range(5, 11)},
        "gopher_short_doc": "gopher_min_words",
        "gopher_long_doc": "gopher_max_words",
        "gopher_below_avg_threshold": "gopher_min_word_chars",
        "gopher_above_avg_threshold": "gopher_max_word_chars",
        "gopher_too_many_hashes": "gopher_hashes",
        "gopher_too_many_ellipsis": "gopher_ellipses",
        "gopher_too_many_bullets": "gopher_bullet_lines",
        "gopher_too_many_end_ellipsis": "gopher_ellipsis_lines",
        "gopher_below_alpha_threshold": "gopher_alpha_words",
        "gopher_enough_stop_words": "gopher_stop_words",
    },
    "c4": {
        "lorem_ipsum": "c4_lorem_ipsum",
        "curly_bracket": "c4_curly_brackets",
        "too_few_sentences": "c4_min_sentences",
    },
    "fineweb": {
        "line_punct_ratio": "fineweb_punctuated_lines",
        "short_line_ratio": "fineweb_short_lines",
        "char_dup_ratio": "fineweb_repeated_lines",
        "list_ratio": "fineweb_newlines",
    },
}

_WORDS = "words: spaCy's exceptions for abbreviations, clitics, smileys and full stops behind a word"
_EDGE = "rows at the threshold itself: the paper drops them, the filter keeps them"
WHY: dict[str, str] = {
    **{f"top_{n}_gram": _WORDS for n in (2, 3, 4)},
    **{f"duplicated_{n}_n_grams": _WORDS for n in range(5, 11)},
    "gopher_short_doc": _WORDS,
    "gopher_too_many_hashes": _WORDS,
    "gopher_below_alpha_threshold": _WORDS,
    "gopher_enough_stop_words": _WORDS,
    "too_few_sentences": "sentences: spaCy's ends of a sentence behind quotes, brackets and abbreviations",
    "line_punct_ratio": _EDGE,
    "short_line_ratio": _EDGE,
    "char_dup_ratio": "threshold: the filter's default is 0.01, the paper's and ours 0.1",
    "list_ratio": _WORDS,
}
