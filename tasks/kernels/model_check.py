"""Is this a model? Asked before anything runs, from file names and headers alone, without torch or transformers.

A wrong folder otherwise shows after minutes of data work, as a traceback of somebody else's code. Weights are taken
from safetensors only: pickled weights (`.bin`, `.pt`) run code when they are read.
"""

import difflib
import json
import struct
from pathlib import Path
from typing import Any, Literal

from pipeline_config.errors import ModelError
from tasks.kernels.assets import asset_file, find_asset, is_asset
from tasks.kernels.hub import HUB_NAME, cached_snapshot, published

ModelKind = Literal["causal", "encoder", "classifier"]
WEIGHTS = "model.safetensors"
WEIGHTS_INDEX = "model.safetensors.index.json"
_TOKENIZER_FILES = ("tokenizer.json", "tokenizer.model", "vocab.json", "vocab.txt", "spiece.model")
_PICKLES = (".bin", ".pt", ".pth", ".ckpt")
_GENERATES = ("ForCausalLM", "LMHeadModel", "ForConditionalGeneration")
_CLASSIFIES = "ForSequenceClassification"
_MAX_HEADER_BYTES = 100_000_000


def check_model(name: str, kind: ModelKind, *, place: str = "model") -> None:
    """Refuse what can't be loaded as a model.

    Args:
        name: folder, hub name, or `asset:<name>`.
        kind: `causal` for a language model that is trained or evaluated, `encoder` for sentence embeddings,
            `classifier` for text classification.
        place: configuration key, for the message.

    Raises:
        ModelError: no such folder, or what is missing in it; no such model on the hub, or pickled weights only.
        ConfigError: no asset of that name and kind.
    """
    if is_asset(name):
        if kind == "classifier":
            cure = "give a folder or a hub name"
            raise ModelError(f"{name}: no packaged asset is a classifier", place=place, cure=cure)
        asset_file(find_asset(name, kind, place=place))
        return
    folder = existing_folder(name, place)
    if folder is not None:
        check_folder(folder, kind, place)
        return
    there = published(name, place)
    _check_names(there.files, name, place)
    _check_architecture(there.architectures, name, kind, place)


def existing_folder(name: str, place: str = "model") -> Path | None:
    """The folder that a name means, in the hub cache too; None where only the hub could know it.

    Raises:
        ModelError: it is a path, and no folder is there; or it is no possible name of a model.
    """
    path = Path(name).expanduser()
    if path.is_dir():
        return path.resolve()
    if path.is_file():
        raise ModelError(f"{name} is a file, not a model folder", place=place, cure=_file_cure(path))
    if name.startswith((".", "/", "~")) or not HUB_NAME.fullmatch(name):
        raise ModelError(f"there is no model folder {name}", place=place, cure=_near(path))
    return cached_snapshot(name)


def check_folder(folder: Path, kind: ModelKind, place: str = "model") -> None:
    """Refuse a folder from which `from_pretrained` could not load a model of this kind.

    Raises:
        ModelError: what is missing or damaged, and what to do.
    """
    _check_names([path.name for path in folder.iterdir()], str(folder), place)
    config = _read_json(folder / "config.json", place)
    _check_architecture(config.get("architectures") or [], str(folder), kind, place)
    for weights in weight_files(folder, place):
        _check_safetensors(weights, place)


def weight_files(folder: Path, place: str = "model") -> list[Path]:
    """The safetensors files of a model folder, every shard of them.

    Raises:
        ModelError: a shard that the index names is missing.
    """
    if (folder / WEIGHTS).is_file():
        return [folder / WEIGHTS]
    shards = sorted(set(_read_json(folder / WEIGHTS_INDEX, place).get("weight_map", {}).values()))
    missing = [shard for shard in shards if not (folder / shard).is_file()]
    if missing or not shards:
        message = f"{folder} lacks {len(missing)} of {len(shards)} weight files: {', '.join(missing[:3])}"
        raise ModelError(message, place=place, cure="copy or download the model again, complete")
    return [folder / shard for shard in shards]


def _check_names(files: list[str], where: str, place: str) -> None:
    names = set(files)
    if "config.json" not in names:
        if "adapter_config.json" in names:
            cure = "merge the adapter into its base model first (peft: merge_and_unload, then save_pretrained)"
            raise ModelError(f"{where} holds an adapter, not a whole model", place=place, cure=cure)
        gguf = sorted(name for name in names if name.endswith(".gguf"))
        cure = _GGUF_CURE.format(file=gguf[0]) if gguf else "give a folder as `save_pretrained` writes it"
        raise ModelError(f"{where} is no model: there is no config.json", place=place, cure=cure)
    if WEIGHTS not in names and WEIGHTS_INDEX not in names:
        pickled = sorted(name for name in names if name.endswith(_PICKLES) and name != "training_args.bin")
        if pickled:
            message = f"{where} has pickled weights only ({pickled[0]}); they run code when they are read"
            raise ModelError(message, place=place, cure=_PICKLE_CURE)
        raise ModelError(f"{where} has no weights: there is no {WEIGHTS}", place=place, cure=_NO_WEIGHTS_CURE)
    if not names.intersection(_TOKENIZER_FILES):
        cure = "save the tokenizer beside the model (tokenizer.save_pretrained)"
        raise ModelError(f"{where} has no tokenizer ({', '.join(_TOKENIZER_FILES)})", place=place, cure=cure)


def _check_architecture(architectures: list[str], where: str, kind: ModelKind, place: str) -> None:
    if kind == "causal" and architectures and not any(str(name).endswith(_GENERATES) for name in architectures):
        message = f"{where} holds a {architectures[0]}, which generates no text"
        raise ModelError(message, place=place, cure="give a causal language model (… ForCausalLM)")
    if kind == "classifier" and architectures and not any(str(name).endswith(_CLASSIFIES) for name in architectures):
        message = f"{where} holds a {architectures[0]}, which has no classes"
        raise ModelError(message, place=place, cure="give a text-classification model (… ForSequenceClassification)")


def _check_safetensors(path: Path, place: str) -> None:
    """The file is as long as its header says (8 bytes: header length; JSON header; tensors)."""
    cure = "copy or download the model again, complete (with git, `git lfs pull`)"
    with path.open("rb") as stream:
        head = stream.read(8)
        length = struct.unpack("<Q", head)[0] if len(head) == 8 else _MAX_HEADER_BYTES + 1
        text = stream.read(length) if length <= _MAX_HEADER_BYTES else b""
    try:
        tensors = json.loads(text)
        end = max((tensor["data_offsets"][1] for key, tensor in tensors.items() if key != "__metadata__"), default=0)
    except (ValueError, KeyError, TypeError, AttributeError, IndexError):
        raise ModelError(f"{path} is no safetensors file", place=place, cure=cure) from None
    size = path.stat().st_size
    if size != 8 + length + end:
        message = f"{path} is damaged: {size:,} bytes where its header says {8 + length + end:,}"
        raise ModelError(message, place=place, cure=cure)


def _read_json(path: Path, place: str) -> dict[str, Any]:
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        cure = "write it again with `save_pretrained`"
        raise ModelError(f"{path} can't be read as JSON ({error})", place=place, cure=cure) from None
    if not isinstance(value, dict):
        raise ModelError(f"{path} is no JSON object", place=place, cure="write it again with `save_pretrained`")
    return value


def _near(path: Path) -> str:
    try:
        siblings = sorted(each.name for each in path.parent.iterdir() if each.is_dir())
    except OSError:
        return f"there is no folder {path.parent} either; check the path"
    close = difflib.get_close_matches(path.name, siblings, n=1, cutoff=0.5)
    return f"did you mean {path.parent / close[0]}?" if close else "check the path, or give a hub name or asset:<name>"


def _file_cure(path: Path) -> str:
    return _GGUF_CURE.format(file=path.name) if path.suffix == ".gguf" else f"give its folder: {path.parent}"


_GGUF_CURE = (
    "convert it once: from_pretrained(folder, gguf_file={file!r}, "
    "quantization_config=GgufConfig(dequantize=True)), then save_pretrained of model and tokenizer"
)
_PICKLE_CURE = (
    "if you trust their origin, convert them once with transformers: from_pretrained(folder), then "
    "save_pretrained(folder), which writes model.safetensors"
)
_NO_WEIGHTS_CURE = "give a folder as `save_pretrained` writes it: config.json, model.safetensors, tokenizer.json"
