"""The dedupe stage: rows that repeat a kept row out."""

from pathlib import Path
from typing import TYPE_CHECKING

from pipeline_config.data_schema import Dedupe
from pipeline_config.schema import Config
from tasks.stage import StageInput, stage

if TYPE_CHECKING:
    from tasks.dedupe.semantic import Encode
    from tasks.kernels.cosines import Vectors
    from tasks.ledger import Decision


def references(config: Dedupe, run: Config, data_dir: Path) -> dict[str, str]:
    """The order of the sources, where it decides which row is kept, and the indexes that the run is held against.

    Raises:
        ConfigError: `against` names what is not there or can't be compared.
        ModelError: there is no such encoder.
    """
    from tasks.kernels.digests import json_digest

    found = {}
    if config.priority == "source_priority":
        found["source_priority"] = json_digest([source.name for source in run.ingest.sources])
    if config.semantic is not None:
        from tasks.kernels.models import model_digest
        from tasks.key import library_versions

        digest = model_digest(config.semantic.encoder, data_dir)
        found["encoder"] = json_digest([digest, library_versions(("torch", "transformers"))])
    if config.against:
        from tasks.dedupe.against import index_digest, keepers

        found["against"] = index_digest(keepers(config, data_dir))
    return found


@stage("dedupe", libraries=("numba", "numpy", "pyarrow"), references=references)
def dedupe(given: "StageInput[Dedupe]") -> "Decision":
    """Exact, then near-duplicates, each removal verified against a row that is kept."""
    from dataclasses import replace

    from tasks.dedupe.against import index_terms, keeper_name, keepers
    from tasks.dedupe.decide import COLUMNS, decide
    from tasks.dedupe.index import Index, write_index
    from tasks.dedupe.order import order_columns

    config = given.config
    sources = [source.name for source in given.run.ingest.sources]
    above = keepers(config, given.data_dir)
    indexes = [Index(artifact.path, keeper_name(artifact)) for artifact in above]
    keep = (lambda group, part: write_index(given.out, group, part)) if config.index else None
    rows = given.rows.select(*COLUMNS, *order_columns(config))
    decision = decide(rows, config, sources, indexes, keep, _encode(given))
    facts = dict(decision.facts)
    if config.index:
        facts["index"] = index_terms(config, given.data_dir)
    if above:
        facts["against"] = [
            {"key": artifact.key, "folder": str(artifact.path), "rows": index.rows}
            for artifact, index in zip(above, indexes, strict=True)
        ]
    return replace(decision, facts=facts)


def _encode(given: "StageInput[Dedupe]") -> "Encode | None":
    """Texts to unit vectors, by the encoder that the section names."""
    semantic = given.config.semantic
    if semantic is None:
        return None

    def encode(texts: "list[str]") -> "Vectors":
        from tasks.kernels.encoder import embed

        return embed(
            texts,
            semantic.encoder,
            given.data_dir,
            max_length=semantic.max_length,
            batch_size=semantic.batch_size,
            label="dedupe: meaning",
        )

    return encode
