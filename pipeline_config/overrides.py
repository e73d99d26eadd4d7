"""`--set a.b=v`: v is YAML, integer segments index lists, `+` appends."""

from typing import Any

import yaml

from pipeline_config.errors import ConfigError

KeyPath = tuple[str | int, ...]


def parse_override(text: str) -> tuple[KeyPath, Any]:
    """Split `a.b=v` into its key path and its value.

    Raises:
        ConfigError: no `=`, no key, or a value that is not YAML.
    """
    key, sign, raw = text.partition("=")
    if not sign or not key.strip(".").strip():
        raise ConfigError(f"{text!r} is no override", place="--set", cure="write --set section.key=value")
    try:
        value = yaml.safe_load(raw)
    except yaml.YAMLError:
        raise ConfigError(
            f"the value {raw!r} is not valid YAML", place=f"--set {key}", cure="quote it for the shell and for YAML"
        ) from None
    path = tuple(int(part) if part.isdigit() else part for part in key.strip().split("."))
    if "" in path:
        raise ConfigError(f"{key!r} has an empty segment", place="--set", cure="write --set section.key=value")
    return path, value


def put(values: dict[str, Any], path: KeyPath, value: Any, text: str) -> KeyPath:
    """Set a value in place, making mappings on the way; give the path with `+` resolved to an index.

    Raises:
        ConfigError: an index past the end, or a segment into something that has none.
    """
    node: Any = values
    resolved: list[str | int] = []
    for i, part in enumerate(path):
        last = i == len(path) - 1
        if isinstance(node, list):
            index = _index(node, part, text)
            resolved.append(index)
            if index == len(node):
                node.append(None)
            if last:
                node[index] = value
            elif not isinstance(node[index], dict | list):
                node[index] = {}
            node = node[index]
            continue
        if not isinstance(node, dict):
            raise ConfigError(f"{'.'.join(map(str, path[:i]))} has no keys", place=f"--set {text}", cure="set it whole")
        part = str(part)
        resolved.append(part)
        if last:
            node[part] = value
        elif not isinstance(node.get(part), dict | list):
            node[part] = [] if path[i + 1] in ("+", 0) else {}
        node = node[part]
    return tuple(resolved)


def _index(node: list[Any], part: str | int, text: str) -> int:
    if part == "+":
        return len(node)
    if isinstance(part, int) and part <= len(node):
        return part
    raise ConfigError(
        f"{part!r} is no place in a list of {len(node)}",
        place=f"--set {text}",
        cure=f"use 0 to {max(len(node) - 1, 0)}, or + to append",
    )
