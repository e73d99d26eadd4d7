"""Every benchmark in turn, alone on the machine: `python -m benchmarks`, `make bench`. Writes `benchmarks/RESULTS.md`.

What is downloaded and installed for it (corpora, peers) is kept in `$WINNOW_BENCH_CACHE`, else in the user's cache
folder. Parts that `--only` leaves out keep their earlier figures, with their date.
"""

import argparse
import json
import os
import subprocess
import sys
import traceback
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from benchmarks import decontamination, dedupe, demo_stages, quality, throughput
from benchmarks.environments import PEERS, install
from benchmarks.session import Session, stored
from benchmarks.tables import document, machine

RESULTS = Path(__file__).parent / "RESULTS.md"
PARTS: dict[str, Callable[[Session], dict[str, Any]]] = {
    "dedupe": dedupe.bench,
    "quality": quality.bench,
    "decontamination": decontamination.bench,
    "toxicity": throughput.bench_toxicity,
    "clean": throughput.bench_clean,
    "scaling": throughput.bench_scaling,
    "stages": demo_stages.bench,
}


def main() -> None:
    """Measure, judge, write the page."""
    options = _options()
    session = Session(options.cache.resolve(), options.rounds, options.sample, options.multitask, options.peers)
    session.cache.mkdir(parents=True, exist_ok=True)
    session = replace(session, peers=tuple(name for name in session.peers if _installed(name, session.cache)))
    if options.prepare:
        dedupe.prepare(session)
        quality.prepare(session)
        throughput.prepare(session)
        return
    kept = session.cache / ("results.json" if options.sample is None else "results.sample.json")
    results = stored(kept)
    for name in options.only:
        try:
            part = PARTS[name](session)
        except Exception:  # what the other parts measured is not lost for it
            traceback.print_exc()
            continue
        results[name] = part | {"measured": machine() | {"date": f"{datetime.now(UTC):%Y-%m-%d}"}}
        kept.write_text(json.dumps(results, indent=1), encoding="utf-8")
    results = {name: results[name] for name in PARTS if name in results}
    page = document(results)
    if options.sample is None:
        RESULTS.write_text(page, encoding="utf-8")
    print(json.dumps(results, indent=1) if options.json else page)


def _installed(name: str, cache: Path) -> bool:
    try:
        install(PEERS[name], cache)
    except subprocess.CalledProcessError as error:
        print(f"{name} can't be installed and does not take part: {error}", file=sys.stderr)
        return False
    return True


def _options() -> argparse.Namespace:
    home = os.environ.get("WINNOW_BENCH_CACHE") or Path.home() / ".cache" / "winnow-bench"
    multitask = os.environ.get("WINNOW_BENCH_MULTITASK") or None
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("--only", type=_names(PARTS), default=tuple(PARTS), help=f"of {','.join(PARTS)}")
    parser.add_argument("--rounds", type=int, default=3, help="of the fast tools; slow ones have fewer")
    parser.add_argument("--peers", type=_names(PEERS), default=tuple(PEERS), help=f"of {','.join(PEERS)}, or none")
    parser.add_argument("--sample", type=int, help="rows of each corpus, to try it out; writes no RESULTS.md")
    parser.add_argument("--multitask", type=Path, default=multitask, help="parquet file of prompt and completion")
    parser.add_argument("--cache", type=Path, default=Path(home), help="for corpora and environments")
    parser.add_argument("--prepare", action="store_true", help="only make what can be made beforehand; times nothing")
    parser.add_argument("--json", action="store_true", help="print the results as JSON")
    return parser.parse_args()


def _names(known: dict[str, Any]) -> Callable[[str], tuple[str, ...]]:
    def parse(text: str) -> tuple[str, ...]:
        names = tuple(name for name in text.split(",") if name and name != "none")
        wrong = [name for name in names if name not in known]
        if wrong:
            raise argparse.ArgumentTypeError(f"{wrong[0]} is none of {', '.join(known)}")
        return names

    return parse


if __name__ == "__main__":
    sys.exit(main())
