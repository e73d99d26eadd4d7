"""Where data and model come from, as far as a page may say: names of packages and hubs, never a path of a machine."""

import re
from pathlib import PurePosixPath, PureWindowsPath
from typing import Any

from pipeline_config.schema import Config

LOCAL = "(a local path)"
_FOLDER = re.compile(r" --data-dir (?:'[^']*'(?:\"'\"'[^']*')*|[^\s';]+)")

_FIELDS = (
    ("tokenize", "model"),
    ("tokenize", "chat_template"),
    ("train", "model"),
    ("select", "seed_set"),
    ("split", "frozen"),
    ("select", "encoder"),
    ("augment", "encoder"),
    ("evaluate", "encoder"),
)  # settings that stand in no key, since what they point to does


def shown_places(run: Config) -> dict[str, Any]:
    """Where things come from, in the form of the configuration; a local path is only said to be one, so that a moved
    file changes nothing.

    Returns:
        `model`, `sources` (name → `path` or `dataset`), and the sections that name a place of their own.
    """
    found: dict[str, Any] = {
        "model": shown_place(run.model),
        "sources": {
            source.name: {"path": shown_place(source.path)}
            if source.path is not None
            else {"dataset": shown_place(source.dataset or "")}
            for source in run.ingest.sources
        },
    }
    for section, field in _FIELDS:
        place = getattr(run.section(section), field, None)
        if place is not None:
            found.setdefault(section, {})[field] = shown_place(place)
    return found


def shown_place(place: str) -> str:
    """An `asset:` or hub name as it is, a URL without what stands before its host, `LOCAL` for a path."""
    if place.startswith("asset:"):
        return place
    if "://" in place:
        scheme, _, rest = place.partition("://")
        host, slash, path = rest.partition("/")
        return f"{scheme}://{host.rpartition('@')[2]}{slash}{path.partition('?')[0]}"
    if is_path(place):
        return LOCAL
    return place


def without_folder(command: str) -> str:
    """Commands without their `--data-dir`: who reads the page beside its data folder knows it, and no other should."""
    return _FOLDER.sub("", command)


def is_path(text: str) -> bool:
    """Whether a text is an absolute or relative path of a machine, rather than a name."""
    if "\n" in text:
        return False
    absolute = PurePosixPath(text).is_absolute() or PureWindowsPath(text).is_absolute()
    return absolute or text.startswith(("./", "../", "~", ".\\", "..\\"))
