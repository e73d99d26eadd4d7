"""The stage: rows near the target domain stay, by similarity to a seed set or to the task in words."""

from pathlib import Path

import polars as pl

from pipeline_config.errors import DataError, SourceError
from pipeline_config.schema import Config
from pipeline_config.sets_schema import Select
from tasks.kernels.digests import FileDigests, json_digest
from tasks.kernels.models import model_digest
from tasks.kernels.reading.files import name_says
from tasks.kernels.rows import whole_text
from tasks.ledger import Decision
from tasks.select.choose import competing, decide
from tasks.stage import StageInput, stage

PLACE = "select.seed_set"


def references(config: Select, run: Config, data_dir: Path) -> dict[str, str]:
    """Digests of the seed set and the encoder.

    Raises:
        SourceError: there is no such seed set.
        ModelError: there is no such encoder.
    """
    found = {"encoder": model_digest(config.encoder, data_dir)} if config.method == "similarity" else {}
    if config.seed_set is not None:
        path = Path(config.seed_set)
        if not path.is_file():
            raise SourceError(f"there is no file {config.seed_set}", place=PLACE, cure="check the path")
        digests = FileDigests(data_dir)
        found["seed_set"] = json_digest([*name_says(path), digests.of(path)])
        digests.save()
    return found


def score(given: StageInput[Select]) -> pl.DataFrame:
    """`row_id` and `score_similarity` (Float32, in [-1, 1]) of the competing rows; none for the other methods.

    Importance depends on all rows, and a field is there already: both are taken when it is decided.
    """
    if given.config.method != "similarity":
        return pl.DataFrame(schema={"row_id": pl.String, "score_similarity": pl.Float32})
    from tasks.kernels.encoder import embed
    from tasks.select.similarity import nearest_mean, view

    config = given.config
    rows = (
        given.rows.filter(competing(config.sources)).select("row_id", view(config.max_length).alias("text")).collect()
    )
    examples = _examples(config)
    vectors = embed(
        [*examples, *rows["text"]],
        config.encoder,
        given.data_dir,
        max_length=config.max_length,
        batch_size=config.batch_size,
        label="select: similarity",
    )
    similarity = nearest_mean(vectors[len(examples) :], vectors[: len(examples)], config.nearest)
    return rows.select("row_id", pl.Series("score_similarity", similarity, dtype=pl.Float32))


@stage(
    "select",
    libraries=("torch", "transformers", "numba", "numpy", "orjson", "pyarrow"),
    score=score,
    reads=("source", "split", "messages"),
    references=references,
)
def select(given: StageInput[Select]) -> Decision:
    """Rows relevant to the target domain stay; the others go with their similarity."""
    assert given.scores is not None
    config = given.config
    rows = given.rows.filter(competing(config.sources))
    if config.method == "similarity":
        scores = given.scores
    elif config.method == "importance":
        scores = _importance(rows.select("row_id", whole_text().alias("text")).collect(), config, given.seed)
    else:
        scores = _numbers(rows.select("row_id", "meta").collect(), str(config.field))
    beside = [] if config.quota_by is None else [pl.col(config.quota_by).alias("group")]
    beside += [] if config.diversity is None else [whole_text().alias("text")]
    if beside:
        more = rows.select("row_id", *beside).collect()
        scores = scores.join(more, on="row_id", how="left", maintain_order="left")
    return decide(scores, config)


def _importance(rows: pl.DataFrame, config: Select, seed: int) -> pl.DataFrame:
    from tasks.select.importance import log_weights, resampled

    weights = log_weights(rows["text"], pl.Series(_seed_texts(config), dtype=pl.String))
    return rows.select(
        "row_id",
        pl.Series("score_importance", weights, dtype=pl.Float32),
        pl.Series("order", resampled(rows["row_id"], weights, seed)),
    )


def _numbers(rows: pl.DataFrame, field: str) -> pl.DataFrame:
    quoted = field.replace("\\", "\\\\").replace("'", "\\'")
    number = pl.col("meta").str.json_path_match(f"$['{quoted}']").cast(pl.Float64, strict=False).fill_nan(None)
    scores = rows.select("row_id", number.cast(pl.Float32).alias("score_field"), number.alias("order"))
    if rows.height and scores["order"].null_count() == rows.height:
        raise DataError(
            f"no competing row has a number in the field {field!r} of its meta",
            place="select.field",
            cure="name a field that your records have, as they spell it",
        )
    return scores


def _seed_texts(config: Select) -> list[str]:
    """The whole text of every seed, and the description."""
    described = [] if config.description is None else [config.description]
    if config.seed_set is None:
        return described
    from tasks.kernels.reading.rows_of_file import read_rows

    return described + _readable(read_rows(Path(config.seed_set)).select(whole_text().alias("text")), config.seed_set)


def _examples(config: Select) -> list[str]:
    """What rows are compared with, as the encoder reads it; each text once."""
    described = [] if config.description is None else [config.description]
    if config.seed_set is None:
        return described
    from tasks.kernels.reading.rows_of_file import read_rows
    from tasks.select.similarity import view

    seeds = read_rows(Path(config.seed_set)).select(view(config.max_length).alias("text"))
    return described + _readable(seeds, config.seed_set)


def _readable(seeds: pl.DataFrame, path: str) -> list[str]:
    """Each text once."""
    texts = seeds.filter(pl.col("text") != "").unique(maintain_order=True)["text"].to_list()
    if not texts:
        raise SourceError(
            f"{path} holds no record that can be read",
            place=PLACE,
            cure="give a file of good examples in any format that ingest reads",
        )
    return texts
