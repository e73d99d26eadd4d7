"""Training side by side with TRL and HF's Trainer: `python -m benchmarks.train`, `make bench-train`.

Every variant runs in a process of its own, in turn, round by round, on the same rows: token ids drawn at random (they
don't matter to speed) in lengths like short instructions', 140 tokens on average and 512 at most, the last third of
each learned. Writes `benchmarks/RESULTS-train.md`; nothing else should run meanwhile.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.environments import SCRIPTS, TRL, install
from benchmarks.tables import machine, table

RESULTS = Path(__file__).parent / "RESULTS-train.md"
OURS = {
    "full": "Winnow, full",
    "lora": "Winnow, LoRA",
    "loop": "plain loop on filled rows",
    "shares": "",
}
PEERS = {
    "tuned": "SFTTrainer, packing, no checkpointing, batch 4",
    "no_checkpointing": "SFTTrainer, no checkpointing",
    "defaults": "SFTTrainer, its defaults",
    "hf": "HF Trainer, unpacked",
}
_WANTED = (("tuned", 2.5), ("defaults", 6.0), ("hf", 4.0), ("loop", 1.0))


def main() -> None:
    """Measure, and write the page."""
    options = _options()
    from tasks.kernels.models import model_folder

    options.cache.mkdir(parents=True, exist_ok=True)
    model = options.model or model_folder("asset:smollm2-135m-instruct", options.cache.resolve())
    peer = str(install(TRL, options.cache)) if set(options.only) & set(PEERS) else ""
    runs: dict[str, list[dict[str, float]]] = {}
    failed: dict[str, str] = {}
    with tempfile.TemporaryDirectory(prefix="winnow-bench-train-") as folder:
        rows = Path(folder) / "rows.json"
        size = json.loads((Path(model) / "config.json").read_text("utf-8"))["vocab_size"]
        rows.write_text(json.dumps(draw_rows(options.rows, size)))
        for turn in range(options.rounds):
            for name in options.only:
                if name in failed:
                    continue
                start = (
                    [peer, str(SCRIPTS / "sft.py")]
                    if name in PEERS
                    else [sys.executable, "-m", "benchmarks.train_ours"]
                )
                words = [str(model), str(rows), f"{folder}/answer.json", name, str(options.steps)]
                try:
                    runs.setdefault(name, []).append(_once([*start, *words], Path(folder), name in PEERS))
                except subprocess.CalledProcessError as error:
                    failed[name] = error.stdout.decode(errors="replace")[-1500:]
                    print(f"{name} failed: {failed[name]}", file=sys.stderr)
                else:
                    print(f"round {turn + 1}, {name}: {runs[name][-1]}", file=sys.stderr)
    page = document({name: found for name, found in runs.items() if found}, options.steps, options.rounds)
    if not options.dry:
        RESULTS.write_text(page, encoding="utf-8")
    print(page)


def draw_rows(count: int, vocabulary: int) -> list[dict[str, list[int]]]:
    """Rows of `input_ids` and `labels`, always the same: lengths log-normal, 20 to 512 tokens, 140 on average."""
    draw = np.random.default_rng(17)
    lengths = np.clip(draw.lognormal(np.log(118), 0.6, count), 20, 512).astype(int)
    rows = [draw.integers(vocabulary // 50, vocabulary, n).tolist() for n in lengths]
    return [{"input_ids": ids, "labels": [-100] * (len(ids) * 2 // 3) + ids[len(ids) * 2 // 3 :]} for ids in rows]


def document(runs: dict[str, list[dict[str, float]]], steps: int, rounds: int) -> str:
    """The page: a table of all variants, what a step consists of, and the ratios that are wanted."""
    said = machine()
    speeds = {name: statistics.median(run["tokens"] / run["seconds"] for run in found)
              for name, found in runs.items() if name != "shares"}  # fmt: skip
    peaks = {name: max(run["peak_gb"] for run in found) for name, found in runs.items()}
    ours = speeds.get("full")
    lines = [
        (
            (OURS | PEERS)[name],
            f"{speed:.0f}",
            f"{ours / speed:.2f}" if ours else "",
            f"{peaks[name]:.1f}",
            f"{min(run['first'] for run in runs[name]):.1f}",
        )
        for name, speed in speeds.items()
    ]
    parts = [
        "# Results of training",
        f"Written by `make bench-train`, {datetime.now(UTC):%Y-%m-%d}: {said['machine']}; {said['python']}; TRL "
        f"{TRL.version}. SmolLM2-135M, bf16 autocast, AdamW, {rounds} alternating rounds of {steps} timed steps "
        "after a first one; medians. Real tokens: padding is not counted. Peak memory: the process's.",
        table(("variant", "real tokens/s", "ours in full, in times of it", "peak GB", "s to first step"), lines),
    ]
    if "shares" in runs and ours:
        part = {key: min(run[key] for run in runs["shares"]) for key in ("tokens", "mm", "attention", "optimiser")}
        step = part["tokens"] / ours
        spent = [(what, f"{part[key]:.2f}", f"{part[key] / step:.0%}") for what, key in (
            ("`torch.mm` for all linear layers, head at learned tokens", "mm"),
            ("attention by segments", "attention"),
            ("AdamW, fused", "optimiser"),
        )]  # fmt: skip
        rest = step - part["mm"] - part["attention"] - part["optimiser"]
        spent += [("everything else", f"{rest:.2f}", f"{rest / step:.0%}"), ("a full step", f"{step:.2f}", "")]
        parts.append(table(("of a full step, each timed by itself", "seconds", "share"), spent))
    targets = [
        (f"full, against {(OURS | PEERS)[name]}", f"{ours / speeds[name]:.2f}", f"{wanted:g}",
         "yes" if ours / speeds[name] >= wanted else "**no**")
        for name, wanted in _WANTED if ours and name in speeds
    ]  # fmt: skip
    if ours and "lora" in speeds:
        ratio = speeds["lora"] / ours
        targets.append(("LoRA, against our own full", f"{ratio:.2f}", "1.25", "yes" if ratio >= 1.25 else "**no**"))
    if ours and "tuned" in speeds:
        ratio = peaks["full"] / peaks["tuned"]
        targets.append(
            ("peak memory, full against tuned", f"{ratio:.2f}", "at most 0.6", "yes" if ratio <= 0.6 else "**no**")
        )
    parts.append(table(("target", "measured", "wanted", "holds"), targets) if targets else "")
    return "\n\n".join(part for part in parts if part) + "\n"


def _once(command: list[str], folder: Path, is_peer: bool) -> dict[str, float]:
    root = str(Path(__file__).parent.parent)
    inherited = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    environment = {**inherited, "HF_HUB_OFFLINE": "1", "DO_NOT_TRACK": "1"} | ({} if is_peer else {"PYTHONPATH": root})
    subprocess.run(
        command, check=True, cwd=folder, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=900
    )
    found: dict[str, float] = json.loads((folder / "answer.json").read_text())
    return found


def _options() -> Any:
    home = os.environ.get("WINNOW_BENCH_CACHE") or Path.home() / ".cache" / "winnow-bench"
    known = (*OURS, *PEERS)
    parser = argparse.ArgumentParser(prog="python -m benchmarks.train", description=__doc__)
    parser.add_argument("--only", nargs="+", choices=known, default=known)
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--steps", type=int, default=3, help="timed steps of a variant")
    parser.add_argument("--rows", type=int, default=400)
    parser.add_argument("--model", help="model folder (default: the packaged SmolLM2-135M)")
    parser.add_argument("--cache", type=Path, default=Path(home), help="for the model and the peers' environment")
    parser.add_argument("--dry", action="store_true", help="print the page only")
    return parser.parse_args()


if __name__ == "__main__":
    main()
