"""The bound that each score of a row was held against, in words, for a row that was kept."""

from collections.abc import Mapping
from typing import Any

from pipeline_config.data_schema import Quality
from pipeline_config.errors import ConfigError
from tasks.toxicity.labels import score_column


def score_bounds(manifest: Mapping[str, Any]) -> dict[str, str]:
    """Score column → what would have happened at which value; columns without a bound are left out."""
    config, facts = manifest["config"], manifest["facts"]
    if manifest["stage"] == "toxicity":
        return _toxicity(config)
    if manifest["stage"] == "quality":
        return _quality(config)
    if manifest["stage"] == "select" and isinstance(facts.get("last_kept_similarity"), float):
        return {"score_similarity": f"the last row kept has {facts['last_kept_similarity']:.4g}"}
    return {}


def _toxicity(config: Mapping[str, Any]) -> dict[str, str]:
    found = {}
    for judge, column in (("english", "score_toxicity"), ("chinese", "score_toxicity_zh")):
        settings = config.get(judge)
        if settings:
            found[column] = f"{settings['action']} from {settings['threshold']:.4g} on"
    for label, settings in ((config.get("model") or {}).get("categories") or {}).items():
        found[score_column(label)] = f"{settings['action']} from {settings['threshold']:.4g} on"
    return found


def _quality(config: Mapping[str, Any]) -> dict[str, str]:
    """Rules read by the columns that stand in the rows."""
    from pydantic import ValidationError

    from tasks.quality.rules import MODEL_RULES
    from tasks.quality.settings import active_rules

    try:
        rules = active_rules(Quality.model_validate(dict(config)))
    except (ConfigError, ValidationError):  # rules of another version
        return {}
    columns = {
        "answer_words": "score_answer_words",
        "duplicate_lines": "score_repetition",
        "duplicate_ngrams": "score_repetition",
        **{rule.statistic: f"score_{rule.statistic}" for rule in MODEL_RULES},
    }
    found: dict[str, str] = {}
    for rule in rules:
        if rule.statistic in columns:
            words = f"{rule.name} removes {rule.comparison} {rule.threshold:.4g}"
            column = columns[rule.statistic]
            found[column] = f"{found[column]}, {words}" if column in found else words
    return found
