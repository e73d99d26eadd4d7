"""The stage: variants of some train rows, with other words in the user's turns."""

from pathlib import Path

import polars as pl

from pipeline_config.schema import Config
from pipeline_config.sets_schema import Augment
from tasks.augment import chinese, nlpaug_parts
from tasks.augment.wordnet import dictionary_files, dictionary_path
from tasks.kernels.digests import FileDigests, json_digest
from tasks.kernels.language import detect, sample
from tasks.kernels.language_model import LIBRARIES
from tasks.kernels.rows import joined
from tasks.ledger import Decision
from tasks.stage import StageInput, stage

_OF_NLPAUG = ("keyboard", "swap", "delete", "synonym")


def references(config: Augment, run: Config, data_dir: Path) -> dict[str, str]:
    """Digests of WordNet's dictionary, of the masked model and of the encoder, where they are used.

    Raises:
        ConfigError: a method's library or dictionary is not installed.
        ModelError: there is no such model.
    """
    found = {}
    models = {}
    if config.min_similarity is not None:
        models["encoder"] = config.encoder
    if config.masked_model is not None and "contextual" in config.methods:
        models["masked_model"] = config.masked_model
    if models:
        from tasks.kernels.models import model_digest
        from tasks.key import library_versions

        versions = library_versions(("torch", "transformers"))
        found = {name: json_digest([model_digest(model, data_dir), versions]) for name, model in models.items()}
    if any(method in _OF_NLPAUG for method in config.methods):
        nlpaug_parts.check_installed()
    if "chinese" in config.methods:
        chinese.check_installed()
    if "synonym" in config.methods:
        digests = FileDigests(data_dir)
        found["wordnet"] = digests.of_many(dictionary_files(dictionary_path()))
        digests.save()
    return found


@stage("augment", libraries=("nlpaug", "nlpcda", "jieba", "numba", "numpy", *LIBRARIES), references=references)
def augment(given: StageInput[Augment]) -> Decision:
    """More varied training prompts; assistant text is never altered, and no variant resembles another split's row."""
    from tasks.augment.decide import decide, drawn
    from tasks.augment.parallel import variants
    from tasks.kernels.likeness import views

    config = given.config
    roles = pl.col("messages").list.eval(pl.element().struct.field("role"))
    asks = (roles.list.contains("user") & roles.list.contains("assistant")).alias("asks")
    chosen = drawn(given.rows.select("row_id", "source", "task", "split", asks).collect(), config, given.seed)
    rows = (
        given.rows.filter(pl.col("row_id").is_in(chosen.implode()))
        .select("row_id", "lang", "messages", sample(joined("messages", ("user",))).alias("asked"))
        .collect()
    )
    other_split = pl.col("split").fill_null("train") != "train"
    others = given.rows.filter(other_split).select(*views()).collect()
    made = variants(_with_language(rows), config, given.seed, given.data_dir)
    return decide(rows, made, others, config, given.data_dir)


def _with_language(rows: pl.DataFrame) -> pl.DataFrame:
    """Rows that do not say their language are told by their user's turns."""
    unknown = rows["lang"].is_null()
    guessed = rows.filter(unknown).select("row_id", detect(rows.filter(unknown)["asked"])["lang"].alias("guess"))
    known = rows.join(guessed, on="row_id", how="left", maintain_order="left")
    return known.select("row_id", pl.coalesce("lang", "guess").alias("lang"), "messages")
