"""Where the model stages leave their models, and under which names later stages find them.

    train      <artifact>/model/     as `tuned`, beside `adapter/` where there is one
    distill    <artifact>/<name>/    one folder a student, as its name in the configuration
    compress   <artifact>/<name>/    one folder an export, as its name in the configuration

Every such folder loads with `from_pretrained` alone: weights, tokenizer, chat template, model card; except where what
was learned can't be merged (`attached.py`).
"""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from pipeline_config.errors import ArtifactError, ConfigError
from pipeline_config.model_schema import RESERVED, TRAIN

if TYPE_CHECKING:
    from tasks.artifact import Artifact

TUNED = "tuned"
MODEL_FOLDER = "model"
ADAPTER_FOLDER = "adapter"


def published_models(upstream: Mapping[str, "Artifact"]) -> dict[str, Path]:
    """Every model of this run by name, in the order of the stages, then by name.

    Args:
        upstream: artifacts by stage; stages that were skipped are absent.

    Raises:
        ConfigError: two models carry one name, or a name stands for another model already.
    """
    found: dict[str, Path] = {}
    if TRAIN in upstream:
        found[TUNED] = upstream[TRAIN].path / MODEL_FOLDER
    for stage in ("distill", "compress"):
        if stage not in upstream:
            continue
        for folder in model_folders(upstream[stage].path):
            if folder.name in found or folder.name in RESERVED:
                raise ConfigError(
                    f"two models are named {folder.name!r}", place=stage, cure="give each model its own name"
                )
            found[folder.name] = folder
    return found


def model_folders(root: Path) -> list[Path]:
    """The folders directly below `root` that hold a model, sorted by name."""
    return sorted(path.parent for path in root.glob("*/config.json"))


def teacher_folder(name: str, upstream: Mapping[str, "Artifact"], *, place: str) -> Path:
    """The folder of the model that a `from` names: `train`, a student, or an export.

    Raises:
        ConfigError: no such model in this run.
        ArtifactError: the artifact is there and the model is not.
    """
    models = published_models(upstream)
    folder = models.get(TUNED if name == TRAIN else name)
    if folder is None:
        known = ", ".join([TRAIN, *(key for key in models if key != TUNED)])
        raise ConfigError(f"no model is named {name!r}", place=place, cure=f"use one of: {known}")
    if not (folder / "config.json").is_file():
        raise ArtifactError(f"{folder} holds no model", place=place, cure="run again with --force train")
    return folder
