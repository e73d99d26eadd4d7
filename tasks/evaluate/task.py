"""Evaluate: quality and efficiency of the base model and of every model that this run made, on each test set.

predictions.parquet   a line for each example and model: reference, answer, loss, scores
metrics.json          every metric but the timings, which differ from run to run and stand in the manifest only
"""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from pipeline_config.errors import ConfigError
from pipeline_config.model_schema import Evaluate
from pipeline_config.schema import Config
from pipeline_config.suggest import did_you_mean
from tasks.kernels.chat_template import chat_tokenizer, tokenizer_references
from tasks.kernels.digests import canonical_json
from tasks.kernels.models import model_digest, model_folder
from tasks.kernels.published import TUNED, published_models
from tasks.stage import StageInput, stage

if TYPE_CHECKING:
    from tasks.artifact import Artifact
    from tasks.ledger import Output

BASE = "base"


def references(config: Evaluate, run: Config, data_dir: Path) -> dict[str, str]:
    """Digests of the base model, the tokenizer and BERTScore's encoder; what can't work is refused here.

    Raises:
        ConfigError: no tokenize stage, no possible test set, or a model's name that this run does not have.
        ModelError: a model or a chat template that can't be used.
    """
    if run.tokenize is None:
        raise ConfigError(
            "evaluate measures the loss on tokenised rows, but there is no tokenize stage",
            place="evaluate",
            cure="add `tokenize: {}` to the configuration",
        )
    if run.split is None and not any((source.split or "").startswith("test") for source in run.ingest.sources):
        raise ConfigError(
            "no row can belong to a test set",
            place="evaluate",
            cure="add `split: {}` to the configuration, or give a source `split: test`",
        )
    check_names(config.models, run)
    found = {"base": model_digest(_base_model(run), data_dir), **tokenizer_references(run, data_dir)}
    if "bertscore_f1" in config.metrics:
        found["encoder"] = model_digest(config.encoder, data_dir)
    return found


@stage(
    "evaluate",
    libraries=(
        "torch",
        "transformers",
        "peft",
        "safetensors",
        "tokenizers",
        "numpy",
        "evaluate",
        "sacrebleu",
        "rouge-score",
        "bert-score",
        "scikit-learn",
    ),
    references=references,
)
def evaluate(given: StageInput[Evaluate]) -> "Output":
    """Each model measured on the same test rows."""
    from tasks.artifact import write_frame
    from tasks.evaluate.examples import choose_examples
    from tasks.evaluate.suite import evaluate_examples
    from tasks.ledger import Output

    config = given.config
    folders = model_folders(config, given.run, given.upstream, given.data_dir)
    examples = choose_examples(given.rows, given.upstream["tokenize"].rows(), config, given.seed)
    tokenizer = chat_tokenizer(given.run, given.data_dir)
    found = evaluate_examples(folders, tokenizer, examples, config, given.data_dir, given.seed)
    write_frame(found.predictions, given.out / "predictions.parquet")
    (given.out / "metrics.json").write_text(canonical_json(found.untimed) + "\n", encoding="utf-8")
    return Output(metrics=found.metrics, facts=found.facts)


def model_folders(config: Evaluate, run: Config, upstream: "Mapping[str, Artifact]", data_dir: Path) -> dict[str, Path]:
    """Name → folder of the models to evaluate: base first, then in the order of the stages."""
    there = {BASE: Path(model_folder(_base_model(run), data_dir)), **published_models(upstream)}
    wanted = config.models or list(there)
    _refuse_unknown(wanted, list(there))
    return {name: folder for name, folder in there.items() if name in wanted}


def check_names(names: list[str], run: Config) -> None:
    """Raise ConfigError for a name that this run will not have, or that would break the metric keys."""
    known = [BASE]
    if run.train is not None:
        known.append(TUNED)
    for section, place in ((run.distill, "distill"), (run.compress, "compress")):
        if section is None:
            continue
        given = section.students if place == "distill" else section.exports  # type: ignore[union-attr]
        for name in given:
            if "." in name:
                raise ConfigError(
                    f"a model's name can't hold a dot ({name!r}): it parts the metric keys",
                    place=f"{place}.{name}",
                    cure=f"call it {name.replace('.', '_')}",
                )
        known += list(given)
    _refuse_unknown(names, known)


def _refuse_unknown(names: list[str], known: list[str]) -> None:
    for name in names:
        if name not in known:
            raise ConfigError(
                f"there is no model {name!r}{did_you_mean(name, known)}",
                place="evaluate.models",
                cure=f"models of this run: {', '.join(known)}",
            )


def _base_model(run: Config) -> str:
    """What the tuned model was made from."""
    return (run.train.model if run.train else None) or run.model
