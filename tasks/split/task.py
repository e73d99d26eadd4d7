"""The stage: every row in train, validation or a test set, and nothing that leaks from one to the other."""

from pathlib import Path

import polars as pl

from pipeline_config.data_schema import Split
from pipeline_config.errors import ConfigError
from pipeline_config.schema import Config
from tasks.kernels.digests import canonical_json
from tasks.kernels.rows import answer_text
from tasks.ledger import Decision
from tasks.stage import StageInput, stage


def references(config: Split, run: Config, data_dir: Path) -> dict[str, str]:
    """Which splits the sources fill by themselves; a plain share is not drawn into those.

    Raises:
        ConfigError: a named test set is drawn although a source fills it.
    """
    filled = _filled(run)
    twice = sorted(filled & {f"test:{name}" for name in config.test}) if isinstance(config.test, dict) else []
    if twice:
        raise ConfigError(
            f"a source fills {twice[0]}, and split.test draws it too",
            place=f"split.test.{twice[0].removeprefix('test:')}",
            cure="give one of the two another name, or leave this test set out",
        )
    return {"filled_by_sources": canonical_json(sorted(filled))}


@stage("split", libraries=("numba", "numpy"), references=references)
def split(given: StageInput[Split]) -> Decision:
    """Train, validation and test sets; near-duplicates never straddle, train holds no test row."""
    from tasks.kernels.likeness import views  # brings numba, which planning does without
    from tasks.split.decide import decide

    rows = given.rows.select(
        "row_id", "source", "task", "split", _group_key(given.config.group_by), *views(), answer_text().alias("answer")
    ).collect()
    return decide(rows, given.config, given.seed, _filled(given.run))


def _filled(run: Config) -> frozenset[str]:
    return frozenset(source.split for source in run.ingest.sources if source.split is not None)


def _group_key(field: str | None) -> pl.Expr:
    """The value of a meta field as text; null where a record has none."""
    if field is None:
        return pl.lit(None, dtype=pl.String).alias("key")
    quoted = field.replace("\\", "\\\\").replace("'", "\\'")
    return pl.col("meta").str.json_path_match(f"$['{quoted}']").alias("key")
