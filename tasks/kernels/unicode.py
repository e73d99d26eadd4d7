"""What kernels must know of each code point: how it folds, and what it is to a tokeniser.

Built once a process from Python's own `str` and `unicodedata`, so that a compiled kernel and a plain Python reference
can't disagree. Nothing above U+3FFFF is a word character, folds or composes (tests hold this).
"""

import unicodedata
from functools import cache
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from tasks.kernels.tokens import ALONE, LIMIT, SPACE, SUSPECT, WORD

_ONE_BY_ONE = (  # blocks of Han, Kana and Hangul
    (0x1100, 0x11FF),
    (0x2E80, 0x2FDF),
    (0x3005, 0x3007),
    (0x3021, 0x3029),
    (0x3031, 0x303C),
    (0x3041, 0x30FF),
    (0x3131, 0x318E),
    (0x31F0, 0x31FF),
    (0x3400, 0x4DBF),
    (0x4E00, 0x9FFF),
    (0xA960, 0xA97F),
    (0xAC00, 0xD7FF),
    (0xF900, 0xFAFF),
    (0xFF66, 0xFFDC),
    (0x16FE2, 0x16FF1),
    (0x1AFF0, 0x1B16F),
    (0x20000, 0x323AF),
)
_FOLDS_BELOW = 0x20000
_JAMO = ((0x1161, 0x1175), (0x11A8, 0x11C2))  # compose with what stands before them


class Tables(NamedTuple):
    """Look-ups by code point.

    Attributes:
        kind: (LIMIT,) uint8, an or of WORD, ALONE, SPACE, SUSPECT.
        fold: (LIMIT,) int32, the folded code point; or -k, where row k of `many` has several.
        many: (n, 3) int32, foldings to several code points, padded with -1; row 0 is empty.
    """

    kind: npt.NDArray[np.uint8]
    fold: npt.NDArray[np.int32]
    many: npt.NDArray[np.int32]


@cache
def tables() -> Tables:
    """The look-ups of this Python's Unicode version."""
    kind = np.zeros(LIMIT, np.uint8)
    characters = [chr(point) for point in range(LIMIT)]
    kind[np.fromiter(map(str.isalnum, characters), bool, LIMIT)] |= WORD
    kind[ord("_")] |= WORD
    kind[np.fromiter(map(str.isspace, characters), bool, LIMIT)] |= SPACE
    for first, last in _ONE_BY_ONE:
        kind[first : last + 1] |= (kind[first : last + 1] & WORD) * np.uint8(ALONE)
    kind[_suspects(characters)] |= SUSPECT
    fold, many = _foldings(characters[:_FOLDS_BELOW])
    return Tables(kind, fold, many)


def _suspects(characters: list[str]) -> list[int]:
    """Code points outside which a text is its own NFC: combining marks, what NFC replaces, what composes backwards."""
    points = [point for point, mark in enumerate(map(unicodedata.combining, characters)) if mark]
    for point, parts in enumerate(map(unicodedata.decomposition, characters)):
        if parts and parts[0] != "<":
            if unicodedata.normalize("NFC", characters[point]) != characters[point]:
                points.append(point)
            points.extend(int(part, 16) for part in parts.split()[1:])
    for first, last in _JAMO:
        points.extend(range(first, last + 1))
    return points


def _foldings(characters: list[str]) -> tuple[npt.NDArray[np.int32], npt.NDArray[np.int32]]:
    fold = np.arange(LIMIT, dtype=np.int32)
    many = [[-1, -1, -1]]
    for point, folded in enumerate(map(str.casefold, characters)):
        if len(folded) == 1:
            fold[point] = ord(folded)
        else:
            fold[point] = -len(many)
            many.append(([ord(part) for part in folded] + [-1, -1])[:3])
    return fold, np.array(many, np.int32)
