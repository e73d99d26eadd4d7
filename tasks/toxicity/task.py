"""The toxicity stage: harmful rows flagged or out."""

from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING

from pipeline_config.data_schema import Toxicity
from pipeline_config.schema import Config
from tasks.kernels.language_model import LIBRARIES
from tasks.kernels.models import model_digest
from tasks.stage import Apart, StageInput, stage

if TYPE_CHECKING:
    import polars as pl

    from tasks.ledger import Decision


def score(given: "StageInput[Toxicity]") -> "pl.DataFrame":
    """Score every row; thresholds and actions play no part."""
    from tasks.toxicity.score import score_rows

    return score_rows(given.rows.select("row_id", "lang", "messages"), given.config)


def categories(given: "StageInput[Toxicity]") -> "pl.DataFrame":
    """`row_id`, and what the user's own model says."""
    from tasks.toxicity.categories import score_categories

    assert given.config.model is not None
    rows = given.rows.select("row_id", "lang", "messages")
    scores = score_categories(rows, given.config.model, given.config.judge, given.data_dir)
    return rows.select("row_id").collect().hstack(scores)


def references(config: Toxicity, run: Config, data_dir: Path) -> dict[str, str]:
    """Digests of the packaged model, word lists, dictionary, language model, and of the user's own model."""
    from tasks.kernels.digests import FileDigests
    from tasks.toxicity.files import shaping_files

    digests = FileDigests(data_dir)
    found = {name: digests.of(path) for name, path in shaping_files(config).items()}
    digests.save()
    if config.model is not None:
        found["model"] = model_digest(config.model.model, data_dir)
        found |= {f"model_{name}": version(name) for name in ("torch", "transformers")}
    return found


@stage(
    "toxicity",
    libraries=("numba", "numpy", *LIBRARIES),
    score=score,
    reads=("lang", "messages"),
    apart={"model": Apart(categories, ("judge", "model"))},
    references=references,
)
def toxicity(given: "StageInput[Toxicity]") -> "Decision":
    """Harmful rows flagged or out."""
    from tasks.toxicity.decide import decide

    assert given.scores is not None
    return decide(given.rows.select("row_id", "source").collect(), given.scores, given.config)
