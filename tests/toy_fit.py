"""A toy model trained by the trainer itself, on tokens drawn by hand: no stage, no text, a second or less."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from pipeline_config.model_schema import EarlyStopping, Train
from tasks.kernels.packing import Examples, PackedRows, pack, unpacked

VOCABULARY = 40
QUICK = {"precision": "fp32", "packed_length": 32, "per_device_train_batch_size": 2}


def toy_causal(seed: int = 0, layers: int = 1) -> Any:
    """A Llama of one small layer over 40 tokens."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    config = LlamaConfig(
        vocab_size=VOCABULARY,
        hidden_size=16,
        intermediate_size=32,
        num_hidden_layers=layers,
        num_attention_heads=2,
        num_key_value_heads=2,
        max_position_embeddings=64,
        tie_word_embeddings=True,
        initializer_range=0.2,
    )
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return LlamaForCausalLM(config)


def toy_examples(answers: Sequence[Sequence[int]], weights: Sequence[float] | None = None) -> Examples:
    """Three tokens of context that count the examples, then an answer that is learned."""
    ids = [[1 + n % 8, 9 + n // 8 % 8, 3, *answer] for n, answer in enumerate(answers)]
    lengths = [len(each) for each in ids]
    return Examples(
        row_ids=pl.Series([f"r{n:02}" for n in range(len(ids))]),
        ids=np.array([token for each in ids for token in each], dtype=np.int32),
        mask=np.array([place >= 3 for each in ids for place in range(len(each))]),
        offsets=np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64),
        weights=np.array(weights or [1.0] * len(ids), dtype=np.float32),
    )


def drawn(n: int, seed: int, length: int = 4) -> list[list[int]]:
    """Answers that nothing but memory can give."""
    return np.random.default_rng(seed).integers(20, VOCABULARY, (n, length)).tolist()


def toy_rows(examples: Examples, settings: Train) -> PackedRows:
    """Packed or not, as the settings say."""
    return pack(examples, settings.packed_length) if settings.packing else unpacked(examples)


def toy_fit(
    work: Path,
    train: Examples,
    validation: Examples | None = None,
    *,
    model: Any = None,
    early_stopping: dict[str, Any] | None = None,
    classes: dict[str, pl.Series] | None = None,
    teacher: Any = None,
    **settings: Any,
) -> Any:
    """Train, and give what `fit` gives; the model is trained in place."""
    from transformers import set_seed

    from tasks.kernels.loss_list import listed_losses, plain_losses
    from tasks.kernels.objective import Objective
    from tasks.kernels.trainer import fit
    from tasks.kernels.training_rows import TrainingRows

    named = {} if teacher is None else {"teacher": "toy"}
    config = Train.model_validate({**QUICK, "method": "full", "learning_rate": 0.02, **named, **settings})
    model = toy_causal() if model is None else model
    rows = TrainingRows(toy_rows(train, config), None, classes or {})
    losses = listed_losses(config, rows, "toy") if config.losses else plain_losses(config)
    set_seed(0)
    return fit(
        model,
        Objective(model, losses, teacher),
        rows.train,
        None if validation is None else toy_rows(validation, config),
        config,
        learning_rate=0.0 if config.learning_rate == "auto" else config.learning_rate,
        seed=0,
        pad=0,
        work=work,
        label="toy",
        early_stopping=None if early_stopping is None else EarlyStopping.model_validate(early_stopping),
    )
