"""The packaged files that the judges read; nothing heavy is imported, since every cache key needs their digests."""

from pathlib import Path

from pipeline_config.data_schema import Toxicity
from tasks.kernels.assets import package_file
from tasks.kernels.language_model import language_model_file

_ENGLISH = "toxicity.english"
_CHINESE = "toxicity.chinese"


def classifier_file() -> Path:
    """The linear model for English."""
    return package_file("alt-profanity-check", "data/model.joblib", place=_ENGLISH)


def vocabulary_file() -> Path:
    """The vocabulary of the English model."""
    return package_file("alt-profanity-check", "data/vectorizer.joblib", place=_ENGLISH)


def list_files() -> tuple[Path, Path]:
    """The Chinese word lists, one word a line."""
    return (
        package_file("safetext", "languages/zh/words.txt", place=_CHINESE),
        package_file("expletives", "sources/ldnoobw-zh.txt", place=_CHINESE),
    )


def dictionary_file() -> Path:
    """The Chinese dictionary: word, count and part of speech on a line."""
    return package_file("jieba", "jieba/dict.txt", place=_CHINESE)


def shaping_files(config: Toxicity) -> dict[str, Path]:
    """Every file that shapes the scores under this configuration, by what it is.

    Raises:
        ModelError: a package is not installed.
    """
    files = {"language_model": language_model_file()}
    if config.english is not None:
        files |= {"english_classifier": classifier_file(), "english_vocabulary": vocabulary_file()}
    if config.chinese is not None:
        wide, strict = list_files()
        files |= {"chinese_words": wide, "chinese_words_ldnoobw": strict, "chinese_dictionary": dictionary_file()}
    return files
