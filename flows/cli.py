"""The command line. Commands import what they need when they run, so that `--help` and `plan` answer at once."""

import os
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from flows.failure import damaged_artifact, fail
from flows.interrupts import keep_interrupts
from flows.options import (
    AnyRun,
    Config,
    DataDir,
    Force,
    From,
    Json,
    Keep,
    Only,
    RowId,
    RunA,
    RunB,
    RunId,
    Sets,
    Unfinished,
    Until,
    Verify,
)
from pipeline_config.errors import ConfigError, WinnowError

app = typer.Typer(
    name="winnow",
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    help="Raw text and instruction data to a fine-tuned, evaluated model; every row accounted for.",
)

_UsageError: Any = typer.BadParameter.__base__  # typer carries its own click and names no other way to it


@app.callback(invoke_without_command=True)
def _start(
    context: typer.Context, version: Annotated[bool, typer.Option("--version", help="print the version")] = False
) -> None:
    if version:
        from importlib.metadata import version as installed

        print(f"winnow {installed('winnow-pipeline')}")
    elif context.invoked_subcommand is None:
        print(context.get_help())


@app.command()
def run(
    config: Config = None,
    sets: Sets = None,
    from_stage: From = None,
    until: Until = None,
    only: Only = None,
    force: Force = None,
    verify: Verify = False,
    data_dir: DataDir = None,
    as_json: Json = False,
) -> None:
    """Run the pipeline; what is cached is not run again."""
    from flows.commands import run_pipeline
    from flows.planner import Selection

    name, overrides = _config_name(config, sets), list(sets or ())
    code = run_pipeline(
        name, overrides, data_dir, Selection(from_stage, until, only, tuple(force or ()), verify), as_json=as_json
    )
    raise typer.Exit(code)


@app.command()
def plan(
    config: Config = None,
    sets: Sets = None,
    from_stage: From = None,
    until: Until = None,
    only: Only = None,
    force: Force = None,
    verify: Verify = False,
    data_dir: DataDir = None,
    as_json: Json = False,
) -> None:
    """Say what a run would do, and why; nothing runs."""
    from flows.commands import show_plan
    from flows.planner import Selection

    selection = Selection(from_stage, until, only, tuple(force or ()), verify)
    show_plan(_config_name(config, sets), list(sets or ()), data_dir, selection, as_json=as_json)


@app.command()
def crossvalidate(
    config: Config = None,
    folds: Annotated[int, typer.Option("--folds", min=2, metavar="K", help="how many")] = 5,
    sets: Sets = None,
    data_dir: DataDir = None,
    as_json: Json = False,
) -> None:
    """Run once for each fold, held out in turn; mean and 95 % interval of every metric."""
    from flows.crossvalidate import crossvalidate as run_all

    raise typer.Exit(run_all(_config_name(config, sets), list(sets or ()), folds, data_dir, as_json=as_json))


@app.command()
def search(
    config: Config = None,
    space: Annotated[
        list[str] | None,
        typer.Option("--space", metavar="A.B=KIND(…)", help="as in 'train.learning_rate=loguniform(1e-4,1e-2)'"),
    ] = None,
    trials: Annotated[int, typer.Option("--trials", min=1, metavar="N", help="how many")] = 10,
    metric: Annotated[str, typer.Option("--metric", help="of a run, such as train.eval_loss")] = "train.eval_loss",
    maximize: Annotated[bool, typer.Option("--maximize", help="the largest value is the best")] = False,
    sets: Sets = None,
    data_dir: DataDir = None,
    as_json: Json = False,
) -> None:
    """Try values for any keys of the configuration; each trial is a cached run."""
    from flows.search import search as run_all

    name, overrides = _config_name(config, sets), list(sets or ())
    code = run_all(name, overrides, list(space or ()), trials, metric, data_dir, maximize=maximize, as_json=as_json)
    raise typer.Exit(code)


@app.command()
def resume(
    run_id: Unfinished = None,
    sets: Sets = None,
    verify: Verify = False,
    data_dir: DataDir = None,
    as_json: Json = False,
) -> None:
    """Go on with a failed, killed or interrupted run, under the configuration in its record."""
    from flows.commands import resume_run

    raise typer.Exit(resume_run(run_id, list(sets or ()), data_dir, verify=verify, as_json=as_json))


@app.command()
def status(
    run_id: AnyRun = None,
    data_dir: DataDir = None,
    as_json: Json = False,
) -> None:
    """List all runs and what takes up the disk; or show one run: its stages, rows, gates and figures."""
    if run_id is None:
        from flows.show_folder import show_overview

        show_overview(data_dir, as_json=as_json)
        return
    from flows.commands import show_status

    show_status(run_id, data_dir, as_json=as_json)


@app.command()
def diff(
    a: RunA,
    b: RunB,
    examples: Annotated[int, typer.Option("--examples", min=0, help="rows shown for each change of fate")] = 3,
    data_dir: DataDir = None,
    as_json: Json = False,
) -> None:
    """Compare two runs: configuration, code, rows by rule, rows that changed fate, metrics."""
    from flows.show_diff import show_diff

    show_diff(a, b, examples, data_dir, as_json=as_json)


@app.command()
def gc(
    keep: Keep,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="list what would go, remove nothing")] = False,
    data_dir: DataDir = None,
    as_json: Json = False,
) -> None:
    """Give disk back: remove what neither the newest N runs, nor the newest done one, nor a running one uses."""
    from flows.show_folder import show_collection

    show_collection(keep, dry_run, data_dir, as_json=as_json)


@app.command()
def explain(
    row_id: RowId = None,
    run_id: RunId = None,
    text: Annotated[str | None, typer.Option("--text", help="find rows that contain this; then: [RUN]")] = None,
    quarantined: Annotated[bool, typer.Option("--quarantined", help="list what was held back; then: [RUN]")] = False,
    limit: Annotated[int, typer.Option("--limit", min=1, help="rows that are listed")] = 20,
    data_dir: DataDir = None,
    as_json: Json = False,
) -> None:
    """Tell the life of one row: scores, rules, thresholds, edits, the row it duplicates."""
    from flows.explain import explain_quarantined, explain_row, explain_text

    listed = text is not None or quarantined
    if (text is not None and quarantined) or (listed and run_id is not None) or (not listed and row_id is None):
        raise ConfigError(
            "name one row, or one way to find rows",
            place="explain",
            cure="type: winnow explain ROW_ID [RUN], or in place of ROW_ID: --text WORDS, or --quarantined",
        )
    if text is not None:
        explain_text(text, row_id, limit, data_dir, as_json=as_json)
    elif quarantined:
        explain_quarantined(row_id, limit, data_dir, as_json=as_json)
    else:
        explain_row(row_id or "", run_id, data_dir, as_json=as_json)


@app.command()
def export(
    stage: Annotated[str, typer.Option("--stage", help="rows as this stage left them")],
    out: Annotated[Path, typer.Option("--out", help="file to write, in a folder that is there")],
    run_id: RunId = None,
    format_: Annotated[
        str,
        typer.Option(
            "--format",
            help="messages, alpaca, sharegpt, text, parquet, or original; of --stage tokenize: trl, llamafactory "
            "(a folder), parquet",
        ),
    ] = "messages",
    split: Annotated[str | None, typer.Option("--split", help="only rows of this split")] = None,
    source: Annotated[str | None, typer.Option("--source", help="only rows of this source")] = None,
    data_dir: DataDir = None,
    as_json: Json = False,
) -> None:
    """Write rows for any other trainer."""
    from flows.outputs import export_stage

    export_stage(stage, out, run_id, format_, split, source, data_dir, as_json=as_json)


@app.command()
def preview(
    run_id: RunId = None,
    samples: Annotated[int, typer.Option("--samples", min=1, help="how many")] = 3,
    data_dir: DataDir = None,
    as_json: Json = False,
) -> None:
    """Print rendered samples with the trained tokens marked (with --json: pieces of text, each learned or not)."""
    from flows.outputs import show_preview

    show_preview(run_id, samples, data_dir, as_json=as_json)


@app.command()
def report(run_id: RunId = None, data_dir: DataDir = None, as_json: Json = False) -> None:
    """Say where a run's report is."""
    from flows.outputs import show_report

    show_report(run_id, data_dir, as_json=as_json)


@app.command()
def evaluate(
    model: Annotated[str, typer.Argument(help="model folder, hub name or asset")],
    data: Annotated[Path, typer.Option("--data", help="rows to evaluate on, in any ingest format")],
    sets: Sets = None,
    data_dir: DataDir = None,
    as_json: Json = False,
) -> None:
    """Measure one model on one file."""
    from flows.outputs import evaluate_file

    evaluate_file(model, data, list(sets or ()), data_dir, as_json=as_json)


@app.command("config")
def show_config(
    config: Config = None,
    sets: Sets = None,
    schema: Annotated[bool, typer.Option("--schema", help="print the JSON schema instead")] = False,
) -> None:
    """Print the resolved configuration, every default included."""
    from flows.commands import print_config

    print_config(_config_name(config, sets), list(sets or ()), schema=schema)


@app.command()
def serve(
    config: Config = None,
    cron: Annotated[str | None, typer.Option("--cron", metavar="'M H D M W'", help="when, as in '0 2 * * *'")] = None,
    interval: Annotated[float | None, typer.Option("--interval", metavar="SECONDS", help="how often")] = None,
    timezone: Annotated[str | None, typer.Option("--timezone", metavar="ZONE", help="of --cron; default UTC")] = None,
    sets: Sets = None,
    port: Annotated[int, typer.Option("--port", min=1, max=65535, help="of the dashboard it starts")] = 4200,
    data_dir: DataDir = None,
) -> None:
    """Run the pipeline by a schedule, one run at a time, until Ctrl-C."""
    from flows.serve import serve_schedule

    name, overrides = _config_name(config, sets), list(sets or ())
    code = serve_schedule(name, overrides, data_dir, cron=cron, interval=interval, timezone=timezone, port=port)
    raise typer.Exit(code)


@app.command()
def dashboard(
    port: Annotated[int, typer.Option("--port", min=1, max=65535)] = 4200,
    data_dir: DataDir = None,
) -> None:
    """Serve Prefect's dashboard on this machine's loopback address."""
    from flows.serve import serve_dashboard

    raise typer.Exit(serve_dashboard(port, data_dir))


_INTERRUPTED = 130  # exit code, as shells have it


def main() -> None:
    """Run the command line.

    Exit codes: 0 done, 1 a stage or gate failed, 2 bad input found before anything ran, 130 Ctrl-C.
    """
    os.environ.setdefault("DO_NOT_TRACK", "1")
    os.environ.setdefault("PREFECT_SERVER_ANALYTICS_ENABLED", "false")
    keep_interrupts()
    try:
        code = app(standalone_mode=False)
    except WinnowError as error:
        sys.exit(fail(error))
    except _UsageError as error:
        command = error.ctx.command_path if error.ctx else "winnow"
        sys.exit(fail(ConfigError(error.format_message(), place=command, cure=f"{command} --help")))
    except (KeyboardInterrupt, typer.Abort):
        code = _INTERRUPTED
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)
    except Exception as error:
        damage = damaged_artifact(error)
        if damage is None:
            raise
        sys.exit(fail(damage))
    if code == _INTERRUPTED:  # Typer makes this of a KeyboardInterrupt
        print("interrupted; the same command goes on from the cache", file=sys.stderr)
    sys.exit(code or 0)


def _config_name(config: str | None, sets: list[str] | None) -> str:
    """`demo` unless the user names sources of their own: then the recipe for those."""
    if config is not None:
        return config
    own = any(text.startswith(("ingest.sources=", "ingest=", "ingest.sources.+=")) for text in sets or ())
    return "default" if own else "demo"


if __name__ == "__main__":
    main()
