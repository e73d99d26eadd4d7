"""How the command line says what went wrong: place, value and cure on standard error, with `--json` a document too."""

import json
import sys
from pathlib import Path

from pipeline_config.errors import ConfigError, WinnowError


def fail(error: WinnowError) -> int:
    """Say what is wrong; give the exit code."""
    if "--json" in sys.argv:
        print(json.dumps({"error": error.to_dict()}, ensure_ascii=False))
    place = f"{error.place}: " if error.place else ""
    print(f"error: {place}{error.message}", file=sys.stderr)
    if error.cure:
        print(f"  what to do: {error.cure}", file=sys.stderr)
    return error.exit_code


def damaged_artifact(error: Exception) -> WinnowError | None:
    """What to say where a command met an artifact that is cut, altered or gone; None: it is something else."""
    gone = isinstance(error, FileNotFoundError) and "artifacts" in Path(str(error.filename)).parts
    if not gone and (not type(error).__module__.startswith("polars") or "parquet" not in str(error).lower()):
        return None
    what = f"{error.filename} is gone" if isinstance(error, FileNotFoundError) else f"it can't be read ({error})"
    return ConfigError(
        f"an artifact of this run is damaged: {what}",
        place="artifacts",
        cure="run the configuration again; what is damaged is named and made anew",
    )
