"""The toxicity stage: harmful rows flagged or out."""

from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING

from pipeline_config.data_schema import Toxicity
from pipeline_config.schema import Config
from tasks.kernels.language_model import LIBRARIES
from tasks.kernels.models import model_digest
from tasks.stage import StageInput, stage

if TYPE_CHECKING:
    import polars as pl

    from tasks.ledger import Decision


def score(given: "StageInput[Toxicity]") -> "pl.DataFrame":
    """Score every row; thresholds and actions play no part."""
    from tasks.toxicity.score import score_rows

    rows, config = given.rows.select("row_id", "lang", "messages"), given.config
    scores = score_rows(rows, config)
    if config.model is None:
        return scores
    from tasks.toxicity.categories import score_categories

    return scores.hstack(score_categories(rows, config.model, config.judge, given.data_dir))


def references(config: Toxicity, run: Config, data_dir: Path) -> dict[str, str]:
    """Digests of the packaged model, word lists, dictionary, language model, and of the user's own model."""
    from tasks.kernels.digests import FileDigests
    from tasks.toxicity.files import shaping_files

    digests = FileDigests(data_dir)
    found = {name: digests.of(path) for name, path in shaping_files(config).items()}
    digests.save()
    if config.model is not None:
        found["model"] = model_digest(config.model.model, data_dir)
        found |= {name: version(name) for name in ("torch", "transformers")}
    return found


@stage(
    "toxicity", libraries=("numba", "numpy", *LIBRARIES), score=score, reads=("lang", "messages"), references=references
)
def toxicity(given: "StageInput[Toxicity]") -> "Decision":
    """Harmful rows flagged or out."""
    from tasks.toxicity.decide import decide

    assert given.scores is not None
    return decide(given.rows.select("row_id", "source").collect(), given.scores, given.config)
