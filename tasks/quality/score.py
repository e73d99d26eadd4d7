"""Everything the rules may ask of a row's text, measured once: changing a threshold measures nothing again."""

from concurrent.futures import ThreadPoolExecutor

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
    own = wanted - set(FROM_LANGUAGE) - set(STATISTICS) | set(ALWAYS)
    with ThreadPoolExecutor(1) as beside:  # fastText can use but one core; everything else runs on the others meanwhile
        web = beside.submit(_web, rows, wanted, config.rules)
        measured = beside.submit(measure, rows, own)
        spoken = languages(rows)
        narrow = rows.select("row_id", *of_text()).collect()
        frames = [narrow, measured.result(), spoken, web.result()]
    return pl.concat([frame for frame in frames if frame.width], how="horizontal")


def _web(rows: pl.LazyFrame, wanted: set[str], sets: list[str]) -> pl.DataFrame:
    """The statistics of `web.py` that are wanted; where `c4` stands before `fineweb`, that judges what C4 leaves."""
    asked = [name for name in STATISTICS if name in wanted]
    if not asked:
        return pl.DataFrame()
    after_c4 = "fineweb" in sets and "c4" in sets[: sets.index("fineweb")]
    return measure_web(rows.select(whole_text()).collect().to_series(), after_c4).select(asked)
