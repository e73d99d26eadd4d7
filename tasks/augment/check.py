"""Which variants may stay: those in the parent's language, with its meaning, and far from the rows of other splits."""

from pathlib import Path

import numpy as np
import polars as pl
from numpy.typing import NDArray

from pipeline_config.sets_schema import Augment
from tasks.kernels.language import detect, sample
from tasks.kernels.likeness import likenesses, nearest, views
from tasks.kernels.rows import joined

REASONS = ("language_changed", "meaning_changed", "near_other_split")
_SURE = 0.6  # of a language, by the detector's score
_TOKENS = 128  # of a prompt that the encoder reads
_BATCH = 64


def first_failing(
    variants: pl.DataFrame, parents: pl.DataFrame, others: pl.DataFrame, config: Augment, data_dir: Path
) -> pl.Series:
    """The first of `REASONS` for which a variant may not stay; null where it may.

    Args:
        variants: `messages`.
        parents: `messages` of the parent of each variant.
        others: `whole` and `prompt` (`likeness.views`) of the rows of other splits.
        config: the bounds.
        data_dir: where the encoder is.
    """
    checks = {
        "language_changed": _other_language(_asked(variants), _asked(parents)),
        "meaning_changed": _other_meaning(_asked(variants), _asked(parents), config, data_dir),
        "near_other_split": _near_others(variants, others, config.near_threshold),
    }
    fails = pl.DataFrame({reason: pl.Series(checks[reason], dtype=pl.Boolean) for reason in REASONS})
    return fails.select(pl.coalesce(pl.when(reason).then(pl.lit(reason)) for reason in REASONS)).to_series()


def _asked(rows: pl.DataFrame) -> pl.Series:
    return rows.select(joined("messages", ("user",))).to_series()


def _other_language(new: pl.Series, old: pl.Series) -> NDArray[np.bool_]:
    """Whether a variant plainly reads as another language than its parent plainly does."""
    parent, variant = (detect(pl.select(sample(pl.lit(each))).to_series()) for each in (old, new))
    sure = (parent["score"] >= _SURE) & (variant["score"] >= _SURE)
    return (sure & (parent["lang"] != variant["lang"])).to_numpy()


def _other_meaning(new: pl.Series, old: pl.Series, config: Augment, data_dir: Path) -> NDArray[np.bool_]:
    """Whether the cosine of a variant's prompt and its parent's is below the bound."""
    if config.min_similarity is None or new.is_empty():
        return np.zeros(len(new), dtype=bool)
    from tasks.kernels.encoder import embed

    vectors = embed(
        [*old, *new], config.encoder, data_dir, max_length=_TOKENS, batch_size=_BATCH, label="augment: meaning"
    )
    cosines = np.einsum("nd,nd->n", vectors[: len(old)].astype(np.float64), vectors[len(old) :].astype(np.float64))
    return np.asarray(cosines.round(4) < config.min_similarity)


def _near_others(variants: pl.DataFrame, others: pl.DataFrame, threshold: float) -> NDArray[np.bool_]:
    """Whether a variant resembles a row of another split."""
    found = np.zeros(variants.height, dtype=bool)
    if variants.height and others.height:
        texts = pl.concat([variants.select(*views()), others])
        other_split = pl.Series(np.arange(texts.height) >= variants.height)
        for link in likenesses(texts, threshold):
            found[nearest(link, other_split)["row"].to_numpy()] = True
    return found
