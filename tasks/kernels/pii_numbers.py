"""Phone numbers, IP addresses, bank cards and identity numbers in text.

A digit run is personal data only if its shape, its neighbours and, where one exists, its check digit say so:
years, versions, ISBNs, prices, hexadecimal text and decimals are not. Sources of the shapes: ITU E.164 (at most 15
digits), the North American and Chinese numbering plans, ISO/IEC 7812 with Luhn's check digit, GB 11643-1999 with
ISO 7064 MOD 11-2.

Every expression here reads text folded by `pii.fold`, has bounded repeats, and tries no start twice, so that the work
is linear in the length of the text.
"""

import ipaddress
import re
from collections.abc import Iterator

Span = tuple[int, int, str]  # start, end, the value in normal form

_ASCII = re.ASCII
_SEVEN_DIGITS = re.compile(r"\d(?:[ .()/-]{0,2}\d){6,}", _ASCII)  # phone, card and identity numbers all hold such a run
_WORDS_BEFORE, _WORDS_AFTER = 64, 16  # characters around a run that help to judge it
_NORTH_AMERICA = tuple(
    re.compile(pattern, _ASCII)
    for pattern in (
        r"(?<![\w+])\+1[ .-]?\(?[2-9]\d{2}\)?[ .-]{0,2}\d{3}[ .-]?\d{4}(?!\d)",
        r"(?<![\w.+-])(?:1[ .-])?(?:\([2-9]\d{2}\) ?|[2-9]\d{2}[.-])\d{3}[ .-]\d{4}(?![\w-])(?!\.\d)",
        r"(?<![\w.+-])1 [2-9]\d{2} \d{3} \d{4}(?![\w-])(?!\.\d)",
    )
)
_ELSEWHERE = tuple(
    re.compile(pattern, _ASCII)
    for pattern in (
        # Chinese mobile, with or without +86
        r"(?<![A-Za-z0-9_])(?<!\d\.)(?:\(?(?:\+|00)?86\)?[ -]{0,2})?"
        r"1[3-9]\d(?:[ -]?\d{4}[ -]?\d{4}|\.\d{4}\.\d{4}|\d[ -]\d{4}[ -]\d{3})(?![A-Za-z0-9_])(?!\.\d)",
        # any country, + or 00
        r"(?<![\w+.)])\+\(?[1-9](?:[ .()-]{0,2}\d){7,14}(?!\w)",
        r"(?<![\w.-])00[1-9]\d{0,2}[ -](?:[ .()-]{0,2}\d){7,12}(?!\w)",
        # Chinese landline with area code, and service numbers
        r"(?<![\w.])(?<!\d-)(?:\(0\d{2,3}\)[ -]?|0(?:10|2\d|[3-9]\d{2})[ -])"
        r"[2-8]\d{2,3}[ -]?\d{4}(?:-\d{1,5})?(?![\w-])",
        r"(?<![\w.])0(?:10|2[0-57-9])[2-8]\d{7}(?!\w)",
        r"(?<![\w.-])[48]00[ -](?:\d{3}[ -]\d{4}|\d{4}[ -]\d{3}|\d{7})(?![\w-])",
        # national numbers with a trunk zero: France, Britain, Germany, Japan
        r"(?<![\w.+-])0[1-9]([ .-])\d{2}(?:\1\d{2}){3}(?![\w-])(?!\.\d)",
        r"(?<![\w.+-])\(?0[1-9]\d{0,3}\)?[ -]\d{3,4}[ -]\d{3,4}(?![\w-])(?!\.\d)",
        r"(?<![\w.+-])0[1-9]\d{1,4}[ /-]\d{5,9}(?![\w/-])(?!\.\d)",
        r"(?<![\w.+-])07\d{9}(?!\w)",
    )
)
# words that say a phone number follows: then any grouping of 7 to 15 digits counts (of 10 after a mere `call`)
_CALLED = re.compile(
    r"(?:(\bcall\b|\bdial\b|拨打)|\b(?:tele)?phones?\b|\btel\b|\bmobile\b|\bcell\b|\bfax\b|\bwhatsapp\b|\bsms\b"
    r"|\bcall (?:me|us|him|her)\b|\b(?:text|reach|contact) (?:me|us)\b|\b(?:my|his|her|our) number\b"
    r"|电话|手机|座机|传真|热线|致电|联系方式)"
    r"(?:[ \t:.=#\"']|号码?|码|是|为|\bnumber\b|\bno\b|\bis\b|\bat\b|\bon\b){0,6}"
    r"(?<![\d-])(\+?\(?\d(?:[ .()-]{0,2}\d){6,14})(?![\w-])(?!\.\d)",
    _ASCII | re.IGNORECASE,
)
_DATE = re.compile(r"(?:19|20)\d{2}([ .-]?)(?:0?[1-9]|1[0-2])\1(?:0?[1-9]|[12]\d|3[01])(?: \d{1,2})?", _ASCII)
_NOT_AFTER = re.compile(r"(?:[$€£¥*×÷^] ?|(?:isbn|issn|doi)[-\w:. /]{0,24})$", re.IGNORECASE)
_NOT_BEFORE = re.compile(
    r" ?(?:[*×÷^%元万亿台个次人件部款条]|[美欧日]元|人民币|USD|RMB|CNY|EUR|dollars?\b|yuan\b|times\b|people\b)| [+=] ",
    re.IGNORECASE,
)
_OPEN_OR_SINGLE = re.compile(r"(?:[ .-]{0,2}\([^)]*| \d)$")  # what a greedy match took from the words behind a number


def phones(text: str) -> Iterator[Span]:
    """Phone numbers; the value is the digits without country code and trunk zero, so that two spellings agree."""
    for offset, stretch in _around_digits(text):
        for start, end, value in _phones_in(stretch):
            yield offset + start, offset + end, value


def _around_digits(text: str) -> Iterator[tuple[int, str]]:
    """The parts of a text that could hold a phone number: runs of seven digits, with what stands around them."""
    start = end = -1
    for run in _SEVEN_DIGITS.finditer(text):
        if start >= 0 and run.start() - _WORDS_BEFORE <= end:
            end = run.end() + _WORDS_AFTER
            continue
        if start >= 0:
            yield start, text[start:end]
        start, end = max(0, run.start() - _WORDS_BEFORE), run.end() + _WORDS_AFTER
    if start >= 0:
        yield start, text[start:end]


def _phones_in(text: str) -> Iterator[Span]:
    for pattern in _NORTH_AMERICA:
        for match in pattern.finditer(text):
            if _is_phone(text, match.start(), match.end()):
                yield match.start(), match.end(), re.sub(r"\D", "", match.group())[-10:]
    for pattern in _ELSEWHERE:
        for match in pattern.finditer(text):
            number = match.group()
            if number.startswith(("+", "00")):
                number = _OPEN_OR_SINGLE.sub("", number)
            end = match.start() + len(number)
            if _is_phone(text, match.start(), end):
                yield match.start(), end, _phone_value(number)
    for match in _CALLED.finditer(text):
        number, (start, end) = match.group(2), match.span(2)
        enough = match.group(1) is None or sum(map(str.isdigit, number)) >= 10 or not number.isdigit()
        if enough and not _DATE.fullmatch(number) and _is_phone(text, start, end):
            yield start, end, _phone_value(number)


def _is_phone(text: str, start: int, end: int) -> bool:
    """Whether digits shaped as a phone number are none of: a signed integer, an amount, an operand, an ISBN."""
    number = text[start:end]
    if sum(map(str.isdigit, number)) < 7 or (number[0] == "+" and number[1:].isdigit() and len(number) < 10):
        return False
    if number.count(".") in (1, 3) and number.lstrip("+").replace(".", "").isdigit():
        return False
    return not (_NOT_AFTER.search(text[max(0, start - 32) : start]) or _NOT_BEFORE.match(text[end : end + 8]))


def _phone_value(number: str) -> str:
    digits = re.sub(r"\D", "", number)
    abroad = number.lstrip("(").startswith(("+", "00"))
    digits = digits.removeprefix("00") if abroad else digits
    if digits.startswith("86") and (abroad or len(digits) == 13):
        digits = digits[2:]
    return digits.lstrip("0")


_IPV4 = re.compile(
    r"(?<![\w.])(?:(?:25[0-5]|2[0-4]\d|1\d\d|[1-9]?\d)\.){3}(?:25[0-5]|2[0-4]\d|1\d\d|[1-9]?\d)(?!\w)(?!\.\d|/\d)",
    _ASCII,
)
_COLONS = re.compile(r":[0-9A-Fa-f]{0,4}:", _ASCII)
_IPV6 = re.compile(r"(?<![\w:.])(?:[0-9A-Fa-f]{0,4}:){2,7}[0-9A-Fa-f]{0,4}(?![\w:]|/\d)", _ASCII)
_NUMBERED_BEFORE = re.compile(
    r"(?:\bv(?:er(?:sion)?s?)?|\brelease|\bbuild|\bsections?|\bchapter|\bfig(?:ure)?|\bclause"
    r"|版本号?|版|第|节|章|条|[=<>~!]=|§)[ :.=\"'为是-]{0,3}$",
    re.IGNORECASE,
)
_SUBSCRIPT_BEFORE = re.compile(r"\w\[$")


def addresses(text: str) -> Iterator[Span]:
    """IP addresses of somebody: neither loopback, unspecified, multicast, netmask nor network (`10.0.0.0/8`), and no
    version number.

    Private and documentation ranges count: they tell of a company's network, and nothing tells an example from one.
    """
    for match in _IPV4.finditer(text) if text.count(".") >= 3 else ():
        value = match.group()
        if value.startswith(("0.", "127.", "255.")) or 224 <= int(value.split(".", 1)[0]) < 240:
            continue
        if not _NUMBERED_BEFORE.search(text[max(0, match.start() - 16) : match.start()]):
            yield match.start(), match.end(), value
    if not _COLONS.search(text):
        return
    for match in _IPV6.finditer(text):
        if _telling(match.group()) and not _SUBSCRIPT_BEFORE.search(text[max(0, match.start() - 2) : match.start()]):
            yield match.start(), match.end(), ipaddress.IPv6Address(match.group()).compressed


def _telling(value: str) -> bool:
    """Whether a run of hexadecimal groups is an address: `a::b` is C++, `1:2:3` a ratio, `12:30:45` a time."""
    groups = [group for group in value.split(":") if group]
    opens = bool(groups) and len(groups[0]) >= 3 and not groups[0].isalpha() and not value.startswith("::")
    if not opens and (len(groups) < 4 or all(len(group) < 4 for group in groups)):
        return False
    try:
        address = ipaddress.IPv6Address(value)
    except ValueError:
        return False
    return not (address.is_loopback or address.is_multicast)


_CARD = re.compile(
    r"(?<![\w.])(?<!\d-)"
    r"(?:\d{13,19}|(\d{4}([ -])\d{4}\2\d{4}\2\d{4})(?:\2\d{1,3})?|\d{4}([ -])\d{6}\3\d{4,5}|\d{6}([ -])\d{10,13})"
    r"(?!\w)(?!\.\d)(?!-\d)",
    _ASCII,
)
# issuer → lengths: Visa, Mastercard, American Express, Discover, UnionPay, ICBC's old range, JCB, Diners
_ISSUERS = (
    (re.compile(r"4"), (13, 16, 19)),
    (re.compile(r"5[1-5]|222[1-9]|22[3-9]|2[3-6]|27[01]|2720"), (16,)),
    (re.compile(r"3[47]"), (15,)),
    (re.compile(r"6011|64[4-9]|65"), (16, 19)),
    (re.compile(r"62|9558"), (16, 17, 18, 19)),
    (re.compile(r"35(?:2[89]|[3-8])"), (16,)),
    (re.compile(r"30[0-5]|3[689]"), (14,)),
)


def cards(text: str) -> Iterator[Span]:
    """Bank card numbers: an issuer's range and length, and Luhn's check digit."""
    if not _SEVEN_DIGITS.search(text):
        return
    for match in _CARD.finditer(text):
        for number in (match.group(), match.group(1)):  # a fifth group may be the expiry date
            digits = re.sub(r"\D", "", number or "")
            issued = any(len(digits) in lengths and issuer.match(digits) for issuer, lengths in _ISSUERS)
            if number and issued and _luhn(digits):
                yield match.start(), match.start() + len(number), digits
                break


def _luhn(digits: str) -> bool:
    doubled = (int(digit) * 2 for digit in digits[-2::-2])
    return (sum(map(int, digits[-1::-2])) + sum(value - 9 if value > 9 else value for value in doubled)) % 10 == 0


_IDENTITY = re.compile(
    r"(?<![A-Za-z0-9_])(?<!\d\.)"
    r"(?:1[1-5]|2[1-3]|3[1-7]|4[1-6]|5[0-4]|6[1-5]|71|8[1-3]|91)\d{4}[ -]?"
    r"(?:18|19|20)\d{2}(?:0[1-9]|1[0-2])(?:0[1-9]|[12]\d|3[01])[ -]?\d{3}[\dXx](?![A-Za-z0-9_])(?!\.\d)",
    _ASCII,
)
_IDENTITY_WEIGHTS = (7, 9, 10, 5, 8, 4, 2, 1, 6, 3, 7, 9, 10, 5, 8, 4, 2)


def identity_numbers(text: str) -> Iterator[Span]:
    """Chinese resident identity numbers: province, birth date and check digit."""
    if not _SEVEN_DIGITS.search(text):
        return
    for match in _IDENTITY.finditer(text):
        value = re.sub(r"[ -]", "", match.group()).upper()
        total = sum(weight * int(digit) for weight, digit in zip(_IDENTITY_WEIGHTS, value, strict=False))
        if "10X98765432"[total % 11] == value[-1]:
            yield match.start(), match.end(), value
