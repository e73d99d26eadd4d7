"""Models by hub name: found in the local cache, asked for on the hub only when they are not there.

Whatever commit lies in the cache is used again, without a request: two runs of one configuration then read the same
weights, with and without a network. To take a newer commit, fetch it with the hub's own client (`hf download NAME`).
"""

import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipeline_config.errors import ModelError
from tasks.kernels.flaky import patiently

HUB_NAME = re.compile(r"[A-Za-z0-9][\w.-]*(/[A-Za-z0-9][\w.-]*)?")
WANTED = ["*.json", "*.safetensors", "*.model", "*.txt", "*.jinja", "1_Pooling/config.json"]  # no pickled weights
_SECONDS = 10.0


@dataclass(frozen=True)
class Published:
    """What the hub says of a model: its newest commit, its file names, and its architectures as far as known."""

    commit: str
    files: list[str]
    architectures: list[str]


def cached_snapshot(name: str) -> Path | None:
    """The folder of a model's commit in the hub cache, if it is there with its configuration and weights."""
    folder = _cache_folder() / f"models--{name.replace('/', '--')}"
    try:
        commit = (folder / "refs" / "main").read_text().strip()
    except OSError:
        return None
    snapshot = folder / "snapshots" / commit
    has_weights = any(snapshot.glob("*.safetensors")) or any(snapshot.glob("*.bin"))
    return snapshot if commit and (snapshot / "config.json").is_file() and has_weights else None


def published(name: str, place: str) -> Published:
    """Ask the hub about a model.

    Raises:
        ModelError: no such model, no access to it, or no way to the hub.
    """
    info = _ask(name, place)
    files = [sibling.rfilename for sibling in info.siblings or []]
    return Published(str(info.sha), files, list((info.config or {}).get("architectures") or []))


def download(name: str, place: str) -> Path:
    """Fetch what `from_pretrained` reads of a model (never pickled weights) and return its folder in the cache.

    Raises:
        ModelError: it can't be fetched.
    """
    from huggingface_hub import snapshot_download
    from huggingface_hub.utils import disable_progress_bars

    disable_progress_bars()
    try:
        return Path(patiently(lambda: snapshot_download(name, allow_patterns=WANTED), f"fetching {name}"))
    except Exception as error:  # the client raises errors of several libraries
        raise _unreachable(name, place, error) from error


def _ask(name: str, place: str) -> Any:
    from huggingface_hub import HfApi
    from huggingface_hub.errors import GatedRepoError, RepositoryNotFoundError

    try:
        return patiently(lambda: HfApi().model_info(name, timeout=_SECONDS), f"asking the hub about {name}")
    except GatedRepoError as error:
        cure = "accept its terms on its page, then log in with `hf auth login`"
        raise ModelError(f"{name} is a gated model, and this account has no access", place=place, cure=cure) from error
    except RepositoryNotFoundError as error:
        cure = "check the spelling; for a private model, log in with `hf auth login`; a folder needs ./ in front"
        raise ModelError(f"the hub has no model named {name}", place=place, cure=cure) from error
    except Exception as error:  # no name service, refused, timed out, offline mode …: of several libraries
        raise _unreachable(name, place, error) from error


def _unreachable(name: str, place: str, error: Exception) -> ModelError:
    reason = str(error).strip().splitlines()
    packaged = "asset:all-minilm-l6-v2" if place.endswith("encoder") else "asset:smollm2-135m-instruct"
    neither = place.endswith(("classifier.model", "toxicity.model.model", "masked_model"))  # of which none is packaged
    return ModelError(
        f"{name} is no folder here and not in the hub cache, and the hub can't be reached "
        f"({type(error).__name__}{': ' + reason[0][:200] if reason else ''})",
        place=place,
        cure="give the path of a model folder (./ in front), or fetch the model where there is a network with "
        f"`hf download {name}`" + ("" if neither else f", or use {packaged}"),
    )


def _cache_folder() -> Path:
    """Where the hub client keeps models, by the same variables it reads."""
    for variable in ("HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE"):
        if os.environ.get(variable):
            return Path(os.environ[variable]).expanduser()
    if os.environ.get("HF_HOME"):
        return Path(os.environ["HF_HOME"]).expanduser() / "hub"
    return Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser() / "huggingface" / "hub"
