"""What a training stage reads of the tokens: train rows packed, and the validation rows that are always the same."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import polars as pl

from pipeline_config.errors import DataError, ModelError
from pipeline_config.model_schema import Optimisation
from tasks.kernels.packing import Examples, PackedRows, examples_from, pack, unpacked


@dataclass(frozen=True)
class TrainingRows:
    """Rows to learn from and rows to validate on (None where there are none).

    Attributes:
        classes: `label` or `task` → that of each train example, null where it has none; as far as losses go by them.
    """

    train: PackedRows
    validation: PackedRows | None
    classes: Mapping[str, pl.Series] = field(default_factory=dict)

    @property
    def facts(self) -> dict[str, float]:
        """Counts for the manifest and the model card."""
        examples = self.train.examples
        filled = len(examples.ids) / max(1, _room(self.train))
        return {
            "train_examples": len(examples),
            "train_tokens": len(examples.ids),
            "learned_tokens": int(examples.mask.sum()),
            "packed_rows": len(self.train),
            "packed_share": round(filled, 4),
            "validation_examples": len(self.validation.examples) if self.validation else 0,
        }


def training_rows(tokens: pl.LazyFrame, settings: Optimisation, *, vocabulary: int, place: str) -> TrainingRows:
    """Read and pack the train and validation rows.

    Which validation rows are taken is decided by their ids, which are hashes: a sample that depends on neither the
    order of the rows nor the seed.

    Args:
        tokens: what `tokenize` publishes.
        vocabulary: token ids that the model knows.
        place: stage, for errors.

    Raises:
        DataError: no train rows.
        ModelError: a token id that the model doesn't know.
    """
    columns = ("row_id", "input_ids", "loss_mask", "n_tokens", "weight")
    by = sorted({loss.by for loss in settings.losses if loss.has_classes})
    train = tokens.filter(pl.col("split") == "train").select(*columns, *by).collect()
    if train.is_empty():
        raise DataError(
            "there are no train rows", place=place, cure="loosen what removes rows, or give split less to take away"
        )
    held_out = tokens.filter(pl.col("split") == "validation").select(columns).sort("row_id")
    validation = (
        held_out if settings.max_eval_examples is None else held_out.head(settings.max_eval_examples)
    ).collect()
    for frame in (train, validation):
        highest = int(frame.select(pl.col("input_ids").list.max().max()).item() or 0)
        if highest >= vocabulary:
            raise ModelError(
                f"the tokenizer gives token {highest}, and the model knows {vocabulary}",
                place=place,
                cure="tokenize.model and train.model must share a vocabulary",
            )
    return TrainingRows(
        _rows(examples_from(train), settings),
        None if validation.is_empty() else _rows(examples_from(validation), settings),
        {name: train[name] for name in by},
    )


def pad_id(tokenizer: Any) -> int:
    """The token to pad with; which one does not matter, since padding is never learned or attended to."""
    return int(tokenizer.eos_token_id if tokenizer.pad_token_id is None else tokenizer.pad_token_id)


def _rows(examples: Examples, settings: Optimisation) -> PackedRows:
    return pack(examples, settings.packed_length) if settings.packing else unpacked(examples)


def _room(rows: PackedRows) -> int:
    longest = max((len(rows[n].ids) for n in range(len(rows))), default=0)
    return longest * len(rows)
