"""Models by name: checked, resolved to a folder, digested for cache keys, and loaded.

A name is a folder, a hub name or `asset:<name>`; whatever it is, `model_folder` makes it an ordinary folder, and
everything after that loads the same way. No remote code is ever run, and weights come from safetensors only.
Checking and digesting import neither torch nor transformers, so that planning stays fast.
"""

from pathlib import Path
from typing import Any

from pipeline_config.errors import ModelError
from tasks.kernels.assets import asset_file, find_asset, is_asset
from tasks.kernels.attached import attach, configuration, is_attached
from tasks.kernels.conversion import converted_digest, converted_folder
from tasks.kernels.digests import FileDigests, json_digest
from tasks.kernels.hub import cached_snapshot, download, published
from tasks.kernels.model_check import ModelKind, check_folder, check_model, existing_folder
from tasks.kernels.published import ADAPTER_FOLDER
from tasks.kernels.quiet import quiet

__all__ = ["ModelKind", "check_model", "load_causal", "load_tokenizer", "model_digest", "model_folder"]

_SHAPES_OUTPUT = (".json", ".safetensors", ".model", ".txt", ".jinja")
_BESIDE_THE_POINT = {"conversion.json", "trainer_state.json", "data_config.json", "README.txt", "requirements.txt"}


def model_folder(name: str, data_dir: Path) -> str:
    """The folder to load a model from: absolute, complete, checked.

    Args:
        name: folder, hub name (fetched into the hub's own cache if it is not there) or `asset:<name>` (a packaged
            GGUF file is converted on first use into `<data_dir>/models/`, about 20 s).

    Raises:
        ModelError: it is no model, or can't be fetched.
        ConfigError: no asset of that name.
        ArtifactError: a converted model can't be written.
    """
    if is_asset(name):
        asset = find_asset(name, "causal", "encoder")
        packaged = asset_file(asset)
        return str(converted_folder(packaged, asset.name, data_dir) if packaged.suffix == ".gguf" else packaged.parent)
    folder = existing_folder(name)
    return str(download(name, "model") if folder is None else folder)


def model_digest(name: str, data_dir: Path) -> str:
    """What a model is, for cache keys: 64 hex digits of its contents, or the commit of a hub name.

    File digests are remembered in `data_dir`, so that only new and changed weights are read.

    Raises:
        ModelError: there is no such model.
        ConfigError: no asset of that name.
    """
    digests = FileDigests(data_dir)
    if is_asset(name):
        asset = find_asset(name, "causal", "encoder")
        packaged = asset_file(asset)
        value = (
            converted_digest(packaged, digests) if packaged.suffix == ".gguf" else _of_folder(packaged.parent, digests)
        )
    else:
        folder = existing_folder(name)
        snapshot = cached_snapshot(name)
        if folder is None:
            return json_digest([name, published(name, "model").commit])
        if folder == snapshot:
            return json_digest([name, snapshot.name])
        value = _of_folder(folder, digests)
    digests.save()
    return value


def load_tokenizer(folder: str) -> Any:
    """The tokenizer of a model folder, with the chat template it has.

    Raises:
        ModelError: transformers can't load it.
    """
    from transformers import AutoTokenizer

    given = {"config": configuration(Path(folder))} if is_attached(Path(folder)) else {}
    with quiet():
        try:
            return AutoTokenizer.from_pretrained(folder, trust_remote_code=False, **given)
        except Exception as error:  # whatever a foreign tokenizer file brings about
            raise unloadable("tokenizer", folder, error) from error


def load_causal(folder: str, dtype: str, *, whole: bool = True) -> Any:
    """The causal language model of a folder, in evaluation mode.

    Args:
        folder: as `model_folder` gives it.
        dtype: `float32`, `bfloat16` or `float16`; weights are cast while they are read.
        whole: with what is attached to it (`attached.py`); False: the base alone.

    Raises:
        ModelError: transformers can't load it, or weights are missing (they would be random numbers).
    """
    import torch
    from transformers import AutoModelForCausalLM

    check_folder(Path(folder), "causal")
    given = {"config": configuration(Path(folder))} if is_attached(Path(folder)) else {}
    with quiet():
        try:
            model, found = AutoModelForCausalLM.from_pretrained(
                folder,
                dtype=getattr(torch, dtype),
                use_safetensors=True,
                trust_remote_code=False,
                output_loading_info=True,
                **given,
            )
        except Exception as error:  # whatever a foreign configuration or weight file brings about
            raise unloadable("model", folder, error) from error
    refuse_random_weights(folder, found)
    return attach(model.eval(), Path(folder) / ADAPTER_FOLDER) if given and whole else model.eval()


def load_float32(folder: str, what: str, family: str, *, unused: str = "\0") -> Any:
    """A model that reads texts, in float32 with plain attention, ready for inference: the same numbers in any company.

    Args:
        folder: with its configuration and safetensors.
        what: it is, for errors.
        family: class of transformers that loads it, such as `AutoModel`.
        unused: in the names of weights that may be missing.

    Raises:
        ModelError: it can't be loaded, or lacks weights.
    """
    import torch
    import transformers

    with quiet():
        try:
            model, found = getattr(transformers, family).from_pretrained(
                folder,
                dtype=torch.float32,
                attn_implementation="eager",
                use_safetensors=True,
                trust_remote_code=False,
                output_loading_info=True,
            )
        except Exception as error:  # whatever a foreign configuration or weight file brings about
            raise unloadable(what, folder, error) from error
    missing = [key for key in found.get("missing_keys") or () if unused not in str(key)]
    refuse_random_weights(folder, {**found, "missing_keys": missing})
    return model.eval()


def refuse_random_weights(folder: str, found: dict[str, Any]) -> None:
    """Raise ModelError where a model's file lacks weights: transformers would draw them at random and go on.

    Args:
        found: `output_loading_info` of `from_pretrained`.
    """
    lacking = sorted(str(key) for part in ("missing_keys", "mismatched_keys") for key in found.get(part) or ())
    if lacking:
        message = f"{folder} lacks {len(lacking)} weights of its architecture, such as {lacking[0]}"
        raise ModelError(message, place="model", cure="its config.json and its weights don't belong together")


def _of_folder(folder: Path, digests: FileDigests) -> str:
    """One digest over the files that shape what a model computes; notes and training states aside."""
    files = sorted(
        path
        for path in [*folder.iterdir(), *folder.glob("1_Pooling/config.json"), *folder.glob("adapter/*")]
        if path.is_file() and path.suffix in _SHAPES_OUTPUT and path.name not in _BESIDE_THE_POINT
    )
    return json_digest([[path.relative_to(folder).as_posix(), digests.of(path)] for path in files])


def unloadable(what: str, folder: str, error: Exception) -> ModelError:
    """The error to raise where transformers could not load a part of a folder."""
    lines = str(error).strip().splitlines()
    reason = f"{type(error).__name__}{': ' + lines[0][:300] if lines else ''}"
    cure = "check that `from_pretrained` of transformers loads this folder (code that a model brings is never run)"
    return ModelError(f"the {what} in {folder} can't be loaded ({reason})", place="model", cure=cure)
