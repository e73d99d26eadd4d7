"""The stage: rows near the target domain stay, by similarity to a seed set or to the task in words."""

from pathlib import Path

import polars as pl

from pipeline_config.data_schema import Select
from pipeline_config.errors import SourceError
from pipeline_config.schema import Config
from tasks.kernels.digests import FileDigests, json_digest
from tasks.kernels.models import model_digest
from tasks.kernels.reading.files import name_says
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
    found = {"encoder": model_digest(config.encoder, data_dir)}
    if config.seed_set is not None:
        path = Path(config.seed_set)
        if not path.is_file():
            raise SourceError(f"there is no file {config.seed_set}", place=PLACE, cure="check the path")
        digests = FileDigests(data_dir)
        found["seed_set"] = json_digest([*name_says(path), digests.of(path)])
        digests.save()
    return found


def score(given: StageInput[Select]) -> pl.DataFrame:
    """`row_id` and `score_similarity` (Float32, in [-1, 1]) of the competing rows."""
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
    return decide(given.scores, given.config)


def _examples(config: Select) -> list[str]:
    """What rows are compared with, as the encoder reads it; each text once."""
    described = [] if config.description is None else [config.description]
    if config.seed_set is None:
        return described
    from tasks.kernels.reading.rows_of_file import read_rows
    from tasks.select.similarity import view

    seeds = read_rows(Path(config.seed_set)).select(view(config.max_length).alias("text"))
    texts = seeds.filter(pl.col("text") != "").unique(maintain_order=True)["text"].to_list()
    if not texts:
        raise SourceError(
            f"{config.seed_set} holds no record that can be read",
            place=PLACE,
            cure="give a file of good examples in any format that ingest reads",
        )
    return described + texts
