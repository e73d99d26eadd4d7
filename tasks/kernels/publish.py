"""A model as files that `from_pretrained` loads alone: safetensors, tokenizer, chat template, card.

No pickle is published and nothing that names this machine, and the same weights give the same bytes.
"""

import json
import os
import shutil
from pathlib import Path
from typing import Any

from tasks.kernels.quiet import quiet

_WEIGHTS = ("*.safetensors", "*.safetensors.index.json")
_CONFIGURATION = ("config.json", "generation_config.json")
_MACHINE_KEYS = ("_name_or_path", "_model_name_or_path")


def write_model(model: Any, tokenizer: Any, folder: Path, card: str) -> None:
    """Write a causal model with everything it needs.

    Args:
        model: as it shall be loaded; already in the number format to publish.
        tokenizer: with the chat template that it was trained with.
        card: Markdown.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with quiet():
        model.save_pretrained(folder)
    for name in _CONFIGURATION:
        _without_machine(folder / name)
    _write_tokenizer(tokenizer, folder)
    (folder / "README.md").write_text(card, encoding="utf-8")


def link_model(source: Path, tokenizer: Any, folder: Path, card: str) -> None:
    """Publish a model folder as it is: its weights are linked where the file system can, else copied."""
    folder.mkdir(parents=True, exist_ok=True)
    for pattern in _WEIGHTS:
        for path in sorted(source.glob(pattern)):
            _link(path.resolve(), folder / path.name)
    for name in _CONFIGURATION:
        if (source / name).is_file():
            shutil.copyfile(source / name, folder / name)
            _without_machine(folder / name)
    _write_tokenizer(tokenizer, folder)
    (folder / "README.md").write_text(card, encoding="utf-8")


def write_adapter(model: Any, folder: Path, base: str, card: str, start: Path | None = None) -> None:
    """Write a peft model's adapter alone: its weights in float32, its configuration with sorted lists.

    Args:
        base: the base model's public name.
        start: the adapter before training, where it was taken out of the base weights: the difference is written.
    """
    with quiet():
        model.save_pretrained(folder, path_initial_model_for_weight_conversion=str(start) if start else None)
    path = folder / "adapter_config.json"
    config = {name: _sorted(value) for name, value in json.loads(path.read_text(encoding="utf-8")).items()}
    config["base_model_name_or_path"] = base
    _write_json(path, config)
    (folder / "README.md").write_text(card, encoding="utf-8")


def stored_dtype(folder: str) -> Any:
    """The number format a model's weights are stored in (a torch dtype; float32 where its configuration is silent)."""
    import torch

    from tasks.kernels.attached import configuration

    found = getattr(configuration(Path(folder)), "dtype", None)
    return found if isinstance(found, torch.dtype) else torch.float32


def size_mb(folder: Path) -> float:
    """Megabytes (10^6) of a model's weights on disk, with what is attached to them."""
    return sum(path.stat().st_size for path in folder.rglob("*.safetensors")) / 1e6


def _write_tokenizer(tokenizer: Any, folder: Path) -> None:
    with quiet():
        tokenizer.save_pretrained(folder)
    _without_machine(folder / "tokenizer_config.json")


def _without_machine(path: Path) -> None:
    """Drop the keys in which transformers keeps where something was loaded from."""
    if not path.is_file():
        return
    config = json.loads(path.read_text(encoding="utf-8"))
    kept = {
        name: value
        for name, value in config.items()
        if name not in _MACHINE_KEYS and not (isinstance(value, str) and Path(value).is_absolute())
    }
    if kept != config:
        _write_json(path, kept)


def _sorted(value: Any) -> Any:
    return sorted(value) if isinstance(value, list) and all(isinstance(each, str) for each in value) else value


def _write_json(path: Path, value: Any) -> None:
    path.write_text(json.dumps(value, indent=2, sort_keys=True, ensure_ascii=False) + "\n", encoding="utf-8")


def _link(source: Path, target: Path) -> None:
    try:
        os.link(source, target)
    except OSError:  # another file system, or one without links
        shutil.copyfile(source, target)
