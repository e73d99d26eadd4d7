"""What a finished run gives away: rows for other trainers, samples, its report; and one model measured alone."""

import json
import sys
from pathlib import Path
from typing import Any

from flows.planner import check_stage
from pipeline_config.errors import ConfigError
from pipeline_config.load import load_config
from pipeline_config.schema import DATA_STAGES
from tasks.artifact import Artifact, Store, read_manifest
from tasks.key import data_folder
from tasks.runs import RunRecord, command_in, read_run


def export_stage(
    stage: str,
    out: Path,
    run_id: str | None,
    format_: str,
    split: str | None,
    source: str | None,
    data_dir: str | None,
    *,
    as_json: bool,
) -> None:
    """Write the rows that a stage left, for any other trainer."""
    from tasks.kernels.export import export_rows
    from tasks.kernels.token_export import TOKEN_FORMATS, export_tokens

    folder = data_folder(data_dir)
    record = read_run(folder, run_id)
    artifact = stage_artifact(record, stage, folder)
    if stage not in DATA_STAGES:
        raise ConfigError(f"{stage} holds no rows", place="--stage", cure="name a stage from ingest to tokenize")
    rows = artifact.rows()
    rows = _only(rows, "split", split)
    if stage == DATA_STAGES[-1]:
        if source is not None:
            raise ConfigError("tokenised rows have no source", place="--source", cure="leave it out")
        written = export_tokens(rows, format_, out, split)
    elif format_ in TOKEN_FORMATS[:-1]:
        raise ConfigError(f"{format_} takes tokens", place="--format", cure="say --stage tokenize")
    else:
        written = export_rows(_only(rows, "source", source), format_, out)
    if as_json:
        print(json.dumps({"out": str(out), "rows": written}))
    else:
        print(f"{written} rows of run {record.run_id}, {stage}, in {out}")


def show_preview(run_id: str | None, samples: int, data_dir: str | None, *, as_json: bool) -> None:
    """Print a few tokenised rows with the trained tokens marked.

    The document of `--json` has `run_id` and `samples`, each with `row_id`, `split`, `task` (or source), `n_tokens`,
    `n_trained` and `pieces`: `text` and `learned`, in order, which together are the row.
    """
    from tasks.kernels.models import load_tokenizer, model_folder
    from tasks.kernels.preview import preview_rows, render_terminal

    folder = data_folder(data_dir)
    record = read_run(folder, run_id)
    tokens = stage_artifact(record, "tokenize", folder, "RUN").rows()
    name = (record.config.get("tokenize") or {}).get("model") or record.config["model"]
    tokenizer = load_tokenizer(model_folder(name, folder))
    rows = preview_rows(tokens, tokenizer, samples)
    if as_json:
        found = [row | {"pieces": [{"text": text, "learned": mark} for text, mark in row["pieces"]]} for row in rows]
        print(json.dumps({"run_id": record.run_id, "samples": found}, ensure_ascii=False))
    else:
        print(render_terminal(rows, colour=sys.stdout.isatty()))


def show_report(run_id: str | None, data_dir: str | None, *, as_json: bool) -> None:
    """Print the path of a run's report; one that stopped early gets a page of what it made."""
    from flows.run_report import make_report

    folder = data_folder(data_dir)
    path = make_report(read_run(folder, run_id), folder)
    print(json.dumps({"report": str(path)}) if as_json else path)


def evaluate_file(model: str, data: Path, overrides: list[str], data_dir: str | None, *, as_json: bool) -> None:
    """Measure one model on one file, outside any run; `--set evaluate.…` changes how."""
    from tasks.kernels.models import check_model

    folder = data_folder(data_dir)
    sources = f"ingest.sources=[{{path: {json.dumps(str(data))}}}]"
    config = load_config("default", (sources, "evaluate={}", *overrides)).evaluate
    if config is None:
        raise ConfigError("evaluate is null", place="--set evaluate", cure="leave that override out")
    check_model(model, "causal", place="MODEL")
    from tasks.evaluate.standalone import evaluate_model
    from tasks.kernels.reading.rows_of_file import read_rows

    metrics = evaluate_model(model, read_rows(data.absolute()), config, folder).metrics
    if as_json:
        print(json.dumps({"model": model, "data": str(data), "metrics": dict(metrics)}, ensure_ascii=False))
        return
    for name, value in sorted(metrics.items()):
        print(f"{name:40} {value:12.4f}")


def stage_artifact(record: RunRecord, stage: str, data_dir: Path, place: str = "--stage") -> Artifact:
    """The artifact that a run used for a stage.

    Args:
        place: where the stage was named, for the error.

    Raises:
        ConfigError: the run has none.
    """
    check_stage(place, stage)
    known = [entry.name for entry in record.stages if entry.key and entry.state in ("ran", "cached", "failed")]
    if stage not in known:
        raise ConfigError(
            f"run {record.run_id} has no {stage}",
            place=place,
            cure=f"stages of this run: {', '.join(known) or 'none'}; "
            f"another run is named by its id ({command_in(data_dir, 'winnow', 'status')})",
        )
    folder = Store(data_dir).folder(stage, str(record.stage(stage).key))
    try:
        return Artifact(folder, read_manifest(folder))
    except (OSError, ValueError):
        lost = "left no artifact" if record.stage(stage).state == "failed" else "has lost its artifact"
        raise ConfigError(
            f"{stage} {lost}",
            place=f"run {record.run_id}",
            cure=f"see `{command_in(data_dir, 'winnow', 'status', record.run_id)}`; a new run makes it again",
        ) from None


def _only(rows: Any, column: str, value: str | None) -> Any:
    import polars as pl

    if value is None:
        return rows
    known = rows.select(pl.col(column).unique().sort()).collect()[column].drop_nulls().to_list()
    if value not in known:
        raise ConfigError(
            f"no row has {column} {value!r}", place=f"--{column}", cure=f"there are: {', '.join(known) or 'none'}"
        )
    return rows.filter(pl.col(column) == value)
