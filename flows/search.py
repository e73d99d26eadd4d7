"""`winnow search`: trials of other values for any keys of the configuration, each an ordinary, cached run.

Optuna's tree-structured Parzen estimator (Bergstra et al., 2011) chooses, seeded by the configuration. So the same
command asks for the same trials again, finds them in the cache, and goes on where it was interrupted; with more
`--trials` it goes on further.
"""

import json
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any

from flows.space import Dimension, parse_space
from flows.study import Part, Starter, Study, check_part
from flows.writable import check_writable
from pipeline_config.errors import ConfigError
from pipeline_config.load import load_config
from tasks.key import data_folder

_TRIES = 3  # trials that may fail before one succeeds


def search(
    name: str,
    overrides: list[str],
    spaces: list[str],
    trials: int,
    metric: str,
    data_dir: str | None,
    *,
    maximize: bool,
    as_json: bool,
) -> int:
    """Run the trials, print them with the best first, and give the exit code: 1 where none came to its end.

    Raises:
        ConfigError: the space is wrong, or optuna is not installed.
    """
    folder, space = data_folder(data_dir), parse_space(spaces)
    config = load_config(name, tuple(overrides))
    for at in (0, -1):
        ends = [dimension.override(dimension.values[at]) for dimension in space]
        check_part(name, [*overrides, *ends], folder)
    sampler = _sampler(config.seed, maximize)
    check_writable(folder, place="--data-dir", cure="name a folder that you may write to")
    from flows.start import flow_starter

    settings = {"space": spaces, "trials": trials, "metric": metric, "maximize": maximize, "seed": config.seed}
    study = Study.begin("search", name, overrides, settings, [], folder)
    try:
        run_trials(study, sampler, space, flow_starter(), folder)
    finally:
        was_ended = study.close(summary(study), folder)
        if as_json and was_ended and study.status != "interrupted":
            print(json.dumps(asdict(study), ensure_ascii=False))
        elif study.parts and not as_json:
            _print(study, folder)
    return 0 if study.status == "done" else 1


def run_trials(study: Study, sampler: Any, space: list[Dimension], start: Starter, data_dir: Path) -> None:
    """Ask, run, tell. A trial that fails is told to the sampler as such; when the first few all do, the search ends."""
    from optuna.trial import TrialState

    distributions = {dimension.key: _distribution(dimension) for dimension in space}
    for n in range(study.settings["trials"]):
        trial = sampler.ask(distributions)
        chosen = [dimension.override(trial.params[dimension.key]) for dimension in space]
        part = Part(f"trial {n}", chosen)
        study.parts.append(part)
        print(f"{part.name} of {study.settings['trials']}: {' '.join(chosen)}", file=sys.stderr)
        study.run(part, start, data_dir)
        value = measured(part, study.settings["metric"])
        if value is None and part.status == "done":
            raise _no_metric(part, study.settings["metric"])
        if value is None:
            print(f"{part.name} failed: {(part.error or {}).get('message', '')}", file=sys.stderr)
            sampler.tell(trial, state=TrialState.FAIL)
            if n + 1 >= _TRIES and not any(each.status == "done" for each in study.parts):
                break
        else:
            sampler.tell(trial, value)
    study.status = "done" if any(part.status == "done" for part in study.parts) else "failed"


def measured(part: Part, metric: str) -> float | None:
    """A trial's metric, by its whole name or that of `train`; None where it is not there."""
    if part.status != "done":
        return None
    return part.metrics.get(metric, part.metrics.get(f"train.{metric}"))


def summary(study: Study) -> dict[str, Any]:
    """`best` (name, run_id, overrides, value) and the value of every trial."""
    metric = study.settings["metric"]
    values = {part.name: measured(part, metric) for part in study.parts}
    known = [(value, part) for part in study.parts if (value := values[part.name]) is not None]
    if not known:
        return {"values": values}
    value, best = (max if study.settings["maximize"] else min)(known, key=lambda each: each[0])
    return {
        "best": {"name": best.name, "run_id": best.run_id, "overrides": best.overrides, "value": value},
        "values": values,
    }


def _sampler(seed: int, maximize: bool) -> Any:
    try:
        import optuna
    except ImportError:
        raise ConfigError(
            "a search needs optuna, which is not installed",
            place="search",
            cure="pip install 'winnow-pipeline[search]'",
        ) from None
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    direction = "maximize" if maximize else "minimize"
    return optuna.create_study(sampler=optuna.samplers.TPESampler(seed=seed), direction=direction)


def _distribution(dimension: Dimension) -> Any:
    from optuna import distributions

    if dimension.kind == "choice":
        return distributions.CategoricalDistribution(dimension.values)
    if dimension.kind == "int":
        return distributions.IntDistribution(*dimension.values)
    return distributions.FloatDistribution(*dimension.values, log=dimension.kind == "loguniform")


def _no_metric(part: Part, metric: str) -> ConfigError:
    from pipeline_config.suggest import did_you_mean

    there = list(part.metrics)
    shown = ", ".join(sorted(there)[:12])
    return ConfigError(
        f"a run has no metric {metric!r}{did_you_mean(metric, there)}", place="--metric", cure=f"there are: {shown}"
    )


def _print(study: Study, data_dir: Path) -> None:
    from flows.show import print_table

    values = study.summary["values"]
    worst = float("-inf") if study.settings["maximize"] else float("inf")
    order = sorted(study.parts, key=lambda part: worst if values[part.name] is None else values[part.name])
    if study.settings["maximize"]:
        order.reverse()
    lines = [
        [part.name, "" if values[part.name] is None else f"{values[part.name]:.5g}", part.status, part.run_id or "",
         " ".join(part.overrides)] for part in order
    ]  # fmt: skip
    columns = [("trial", False), (study.settings["metric"], True), ("status", False), ("run", False), ("values", False)]
    print_table(f"search {study.study_id}: {study.status}", columns, lines)
    print(f"record: {study.path(data_dir)}")
