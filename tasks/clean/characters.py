"""Repairs below the word: wrongly decoded text, Unicode form, control and invisible characters.

Mojibake is ftfy's (Speer 2019) `fix_encoding` alone, line by line. Its other habits (straight quotes, narrow
full-width forms, ligatures taken apart, entities) rewrite valid text, Chinese punctuation first of all, and stay off.
What carries meaning stays: joiners inside emoji and in Indic, Arabic and Persian words, direction marks in text with
right-to-left letters, word breaks of scripts that write none, flags made of tag characters.
"""

import re
import unicodedata
from typing import Literal

from tasks.clean.edits import Edit, replaced

# for the compiled filter: every sequence that ftfy holds for mojibake has one of these
_SINGLE_BYTE = r"\x80-\u04ff\u2000-\u2600\uf8ff\ufb01\ufb02\ufffd"  # what single-byte encodings decode to
MOJIBAKE_SUSPECT = rf"[\x80-\x9f]|[{_SINGLE_BYTE}]{{2}}|[ÂÃ] |[Œœ][^A-Za-z]"
# and every text that is not in NFC has one outside these blocks, which neither decompose nor compose
MAY_COMPOSE = (
    r"[^\x00-\u02ff\u0400-\u0482\u048a-\u058f\u2010-\u2027\u2030-\u205e\u20a0-\u20bf\u2190-\u21ff\u2460-\u27ff"
    r"\u3000-\u3029\u3041-\u3098\u309b-\u30fe\u3400-\u4dbf\u4e00-\u9fff\uac00-\ud7a3\uff00-\uffef\U0001f000-\U0001faff]"
)
_LINE = re.compile(r"[^\n]+")
_NOT_ASCII = re.compile(r"[\x00-\x7f]?[^\x00-\x7f]+")
# someone who writes about encodings may show mojibake on purpose
_ABOUT_ENCODING = re.compile(
    r"mojibake|utf-?8|utf-?16|latin-?1|cp125\d|windows-125\d|iso-?8859|unicode|encod|decod|codec|charset|gbk|乱码|编码|解码",
    re.IGNORECASE,
)
_ENCODING_WORDS = (
    *(
        "mojibake",
        "utf",
        "latin",
        "cp125",
        "windows-125",
        "iso",
        "unicode",
        "encod",
        "decod",
        "codec",
        "charset",
        "gbk",
    ),
    *("乱码", "编码", "解码"),
)


def is_about_encoding(text: str) -> bool:
    """Whether a text speaks of character encodings."""
    folded = text.casefold().replace("\u0307", "").replace("ı", "i")  # all that `IGNORECASE` takes for equal, and more
    if not any(word in folded for word in _ENCODING_WORDS):  # ten times as fast as the search
        return False
    return _ABOUT_ENCODING.search(text) is not None


def mojibake(text: str) -> list[Edit]:
    """Edits that undo a wrong decoding (`cafÃ©`, `ä½ å¥½`); none in valid text or where encodings are spoken of."""
    if text.isascii() or is_about_encoding(text):
        return []
    import ftfy

    edits: list[Edit] = []
    for line in _LINE.finditer(text):
        if not line.group().isascii():
            edits += replaced(line.start(), line.group(), ftfy.fix_encoding(line.group()))
    return edits


def unicode_form(text: str, form: Literal["NFC", "NFKC"]) -> list[Edit]:
    """Edits that bring a text into a Unicode normal form.

    A run of characters beyond ASCII, with the one ASCII character before it, is normalised alone: ASCII never
    composes with what stands before it.
    """
    if text.isascii() or unicodedata.is_normalized(form, text):
        return []
    edits: list[Edit] = []
    for run in _NOT_ASCII.finditer(text):
        edits += replaced(run.start(), run.group(), unicodedata.normalize(form, run.group()))
    return edits


_LINE_ENDS = "\x0b\x0c\x85\u2028\u2029"
_DIRECTION = "\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069"
_INVISIBLE = (
    rf"\x00-\x08{_LINE_ENDS}\x0e-\x1f\x7f-\x9f\u00ad\u200b-\u200d\u2060-\u2064\ufeff\ufff9-\ufffb\ufdd0-\ufdef\ufffe\uffff"
    rf"{_DIRECTION}\U000e0000-\U000e007f"
)
CONTROL_CLASS = f"[{_INVISIBLE}]"
# a colour or cursor sequence of a terminal goes whole, not only its escape character
_CONTROL = re.compile(rf"\x1b\[[0-9;?]{{0,16}}[A-Za-z]|{CONTROL_CLASS}")
_RIGHT_TO_LEFT = re.compile(r"[\u0590-\u08ff\ufb1d-\ufdff\ufe70-\ufefc]")
_IS_DIRECTION = re.compile(rf"[{_DIRECTION}]")
_JOINING = re.compile(
    r"[\u0600-\u08ff\u0900-\u0dff\u0e00-\u109f\u1700-\u18af\ua840-\ua87f\ufb50-\ufdff\ufe70-\ufefc\U00011000-\U000114df]"
)
_UNSPACED = re.compile(r"[\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff]")  # Thai, Lao, Burmese, Khmer
_EMOJI = re.compile(r"[\u00a9\u00ae\u203c-\u3299\ufe0f\U0001f000-\U0001faff]")
_TAG = re.compile(r"[\U000e0020-\U000e007f]")


def control(text: str) -> list[Edit]:
    """Edits that take out control and invisible characters; other line ends become `\\n`."""
    edits: list[Edit] = []
    right_to_left: bool | None = None
    flag_until = 0
    for match in _CONTROL.finditer(text):
        start, char = match.start(), match.group()
        before = text[start - 1 : start]
        if char in _LINE_ENDS:
            edits.append(Edit(start, match.end(), "\n"))
            continue
        if char in "\u200c\u200d":
            in_emoji = char == "\u200d" and _EMOJI.match(before) and _EMOJI.match(text, start + 1)
            keep = bool(in_emoji or _JOINING.match(before))
        elif char == "\u200b":
            keep = bool(_UNSPACED.match(before) or _UNSPACED.match(text, start + 1))
        elif _IS_DIRECTION.match(char):
            if right_to_left is None:
                right_to_left = _RIGHT_TO_LEFT.search(text) is not None
            keep = right_to_left
        elif _TAG.match(char):
            flag_until = start + 1 if before == "\U0001f3f4" or flag_until == start else flag_until
            keep = flag_until == start + 1
        else:
            keep = False
        if not keep:
            edits.append(Edit(start, match.end(), ""))
    return edits
