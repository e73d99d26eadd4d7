"""The stage: every row in train, validation or a test set, and nothing that leaks from one to the other."""

from pathlib import Path

import polars as pl

from pipeline_config.errors import ConfigError
from pipeline_config.schema import Config
from pipeline_config.sets_schema import Split
from tasks.kernels.digests import canonical_json
from tasks.kernels.rows import answer_text
from tasks.ledger import Decision
from tasks.split.benchmarks import file_digests
from tasks.stage import StageInput, stage


def references(config: Split, run: Config, data_dir: Path) -> dict[str, str]:
    """Which splits the sources fill by themselves (a plain share is not drawn into those), and what the files hold.

    Raises:
        ConfigError: a named test set is drawn although a source fills it, or the frozen test set has changed.
        SourceError: there is no such benchmark or frozen file.
    """
    filled = _filled(run)
    twice = sorted(filled & {f"test:{name}" for name in config.test}) if isinstance(config.test, dict) else []
    if twice:
        raise ConfigError(
            f"a source fills {twice[0]}, and split.test draws it too",
            place=f"split.test.{twice[0].removeprefix('test:')}",
            cure="give one of the two another name, or leave this test set out",
        )
    if config.frozen is not None:
        filled |= {"test"}  # what is frozen is not drawn
    return {"filled_by_sources": canonical_json(sorted(filled)), **file_digests(config, data_dir)}


@stage("split", libraries=("numba", "numpy", "orjson", "pyarrow"), references=references)
def split(given: StageInput[Split]) -> Decision:
    """Train, validation and test sets; near-duplicates never straddle, train holds no test row."""
    from tasks.kernels.likeness import views  # brings numba, which planning does without
    from tasks.split.benchmarks import benchmark_rows, frozen_rows, said
    from tasks.split.decide import decide
    from tasks.split.times import as_times

    config = given.config
    columns: list[str | pl.Expr] = [
        "row_id", "source", "task", "label", "split", _field(config.group_by, "key"), _field(config.time_by, "time"),
        *views(), answer_text().alias("answer"),
    ]  # fmt: skip
    frozen = config.frozen
    rows = given.rows.select(*columns, *([] if frozen is None else ["messages"])).collect()
    filled = _filled(given.run)
    if frozen is not None:
        pinned = frozen_rows(said(rows["messages"]), frozen)
        rows = rows.drop("messages").with_columns(
            pl.when(pl.lit(pinned)).then(pl.lit("test")).otherwise("split").alias("split")
        )
        filled |= {"test"}
    if config.time_by is not None:
        rows = rows.with_columns(as_times(rows["time"]))
    return decide(rows, config, given.seed, filled, benchmark_rows(config) if config.decontaminate_against else None)


def _filled(run: Config) -> frozenset[str]:
    return frozenset(source.split for source in run.ingest.sources if source.split is not None)


def _field(field: str | None, name: str) -> pl.Expr:
    """The value of a meta field as text; null where a record has none."""
    if field is None:
        return pl.lit(None, dtype=pl.String).alias(name)
    quoted = field.replace("\\", "\\\\").replace("'", "\\'")
    return pl.col("meta").str.json_path_match(f"$['{quoted}']").alias(name)
