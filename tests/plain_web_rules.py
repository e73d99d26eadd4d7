"""The statistics of the web rules, slow and plain: strings, lists and counters, as the docstring of `web.py` says."""

import re
import unicodedata
from collections import Counter

from tasks.quality.web import ABBREVIATIONS, CITATIONS, PHRASES, STOP_WORDS, TERMINAL_MARKS, UNITS

QUOTES = "'\"”“`‘´’‚„»«「」『』（）〔〕【】《》〈〉⟦⟧"
MARKS = "…,:;!?¿؟¡()[]{}<>_#*&。？！，、；：～·।،۔؛٪" + QUOTES
OPENING = "§%=—–$£€¥฿₽₩₹"
HYPHENS = "-–—~"


def upper(character: str) -> bool:
    return character.isalpha() and not character.islower()


def lower(character: str) -> bool:
    return character.isalpha() and not character.isupper()


def digit(character: str) -> bool:
    return character in set("0123456789")


def mark(character: str) -> bool:
    return character in MARKS or icon(character)


def icon(character: str) -> bool:
    return unicodedata.category(character) == "So"


def abbreviation(text: str) -> bool:
    return text in ABBREVIATIONS.split() or (len(text) == 2 and lower(text[0]) and text[1] == ".")


def peel_front(text: str) -> int:
    if mark(text[0]) or text[0] in OPENING:
        return 1
    if text[0] == "+":
        return 0 if digit(text[1:2]) and text[1:] else 1
    return len(found.group()) if (found := re.match(r"\.\.+", text)) else 0


def peel_back(text: str) -> int:
    if mark(text[-1]) or text[-1] in "–—":
        return 1
    if found := re.search(r"\.\.+$", text):
        return len(found.group())
    if len(text) < 2:
        return 0
    before = text[-2]
    if text[-1] == ".":
        if lower(before) or digit(before) or mark(before) or before in "%-+":
            return 1
        return int(len(text) >= 3 and upper(before) and upper(text[-3]))
    if re.search(r"['’][sS]$", text):
        return 2
    if digit(before) and (text[-1] == "+" or unicodedata.category(text[-1]) == "Sc"):
        return 1
    for length in (1, 2, 3):
        if len(text) > length and digit(text[-length - 1]) and text[-length:] in UNITS.split():
            return length
    return 0


def separator(text: str, at: int) -> int:
    """Length of the separator at this place of a word."""
    character, before, after = text[at], text[at - 1 : at], text[at + 1 : at + 2]
    if icon(character) or character == "…":
        return 1
    if found := re.match(r"\.\.+", text[at:]):
        return len(found.group())
    if not before or not after:
        return 0
    if digit(before) and character in "+-*^" and (digit(after) or after == "-"):
        return 1
    if character == ".":
        return int((lower(before) or before in QUOTES) and (upper(after) or after in QUOTES))
    if character == ",":
        return int(before.isalpha() and after.isalpha())
    if not (before.isalpha() or digit(before)):
        return 0
    if character in HYPHENS:
        run = 1
        while run < 3 and text[at + run : at + run + 1] == character:
            run += 1
        return run if text[at + run : at + run + 1].isalpha() else 0
    return int(character in ":<>=/" and after.isalpha())


def split(chunk: str) -> list[str]:
    front: list[str] = []
    back: list[str] = []
    while chunk and not abbreviation(chunk):
        if length := peel_front(chunk):
            front.append(chunk[:length])
            chunk = chunk[length:]
        elif length := peel_back(chunk):
            back.insert(0, chunk[-length:])
            chunk = chunk[:-length]
        else:
            break
    if not chunk:
        return front + back
    if abbreviation(chunk) or (chunk.startswith("www.") and len(chunk) > 4) or "://" in chunk:
        return [*front, chunk, *back]
    if found := re.search(r"(?<=.)(n['’]t|['’](ll|re|ve|d|m))$", chunk, re.DOTALL):
        back.insert(0, found.group())
        chunk = chunk[: found.start()]
    middle, start, at = [], 0, 0
    while at < len(chunk):
        if length := separator(chunk, at):
            middle += [chunk[start:at], chunk[at : at + length]]
            start = at = at + length
        else:
            at += 1
    middle.append(chunk[start:])
    return [*front, *(word for word in middle if word), *back]


def words_of(text: str) -> list[str]:
    return [word for chunk in text.split() for word in split(chunk)]


def sentences(line: str) -> int:
    words = words_of(line)
    count, closed = min(1, len(words)), False
    for word in words:
        if word in set(TERMINAL_MARKS):
            closed = True
        elif closed and any(unicodedata.category(character)[0] != "P" for character in word):
            count, closed = count + 1, False
    return count


def repeated(pieces: list[str]) -> tuple[int, int]:
    again = [piece for n, piece in enumerate(pieces) if piece in pieces[:n]]
    return len(again), sum(map(len, again))


def top_ngram(words: list[str], n: int) -> int | None:
    grams = [tuple(words[i : i + n]) for i in range(len(words) - n + 1)]
    if not grams:
        return None
    gram, count = Counter(grams).most_common(1)[0]
    return len(" ".join(gram)) * count


def repeated_ngrams(words: list[str], n: int) -> int:
    seen, characters, at = set(), 0, 0
    while at <= len(words) - n:
        gram = tuple(words[at : at + n])
        if gram in seen:
            characters += len("".join(gram))
            at += n
        else:
            seen.add(gram)
            at += 1
    return characters


def symbol(character: str) -> bool:
    category = unicodedata.category(character)
    return category[0] == "P" or category in {"Sm", "Sc", "Sk", "Cc"}


def c4_lines(text: str) -> tuple[list[str], bool, bool]:
    """The lines that C4 keeps, and whether placeholder text or a curly bracket empties the page."""
    citation = re.compile(r"\[[0-9]*]|" + "|".join(map(re.escape, CITATIONS)))
    kept, lorem, curly = [], False, False
    for whole in text.splitlines():
        line = citation.sub("", whole.strip())
        if any(len(word) > 1000 for word in whole.split()) or len(whole.split()) < 3:
            continue
        if not line.endswith((".", "?", "!", '"', "'")) or line.endswith("..."):
            continue
        held = [phrase for phrase in PHRASES if phrase in line.lower()]
        if "lorem ipsum" in held:
            lorem = True
        elif "javascript" not in held and "{" in line:
            curly = True
        elif not held:
            kept.append(line)
    return kept, lorem, curly


def ratio(part: float, whole: float) -> float | None:
    return part / whole if whole else None


def statistics(text: str, after_c4: bool) -> dict[str, float | None]:
    found: dict[str, float | None] = {"words": 0, "c4_sentences": 0}
    if not text:
        return found
    words, lines = words_of(text), text.splitlines()
    real = [word for word in words if not all(map(symbol, word))]
    paragraphs, runs = re.split(r"\n{2,}", text.strip()), re.split(r"\n+", text)
    kept, lorem, curly = c4_lines(text)
    judged = "\n".join(kept) if after_c4 else text
    shown = [line for line in judged.split("\n") if line.strip()]
    judged_words = sum(len(words_of(line)) for line in shown)
    found |= {
        "words": len(real),
        "mean_word_chars": ratio(sum(map(len, real)), len(real)),
        "hashes_per_word": ratio(text.count("#"), len(words)),
        "ellipses_per_word": ratio(text.count("...") + text.count("…"), len(words)),
        "bullet_lines": ratio(sum(line.strip().startswith(("•", "-")) for line in lines), len(lines)),
        "ellipsis_lines": ratio(sum(line.strip().endswith(("...", "…")) for line in lines), len(lines)),
        "alpha_words": ratio(sum(any(map(str.isalpha, word)) for word in words), len(words)),
        "stop_words": len(set(STOP_WORDS) & set(words)),
        "repeated_paragraphs": repeated(paragraphs)[0] / len(paragraphs),
        "repeated_paragraph_chars": repeated(paragraphs)[1] / len(text),
        "repeated_lines": repeated(runs)[0] / len(runs),
        "repeated_line_chars": repeated(runs)[1] / len(text),
        "c4_sentences": sum(map(sentences, kept)),
        "lorem_ipsum": int(lorem),
        "curly_brackets": int(curly),
    }
    for n in (2, 3, 4):
        top = top_ngram(words, n)
        found[f"top_{n}gram_chars"] = None if top is None else top / len(text)
    for n in range(5, 11):
        found[f"repeated_{n}gram_chars"] = repeated_ngrams(words, n) / len(text)
    if shown:
        ends = sum(line[-1] in TERMINAL_MARKS for line in shown)
        found |= {
            "punctuated_lines": ends / len(shown),
            "short_lines": sum(len(line) <= 30 for line in shown) / len(shown),
            "repeated_line_share": repeated(shown)[1] / len(judged.replace("\n", "")),
            "newlines_per_word": ratio(judged.count("\n"), judged_words),
        }
    return found
