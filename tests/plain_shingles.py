"""The definitions of `tasks/kernels/text.py` once more, plain and slow, for tests to hold the kernels against."""

import re
import unicodedata

import regex

_RUN = re.compile(r"\w+")
_ALONE = regex.compile(r"[\p{Han}\p{Hiragana}\p{Katakana}\p{Hangul}ーｰ〱-〵〆〼ﾞﾟ]")


def normalised(text: str) -> str:
    return unicodedata.normalize("NFC", text).casefold()


def tokens(text: str) -> list[str]:
    found = []
    for run in _RUN.findall(normalised(text)):
        word = ""
        for character in run:
            if _ALONE.match(character):
                found += [word, character] if word else [character]
                word = ""
            else:
                word += character
        found += [word] if word else []
    return found


def shingles(text: str, n: int = 5) -> set[str]:
    found = tokens(text)
    if not found:
        return {normalised(text)}
    return {" ".join(found[k : k + n]) for k in range(max(1, len(found) - n + 1))}


def jaccard(one: set[str], two: set[str]) -> float:
    return len(one & two) / len(one | two)
