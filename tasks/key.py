"""The cache key: what shapes a stage's output, and nothing else.

sha256 over canonical JSON of stage, format version, its own resolved config with its seed, the content digests of its
inputs, the code digest, the versions of the libraries that shape the output, and the digests of models, tokenizers
and files read outside the row flow.
"""

import os
import sys
from functools import cache
from importlib import metadata
from pathlib import Path
from typing import Any

from pipeline_config.errors import ConfigError
from pipeline_config.fields import key_values
from pipeline_config.schema import DATA_STAGES, MODEL_STAGES, TEXT_STAGES, Config
from tasks.artifact import FORMAT, Artifact
from tasks.kernels.digests import json_digest

MODEL_INPUTS: dict[str, tuple[str, ...]] = {
    "train": ("tokenize",),
    "distill": ("tokenize", "train"),
    "compress": ("train", "distill"),
    "evaluate": ("rows", "tokenize", "train", "distill", "compress"),
    "report": (*DATA_STAGES, *MODEL_STAGES[:-1]),
}
_TIMED = ("created", "seconds", "peak_rss_mb", "manifest_digest")


def row_artifact(stage: str, upstream: dict[str, Artifact]) -> Artifact | None:
    """The last artifact above a stage that holds rows (tokens are no rows)."""
    above = DATA_STAGES[: DATA_STAGES.index(stage)] if stage in DATA_STAGES else DATA_STAGES[:-1]
    return next((upstream[name] for name in reversed(above) if name in upstream), None)


def parents(stage: str, upstream: dict[str, Artifact]) -> list[Artifact]:
    """The artifacts a stage reads; of a thin decision also the text it decides about, last."""
    names = MODEL_INPUTS.get(stage, ("rows",))
    found: list[Artifact] = []
    for name in names:
        artifact = row_artifact(stage, upstream) if name == "rows" else upstream.get(name)
        if artifact is None:
            continue
        found.append(artifact)
        if name == "rows" and not artifact.writes_text:
            found.append(artifact.text())
    return found


def key_parts(
    stage: str,
    code: str,
    libraries: tuple[str, ...],
    references: dict[str, str],
    config: Config,
    inputs: list[Artifact],
    only: str | None = None,
) -> dict[str, Any]:
    """Everything that the key is made of, in words that `plan` can compare.

    Args:
        code: the code digest of the stage's function.
        only: `scoring` for the key of the scores.
    """
    return {
        "stage": stage,
        "format": FORMAT,
        "config": settings(stage, config, only),
        "inputs": [_input_digest(stage, artifact) for artifact in inputs],
        "code": code,
        "versions": library_versions(("python", "polars", *libraries)),
        "references": references,
    }


def settings(stage: str, config: Config, only: str | None = None) -> dict[str, Any]:
    """A stage's own configuration as it stands in the key, with its seed; in the key of scores no draw takes part."""
    section = config.section(stage)
    assert section is not None
    return key_values(section, only) | ({} if only == "scoring" else {"seed": config.stage_seed(stage)})


def key_of(parts: dict[str, Any]) -> str:
    """The key itself, 64 hex digits."""
    return json_digest(parts)


def writes_text(stage: str) -> bool:
    """Whether a stage publishes rows, not only decisions."""
    return stage in TEXT_STAGES


def library_versions(names: tuple[str, ...]) -> dict[str, str]:
    """Installed versions, `absent` for what is not there."""
    return {name: _version(name) for name in sorted(set(names))}


@cache
def _version(name: str) -> str:
    if name == "python":
        return f"{sys.version_info.major}.{sys.version_info.minor}"
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return "absent"


def _input_digest(stage: str, artifact: Artifact) -> str:
    """Content alone; the report also shows counts and ledgers, so there the whole manifest counts but its times."""
    if stage != "report":
        return artifact.digest
    return json_digest({name: value for name, value in artifact.manifest.items() if name not in _TIMED})


def data_folder(given: str | None) -> Path:
    """`--data-dir`, else `$WINNOW_DATA`, else `./data`; made where something is first written to it.

    Raises:
        ConfigError: it is a file, or would lie below one, which would look like a folder in which nothing ever ran.
    """
    folder = Path(given).absolute() if given else default_folder()
    there = next((path for path in (folder, *folder.parents) if os.path.lexists(path)), folder)
    if there.is_file():
        place = "--data-dir" if given else "$WINNOW_DATA" if os.environ.get("WINNOW_DATA") else "data"
        what = f"{there} is a file" if there == folder else f"{folder} can't be a folder: {there} is a file"
        raise ConfigError(what, place=place, cure="name the folder with --data-dir DIR; a new one is made")
    return folder


def default_folder() -> Path:
    """The data folder where none is named."""
    return Path(os.environ.get("WINNOW_DATA") or "data").absolute()
