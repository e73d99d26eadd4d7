"""The quality stage: low-quality rows out."""

from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING

from pipeline_config.data_schema import Quality
from pipeline_config.schema import Config
from tasks.kernels.language_model import LIBRARIES, language_model_file
from tasks.kernels.models import model_digest
from tasks.stage import Apart, StageInput, stage

if TYPE_CHECKING:
    import polars as pl

    from tasks.ledger import Decision


def score(given: "StageInput[Quality]") -> "pl.DataFrame":
    """Measure every row; thresholds play no part."""
    from tasks.quality.score import score_rows

    return score_rows(given.rows.select("row_id", "messages", "tools"), given.config)


def perplexity(given: "StageInput[Quality]") -> "pl.DataFrame":
    """`row_id` and `perplexity`."""
    return _by_model("perplexity", given)


def difficulty(given: "StageInput[Quality]") -> "pl.DataFrame":
    """`row_id` and `difficulty`."""
    return _by_model("difficulty", given)


def classifier(given: "StageInput[Quality]") -> "pl.DataFrame":
    """`row_id` and `classifier`."""
    return _by_model("classifier", given)


def _by_model(name: str, given: "StageInput[Quality]") -> "pl.DataFrame":
    from tasks.quality.model_scores import score_by_model

    scores = score_by_model(name, given.rows, given.config, given.run.model, given.data_dir)
    return given.rows.select("row_id").collect().with_columns(scores)


def references(config: Quality, run: Config, data_dir: Path) -> dict[str, str]:
    """Digests of the models, and versions of what runs them; also where a mistyped rule is found.

    Raises:
        ConfigError: a rule or rule set that does not exist.
        ModelError: a model is not there.
    """
    from tasks.kernels.digests import FileDigests
    from tasks.quality.settings import active_rules

    active_rules(config)
    digests = FileDigests(data_dir)
    found = {"language_model": digests.of(language_model_file())}
    digests.save()
    for score, (model, _) in config.models(run.model).items():
        found[f"{score}_model"] = model_digest(model, data_dir)
        found |= {f"{score}_{library}": version(library) for library in ("torch", "transformers", "peft")}
    return found


@stage(
    "quality",
    libraries=("numba", "numpy", *LIBRARIES),
    score=score,
    reads=("messages", "tools"),
    apart={
        "perplexity": Apart(perplexity, ("perplexity",)),
        "difficulty": Apart(difficulty, ("difficulty",)),
        "classifier": Apart(classifier, ("classifier",)),
    },
    references=references,
)
def quality(given: "StageInput[Quality]") -> "Decision":
    """Low-quality rows out: rule sets, language, length."""
    from tasks.quality.decide import decide

    assert given.scores is not None
    known = given.rows.collect_schema().names()
    columns = [name for name in ("row_id", "source", "task", "label", "lang", "score_toxicity_prompt") if name in known]
    return decide(given.rows.select(columns).collect(), given.scores, given.config)
