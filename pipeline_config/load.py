"""From a YAML file, its ancestors and `--set` overrides to a checked `Config`.

Every value remembers where it was written, so that an error names file, line and key. Relative paths hang on the
folder of the file that wrote them, in `--set` on the working directory; here they become absolute, once.
"""

import re
from copy import deepcopy
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel, ValidationError

from pipeline_config.errors import ConfigError
from pipeline_config.overrides import KeyPath, parse_override, put
from pipeline_config.rule_names import unknown_rule
from pipeline_config.schema import Config
from pipeline_config.suggest import did_you_mean, known_keys

RECIPES = Path(__file__).parent / "recipes"
_PATH_FIELDS = (
    ("ingest", "sources", "*", "path"),
    ("ingest", "sources", "*", "dataset"),
    ("select", "seed_set"),
    ("split", "frozen"),
    ("split", "decontaminate_against", "*"),
    ("tokenize", "chat_template"),
    ("model",),
    ("tokenize", "model"),
    ("train", "model"),
    ("train", "teacher"),
    ("dedupe", "semantic", "encoder"),
    ("select", "encoder"),
    ("augment", "encoder"),
    ("evaluate", "encoder"),
)
_MAYBE_HUB = {"model", "encoder", "dataset", "teacher"}


@dataclass
class Document:
    """A parsed configuration and where each key stands.

    Attributes:
        values: the merged mapping, paths absolute.
        places: key path → "file, line n".
    """

    values: dict[str, Any] = field(default_factory=dict)
    places: dict[KeyPath, str] = field(default_factory=dict)


def recipe_names() -> list[str]:
    """The packaged recipes, by name."""
    return sorted(path.stem for path in RECIPES.glob("*.yaml"))


def find_config(name: str, beside: Path) -> Path:
    """The file a name means: a path if it has a slash or ends in .yaml, else a recipe.

    Raises:
        ConfigError: there is no such file or recipe.
    """
    if "/" in name or name.endswith((".yaml", ".yml")):
        path = beside / Path(name).expanduser()
        if path.is_file():
            return path.resolve()
        raise ConfigError(
            f"there is no configuration file {name}",
            place="CONFIG",
            cure="check the path, or name a recipe: " + ", ".join(recipe_names()),
        )
    path = RECIPES / f"{name}.yaml"
    if path.is_file():
        return path
    hint = did_you_mean(name, recipe_names())
    raise ConfigError(
        f"there is no recipe {name!r}{hint}",
        place="CONFIG",
        cure=f"recipes: {', '.join(recipe_names())}; a file of your own is named with its .yaml",
    )


def load_config(name: str, overrides: tuple[str, ...] = ()) -> Config:
    """The checked configuration of a recipe or file, with overrides applied in order.

    Raises:
        ConfigError: with file, line, key and cure.
    """
    return _overridden(_read(find_config(name, Path.cwd()), seen=()), overrides)


def resolve(values: dict[str, Any], overrides: tuple[str, ...] = ()) -> Config:
    """A configuration that was resolved before (a run record's), with overrides applied in order.

    Raises:
        ConfigError: it does not hold any more, or an override is wrong.
    """
    return _overridden(Document(deepcopy(values)), overrides)


def written_values(name: str) -> dict[str, Any]:
    """What a recipe or file and its ancestors say, before defaults and overrides."""
    return _read(find_config(name, Path.cwd()), seen=()).values


def full_name(name: str) -> str:
    """A recipe's name as it is, a file's with its absolute path."""
    path = find_config(name, Path.cwd())
    return name if path.parent == RECIPES and name == path.stem else str(path)


def _overridden(document: Document, overrides: tuple[str, ...]) -> Config:
    here = Path.cwd()
    for text in overrides:
        path, value = parse_override(text)
        path = put(document.values, path, value, text)
        _forget(document.places, path)
        document.places[path] = f"--set {text.split('=', 1)[0]}"
        _absolute(document.values, here, under=path)
    return validate(document)


def validate(document: Document) -> Config:
    """Check a document against the schema."""
    try:
        config = Config.model_validate(document.values)
    except ValidationError as error:
        raise _config_error(error, document) from None
    if found := unknown_rule(config):
        path, wrong = found
        wrong.place = _place(document, path)
        raise wrong
    return config


def _read(file: Path, seen: tuple[Path, ...]) -> Document:
    if file in seen:
        raise ConfigError(f"{file.name} extends itself", place=file.name, cure="remove one `extends`")
    own = _parse(file)
    parent_name = own.values.pop("extends", None)
    _absolute(own.values, file.parent)
    if parent_name is None:
        return own
    if not isinstance(parent_name, str):
        raise ConfigError("extends takes one name", place=own.places[("extends",)], cure="extends: demo")
    try:
        parent = _read(find_config(parent_name, file.parent), (*seen, file))
    except ConfigError as error:
        if error.place == "CONFIG":
            error.place = own.places[("extends",)]
        raise
    return Document(_merge(parent.values, own.values), parent.places | own.places)


def _parse(file: Path) -> Document:
    try:
        text = file.read_text("utf-8-sig")
        node = yaml.compose(text, Loader=yaml.SafeLoader)
        document = Document()
        if node is None:
            return document
        if not isinstance(node, yaml.MappingNode):
            raise ConfigError("a configuration is a mapping", place=f"{file.name}, line 1", cure="begin with `ingest:`")
        _note_places(node, (), file.name, document.places)
        document.values = yaml.SafeLoader("").construct_document(node) or {}
    except UnicodeDecodeError as error:
        raise ConfigError("the file is not UTF-8", place=file.name, cure="save it as UTF-8") from error
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark
        line = f", line {mark.line + 1}" if mark else ""
        raise ConfigError(
            f"not valid YAML: {error.problem or error.context}",
            place=f"{file.name}{line}",
            cure="check the indentation, quotes and brackets there",
        ) from None
    except yaml.YAMLError as error:
        raise ConfigError(f"not valid YAML: {error}", place=file.name, cure="save it as plain text") from None
    return document


def _note_places(
    node: yaml.Node, path: KeyPath, file: str, places: dict[KeyPath, str], inside: tuple[yaml.Node, ...] = ()
) -> None:
    """Remember the line of every key; what a merge (`<<`) brings in stands where it was merged."""
    if any(node is outer for outer in inside):
        raise ConfigError(
            f"{'.'.join(map(str, path))} holds itself",
            place=places[path],
            cure="an alias (*name) can't stand inside what its anchor (&name) marks",
        )
    inside = (*inside, node)
    if path not in places:
        places[path] = f"{file}, line {node.start_mark.line + 1}"
    if isinstance(node, yaml.MappingNode):
        for key, value in node.value:
            if key.tag == "tag:yaml.org,2002:merge":
                continue
            inner = (*path, str(key.value))
            if inner in places and places[inner].startswith(f"{file},"):
                raise ConfigError(
                    f"{'.'.join(map(str, inner))} stands twice",
                    place=f"{file}, line {key.start_mark.line + 1}",
                    cure=f"keep one; the first is at {places[inner]}",
                )
            places[inner] = f"{file}, line {key.start_mark.line + 1}"
            _note_places(value, inner, file, places, inside)
    elif isinstance(node, yaml.SequenceNode):
        for i, value in enumerate(node.value):
            _note_places(value, (*path, i), file, places, inside)


def _merge(below: dict[str, Any], above: dict[str, Any]) -> dict[str, Any]:
    merged = dict(below)
    for key, value in above.items():
        old = merged.get(key)
        merged[key] = _merge(old, value) if isinstance(old, dict) and isinstance(value, dict) else value
    return merged


def _forget(places: dict[KeyPath, str], path: KeyPath) -> None:
    for known in [known for known in places if known[: len(path)] == path]:
        del places[known]


def _absolute(values: dict[str, Any], base: Path, under: KeyPath = ()) -> None:
    for pattern in _PATH_FIELDS:
        _absolute_at(values, pattern, base, under)


def _absolute_at(node: Any, pattern: tuple[str, ...], base: Path, under: KeyPath, depth: int = 0) -> None:
    key = pattern[depth]
    if isinstance(node, list) and key == "*":
        keys: list[Any] = list(range(len(node)))
    elif isinstance(node, dict) and key in node:
        keys = [key]
    else:
        return
    for k in keys:
        if depth < len(under) and under[depth] != k:
            continue
        if depth + 1 < len(pattern):
            _absolute_at(node[k], pattern, base, under, depth + 1)
        elif isinstance(node[k], str):
            node[k] = _absolute_path(node[k], base, maybe_hub=key in _MAYBE_HUB)


def _absolute_path(value: str, base: Path, maybe_hub: bool) -> str:
    if value.startswith("asset:") or "://" in value:
        return value
    path = base / Path(value).expanduser()
    if maybe_hub and not (value.startswith((".", "/", "~")) or path.exists()):
        return value
    return str(path.parent.resolve() / path.name)


def _config_error(error: ValidationError, document: Document) -> ConfigError:
    """The first thing wrong, in words; the others are counted."""
    problems = error.errors(include_url=False)
    paths = [_written_path(tuple(p["loc"]), document.values, p["type"]) for p in problems]
    best = max(range(len(problems)), key=lambda i: (problems[i]["type"] == "extra_forbidden", len(paths[i]), -i))
    problem, path = problems[best], paths[best]
    place = _place(document, path)
    key = ".".join(str(part) for part in path) or "the configuration"
    kind = problem["type"]
    more = f" (and {len(problems) - 1} more)" if len(problems) > 1 else ""
    if kind == "extra_forbidden":
        names = known_keys(Config, path[:-1])
        hint = did_you_mean(str(path[-1]), names)
        message = f"{key} is not a key that Winnow knows{hint}"
        cure = f"keys here: {', '.join(names)}"
    elif kind == "missing":
        message = f"{key} is missing"
        cure = f"add it; `winnow config --schema` describes {key}"
        if key == "ingest":
            cure = "name your data: --set 'ingest.sources=[{path: mine.jsonl}]', or try `winnow run demo`"
    elif kind == "value_error":
        message = str(problem["msg"]).removeprefix("Value error, ")
        place = _place(document, path or _key_in(message, document))
        cure = "see `winnow config --schema`" if not path else f"see {key} in `winnow config --schema`"
    else:
        text = problem["msg"][0].lower() + problem["msg"][1:]
        message = f"{key} is {problem['input']!r}: {text}"
        if isinstance(problem["input"], BaseModel | dict | list):
            message = f"{key}: {text}"
        cure = f"see {key} in `winnow config --schema`"
    return ConfigError(message + more, place=place, cure=cure)


def _written_path(loc: tuple[Any, ...], values: Any, kind: str) -> KeyPath:
    """Drop what pydantic adds to a location (union members), keep what the user wrote."""
    path: list[str | int] = []
    node = values
    for i, part in enumerate(loc):
        missing = kind == "missing" and i == len(loc) - 1
        if isinstance(node, dict) and (part in node or missing):
            path.append(part)
            node = node.get(part)
        elif isinstance(node, list) and isinstance(part, int) and part < len(node):
            path.append(part)
            node = node[part]
    return tuple(path)


def _key_in(message: str, document: Document) -> KeyPath:
    """The key that an error across sections is about: one that was overridden, else the first that it names."""
    named = [tuple(word.split(".")) for word in re.findall(r"[a-z_]+(?:\.[a-z_]+)*", message)]
    known = [path for path in named if path[0] in Config.model_fields]
    return next((path for path in known if _place(document, path).startswith("--set")), known[0] if known else ())


def _place(document: Document, path: KeyPath) -> str:
    """Where a key was written: an override below it, itself, something else below it, else what it stands in."""
    below = [place for known, place in document.places.items() if path and known[: len(path)] == path != known]
    overridden = [place for place in below if place.startswith("--set")]
    if overridden or (below and path not in document.places):
        return (overridden or below)[0]
    for end in range(len(path), -1, -1):
        if path[:end] in document.places:
            return document.places[path[:end]]
    return "the configuration"
