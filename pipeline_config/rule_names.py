"""The names of every stage's rules, so that a gate that bounds none of them is refused before anything runs.

A rule that never applied has taken nothing, so a bound on a mistyped name would pass for ever without a word. The rules
themselves are the stages'; `tests/test_rule_names.py` holds this table against their code, both ways. Labels, tasks,
languages and splits are not here: only the data know them.
"""

from collections.abc import Mapping

from pipeline_config.data_schema import Pii
from pipeline_config.errors import ConfigError
from pipeline_config.schema import DATA_STAGES, Config
from pipeline_config.suggest import did_you_mean

_PII = tuple(f"pii_{kind}" for kind in Pii.model_fields if kind != "allow")
_JUDGES = ("toxic_english", "toxic_chinese", "toxic_category")

REMOVED: Mapping[str, tuple[str, ...]] = {
    "clean": ("empty_after_clean", *_PII),
    "dedupe": ("exact_duplicate", "near_duplicate", "semantic"),
    "toxicity": _JUDGES,
    "quality": (
        "empty_answer", "damaged_text", "min_answer_words", "max_answer_chars", "max_prompt_chars", "echo",
        "boilerplate", "refusal", "unclosed_code", "template_marks", "markup", "truncated", "duplicate_lines",
        "duplicate_ngrams", "language", "language_differs",
        *(f"gopher_repeated_{part}" for part in ("paragraphs", "paragraph_chars", "lines", "line_chars")),
        *(f"gopher_top_{n}gram_chars" for n in range(2, 5)), *(f"gopher_repeated_{n}gram_chars" for n in range(5, 11)),
        "gopher_min_words", "gopher_max_words", "gopher_min_word_chars", "gopher_max_word_chars", "gopher_hashes",
        "gopher_ellipses", "gopher_bullet_lines", "gopher_ellipsis_lines", "gopher_alpha_words", "gopher_stop_words",
        "c4_lorem_ipsum", "c4_curly_brackets", "c4_min_sentences",
        "fineweb_punctuated_lines", "fineweb_short_lines", "fineweb_repeated_lines", "fineweb_newlines",
        *(f"{side}_{score}" for score in ("perplexity", "difficulty", "classifier") for side in ("low", "high")),
    ),
    "select": ("below_similarity", "beyond_quota"),
    "split": ("contaminated", "after_cutoff"),
    "balance": ("over_cap", "down_sampled"),
    "tokenize": ("too_long", "all_masked"),
}  # fmt: skip
QUARANTINED: Mapping[str, tuple[str, ...]] = {
    "ingest": (
        "not_json", "not_an_object", "missing_field", "content_null", "content_empty", "content_not_text",
        "turn_not_object", "unknown_role", "unknown_tool_call", "no_assistant", "repeated_key", "nested_too_deep",
        "number_too_long", "record_too_long", "nul_byte", "invalid_utf8", "invalid_utf16", "invalid_gb18030",
        "invalid_unicode", "bad_quotes", "unclosed_quote", "ragged_row",
    ),
    "dedupe": ("conflicting_answer",),
    "toxicity": _JUDGES,
    "tokenize": ("bad_tools", "template_error", "prompt_not_a_prefix"),
}  # fmt: skip
EDITED: Mapping[str, tuple[str, ...]] = {
    "clean": ("mojibake", "control", "markup", "unicode", "whitespace", *_PII),
    "tokenize": ("truncate_context", "split_text", "split_turns"),
}
KINDS = {
    "max_removed_share_by_rule": ("removes rows by", REMOVED),
    "max_quarantined_share_by_reason": ("quarantines rows for", QUARANTINED),
    "max_edited_share_by_rule": ("edits rows by", EDITED),
}
"""Key below `<stage>.gate` → what the stage does, and the rules of every stage that does so."""


def unknown_rule(config: Config) -> tuple[tuple[str, ...], ConfigError] | None:
    """The first bound on a rule that its stage does not have: its key path and the error, without place."""
    for stage in DATA_STAGES:
        section = config.section(stage)
        for key, (does, rules) in KINDS.items():
            known = rules.get(stage, ())
            for name in () if section is None else getattr(section.gate, key):
                if name not in known:
                    hint = did_you_mean(name, known)
                    what = f"{stage}.gate.{key}: {stage} {does} no {name!r}{hint}"
                    cure = f"there are: {', '.join(known)}" if known else f"leave it out: {stage} {does} no rule"
                    return (stage, "gate", key, name), ConfigError(what, cure=cure)
    return None
