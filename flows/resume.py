"""Going on with a run that did not finish: which one, under which configuration, and the command that does it.

The configuration is the one in the run record, not the YAML file's: that may have changed or gone since. What was
published is found in the cache; a training goes on from its last checkpoint, since its key is the same.
"""

import shlex
from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path

from flows.planner import Selection
from pipeline_config.errors import ConfigError
from pipeline_config.load import resolve, written_values
from pipeline_config.schema import Config
from tasks.execute import LOG
from tasks.kernels.digests import json_digest
from tasks.presence import is_running
from tasks.runs import RunRecord, command_in, read_run, run_ids


def unfinished_run(data_dir: Path, wanted: str | None = None, warn: Callable[[str], object] = LOG.warning) -> RunRecord:
    """The run to go on with: the one that is named, else the newest that nobody finished.

    A failed run counts as finished if a later one with the same configuration, or one that went on with it, is done.
    A record that can't be read is passed over.

    Args:
        wanted: id or prefix; None: search.
        warn: told which records were passed over.

    Returns:
        a run that did not finish; a finished one if it was named or nothing else is left.

    Raises:
        ConfigError: there is no such run, it still runs, or no record can be read.
    """
    if wanted is not None:
        return _at_rest(read_run(data_dir, wanted), data_dir)
    latest: RunRecord | None = None
    finished: list[RunRecord] = []
    continued: set[str | None] = set()
    for run_id in reversed(run_ids(data_dir)):
        try:
            record = read_run(data_dir, run_id)
        except ConfigError as error:
            warn(f"{error.place}: {error.message}; it is passed over")
            continue
        latest = latest or record
        if record.status == "running" and is_running(data_dir, run_id):
            continue
        if record.status == "done" or record.run_id in continued:
            finished.append(record)
            continued.add(record.parent_run_id)
        elif not any(_covers(other, record) for other in finished):
            return record
    return _at_rest(latest or read_run(data_dir), data_dir)


def recorded_config(record: RunRecord, overrides: Iterable[str] = ()) -> Config:
    """The configuration of a run, as it was resolved then, with overrides of now on top.

    Raises:
        ConfigError: an override is wrong, or this version of Winnow does not know the configuration any more.
    """
    changes = tuple(overrides)
    try:
        return resolve(record.config, changes)
    except ConfigError as error:
        if error.place.startswith("--set"):
            raise
        raise ConfigError(
            f"the configuration of run {record.run_id} does not hold in this version: {error.message}",
            place="RUN",
            cure=f"type: winnow run {shlex.quote(record.config_name or 'CONFIG')}",
        ) from None


def remaining_selection(record: RunRecord, *, verify: bool = False) -> Selection:
    """The bounds of a run, and those stages it was told to force and did not yet run.

    Args:
        verify: believe no artifact without reading it, also if the run itself did.
    """
    bounds = dict(record.selection)
    forced = [name for name in bounds.pop("force", ()) if record.stage(name).state != "ran"]
    selection = Selection(**bounds, force=tuple(forced))
    return replace(selection, verify=selection.verify or verify)


def run_command(record: RunRecord, data_dir: Path) -> str:
    """What to type to run a run's file and overrides anew."""
    words = ["winnow", "run", record.config_name or "CONFIG"]
    for text in record.overrides:
        words += ["--set", text]
    return command_in(data_dir, *words)


def written_digest(name: str) -> str:
    """Digest of what a recipe or file says, comments and layout left out."""
    return json_digest(_plain(written_values(name)))


def changed_since(record: RunRecord) -> str:
    """What became of the run's YAML file since, in words; empty if it says the same."""
    if not record.config_name:
        return ""
    try:
        if written_digest(record.config_name) == record.config_digest:
            return ""
    except ConfigError as error:
        gone = not Path(record.config_name).exists()
        return f"{record.config_name} is gone" if gone else f"{record.config_name} can't be read now ({error.message})"
    return f"{record.config_name} says something else now"


def _covers(done: RunRecord, record: RunRecord) -> bool:
    """Whether a finished run did all that another one was asked for."""
    bounds, wanted = ([run.selection.get(name) for name in ("from_stage", "until", "only")] for run in (done, record))
    return done.config == record.config and (bounds == wanted or not any(bounds))


def _at_rest(record: RunRecord, data_dir: Path) -> RunRecord:
    if record.status == "running" and is_running(data_dir, record.run_id):
        watch = command_in(data_dir, "winnow", "status", record.run_id)
        raise ConfigError(
            f"run {record.run_id} is still running",
            place="RUN",
            cure=f"wait for it, or end it with Ctrl-C; watch it with `{watch}`",
        )
    return record


def _plain(value: object) -> object:
    """JSON values; what YAML reads besides (numbers that are not finite, dates) as text."""
    if isinstance(value, dict):
        return {str(name): _plain(item) for name, item in value.items()}
    if isinstance(value, list):
        return [_plain(item) for item in value]
    return value if value is None or isinstance(value, bool | int | str) else str(value)
