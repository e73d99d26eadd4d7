"""Which parts of a model a method means: by layer, and by module name; what matches nothing is refused.

Names come from the model itself while it is trained, and from the headers of its weight files before anything runs, so
that a mistyped name ends a run at once and not after an hour of data work. Reads no weights and imports no torch.
"""

import json
import re
from collections.abc import Iterable, Sequence
from fnmatch import fnmatchcase
from pathlib import Path

from pipeline_config.errors import ConfigError
from pipeline_config.model_schema import Lora, Partial
from pipeline_config.suggest import did_you_mean
from tasks.kernels.model_check import weight_files

_LAYER = re.compile(r"(?:^|\.)(?:layers|layer|h|blocks|block)\.(\d+)\.")
_RANGE = re.compile(r"(\d+)(?:-(\d+))?")
_ENDS = re.compile(r"(first|last)-(\d+)")


def stored_names(folder: Path) -> list[str]:
    """The names of a model's weights, from the headers of its safetensors files; of a damaged file, none."""
    return sorted(stored_shapes(folder))


def stored_shapes(folder: Path) -> dict[str, tuple[int, ...]]:
    """Weight → shape, from the headers of a model's safetensors files; of a damaged file, none."""
    shapes: dict[str, tuple[int, ...]] = {}
    for path in weight_files(folder):
        with path.open("rb") as stream:
            length = int.from_bytes(stream.read(8), "little")
            text = stream.read(length if length < path.stat().st_size else 0)
        try:
            header = json.loads(text)
            shapes |= {name: tuple(entry["shape"]) for name, entry in header.items() if name != "__metadata__"}
        except (ValueError, KeyError, TypeError):  # what is wrong with it, `check_model` says
            return {}
    return shapes


def layer_of(name: str) -> int | None:
    """The decoder layer that a parameter belongs to, counted from 0; None: it stands outside of them."""
    found = _LAYER.search(name)
    return int(found[1]) if found else None


def chosen_layers(ranges: str | int, count: int) -> set[int]:
    """Decoder layers by number.

    Args:
        ranges: numbers and ranges, both ends included, counted from 0 (`20-29`, `0,4-6`); `last-n` or `first-n`.
        count: layers that the model has.

    Raises:
        ConfigError: no such layer, or not written like this.
    """
    place = "train.partial.layers"
    found: set[int] = set()
    for part in str(ranges).replace(" ", "").split(","):
        if ends := _ENDS.fullmatch(part):
            number = int(ends[2])
            found |= set(range(count)[-number:] if ends[1] == "last" else range(count)[:number])
            low, high = number, number - 1  # at least one, at most all
        elif span := _RANGE.fullmatch(part):
            low, high = int(span[1]), int(span[2] or span[1])
            found |= set(range(low, high + 1))
        else:
            raise ConfigError(f"{part!r} names no layers", place=place, cure="write 20-29, 0,4-6, first-2 or last-4")
        if high >= count or (low > high and not ends) or (ends and low == 0):
            cure = f"the model has {count} layers: 0-{count - 1}" if count else "choose by train.partial.modules"
            raise ConfigError(f"the model has no layers {part!r}", place=place, cure=cure)
    return found


def chosen_parameters(names: Sequence[str], config: Partial) -> set[str]:
    """The parameters that partial fine-tuning changes.

    Args:
        names: of all the model's parameters.
        config: where it gives both layers and modules, those modules of those layers.

    Raises:
        ConfigError: a layer that is not there, or a pattern that matches no module.
    """
    chosen = set(names)
    if config.layers is not None:
        count = max((number for name in names if (number := layer_of(name)) is not None), default=-1) + 1
        numbers = chosen_layers(config.layers, count)
        chosen = {name for name in names if layer_of(name) in numbers}
    if not config.modules:
        return chosen
    wanted: set[str] = set()
    for pattern in config.modules:
        found = {name for name in chosen if _matches(pattern, name, "train.partial.modules")}
        if not found:
            raise _matches_nothing(pattern, chosen, "train.partial.modules")
        wanted |= found
    return wanted


def check_lora_targets(names: Sequence[str], config: Lora) -> None:
    """Raise ConfigError for a `lora_target` that no module of the model is named by, as peft reads it.

    Args:
        names: of all the model's parameters.
    """
    if config.lora_target == "all-linear":
        return
    modules = {name.rpartition(".")[0] for name in names}
    single = isinstance(config.lora_target, str)
    for target in [config.lora_target] if isinstance(config.lora_target, str) else config.lora_target:
        try:
            found = any(re.fullmatch(target, name) if single else f".{name}".endswith(f".{target}") for name in modules)
        except re.error as error:
            raise _no_expression(target, error, "train.lora.lora_target") from None
        if not found:
            raise _matches_nothing(target, names, "train.lora.lora_target", "all-linear, ")


def _matches(pattern: str, name: str, place: str) -> bool:
    """Whether a pattern means a parameter or a module that holds it: its name, or the last parts of it."""
    if pattern.startswith("re:"):
        try:
            return re.search(pattern[3:], name) is not None
        except re.error as error:
            raise _no_expression(pattern, error, place) from None
    parts = name.split(".")
    above = [parts[:end] for end in range(1, len(parts) + 1)]
    return any(fnmatchcase(".".join(each[start:]), pattern) for each in above for start in range(len(each)))


def _matches_nothing(pattern: str, names: Iterable[str], place: str, first: str = "") -> ConfigError:
    there = sorted({part for name in names for part in name.split(".")[:-1] if not part.isdigit()})
    return ConfigError(
        f"no module of the model matches {pattern!r}{did_you_mean(pattern, there)}",
        place=place,
        cure=f"use {first}some of: {', '.join(there)}",
    )


def _no_expression(pattern: str, error: re.error, place: str) -> ConfigError:
    return ConfigError(f"{pattern!r} is no regular expression: {error}", place=place, cure="check its brackets")
