"""A text-classification model as a judge: how probable each of its categories is in the worst turn of a row.

Any model whose labels name kinds of harm will do, one label (softmax) or several at once, as detoxify's (sigmoid); it
is fetched and run locally. Which labels count, from which probability, and what happens then is the configuration's
business: all labels are scored, so that a changed threshold reads no text again.
"""

from pathlib import Path

import polars as pl

from pipeline_config.data_schema import ToxicityModel
from tasks.kernels.classifier import classify
from tasks.kernels.language import detect, sample
from tasks.toxicity.labels import score_column, turn_column
from tasks.toxicity.score import turns_of


def score_categories(rows: pl.LazyFrame, config: ToxicityModel, judge: str, data_dir: Path) -> pl.DataFrame:
    """Score every row by the model.

    Args:
        rows: `lang`, `messages`.
        config: reads `model`, `languages` and `max_length`.
        judge: which turns are judged: `assistant` or `all`.
        data_dir: where converted models are.

    Returns:
        for each label of the model its probability (Float32, the largest of the judged turns, null where none was
        read) and that turn (Int32); in the order of the rows.

    Raises:
        ModelError: the model can't be loaded.
    """
    turns = turns_of(rows, judge).filter("judged")
    if config.languages:
        found = detect(turns.select(sample(pl.col("content"))).to_series())["lang"]
        turns = turns.filter(found.is_in(config.languages))
    labels, said = classify(
        turns["content"].to_list(),
        config.model,
        data_dir,
        max_length=config.max_length,
        batch_size=config.batch_size,
        label="toxicity: model",
    )
    frame = rows.select("lang").with_row_index("row").select("row").collect()
    for place, label in enumerate(labels):
        scored = turns.select("row", "turn").with_columns(pl.Series("score", said[:, place], dtype=pl.Float32))
        worst = scored.group_by("row", maintain_order=True).agg(
            pl.col("score").max().alias(score_column(label)),
            pl.col("turn").get(pl.col("score").arg_max()).cast(pl.Int32).alias(turn_column(label)),
        )
        frame = frame.join(worst, on="row", how="left", maintain_order="left")
    return frame.drop("row")
