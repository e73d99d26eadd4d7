"""`winnow crossvalidate`: a run for each fold, held out in turn; mean and interval of every metric.

What stands above `split` is the same for all folds and computed once; a fold that was done before comes from the cache
as a whole. The interval is Student's t over the folds. Folds share most of their train rows, so they are not quite
independent, and the interval is somewhat too narrow (Bengio and Grandvalet, 2004): for comparing settings, no proof.
"""

import json
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any

from flows.study import Part, Starter, Study, check_part
from flows.writable import check_writable
from pipeline_config.errors import ConfigError
from pipeline_config.load import load_config
from pipeline_config.schema import MODEL_STAGES, STAGES
from tasks.kernels.student_t import mean_interval
from tasks.key import data_folder
from tasks.runs import read_run

_BESIDE_THE_POINT = ("_low", "_high", "_per_second", "size_mb", "seconds", "packed_share", "_logit_difference")
_FIRST = ("train.eval_loss",)


def crossvalidate(name: str, overrides: list[str], folds: int, data_dir: str | None, *, as_json: bool) -> int:
    """Run all folds, print what they say together, and give the exit code: 1 where a fold failed.

    Raises:
        ConfigError: nothing is trained, or there is no split.
    """
    folder = data_folder(data_dir)
    config = load_config(name, tuple(overrides))
    if config.split is None or config.train is None:
        missing = "split" if config.split is None else "train"
        raise ConfigError(
            f"a cross-validation needs the section {missing}", place=missing, cure=f"add `{missing}: {{}}`"
        )
    parts = [Part(f"fold {n}", [f"split.folds={folds}", f"split.held_fold={n}"]) for n in range(folds)]
    for part in parts[:1]:
        check_part(name, [*overrides, *part.overrides], folder)
    check_writable(folder, place="--data-dir", cure="name a folder that you may write to")
    from flows.start import flow_starter

    study = Study.begin("crossvalidate", name, overrides, {"folds": folds}, parts, folder)
    try:
        run_folds(study, flow_starter(), folder)
    finally:
        was_ended = study.close(summary(study.parts), folder)
        if as_json and was_ended:
            print(json.dumps(asdict(study), ensure_ascii=False))
        elif study.summary and not as_json:
            _print(study, folder)
    return 0 if study.status == "done" else 1


def run_folds(study: Study, start: Starter, data_dir: Path) -> None:
    """Run every fold. One that fails leaves the others to run, unless it failed before its rows were held out:
    the others would fail alike."""
    for part in study.parts:
        print(f"{part.name} of {len(study.parts)}", file=sys.stderr)
        study.run(part, start, data_dir)
        if part.status == "failed":
            error = part.error or {}
            print(f"{part.name} failed: {error.get('message', '')}", file=sys.stderr)
            if _before_split(part, data_dir):
                break
    study.status = "done" if all(part.status == "done" for part in study.parts) else "failed"


def summary(parts: list[Part]) -> dict[str, Any]:
    """Metric → `n, mean, sd, low, high` over the folds that are done and have it; the model stages' only."""
    done = [part.metrics for part in parts if part.status == "done"]
    names = list(dict.fromkeys(name for metrics in done for name in metrics))
    chosen = [name for name in names if name.split(".")[0] in MODEL_STAGES and not name.endswith(_BESIDE_THE_POINT)]
    chosen.sort(key=lambda name: name not in _FIRST)
    values = {name: [metrics[name] for metrics in done if name in metrics] for name in chosen}
    return {name: asdict(mean_interval(each)) | {"values": each} for name, each in values.items()}


def _before_split(part: Part, data_dir: Path) -> bool:
    try:
        record = read_run(data_dir, part.run_id)
    except ConfigError:
        return True
    failed = [entry.name for entry in record.stages if entry.state == "failed"]
    return bool(failed) and STAGES.index(failed[0]) < STAGES.index("split")


def _print(study: Study, data_dir: Path) -> None:
    from flows.show import print_table

    done = sum(part.status == "done" for part in study.parts)
    lines = []
    for name, found in study.summary.items():
        known = found["low"] is not None
        interval = f"[{found['low']:.4g}, {found['high']:.4g}]" if known else ""
        spread = f"{found['sd']:.3g}" if known else ""
        lines.append([name, f"{found['mean']:.4g}", interval, spread, " ".join(f"{v:.4g}" for v in found["values"])])
    title = f"cross-validation {study.study_id}: {study.status}, {done} of {len(study.parts)} folds"
    columns = [("metric", False), ("mean", True), ("95 % interval", True), ("sd", True), ("by fold", False)]
    print_table(title, columns, lines)
    print(f"record: {study.path(data_dir)}")
