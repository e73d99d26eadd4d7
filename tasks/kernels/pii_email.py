"""Mail addresses in text.

What follows the `@` must end in a top-level domain that exists (or is reserved for private and documentation use), for
`W@x.mean` is a matrix product, `icon@2x.png` a file and `core@12.0.0` a package. The local part follows common use
(RFC 5321's dot-atoms without its rare signs) and may be Latin, Greek or Cyrillic (RFC 6531); a Chinese one counts only
under a Chinese top-level domain, since Chinese sets no space between an address and the words before it.
"""

import re
from collections.abc import Iterator

Span = tuple[int, int, str]

_COUNTRY_CODES = (
    "ac ad ae af ag ai al am ao aq ar as at au aw ax az ba bb bd be bf bg bh bi bj bm bn bo br bs bt bw by bz ca cc cd "
    "cf cg ch ci ck cl cm cn co cr cu cv cw cx cy cz de dj dk dm do dz ec ee eg er es et eu fi fj fk fm fo fr ga gd ge "
    "gf gg gh gi gl gm gn gp gq gr gs gt gu gw gy hk hm hn hr ht hu id ie il im in io iq ir is it je jm jo jp ke kg kh "
    "ki km kn kp kr kw ky kz la lb lc li lk lr ls lt lu lv ly ma mc md me mg mh mk ml mm mn mo mp mq mr ms mt mu mv mw "
    "mx my mz na nc ne nf ng ni nl no np nr nu nz om pa pe pf pg ph pk pl pm pn pr ps pt pw py qa re ro rs ru rw sa sb "
    "sc sd se sg sh si sk sl sm sn so sr ss st su sv sx sy sz tc td tf tg th tj tk tl tm tn to tr tt tv tw tz ua ug uk "
    "us uy uz va vc ve vg vi vn vu wf ws ye yt za zm zw"
)
_GENERIC_NAMES = (
    "com org net edu gov mil int arpa info biz name pro aero coop museum mobi asia tel jobs cat travel post xxx app "
    "dev page cloud online site store shop tech xyz top club vip live work works world today email mail group company "
    "inc ltd llc gmbh agency "
    "life news media digital network systems solutions services support software studio studios "
    "design art blog link click space website web host hosting fun press wiki win bid loan men date party review trade "
    "science stream download accountant icu buzz global international center academy education school university "
    "institute foundation community social team zone city london berlin paris nyc tokyo health care clinic dental "
    "doctor legal law lawyer attorney finance financial bank capital money fund insurance tax consulting engineering "
    "energy green eco bio farm garden house home land estate properties property rent rentals kitchen restaurant cafe "
    "bar pub beer wine pizza coffee games game casino bet poker chat codes computer technology expert guru ninja rocks "
    "photos photography pictures gallery video film movie music band audio radio fm dance fashion style beauty salon "
    "hair fit fitness yoga run bike car cars auto taxi limo flights holiday tours vacations hotel baby kids toys pet "
    "pets vet love singles family ren wang xin red blue pink black gold one zip "
    "test example invalid localhost local localdomain lan internal intranet corp onion"
)
_TOP_LEVELS = frozenset((_COUNTRY_CODES + " " + _GENERIC_NAMES).split())
_CHINESE = "中国|中國|公司|网络|網絡|网址|商城|集团|在线|中文网|网站|网店|政务|公益|香港|台湾|台灣|新加坡|移动"
_METHODS = ("as", "at", "do", "id", "in", "is", "it", "mm", "mv", "no", "sh", "so", "st", "to")  # x@w.to(device)

_LETTER = "A-Za-z0-9À-ÖØ-öø-ɏͰ-ϿЀ-ӿ"
# an apostrophe belongs to a name (o'brien), not to a string literal (b'bob@…')
_LOCAL = rf"(?<![{_LETTER}_])(?:[odlmODLM]')?[{_LETTER}_](?:[{_LETTER}_.+-]|(?<=[._-][odlmODLM])'){{0,63}}"
_AT = re.compile(
    rf"({_LOCAL})(?:@|%40|&#0{{0,4}}64;|&#[xX]40;|&commat;)([{_LETTER}-]{{1,63}}(?:\.[{_LETTER}-]{{1,63}}){{1,8}})"
)
_SPELLED_AT = re.compile(r"%40|&#0{0,4}64;|&#[xX]40;|&commat;|[\[({] ?[aA][tT] ?[\])}]")
_SPELLED = re.compile(
    rf"({_LOCAL}) ?[\[({{] ?(?:at|@) ?[\])}}] ?"
    r"([A-Za-z0-9-]{1,63}(?: ?(?:\.|[\[({] ?(?:dot|\.) ?[\])}]) ?[A-Za-z0-9-]{1,63}){1,6})",
    re.IGNORECASE,
)
_UNDER_CHINESE = re.compile(
    rf"((?<![{_LETTER}_\u4e00-\u9fff])[{_LETTER}_.+\u4e00-\u9fff-]{{1,64}})@([{_LETTER}\u4e00-\u9fff-]{{1,63}}\.(?:{_CHINESE}))"
)
_PART = re.compile(rf"[{_LETTER}-]{{1,63}}")
_SPELLED_PART = re.compile(r"(?<![A-Za-z0-9-])(?!dot[\])} ])[A-Za-z0-9-]{1,63}", re.IGNORECASE)


def emails(text: str) -> Iterator[Span]:
    """Mail addresses, plain, percent- or entity-encoded, or spelled `name [at] host [dot] org`; value in lower case."""
    if "@" not in text and not _SPELLED_AT.search(text):
        return
    for match in _AT.finditer(text):
        end = _domain_end(text, match.start(2), match.end(2), _PART)
        if end and not (match.group(1).lower() == "git" and text[end : end + 1] in (":", "/")):
            yield match.start(), end, _value(match.group(1), text[match.start(2) : end])
    for match in _SPELLED.finditer(text):
        end = _domain_end(text, match.start(2), match.end(2), _SPELLED_PART)
        if end:
            labels = [part.group() for part in _SPELLED_PART.finditer(text, match.start(2), end)]
            yield match.start(), end, _value(match.group(1), ".".join(labels))
    for match in _UNDER_CHINESE.finditer(text):
        yield match.start(), match.end(), _value(match.group(1), match.group(2))


def _domain_end(text: str, start: int, stop: int, part: re.Pattern[str]) -> int | None:
    """Where the longest plausible domain in `text[start:stop]` ends (`x.com.Then` ends at `com`), or None."""
    labels = list(part.finditer(text, start, stop))
    for count in range(len(labels), 1, -1):
        names = [label.group().lower() for label in labels[:count]]
        end = labels[count - 1].end()
        if _is_domain(names) and not (names[-1] in _METHODS and text[end : end + 1] == "("):
            return end
    return None


def _is_domain(names: list[str]) -> bool:
    top = names[-1].rstrip("-")
    if any(name.startswith("-") for name in names) or any(name.endswith("-") for name in names[:-1]):
        return False
    if len(names) > 2 and all(name.isdigit() for name in names[:-1]):
        return False  # a version
    return top in _TOP_LEVELS or top.startswith("xn--")


def _value(local: str, domain: str) -> str:
    return f"{local}@{domain}".lower()
