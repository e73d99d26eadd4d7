"""What `winnow plan` says of training: memory, time, the learning rate that was chosen, and the method that fits.

Everything is read from small files: the model's headers, the manifest of the tokens, those of past trainings on this
data folder. Nothing heavy is imported. What can't be known yet is said to be a guess, or unknown.
"""

import contextlib
import os
import platform
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from glob import glob
from pathlib import Path
from statistics import median
from typing import Any

from pydantic import ValidationError

from pipeline_config.errors import WinnowError
from pipeline_config.model_schema import Train
from pipeline_config.schema import Config
from tasks.artifact import manifest_if_any
from tasks.execute import Verdict
from tasks.kernels.assets import find_asset, is_asset
from tasks.kernels.model_check import existing_folder
from tasks.kernels.schedule import shown_rate
from tasks.train.needs import Dtype, Workload, default_gflops, measured_gflops, needs
from tasks.train.recommend import recommend
from tasks.train.shape import ModelShape, model_shape
from tasks.train.task import base_model, learning_rate

_BYTES_A_TOKEN = 4.0  # of a source file; English text has about four characters a token
_BYTES_A_ROW = 1000
_TRAINED_SHARE = 0.4  # where no tokens have been counted
_GUESSED_QUANTILES = {0.5: 0.7, 0.9: 2.0, 0.99: 4.0, 1.0: 8.0}  # of the mean length
_PAST = 5  # trainings that tell the speed
_HALF_FLAGS = ("avx512_bf16", "amx_bf16", " bf16")


@dataclass(frozen=True)
class Machine:
    """What trains: cores, memory in bytes, whether it multiplies bfloat16 fast."""

    cores: int
    memory: int
    has_bfloat16: bool


def training_plan(config: Config, data_dir: Path, verdicts: Sequence[Verdict]) -> dict[str, Any] | None:
    """What training will need; None where nothing is trained.

    Returns:
        `method`, `learning_rate`, `learning_rate_chosen` (by auto); and where the model's sizes are at hand: `dtype`,
        `rows`, `tokens`, `tokens_are` (counted, guessed), `steps`, `trained_parameters`, `memory_mb`,
        `machine_memory_mb`, `seconds`, `tokens_per_second`, `speed_from`, `fits`, `recommended`, `why`. `unknown` says
        what is missing.
    """
    section = config.train
    verdict = next((each for each in verdicts if each.name == "train"), None)
    if section is None or section.method == "none" or verdict is None or verdict.verdict not in ("run", "depends"):
        return None
    told: dict[str, Any] = {
        "method": section.method,
        "learning_rate": shown_rate(section, learning_rate(section)),
        "learning_rate_chosen": section.learning_rate == "auto",
    }
    shape = _shape(base_model(config), data_dir)
    load, counted = _workload(config, verdicts)
    if shape is None or load is None:
        missing = "the model's sizes (it is fetched or converted by the first run)" if shape is None else "the rows"
        return told | {"unknown": missing}
    machine = this_machine()
    dtype: Dtype = "bfloat16" if _is_half(section, machine) else "float32"
    gflops, source = speed(data_dir, section, shape, load, dtype, machine)
    found = needs(section, shape, load, dtype, gflops)
    advice = recommend(section, shape, load, dtype, machine.memory)
    return told | {
        "dtype": dtype,
        "rows": load.examples,
        "tokens": load.tokens,
        "tokens_are": "counted" if counted else "guessed",
        "steps": found.steps,
        "trained_parameters": found.trained,
        "memory_mb": round(found.memory / 1e6),
        "machine_memory_mb": round(machine.memory / 1e6),
        "seconds": round(found.seconds),
        "tokens_per_second": round(found.tokens_per_second, 1),
        "speed_from": source,
        "fits": advice.fits,
        "recommended": advice.method,
        "why": advice.why,
    }


def plan_lines(told: Mapping[str, Any]) -> list[str]:
    """The same in words."""
    chosen = " (chosen by auto)" if told["learning_rate_chosen"] else ""
    rate = told["learning_rate"] if isinstance(told["learning_rate"], str) else f"{told['learning_rate']:g}{chosen}"
    lines = [f"training: {told['method']}, learning rate {rate}"]
    if "unknown" in told:
        return [*lines, f"  memory and time: unknown without {told['unknown']}"]
    about = "" if told["tokens_are"] == "counted" else "at most, guessed from the size of the sources: "
    lines.append(
        f"  data     {about}{told['rows']:,} train rows, {told['tokens']:,} tokens, {told['steps']:,} steps; "
        f"{told['trained_parameters']:,} parameters learn"
    )
    room = f"{told['machine_memory_mb'] / 1000:.1f} GB here"
    lines.append(f"  memory   about {told['memory_mb'] / 1000:.1f} GB ({room}{'' if told['fits'] else ': TOO LITTLE'})")
    speed_words = f"{told['tokens_per_second']:,.0f} tokens/s in {told['dtype']}, {told['speed_from']}"
    lines.append(f"  time     about {duration(told['seconds'])} ({speed_words})")
    same = told["recommended"] == told["method"]
    lines.append(f"  advice   {'stay with ' if same else ''}{told['recommended']}: {told['why']} (a rule of thumb)")
    return lines


def duration(seconds: float) -> str:
    """`40 s`, `12 min`, `3.5 h`."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


def this_machine() -> Machine:
    """Cores, memory (a container's limit where there is one), and number formats, as the system tells them."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    size = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    with contextlib.suppress(OSError, ValueError):
        size = min(size, int(Path("/sys/fs/cgroup/memory.max").read_text()))
    flags = ""
    with contextlib.suppress(OSError):
        lines = Path("/proc/cpuinfo").read_text("utf-8", "replace").splitlines()
        flags = next((line for line in lines if line.startswith(("flags", "Features"))), "")
    return Machine(cores, size, any(flag in flags for flag in _HALF_FLAGS) or platform.machine() == "arm64")


def speed(
    data_dir: Path, config: Train, shape: ModelShape, load: Workload, dtype: Dtype, machine: Machine
) -> tuple[float, str]:
    """Useful 10^9 operations a second, and where the number is from: past trainings on this data folder (those of the
    same method, if there are any; the median of the newest), else a constant for each core."""
    found = list(_past(data_dir, shape, load, dtype))
    same = [gflops for method, gflops in found if method == config.method][:_PAST]
    chosen = same or [gflops for _, gflops in found][:_PAST]
    if not chosen:
        return default_gflops(machine.cores, dtype), f"a guess by {machine.cores} cores"
    of_what = f"by {config.method}" if same else "by other methods"
    return median(chosen), f"measured in {len(chosen)} training{'s' * (len(chosen) > 1)} here {of_what}"


def _past(data_dir: Path, shape: ModelShape, load: Workload, dtype: Dtype) -> Iterator[tuple[str, float]]:
    """Method and 10^9 operations a second of past trainings, the newest first."""
    files = [(path.stat().st_mtime, path) for path in (data_dir / "artifacts" / "train").glob("*/manifest.json")]
    for _, path in sorted(files, reverse=True)[: 4 * _PAST]:
        manifest = manifest_if_any(path.parent)
        try:
            facts, metrics = manifest["facts"], manifest["metrics"]
            if facts["precision"] != dtype or not metrics["tokens_per_second"]:
                continue
            given = {name: value for name, value in manifest["config"].items() if name in Train.model_fields}
            past = Train.model_validate(given)
            found = measured_gflops(past, shape, _then(facts, load), metrics["tokens_per_second"])
            size = (facts["parameters"] - facts["trained_parameters"] * (past.method != "full")) / shape.parameters
        except (KeyError, TypeError, ValueError, ValidationError, WinnowError):
            continue
        yield past.method, found * size


def _then(facts: Mapping[str, Any], load: Workload) -> Workload:
    """What a past training learned from; its longest rows are taken to be like today's."""
    learned = facts["learned_tokens"] / max(1, facts["train_tokens"])
    return Workload(facts["train_examples"], facts["train_tokens"], load.quantiles, learned, 0)


def _workload(config: Config, verdicts: Sequence[Verdict]) -> tuple[Workload | None, bool]:
    """What is learned from, and whether it was counted."""
    known = next((each.artifact for each in verdicts if each.name == "tokenize"), None)
    if known is not None:
        facts = known.manifest["facts"]
        lengths = facts["length_quantiles"]
        quantiles = {0.5: lengths["p50"], 0.9: lengths["p90"], 0.99: lengths["p99"], 1.0: lengths["max"]}
        splits = facts["rows_by_split"]
        rows, held_out = splits.get("train", 0), splits.get("validation", 0)
        return (Workload(rows, facts["tokens"], quantiles, facts["trained_share"], held_out) if rows else None), True
    size = _source_bytes(config)
    if not size:
        return None, False
    held = 0.0 if config.split is None else config.split.validation
    tested = 0.0 if config.split is None or not isinstance(config.split.test, float) else config.split.test
    rows = next((each.artifact.manifest["rows"]["out"] for each in reversed(verdicts) if each.artifact), 0)
    rows = rows or max(1, size // _BYTES_A_ROW)
    train, tokens = max(1, round(rows * (1 - held - tested))), round(size / _BYTES_A_TOKEN * (1 - held - tested))
    quantiles = {share: max(1, round(tokens / train * times)) for share, times in _GUESSED_QUANTILES.items()}
    if config.tokenize is not None and isinstance(config.tokenize.max_length, int):
        quantiles = {share: min(length, config.tokenize.max_length) for share, length in quantiles.items()}
    return Workload(train, max(1, tokens), quantiles, _TRAINED_SHARE, round(rows * held)), False


def _source_bytes(config: Config) -> int:
    """Bytes of the source files; 0 if there is a source whose bytes can't be told, such as a packaged one."""
    total = 0
    for source in config.ingest.sources:
        paths = [] if source.path is None or is_asset(source.path) else glob(source.path, recursive=True)  # noqa: PTH207
        if not paths:
            return 0
        with contextlib.suppress(OSError):
            total += sum(Path(path).stat().st_size for path in paths)
    return total


def _shape(name: str, data_dir: Path) -> ModelShape | None:
    if is_asset(name):
        asset = find_asset(name)
        folders = sorted((data_dir / "models").glob(f"{asset.name}-*"), key=lambda path: path.stat().st_mtime)
        return model_shape(folders[-1]) if folders else None
    folder = existing_folder(name)
    return None if folder is None else model_shape(folder)


def _is_half(section: Train, machine: Machine) -> bool:
    return section.precision in ("bf16", "fp16") or (section.precision == "auto" and machine.has_bfloat16)
