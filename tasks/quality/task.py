"""The quality stage: low-quality rows out."""

from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING

from pipeline_config.data_schema import Quality
from pipeline_config.schema import Config
from tasks.kernels.language_model import LIBRARIES, language_model_file
from tasks.kernels.models import model_digest
from tasks.stage import StageInput, stage

if TYPE_CHECKING:
    import polars as pl

    from tasks.ledger import Decision


def score(given: "StageInput[Quality]") -> "pl.DataFrame":
    """Measure every row; thresholds play no part."""
    from tasks.quality.score import score_rows

    rows = given.rows.select("row_id", "messages", "tools")
    scores = score_rows(rows, given.config)
    if not any((given.config.perplexity, given.config.difficulty, given.config.classifier)):
        return scores
    from tasks.quality.model_scores import score_by_models

    return scores.hstack(score_by_models(rows, given.config, given.run.model, given.data_dir))


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
    models = config.models(run.model)
    found |= {f"{name}_model": model_digest(model, data_dir) for name, (model, _) in models.items()}
    return found | ({name: version(name) for name in ("torch", "transformers", "peft")} if models else {})


@stage(
    "quality", libraries=("numba", "numpy", *LIBRARIES), score=score, reads=("messages", "tools"), references=references
)
def quality(given: "StageInput[Quality]") -> "Decision":
    """Low-quality rows out: rule sets, language, length."""
    from tasks.quality.decide import decide

    assert given.scores is not None
    known = given.rows.collect_schema().names()
    columns = [name for name in ("row_id", "source", "task", "label", "lang", "score_toxicity_prompt") if name in known]
    return decide(given.rows.select(columns).collect(), given.scores, given.config)
