"""Everything the rules may ask of a row's text, measured once: changing a threshold measures nothing again."""

import polars as pl

from pipeline_config.data_schema import Quality
from tasks.quality.exceptions import of_text
from tasks.quality.languages import languages
from tasks.quality.settings import known_rules
from tasks.quality.statistics import measure

FROM_LANGUAGE = ("unwanted_language", "language_gap")  # statistics that `languages.py` and `decide.py` give
ALWAYS = ("answer_words", "duplicate_ngrams", "duplicate_lines")  # published, whatever the rules


def score_rows(rows: pl.LazyFrame, config: Quality) -> pl.DataFrame:
    """Measure every row.

    Args:
        rows: `row_id`, `messages`, `tools`.
        config: reads `rules`.

    Returns:
        `row_id`, the statistics of the rule sets named (Float32), the exceptions of `exceptions.of_text` (Boolean),
        `detected`, `detected_score` and `language_gap` (`languages.py`); in the order of the rows.
    """
    wanted = {rule.statistic for rule in known_rules(config)} - set(FROM_LANGUAGE) | set(ALWAYS)
    narrow = rows.select("row_id", *of_text()).collect()
    return pl.concat([narrow, measure(rows, wanted), languages(rows)], how="horizontal")
