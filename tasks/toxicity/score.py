"""How harmful each row is: the worst of its judged turns, in English and in Chinese apart.

A judge reads only its own language. The English model is not asked about turns that are clearly in another one (it
takes the German "die" for a threat); since language detection costs more than the model, only turns that the model
finds suspicious are detected, so that a low score may stem from another language. Turns too short to tell are
English, unless the row says that it is in another language (Chinese excepted: foreign words in it are mostly English).
The Chinese list reads turns with Chinese characters that are not Japanese or Korean.
"""

import polars as pl

from pipeline_config.data_schema import Chinese, Toxicity
from tasks.kernels.language import UNDETERMINED, detect, sample

_SUSPICIOUS = 0.5  # probability from which a turn's language is checked
_SURE = 0.5  # language score from which it counts
_ENGLISH_GUESSED = ("en", "zh", UNDETERMINED)  # languages of a row whose undetermined turns are taken for English
_NOT_CHINESE = ("ja", "ko")
SCORES = {
    "score_toxicity": pl.Float32,
    "score_toxicity_zh": pl.Float32,
    "score_toxicity_prompt": pl.Float32,
    "toxicity_turn": pl.Int32,
    "toxicity_zh_turn": pl.Int32,
}


def score_rows(rows: pl.LazyFrame, config: Toxicity) -> pl.DataFrame:
    """Score every row.

    Args:
        rows: `row_id`, `lang`, `messages`.
        config: reads `judge`, `chinese.min_word_length` and `chinese.allow`, and which of the two judges are on.

    Returns:
        `row_id`, `score_toxicity` (English probability in [0, 1]) and `score_toxicity_zh` (listed Chinese words), each
        the largest of the judged turns, null where none is in that language; `score_toxicity_prompt` (the English
        probability of the user turns, judged or not); `toxicity_turn`, `toxicity_zh_turn` (Int32, place in `messages`
        of the worst turn). All as in `SCORES`, in the order of the rows.
    """
    order = rows.select("row_id").collect()
    turns = turns_of(rows, config.judge)
    if config.english is not None:
        turns = turns.with_columns(_english(turns))
    if config.chinese is not None:
        turns = turns.with_columns(_chinese(turns, config.chinese))
    judged = turns.filter("judged")
    scores = [
        _worst(judged, "english", "score_toxicity", "toxicity_turn"),
        _worst(judged, "chinese", "score_toxicity_zh", "toxicity_zh_turn"),
        _worst(turns.filter(pl.col("role") == "user"), "english", "score_toxicity_prompt", None),
    ]
    frame = order.with_row_index("row")
    for each in scores:
        frame = frame.join(each, on="row", how="left", maintain_order="left")
    return frame.select("row_id", *(pl.col(name).cast(kind) for name, kind in SCORES.items()))


def turns_of(rows: pl.LazyFrame, judge: str) -> pl.DataFrame:
    """One line a turn with text: `row`, `turn`, `lang` of the row, `role`, `content`, `judged`, and empty scores."""
    judged = pl.lit(True) if judge == "all" else pl.col("role").is_in(["assistant", "text"])
    return (
        rows.select("lang", "messages")
        .with_row_index("row")
        .with_columns(pl.int_ranges(0, pl.col("messages").list.len()).alias("turn"))
        .explode("turn", "messages")
        .select("row", "turn", "lang", pl.col("messages").struct.field("role", "content"))
        .filter(pl.col("content").str.contains(r"\p{L}").fill_null(False))
        .with_columns(judged.alias("judged"))
        .filter(pl.col("judged") | (pl.col("role") == "user"))
        .with_columns(pl.lit(None, pl.Float64).alias("english"), pl.lit(None, pl.Float64).alias("chinese"))
        .collect()
    )


def _english(turns: pl.DataFrame) -> pl.Series:
    from tasks.toxicity import english

    probability = english.load().probabilities(turns["content"]).alias("english")
    suspicious = (probability >= _SUSPICIOUS).fill_null(False)
    languages = detect(turns.filter(suspicious).select(sample(pl.col("content"))).to_series())
    checked = turns.filter(suspicious).select("lang").rename({"lang": "declared"}).hstack(languages)
    told = pl.when(pl.col("score") >= _SURE).then("lang").otherwise(pl.lit(UNDETERMINED))
    foreign_row = ~pl.col("declared").fill_null(UNDETERMINED).is_in(list(_ENGLISH_GUESSED))
    foreign = checked.select(~told.is_in(["en", UNDETERMINED]) | ((told == UNDETERMINED) & foreign_row)).to_series()
    return probability.scatter(suspicious.arg_true().filter(foreign), None)


def _chinese(turns: pl.DataFrame, config: Chinese) -> pl.Series:
    from tasks.toxicity import chinese

    words = chinese.load_words(config.min_word_length) - {word.lower() for word in config.allow}
    content = turns["content"]
    places = (content.str.len_bytes() > content.str.len_chars()).arg_true()  # the rest is ASCII
    places = places.filter(content.gather(places).str.contains(r"\p{Han}"))
    texts = turns[places]
    counts = chinese.count_listed(texts["content"], words).cast(pl.Float64)
    hit = counts > 0
    languages = detect(texts.filter(hit).select(sample(pl.col("content"))).to_series())
    foreign = hit.arg_true().filter(languages["lang"].is_in(list(_NOT_CHINESE)))
    counts = counts.scatter(foreign, None)
    return turns["chinese"].scatter(places, counts).alias("chinese")


def _worst(turns: pl.DataFrame, score: str, name: str, turn: str | None) -> pl.DataFrame:
    """The largest score of each row and the first turn that has it."""
    columns = [pl.col(score).max().alias(name)]
    if turn is not None:
        columns.append(pl.col("turn").get(pl.col(score).arg_max()).alias(turn))
    return turns.filter(pl.col(score).is_not_null()).group_by("row", maintain_order=True).agg(columns)
