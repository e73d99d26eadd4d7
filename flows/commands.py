"""What each command does, behind the thin declarations of `cli.py`."""

import json
import shlex
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

from flows.planner import Selection, check_forced, check_range, make_plan, preflight, workspace
from flows.start import start_flow
from flows.training_plan import plan_lines, training_plan
from flows.writable import check_writable
from pipeline_config.load import load_config
from pipeline_config.schema import Config
from tasks.key import data_folder
from tasks.runs import new_run_id, read_run, resume_command, run_ids


def run_pipeline(name: str, overrides: list[str], data_dir: str | None, selection: Selection, *, as_json: bool) -> int:
    """Check everything that can be checked, then run the flow; give the exit code."""
    folder = data_folder(data_dir)
    selection.check()
    config = load_config(name, tuple(overrides))
    parameters = {
        "config": name,
        "overrides": overrides,
        "from_stage": selection.from_stage,
        "until": selection.until,
        "only": selection.only,
        "force": list(selection.force),
        "verify": selection.verify,
    }
    command = _command(name, overrides, data_dir)
    check_forced(selection, config, command)
    return _start(config, folder, selection, command, parameters, as_json=as_json)


def resume_run(
    run_id: str | None, overrides: list[str], data_dir: str | None, *, verify: bool = False, as_json: bool
) -> int:
    """Go on with a run under the configuration in its record; give the exit code."""
    from flows.resume import changed_since, recorded_config, remaining_selection, run_command, unfinished_run

    folder = data_folder(data_dir)
    origin = unfinished_run(folder, run_id, lambda text: print(f"warning: {text}", file=sys.stderr))
    if origin.status == "done":
        again = run_command(origin, folder)
        print(f"run {origin.run_id} is done, nothing is left to go on with; to run again: {again}", file=sys.stderr)
        if as_json:
            print(json.dumps(origin.to_dict(), ensure_ascii=False))
        return 0
    config = recorded_config(origin, overrides)
    print(f"going on with run {origin.run_id}", file=sys.stderr)
    if changed := changed_since(origin):
        print(f"note: {changed}; this run keeps what the record says", file=sys.stderr)
    name = origin.config_name or "demo"
    parameters = {"config": name, "overrides": overrides, "resume": origin.run_id, "verify": verify}
    command = run_command(origin, folder)
    return _start(config, folder, remaining_selection(origin, verify=verify), command, parameters, as_json=as_json)


def _start(
    config: Config, folder: Path, selection: Selection, command: str, parameters: dict[str, Any], *, as_json: bool
) -> int:
    preflight(config, folder)
    if selection.first > 0:
        plan = make_plan(workspace(config, folder, selection.force, verify=selection.verify), selection)
        check_range(plan, selection, command)
    _check_writable(folder)
    _say("starting Prefect …")
    run_id = new_run_id(folder)
    try:
        start_flow(**parameters, data_dir=str(folder), run_id=run_id)
    except (KeyboardInterrupt, SystemExit):
        _print_way_on(run_id, folder)
        raise
    record = read_run(folder, run_id)
    if record.status == "interrupted":
        _print_way_on(run_id, folder)
        raise KeyboardInterrupt
    if as_json:
        print(json.dumps(record.to_dict(), ensure_ascii=False))
    else:
        from flows.show import print_run

        print_run(record, folder)
    if record.status == "done":
        return 0
    error = record.error or {"message": "a stage crashed; see the log above", "place": "", "cure": ""}
    place = f"{error['place']}: " if error["place"] else ""
    print(f"error: {place}{error['message']}\n  what to do: {error['cure']}", file=sys.stderr)
    _print_way_on(run_id, folder)
    if error.get("type") == "GateError":
        print("  with another bound: the same command and --set KEY=VALUE", file=sys.stderr)
    return 2 if error.get("type") in ("ConfigError", "SourceError", "ModelError") else 1


def show_plan(name: str, overrides: list[str], data_dir: str | None, selection: Selection, *, as_json: bool) -> None:
    """Print every stage's verdict, and what training will need."""
    folder = data_folder(data_dir)
    selection.check()
    config = load_config(name, tuple(overrides))
    command = _command(name, overrides, data_dir)
    check_forced(selection, config, command)
    preflight(config, folder)
    verdicts = make_plan(workspace(config, folder, selection.force, verify=selection.verify), selection)
    check_range(verdicts, selection, command)
    training = training_plan(config, folder, verdicts)
    if as_json:
        lines = [{"name": v.name, "verdict": v.verdict, "reason": v.reason, "key": v.key} for v in verdicts]
        print(json.dumps({"stages": lines, "training": training}, ensure_ascii=False))
        return
    width = max(len(v.name) for v in verdicts)
    for verdict in verdicts:
        print(f"{verdict.name:{width}}  {verdict.verdict:8} {verdict.reason}")
    for line in plan_lines(training) if training else ():
        print(line)


def show_status(run_id: str, data_dir: str | None, *, as_json: bool) -> None:
    """Print one run."""
    folder = data_folder(data_dir)
    record = read_run(folder, run_id)
    if as_json:
        print(json.dumps(record.to_dict(), ensure_ascii=False))
        return
    from flows.overview import status_of
    from flows.show import print_run

    print_run(replace(record, status=status_of(record, folder)), folder)


def print_config(name: str, overrides: list[str], *, schema: bool) -> None:
    """Print the resolved configuration as YAML, or the JSON schema."""
    if schema:
        print(json.dumps(Config.model_json_schema(by_alias=True), indent=1, ensure_ascii=False))
        return
    import yaml

    values = load_config(name, tuple(overrides)).model_dump(mode="json", by_alias=True)
    print(yaml.safe_dump(values, sort_keys=False, allow_unicode=True), end="")


def _print_way_on(run_id: str, folder: Path) -> None:
    if run_id in run_ids(folder):
        print(f"  finished stages are kept; to go on: {resume_command(run_id, folder)}", file=sys.stderr)


def _command(name: str, overrides: list[str], data_dir: str | None) -> str:
    words = ["winnow", "run", name]
    for text in overrides:
        words += ["--set", text]
    return shlex.join(words + (["--data-dir", data_dir] if data_dir else []))


def _check_writable(folder: Path) -> None:
    """Raise ConfigError, before anything runs, if the data folder can't be written to."""
    inside = [folder / name for name in ("artifacts", "runs", "work")]
    for below in (folder, *inside, *inside[0].glob("*")):
        check_writable(below, place="--data-dir", cure="name a folder that you may write to")


def _say(text: str) -> None:
    if sys.stderr.isatty():
        print(text, file=sys.stderr)
