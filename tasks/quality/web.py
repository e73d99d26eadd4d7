"""What the web rule sets (`gopher`, `c4`, `fineweb`) ask of a text, each statistic computed once for all of them.

The text is all contents of a row, joined by a newline. Characters are code points. A word is made as for English by
the usual treebank conventions: text is cut at white space; marks (brackets, quotation marks, commas, dashes, symbols,
runs of full stops) are peeled off both ends, each a word by itself; a final full stop too, unless it belongs to an
abbreviation; `'s`, `n't`, `'ll`, `'re`, `'ve`, `'d`, `'m` and units behind a number are cut off; inside, hyphens,
slashes, colons and commas between letters separate, and a full stop between a small letter and a capital. Addresses
stay whole. Lines, where nothing else is said, are those of `str.splitlines`.

    words                  words with a letter, digit or other character that is no punctuation
    mean_word_chars        characters in each of them
    hashes_per_word        #, by all words; ellipses_per_word  ... and …, by all words
    bullet_lines           share of lines that begin with • or -; ellipsis_lines  that end in ... or …
    alpha_words            share of words with a letter
    stop_words             how many of `STOP_WORDS` stand in the text
    repeated_paragraphs, repeated_paragraph_chars   share of the paragraphs (cut at blank lines) that were there
                           before, and of the text's characters in them
    repeated_lines, repeated_line_chars             the same of lines, cut at runs of newlines
    top_2gram_chars … top_4gram_chars               share of the characters in the most frequent run of n words
    repeated_5gram_chars … repeated_10gram_chars    share of the characters in runs of n words that were there before,
                           none counted twice
    c4_sentences           sentences in the lines that C4 keeps: ending in . ? ! " or ', at least 3 words, none over
                           1,000 characters, none of `PHRASES`
    lorem_ipsum, curly_brackets                     1 if a line that C4 would else keep has one
    punctuated_lines       share of the lines (cut at newlines, not blank) that end a sentence
    short_lines            share of them with at most 30 characters
    repeated_line_share    share of the characters in lines that were there before
    newlines_per_word

The last four are of the text as the rules that ran before leave it: where `c4` stands before `fineweb`, of the lines
that C4 keeps. The text itself is not touched.
"""

import unicodedata
from functools import cache
from typing import NamedTuple

import numpy as np
import polars as pl

from tasks.kernels.text import buffers, in_blocks
from tasks.quality import web_kernel
from tasks.quality.web_kernel import (
    ALPHA,
    BREAK,
    CURRENCY,
    DIGIT,
    ICON,
    LIMIT,
    LOWER,
    MARK,
    OPENING,
    PUNCTUATION,
    QUOTE,
    SPACE,
    SYMBOL,
    TERMINAL,
    UPPER,
    Bytes,
    Kinds,
    Offsets,
    Packed,
    Values,
)

STATISTICS = (
    "words",
    "mean_word_chars",
    "hashes_per_word",
    "ellipses_per_word",
    "bullet_lines",
    "ellipsis_lines",
    "alpha_words",
    "stop_words",
    "repeated_paragraphs",
    "repeated_paragraph_chars",
    "repeated_lines",
    "repeated_line_chars",
    *(f"top_{n}gram_chars" for n in range(2, 5)),
    *(f"repeated_{n}gram_chars" for n in range(5, 11)),
    "c4_sentences",
    "lorem_ipsum",
    "curly_brackets",
    "punctuated_lines",
    "short_lines",
    "repeated_line_share",
    "newlines_per_word",
)
STOP_WORDS = ("the", "be", "to", "of", "and", "that", "have", "with")  # Rae et al. 2021, appendix A.1.1
PHRASES = (  # of Raffel et al. 2020, section 2.2, and of the code published with it; the first empties a page
    "lorem ipsum",
    "javascript",
    "terms of use",
    "privacy policy",
    "cookie policy",
    "uses cookies",
    "use of cookies",
    "use cookies",
)
CITATIONS = ("[edit]", "[citation needed]")  # and [] and [12]: cut out of a line before it is judged
TERMINAL_MARKS = ".!?…。！？．｡؟۔։।॥။።፧᠃᠉‼‽⁇⁈⁉﹒﹖﹗"  # end a sentence (Unicode: Sentence_Terminal, frequent ones)
ABBREVIATIONS = (
    "Mr. Mrs. Ms. Dr. Prof. Rev. Gen. Gov. Sen. Rep. Adm. Jr. St. Mt. Inc. Ltd. Corp. Co. co. Bros. Messrs. vs. v.s. "
    "e.g. E.g. E.G. i.e. I.e. I.E. a.m. p.m. Ph.D. D.C. N.C. N.D. N.H. N.J. N.M. N.Y. S.C. "
    "Jan. Feb. Mar. Apr. Jun. Jul. Aug. Sep. Sept. Oct. Nov. Dec. "
    "Ala. Ariz. Ark. Calif. Colo. Conn. Del. Fla. Ga. Ia. Ill. Ind. Kan. Kans. Ky. La. Mass. Md. Mich. Minn. Miss. "
    "Mo. Mont. Neb. Nebr. Nev. Okla. Ore. Pa. Tenn. Va. Wash. Wis."
)
UNITS = "km m dm cm mm ha nm yd in ft kg g mg t lb oz kmh mph hPa Pa mb MB kb KB gb GB tb TB T G M K % am pm a.m. p.m."
_QUOTES = "'\"”“`‘´’‚„»«「」『』（）〔〕【】《》〈〉⟦⟧"
_MARKS = "…,:;!?¿؟¡()[]{}<>_#*&。？！，、；：～·।،۔؛٪" + _QUOTES
_OPENING = "§%=—–$£€¥฿₽₩₹"
_BREAKS = "\n\r\v\f\x1c\x1d\x1e\x85\u2028\u2029"
_BLOCK_BYTES = 4 << 20  # of text in one call of the kernel


class Tables(NamedTuple):
    """What the kernel must know; the order is that of its arguments."""

    kinds: Kinds
    known: Packed
    units: Packed
    stops: Packed
    phrases: Bytes
    phrase_cuts: Offsets
    marks: Bytes
    mark_cuts: Offsets


def measure_web(texts: pl.Series, after_c4: bool) -> pl.DataFrame:
    """Compute all of `STATISTICS`.

    Args:
        texts: String; null is the empty text.
        after_c4: whether the last four are of the lines that C4 keeps.

    Returns:
        a Float32 column a statistic, null where it means nothing; in the order of the texts, whatever the threads.
    """
    data, begins = buffers(texts.fill_null(""))
    tables = web_tables()

    def block(first: int, last: int) -> Values:
        out = np.full((last - first, len(STATISTICS)), np.nan)
        web_kernel.measure(data, begins, first, last, after_c4, *tables, out)
        return out

    found = np.concatenate([np.empty((0, len(STATISTICS))), *in_blocks(begins, _BLOCK_BYTES, block)])
    columns = {name: found[:, place].astype(np.float32) for place, name in enumerate(STATISTICS)}
    return pl.DataFrame(columns, nan_to_null=True)


@cache
def web_tables() -> Tables:
    """The look-ups, from Python's own Unicode tables."""
    characters = [chr(point) for point in range(LIMIT)]
    kinds = np.zeros(LIMIT, np.uint16)
    for test, kind in ((str.isspace, SPACE), (str.isalpha, ALPHA)):
        kinds[np.fromiter(map(test, characters), bool, LIMIT)] |= kind
    alpha = kinds & ALPHA != 0
    upper, lower = (np.fromiter(map(test, characters), bool, LIMIT) for test in (str.isupper, str.islower))
    kinds[alpha & ~upper] |= LOWER  # what has no case is both
    kinds[alpha & ~lower] |= UPPER
    category = np.array([unicodedata.category(character) for character in characters])
    kinds[np.char.startswith(category, "P")] |= PUNCTUATION | SYMBOL
    kinds[np.isin(category, ["Sm", "Sc", "Sk", "Cc"])] |= SYMBOL
    kinds[category == "So"] |= ICON | MARK
    kinds[category == "Sc"] |= CURRENCY
    for marks, kind in (
        (_MARKS, MARK),
        (_QUOTES, QUOTE),
        (_OPENING, OPENING),
        (_BREAKS, BREAK),
        (TERMINAL_MARKS, TERMINAL),
        ("0123456789", DIGIT),
    ):
        kinds[[ord(mark) for mark in marks]] |= kind
    packed = (_packed(ABBREVIATIONS.split()), _packed(UNITS.split()), _packed(STOP_WORDS))
    return Tables(kinds, *packed, *_joined(PHRASES), *_joined(CITATIONS))


def _packed(words: tuple[str, ...] | list[str]) -> Packed:
    return np.array([int.from_bytes(word.encode("ascii")) for word in words], np.uint64)


def _joined(phrases: tuple[str, ...]) -> tuple[Bytes, Offsets]:
    cuts = np.cumsum([0, *map(len, phrases)]).astype(np.int64)
    return np.frombuffer("".join(phrases).encode("ascii"), np.uint8).copy(), cuts
