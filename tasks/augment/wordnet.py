"""Synonyms from Princeton's WordNet, where its dictionary is installed (no Python package carries it).

Looked for in `$WNSEARCHDIR`, in the folders where NLTK keeps its data, and where Debian's `wordnet-base` puts it. Read
here, not by NLTK, whose reader wants files that Debian leaves out. The formats are those of wndb(5WN) and
cntlist(5WN).

WordNet lists every sense of a word, so a synonym drawn from all of them is mostly wrong ("can": lavatory). Only the
sense that WordNet's sense-tagged texts use most is taken, and only synonyms that they use at all. Inflected forms
have no entry and keep their place: a plural does not become a singular.
"""

import os
import re
import sys
import zipfile
from collections import Counter
from functools import cache
from pathlib import Path

from pipeline_config.errors import ConfigError

_PARTS = ("noun", "verb", "adj", "adv")
_TYPES = {"1": "noun", "2": "verb", "3": "adj", "4": "adv", "5": "adj"}  # of a sense key; 5: adjective satellites
_WORD = re.compile(r"[a-z]+")


def dictionary_path() -> Path:
    """The folder with `data.noun` and the others, or NLTK's archive of it.

    Raises:
        ConfigError: there is none.
    """
    given = os.environ.get("NLTK_DATA", "").split(os.pathsep)
    roots = [Path(each) for each in given if each]
    roots += [Path.home() / "nltk_data", Path(sys.prefix) / "nltk_data", Path(sys.prefix) / "share" / "nltk_data"]
    roots += [Path("/usr/share/nltk_data"), Path("/usr/local/share/nltk_data")]
    searched = os.environ.get("WNSEARCHDIR")
    folders = [Path(searched)] if searched else []
    folders += [root / "corpora" / "wordnet" for root in roots] + [Path("/usr/share/wordnet")]
    for folder in folders:
        if (folder / "data.noun").is_file():
            return folder
    for root in roots:
        archive = root / "corpora" / "wordnet.zip"
        if archive.is_file():
            return archive
    raise ConfigError(
        "the method synonym needs WordNet's dictionary, which is not installed",
        place="augment.methods",
        cure="install it (apt-get install wordnet-base, or python -m nltk.downloader wordnet), or leave synonym out",
    )


def dictionary_files(path: Path) -> list[Path]:
    """The files that decide which synonyms are found, for digests."""
    return [path] if path.is_file() else [path / name for name in _names()]


class Synonyms:
    """WordNet as nlpaug asks it: `predict` and `pos_tag`.

    Args:
        path: as `dictionary_path` gives it.
    """

    def __init__(self, path: Path) -> None:
        self._uses, self._first_uses = _counts(_read(path, "cntlist.rev"))
        self._data = {part: _read(path, f"data.{part}") for part in _PARTS}
        self._first_sense = {part: _first_senses(_read(path, f"index.{part}")) for part in _PARTS}

    @cache  # noqa: B019 - one dictionary a process
    def predict(self, word: str, pos: str | None = None) -> list[str]:
        """Single words of small letters that mean the same in the word's most used sense."""
        used = {part: self._first_uses[word, part] for part in _PARTS if word in self._first_sense[part]}
        part = max(used, key=lambda each: used[each], default=None)
        if part is None or used[part] == 0:
            return []
        others = _synset(self._data[part], self._first_sense[part][word])
        return [each for each in others if each != word and _WORD.fullmatch(each) and self._uses[each, part]]

    def pos_tag(self, tokens: list[str]) -> list[tuple[str, str]]:
        """No tags: the most used sense decides the part of speech."""
        return [(token, "") for token in tokens]


def _names() -> list[str]:
    return [*(f"data.{part}" for part in _PARTS), *(f"index.{part}" for part in _PARTS), "cntlist.rev"]


def _read(path: Path, name: str) -> bytes:
    if path.is_file():
        with zipfile.ZipFile(path) as archive:
            return archive.read(f"wordnet/{name}")
    return (path / name).read_bytes()


def _first_senses(index: bytes) -> dict[str, int]:
    """Lemma → byte offset of its first sense's synset: senses are listed most used first."""
    found = {}
    for line in index.decode("ascii").splitlines():
        if not line.startswith(" "):  # the licence
            fields = line.split()
            found[fields[0]] = int(fields[-int(fields[2])])
    return found


def _counts(cntlist: bytes) -> tuple[Counter[tuple[str, str]], Counter[tuple[str, str]]]:
    """Tagged uses of each lemma and part of speech, in all its senses and in its first."""
    uses: Counter[tuple[str, str]] = Counter()
    first: Counter[tuple[str, str]] = Counter()
    for line in cntlist.decode("ascii").splitlines():
        key, sense, count = line.split()
        lemma, rest = key.rsplit("%", 1)
        uses[lemma, _TYPES[rest[0]]] += int(count)
        if sense == "1":
            first[lemma, _TYPES[rest[0]]] = int(count)
    return uses, first


def _synset(data: bytes, offset: int) -> list[str]:
    """The words of the synset at a byte offset."""
    fields = data[offset : data.index(b"\n", offset)].decode("ascii").split()
    return [fields[4 + 2 * n] for n in range(int(fields[3], 16))]
