"""Scores that a model gives: perplexity, instruction-following difficulty, and the user's own classifier.

perplexity   exp of the mean loss (nats a token) of the row's text under a causal language model
difficulty   perplexity of the answer behind its prompt, by that of the answer alone (IFD: Li et al. 2024a, "From
             Quantity to Quality"; with a small model: Li et al. 2024b, "Superfiltering"). Above 1 the prompt does not
             help at all: prompt and answer do not belong together. Far below it the answer follows by itself, and
             teaches little. The prompt is everything before the last answer; raw text has none.
classifier   probability of one label, of the row's text

All of them in float32, in batches of one shape, so that a row's score does not depend on the rows beside it; equal
texts are scored once. Both sides of the difficulty are sums over the same tokens: a long prompt loses its beginning,
a long answer its end, each at half of `max_length`.
"""

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import polars as pl

from pipeline_config.data_schema import Classifier, Difficulty, Perplexity, Quality
from tasks.kernels.rows import whole_text

if TYPE_CHECKING:
    from typing import Any


def score_by_model(name: str, rows: pl.LazyFrame, config: Quality, model: str, data_dir: Path) -> pl.Series:
    """Score every row by one of the models that the configuration names.

    Args:
        name: `perplexity`, `difficulty` or `classifier`, and no other of these is read of the configuration.
        rows: `messages`.
        model: the run's, where the configuration names none.
        data_dir: where converted models are.

    Returns:
        Float32 of that name, null where it means nothing; in the order of the rows.
    """
    if name == "classifier":
        assert config.classifier is not None
        found = _classified(rows.select(whole_text()).collect().to_series(), config.classifier, data_dir)
    elif name == "difficulty":
        assert config.difficulty is not None
        causal = _load(config.difficulty.model or model, data_dir)
        found = _difficulty(rows.select(*_pair()).collect(), config.difficulty, *causal)
    else:
        assert config.perplexity is not None
        causal = _load(config.perplexity.model or model, data_dir)
        found = _perplexity(rows.select(whole_text()).collect().to_series(), config.perplexity, *causal)
    return found.cast(pl.Float32).alias(name)


def _load(name: str, data_dir: Path) -> "tuple[Any, Any]":
    """A tokenizer and its causal language model."""
    from tasks.kernels.models import load_causal, load_tokenizer, model_folder

    folder = model_folder(name, data_dir)
    return load_tokenizer(folder), load_causal(folder, "float32")


def _perplexity(texts: pl.Series, config: Perplexity, tokenizer: "Any", model: "Any") -> pl.Series:
    distinct = texts.fill_null("").unique(maintain_order=True)
    start = _start(tokenizer)
    ids = [start + each[: config.max_length] for each in _tokens(tokenizer, distinct.to_list())]
    masks = [[False] * len(start) + [True] * (len(each) - len(start)) for each in ids]
    means = _means(model, ids, masks, config.batch_size, "quality: perplexity")
    return _by_text(texts.fill_null(""), distinct, np.exp(means))


def _difficulty(pairs: pl.DataFrame, config: Difficulty, tokenizer: "Any", model: "Any") -> pl.Series:
    distinct = pairs.drop_nulls().unique(maintain_order=True)
    half, start = max(config.max_length // 2, 1), _start(tokenizer)
    prompts = [each[-half:] for each in _tokens(tokenizer, distinct["prompt"].to_list())]
    answers = [each[:half] for each in _tokens(tokenizer, distinct["answer"].to_list())]
    ids = [start + prompt + answer for prompt, answer in zip(prompts, answers, strict=True)]
    masks = [
        [False] * (len(row) - len(answer)) + [True] * len(answer) for row, answer in zip(ids, answers, strict=True)
    ]
    behind = _means(model, ids, masks, config.batch_size, "quality: answers behind their prompts")
    ids = [start + answer for answer in answers]
    masks = [[False] * len(start) + [True] * len(answer) for answer in answers]
    by_itself = _means(model, ids, masks, config.batch_size, "quality: answers alone")
    scores = distinct.with_columns(pl.Series("difficulty", np.exp(behind - by_itself), dtype=pl.Float64).fill_nan(None))
    return pairs.join(scores, on=["prompt", "answer"], how="left", maintain_order="left")["difficulty"]


def _classified(texts: pl.Series, config: Classifier, data_dir: Path) -> pl.Series:
    from tasks.kernels.classifier import classify, label_place

    labels, said = classify(
        texts.fill_null("").to_list(),
        config.model,
        data_dir,
        max_length=config.max_length,
        batch_size=config.batch_size,
        label="quality: classifier",
    )
    return pl.Series(said[:, label_place(labels, config.label, "quality.classifier.label")])


def _pair() -> list[pl.Expr]:
    """`prompt`: all that stands before the last turn; `answer`: the last turn, if it is an answer; else both null."""
    contents = pl.col("messages").list.eval(pl.element().struct.field("content").fill_null(""))
    last = pl.col("messages").list.last()
    answers = (last.struct.field("role") == "assistant") & (pl.col("messages").list.len() > 1)
    prompt = contents.list.head(pl.col("messages").list.len().cast(pl.Int64) - 1).list.join("\n") + "\n"
    return [
        pl.when(answers).then(prompt).alias("prompt"),
        pl.when(answers).then(last.struct.field("content").fill_null("")).alias("answer"),
    ]


def _start(tokenizer: "Any") -> list[int]:
    """The token before every text, so that its first one has a probability too."""
    start = tokenizer.bos_token_id if tokenizer.bos_token_id is not None else tokenizer.eos_token_id
    return [] if start is None else [int(start)]


def _tokens(tokenizer: "Any", texts: list[str]) -> list[list[int]]:
    found: list[list[int]] = tokenizer(texts, add_special_tokens=False)["input_ids"] if texts else []
    return found


def _means(
    model: "Any", ids: list[list[int]], masks: list[list[bool]], batch_size: int, label: str
) -> "np.ndarray[Any, np.dtype[np.float64]]":
    """Mean loss of the tokens asked for; nan where there are none."""
    from tasks.kernels.likelihood import example_losses

    means = np.full(len(ids), np.nan)
    some = [place for place, mask in enumerate(masks) if any(mask[1:])]
    if some:
        asked, wanted = [ids[place] for place in some], [masks[place] for place in some]
        sums = example_losses(model, asked, wanted, batch_size=batch_size, label=label, alone=True)
        means[some] = sums[:, 0] / sums[:, 1]
    return means


def _by_text(texts: pl.Series, distinct: pl.Series, values: "np.ndarray[Any, np.dtype[np.float64]]") -> pl.Series:
    scores = pl.DataFrame({"text": distinct, "value": values}).with_columns(pl.col("value").fill_nan(None))
    return texts.to_frame("text").join(scores, on="text", how="left", maintain_order="left")["value"]
