"""Everything the rules may ask of a row's text, measured once: changing a threshold measures nothing again."""

import polars as pl

from pipeline_config.data_schema import Quality
from tasks.kernels.rows import whole_text
from tasks.quality.exceptions import of_text
from tasks.quality.languages import languages
from tasks.quality.settings import known_rules
from tasks.quality.statistics import measure
from tasks.quality.web import STATISTICS, measure_web

FROM_LANGUAGE = ("unwanted_language", "language_gap")  # statistics that `languages.py` and `decide.py` give
ALWAYS = ("answer_words", "duplicate_ngrams", "duplicate_lines")  # published, whatever the rules


def score_rows(rows: pl.LazyFrame, config: Quality) -> pl.DataFrame:
    """Measure every row.

    Args:
        rows: `row_id`, `messages`, `tools`.
        config: reads `rules`.

    Returns:
        `row_id`, the statistics of the rule sets named (Float32; `statistics.py`, `web.py`), the exceptions of
        `exceptions.of_text` (Boolean), `detected`, `detected_score` and `language_gap` (`languages.py`); in the order
        of the rows.
    """
    wanted = {rule.statistic for rule in known_rules(config)}
    narrow = rows.select("row_id", *of_text()).collect()
    own = measure(rows, wanted - set(FROM_LANGUAGE) - set(STATISTICS) | set(ALWAYS))
    frames = [narrow, own, languages(rows)]
    if asked := [name for name in STATISTICS if name in wanted]:
        sets = config.rules
        after_c4 = "c4" in sets[: sets.index("fineweb")] if "fineweb" in sets else False
        frames.append(measure_web(rows.select(whole_text()).collect().to_series(), after_c4).select(asked))
    return pl.concat(frames, how="horizontal")
