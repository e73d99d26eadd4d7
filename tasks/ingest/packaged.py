"""The sources that need no file of the user's: `path: asset:<name>` in the configuration."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from pipeline_config.data_schema import Format
from tasks.ingest import chatterbot, stdlib
from tasks.kernels.assets import find_asset


@dataclass(frozen=True)
class PackagedSource:
    """A source of records that comes with a package or with Python.

    Attributes:
        format: shape of its records.
        records: all of them, always in the same order.
        digest: what they depend on, 64 hex digits; given the data folder, where file digests are remembered.
    """

    format: Format
    records: Callable[[], Iterator[dict[str, Any]]]
    digest: Callable[[Path], str]


SOURCE_ASSETS: dict[str, PackagedSource] = {
    "python-stdlib": PackagedSource("prompt_completion", stdlib.records, stdlib.digest),
    "chatterbot-english": PackagedSource(
        "messages", partial(chatterbot.records, "english"), lambda _: chatterbot.digest("english")
    ),
    "chatterbot-chinese": PackagedSource(
        "messages", partial(chatterbot.records, "chinese"), lambda _: chatterbot.digest("chinese")
    ),
}


def packaged_source(name: str, place: str = "") -> PackagedSource:
    """The source of a name, with or without `asset:`.

    Raises:
        ConfigError: no such source; the error lists those there are.
    """
    return SOURCE_ASSETS[find_asset(name, "source", place=place).name]


def asset_records(name: str) -> Iterator[dict[str, Any]]:
    """The records of a packaged source.

    Raises:
        ConfigError: no such source.
        SourceError: its package is not installed.
    """
    return packaged_source(name).records()


def asset_digest(name: str, data_dir: Path) -> str:
    """What the records of a packaged source depend on.

    Raises:
        ConfigError: no such source.
        SourceError: its package is not installed.
    """
    return packaged_source(name).digest(data_dir)
