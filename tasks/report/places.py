"""Where data and model come from, as far as a page may say: names of packages and hubs, never a path of a machine."""

from pathlib import PurePosixPath, PureWindowsPath
from typing import Any

from pipeline_config.schema import Config

LOCAL = "(a local path)"


def shown_places(run: Config) -> dict[str, Any]:
    """The model and each source by name; a local path is only said to be one, so that a moved file changes nothing."""
    return {
        "model": shown_place((run.train.model if run.train else None) or run.model),
        "sources": {source.name: shown_place(source.path or source.dataset or "") for source in run.ingest.sources},
    }


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


def is_path(text: str) -> bool:
    """Whether a text is an absolute or relative path of a machine, rather than a name."""
    if "\n" in text:
        return False
    absolute = PurePosixPath(text).is_absolute() or PureWindowsPath(text).is_absolute()
    return absolute or text.startswith(("./", "../", "~", ".\\", "..\\"))
