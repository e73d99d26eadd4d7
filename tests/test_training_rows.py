"""What a training stage reads of the tokens, and the words for what it can't use."""

import polars as pl
import pytest

from pipeline_config.errors import DataError, ModelError
from pipeline_config.model_schema import Train
from tasks.kernels.training_rows import training_rows


def tokens(*splits: str, highest: int = 9) -> pl.LazyFrame:
    return pl.LazyFrame(
        {
            "row_id": [f"r{n}" for n in range(len(splits))],
            "split": list(splits),
            "input_ids": [[1, 2, highest]] * len(splits),
            "loss_mask": [[False, True, True]] * len(splits),
            "n_tokens": [3] * len(splits),
            "weight": pl.Series([None] * len(splits), dtype=pl.Float32),
        },
        schema_overrides={"input_ids": pl.List(pl.Int32), "loss_mask": pl.List(pl.Boolean)},
    )


def test_a_token_that_the_model_does_not_know_is_named_with_the_fields_to_set() -> None:
    with pytest.raises(ModelError, match="token 10, and the model knows 10") as caught:
        training_rows(tokens("train", highest=10), Train(), vocabulary=10, place="train")
    assert "tokenize.model and train.model" in caught.value.cure
    with pytest.raises(ModelError):
        training_rows(tokens("train", "validation", highest=10), Train(), vocabulary=10, place="train")
    assert len(training_rows(tokens("train"), Train(), vocabulary=10, place="train").train) == 1


def test_no_validation_rows_are_none_and_no_train_rows_an_error() -> None:
    found = training_rows(tokens("train", "train", "test:x"), Train(), vocabulary=10, place="train")
    assert found.validation is None
    assert found.facts["train_examples"] == 2
    with pytest.raises(DataError, match="no train rows"):
        training_rows(tokens("validation"), Train(), vocabulary=10, place="train")
