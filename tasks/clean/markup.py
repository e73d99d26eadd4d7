"""Left-over HTML: tags, comments and entities of text that was taken from pages.

Only what is surely residue goes. Tags must be HTML elements that are opened and closed in the message (or need no
closing); `List<int>`, `<stdin>`, `a < b > c`, `<bob@example.org>` and XML are none. Code is not touched, nor anything
in a conversation that speaks about markup, nor HTML in string literals, nor a page that an assistant wrote. Line
structure survives: paragraphs, list marks, cells (as tabulators), `<pre>` and `<code>` (as Markdown code), exponents
(`10<sup>5</sup>` becomes `10^5`).
"""

import html
import re
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass

from tasks.clean.edits import Edit
from tasks.clean.html_names import AMBIGUOUS, BREAKS, ENTITIES, OPTIONAL_END, RAW, STANDALONE
from tasks.clean.verbatim import Regions, regions

_ATTRIBUTES = (
    r"(?:\s{1,80}[A-Za-z_:@][\w:.-]{0,60}\s{0,8}=\s{0,8}(?:\"[^\"<>]{0,2000}\"|'[^'<>]{0,2000}'|[^\s\"'=<>`]{1,2000})"
    r"|\s{1,80}(?:checked|selected|disabled|hidden|required|readonly|multiple|nowrap|noshade|async|defer|controls|autoplay"
    r"|loop|muted|allowfullscreen|itemscope|novalidate)(?=[\s/>]))*+"
)
_TOKEN = re.compile(
    rf"<!--|-->|<!doctype\b[^<>]{{0,400}}>|<(?P<close>/?)(?P<name>[a-z][a-z0-9_:.-]{{0,40}}){_ATTRIBUTES}\s{{0,80}}/?>",
    re.ASCII | re.IGNORECASE,
)
_NAMED = r"(?:#(?:\d{1,7}|x[0-9a-f]{1,6})|(?!amp;)[a-z][a-z0-9]{1,8});"
_ENTITY = re.compile(rf"&(?:(?:amp;)++(?:{_NAMED})?|{_NAMED})", re.ASCII | re.IGNORECASE)
# who speaks about markup may show it; a file name or address (`index.html`) is no mention
_ABOUT_MARKUP = re.compile(
    r"(?<![./\w-])(?:x?html5?|xml|svg|css|xpath|jsx|tsx|markup|web ?pages?|javascript|innerhtml|dom|href|tags?)(?!\w)"
    r"|(?<!\w)(?:escap(?:e|ed|es|ing)|entit(?:y|ies))(?!\w)|标签|网页|超文本|前端|标记语言|转义|实体",
    re.ASCII | re.IGNORECASE,
)
_LITERAL_BEFORE = re.compile(r"[(=+,\[{:] ?[rbfuRBFU]?[\"']$")
_TABLE_LINE = re.compile(r"^[ \t]*\|[^\n]*", re.MULTILINE)
_SHORT_CODE = re.compile(r"[^`\n]{1,200}")
_EXPONENT = re.compile(r"[+-]?\d{1,6}|[A-Za-z]")
_EXPRESSION = re.compile(r"[\w .]{0,12}[-+*/][\w .+*/-]{1,12}")
SUSPECT = (
    r"(?i)</?(?:" + "|".join(sorted(BREAKS | dict.fromkeys(RAW), key=lambda name: (-len(name), name))) + r")[\s/>]|<!--"
    r"|<!doctype|&(?:#\d{1,7}|#x[0-9a-f]{1,6}|[a-z][a-z0-9]{1,8});"
)


@dataclass(frozen=True, slots=True)
class _Tag:
    """One tag or raw stretch of a page: `name` in lower case, `breaks` as in `html_names.BREAKS`."""

    start: int
    end: int
    name: str
    closes: bool


def is_about_markup(text: str) -> bool:
    """Whether the words of a text, its tags left out, speak of markup."""
    return _ABOUT_MARKUP.search(text) is not None and _ABOUT_MARKUP.search(_TOKEN.sub(" ", text)) is not None


def markup(text: str, role: str = "text", elsewhere: bool = False) -> list[Edit]:
    """Edits that take the markup out of one message.

    Args:
        text: the message.
        role: whose turn it is; a whole page in an assistant's turn is its answer, not residue.
        elsewhere: whether another message of the row speaks about markup.
    """
    if "<" not in text and "&" not in text:
        return []
    if role == "assistant" and text.lstrip()[:9].lower().startswith(("<!doctype", "<html")):
        return []
    tables = [match.span() for match in _TABLE_LINE.finditer(text)]  # a line end or a bar would break them
    code = regions(text, inline=True, more=tables)
    everything = _tags(text) if "<" in text else []
    shown = _preformatted(everything, code)
    if shown:
        code = regions(shown.blanked(text), inline=True, more=tables)
    tags = _residue(text, [tag for tag in everything if not code.touch(tag.start, tag.end)])
    entities = [match for match in _ENTITY.finditer(text) if not code.touch(*match.span())]
    if not (tags or entities):
        return []
    first, last = (tags[0].start, tags[-1].end) if tags else (len(text), len(text))
    if elsewhere or is_about_markup(text[:first]) or is_about_markup(text[last:]):
        return []
    edits = _tag_edits(text, tags, code)
    covered = Regions([(edit.start, edit.end) for edit in edits])
    for match in entities:
        if not covered.touch(*match.span()):
            edits += _entity_edit(match)
    return sorted(edits)


def _entity_edit(match: re.Match[str]) -> list[Edit]:
    """The character an entity stands for, however often its ampersand was escaped."""
    name = re.sub(r"^&(?:amp;)+(?=.)", "&", match.group(), flags=re.IGNORECASE)
    name = "&amp;" if name.lower() in ("&amp;", "&") else name
    if name[1] != "#" and name[1:-1] not in ENTITIES:
        return []
    char = html.unescape(name)
    if char == "\xa0":
        char = " "
    if len(char) != 1 or unicodedata.category(char)[0] == "C":
        return []
    return [Edit(match.start(), match.end(), char)]


def _tags(text: str) -> list[_Tag]:
    """Tags, comments, and script and style elements with their content, in order; one pass."""
    tags: list[_Tag] = []
    inside = ""  # "-->" in a comment, a raw element's name in that element
    start = 0
    for match in _TOKEN.finditer(text):
        name = (match["name"] or match.group()).lower()
        if inside:
            if name == inside and (inside == "-->" or match["close"]):
                tags.append(_Tag(start, match.end(), "!", False))
                inside = ""
        elif name == "<!--" or (name in RAW and not match["close"] and not match.group().endswith("/>")):
            inside, start = ("-->" if name == "<!--" else name), match.start()
        elif name.startswith("<!doctype"):
            tags.append(_Tag(match.start(), match.end(), "!", False))
        elif name != "-->":
            tags.append(_Tag(match.start(), match.end(), name, match["close"] == "/"))
    return tags


def _preformatted(tags: Sequence[_Tag], code: Regions) -> Regions:
    """`<pre>` elements that open outside code: what is in them is markup, though it may read as code."""
    spans: list[tuple[int, int]] = []
    opened: int | None = None
    for tag in tags:
        if tag.name == "pre":
            if tag.closes and opened is not None:
                spans.append((opened, tag.end))
                opened = None
            elif not tag.closes and opened is None and not code.touch(tag.start, tag.end):
                opened = tag.start
    return Regions(spans)


def _residue(text: str, tags: list[_Tag]) -> list[_Tag]:
    """The tags that are surely left-over HTML."""
    if any(_LITERAL_BEFORE.search(text[max(0, tag.start - 4) : tag.start]) for tag in tags):
        return []
    opened = {tag.name for tag in tags if not tag.closes}
    closed = {tag.name for tag in tags if tag.closes}
    page = "html" in opened or "body" in opened
    unknown = (opened | closed) - BREAKS.keys() - {"!", *RAW}
    if unknown & closed and not page:
        return []  # XML, or sections a prompt named itself
    paired = opened & closed & BREAKS.keys()
    lone = STANDALONE | OPTIONAL_END
    kept = [
        tag
        for tag in tags
        if tag.name in ("!", "br")
        or tag.name in paired
        or (tag.name in lone and not tag.closes and not text[tag.start - 1 : tag.start].isalnum())
    ]
    sure = any(tag.name not in AMBIGUOUS for tag in kept)
    return kept if sure else []


def _tag_edits(text: str, tags: Sequence[_Tag], code: Regions) -> list[Edit]:
    """One edit for each run of tags with nothing but white space between them."""
    edits: list[Edit] = []
    marks = _marks(text, tags)
    lists: list[int] = []  # open lists: 0 for bullets, else the next number
    fenced = False
    at = 0
    while at < len(tags):
        run = [tags[at]]
        while at + len(run) < len(tags) and _adjoin(text, run[-1], tags[at + len(run)]):
            run.append(tags[at + len(run)])
        at += len(run)
        if run[0].name == "pre":
            fenced = not run[0].closes and "```" in marks.get(run[0].start, "")
            edits.append(Edit(run[0].start, run[0].end, marks.get(run[0].start, "\n")))
        elif fenced:  # white space is content there, and code marks are superfluous
            edits += [Edit(tag.start, tag.end, "\n" if tag.name == "br" else "") for tag in run]
        else:
            edits += _run_edits(text, run, lists, marks, code)
    return edits


def _adjoin(text: str, left: _Tag, right: _Tag) -> bool:
    return "pre" not in (left.name, right.name) and not text[left.end : right.start].strip()


def _run_edits(text: str, run: Sequence[_Tag], lists: list[int], marks: dict[int, str], code: Regions) -> list[Edit]:
    """A run of tags outside `<pre>`: inline tags leave their mark, the others a break in place of the space around."""
    breaks = 3 if sum(tag.name == "br" for tag in run) > 1 else max(BREAKS.get(tag.name, 0) for tag in run)
    bullet = _bullet(run, lists)
    if not breaks:
        return [Edit(tag.start, tag.end, marks.get(tag.start, "")) for tag in run]
    start, end = run[0].start, run[-1].end
    while start and text[start - 1].isspace():
        start -= 1
    while end < len(text) and text[end].isspace():
        end += 1
    if code.touch(start, end):
        start, end = run[0].start, run[-1].end
    between = "" if start == 0 or end == len(text) else ("", "\t", "\n", "\n\n")[breaks]
    behind = bullet + "".join(marks.get(tag.start, "") for tag in run)
    return [Edit(start, end, between + ("" if end == len(text) and start == 0 else behind))]


def _bullet(run: Sequence[_Tag], lists: list[int]) -> str:
    """The list mark that a run of tags ends with; keeps count of the open lists."""
    bullet = ""
    for tag in run:
        if tag.name in ("ul", "ol"):
            if not tag.closes:
                lists.append(int(tag.name == "ol"))
            elif lists:
                lists.pop()
        elif tag.name == "li":
            bullet = ""
            if not tag.closes:
                number = lists[-1] if lists else 0
                bullet = f"{number}. " if number else "- "
                if number:
                    lists[-1] += 1
    return bullet


def _marks(text: str, tags: Sequence[_Tag]) -> dict[int, str]:
    """What the tags of `<pre>`, short `<code>` and exponents leave behind, by the tag's start."""
    marks: dict[int, str] = {}
    opened: dict[str, _Tag] = {}
    for tag in tags:
        if tag.name not in ("pre", "code", "sup"):
            continue
        opener = opened.pop(tag.name, None)
        if not tag.closes:
            opened[tag.name] = tag
            continue
        if opener is None:
            continue
        content = text[opener.end : tag.start]
        if tag.name == "pre" and "```" not in content:
            marks[opener.start] = _own_line(text, opener)
            marks[tag.start] = _own_line(text, tag)
        elif tag.name == "code" and "pre" not in opened and _SHORT_CODE.fullmatch(content) and content.strip():
            marks[opener.start] = marks[tag.start] = "`"
        elif tag.name == "sup" and _EXPONENT.fullmatch(content):
            marks[opener.start] = "^"
        elif tag.name == "sup" and _EXPRESSION.fullmatch(content):
            marks[opener.start], marks[tag.start] = "^(", ")"
    return marks


def _own_line(text: str, tag: _Tag) -> str:
    before = "" if tag.start == 0 or text[tag.start - 1] == "\n" else "\n"
    after = "" if tag.end == len(text) or text[tag.end] == "\n" else "\n"
    return f"{before}```{after}"
