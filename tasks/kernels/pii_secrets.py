"""Credentials in text: keys and tokens by their issuers' shapes, passwords by what stands before them, PEM blocks.

A token's prefix is its issuer's own mark (GitHub, OpenAI, AWS, Google, Slack, …), so these are near certain. A value
behind `password=` is a guess: it counts when it looks drawn (letters and digits, or quoted with two kinds of
characters, or six digits), not when it reads as a name, a call, a template or a word.

Every expression reads text folded by `pii.fold` and has a bounded or a possessive repeat: linear work.
"""

import re
from collections.abc import Iterator

Span = tuple[int, int, str]

_TOKENS = re.compile(
    r"(?<![A-Za-z0-9_-])(?:"
    r"sk-(?=[A-Za-z_-]{0,40}\d)[A-Za-z0-9_-]{20,250}"
    r"|(?:sk|rk|pk)_(?:live|test)_[A-Za-z0-9]{16,120}"
    r"|gh[pousr]_[A-Za-z0-9]{30,255}|github_pat_[A-Za-z0-9_]{22,255}|glpat-[A-Za-z0-9_-]{20,64}"
    r"|(?:AKIA|ASIA)[A-Z0-9]{16}|AIza[A-Za-z0-9_-]{35}|ya29\.[A-Za-z0-9_-]{20,250}"
    r"|LTAI[A-Za-z0-9]{12,24}|AKID[A-Za-z0-9]{24,40}"
    r"|xox[abeprs]-[A-Za-z0-9-]{10,250}|hf_[A-Za-z0-9]{30,64}|npm_[A-Za-z0-9]{30,64}|pypi-[A-Za-z0-9_-]{40,250}"
    r"|SG\.[A-Za-z0-9_-]{16,64}\.[A-Za-z0-9_-]{16,64}"
    r"|eyJ[A-Za-z0-9_-]{10,2000}\.[A-Za-z0-9_-]{10,4000}\.[A-Za-z0-9_-]{10,2000}"
    r"|\d{8,10}:AA[A-Za-z0-9_-]{33}"
    r")(?![A-Za-z0-9_-])",
    re.ASCII,
)
_MARKS = (
    *(
        "sk-",
        "k_live_",
        "k_test_",
        "ghp_",
        "gho_",
        "ghu_",
        "ghs_",
        "ghr_",
        "github_pat_",
        "glpat-",
        "AKIA",
        "ASIA",
        "AIza",
    ),
    *("ya29.", "LTAI", "AKID", "xox", "hf_", "npm_", "pypi-", "SG.", "eyJ", ":AA"),
)
_NAMING = ("passw", "passphrase", "pwd", "密码", "口令", "key", "token", "secret", "密钥", "令牌")
_HEADER = re.compile(
    r"(?:\bbearer|\bauthorization['\"]? {0,2}[:=] {0,2}['\"]?(?:basic|token)) {1,4}"
    r"((?=[A-Za-z._~+/-]{0,60}\d)[A-Za-z0-9._~+/-]{16,2000}={0,2})",
    re.ASCII | re.IGNORECASE,
)
_WEBHOOK = re.compile(r"hooks\.slack\.com/services/([A-Z0-9]{6,16}/[A-Z0-9]{6,16}/[A-Za-z0-9]{16,40})", re.ASCII)
_PEM_BEGIN = re.compile(r"-----BEGIN[A-Z ]{0,30} PRIVATE KEY(?: BLOCK)?-----", re.ASCII)
_PEM_BODY = re.compile(r"(?:[A-Za-z0-9+/=,:\s.\\]++|-(?!----))*+", re.ASCII)
_PEM_END = re.compile(r"-----END[A-Z ]{0,30} PRIVATE KEY(?: BLOCK)?-----", re.ASCII)
_PEM_DATA = re.compile(r"[A-Za-z0-9+/=]{16}", re.ASCII)
_PASSWORD_WORDS = r"password|passwd|passphrase|pwd|密码|口令"
_SECRET_WORDS = (
    r"(?:api|access|secret|private|auth|account|encryption|signing)[ _-]?key"
    r"|(?:api|auth|access|refresh|client|session|bot)[ _-]?(?:token|secret)|secret|token|密钥|令牌"
)
_ASSIGNED = re.compile(
    rf"(?:({_PASSWORD_WORDS})|{_SECRET_WORDS})['\"]{{0,2}}\]? {{0,4}}(?::=|=>|[:=]|是|为| is ) {{0,4}}"
    r"(?:([\"'])\2?([^\"'\s]{6,256})\2|([^\s\"'<>,;，。；、`(){}\[\]|]{6,256}))",
    re.ASCII | re.IGNORECASE,
)
_NAME = re.compile(r"[A-Za-z_][A-Za-z_.]*+\d?", re.ASCII)
_TEMPLATE = re.compile(r"\*{3}|x{4}|\.{3}|\$|%[(\w]|your|changeme|placeholder|redacted|https?://|^[\[<{]", re.I)
_NO_ASSIGNED = ("None", "True", "False", "null")


def secrets(text: str) -> Iterator[Span]:
    """Keys, tokens and passwords; of an assignment only the value."""
    if "-----BEGIN" in text:
        yield from _pem(text)
    if any(mark in text for mark in _MARKS):
        for match in _TOKENS.finditer(text):
            yield match.start(), match.end(), match.group()
    lowered = text.lower()
    if "bearer" in lowered or "authorization" in lowered:
        for match in _HEADER.finditer(text):
            yield match.start(1), match.end(1), match.group(1)
    if "hooks.slack.com" in text:
        for match in _WEBHOOK.finditer(text):
            yield match.start(1), match.end(1), match.group(1)
    if not any(word in lowered for word in _NAMING):
        return
    for match in _ASSIGNED.finditer(text):
        quoted = match.group(3) is not None
        start, end = match.span(3 if quoted else 4)
        value = text[start:end].rstrip(".:!?") if not quoted else text[start:end]
        if _drawn(value, quoted, password=match.group(1) is not None, follows=text[end : end + 1]):
            yield start, start + len(value), value


def _drawn(value: str, quoted: bool, password: bool, follows: str) -> bool:
    """Whether a value behind `password=` looks like a secret and not like a name, a call or a template."""
    if len(value) < 6 or _TEMPLATE.search(value) or value in _NO_ASSIGNED or not value.isascii():
        return False
    letters = any(char.isalpha() for char in value)
    digits = sum(char.isdigit() for char in value)
    signs = any(not char.isalnum() and char not in "_.-" for char in value)
    if quoted:
        mixed = value.lower() != value != value.upper() and "_" not in value
        return (digits >= 1 and (letters or password)) or (password and letters and (signs or mixed))
    if follows and follows in "([{":
        return False
    if password:
        name = ("_" in value or "." in value) and _NAME.fullmatch(value) is not None
        return digits >= 6 or (digits >= 1 and letters and not name)
    return len(value) >= 12 and digits >= 2 and letters and not _NAME.fullmatch(value)


def _pem(text: str) -> Iterator[Span]:
    for begin in _PEM_BEGIN.finditer(text):
        body = _PEM_BODY.match(text, begin.end())
        stop = body.end() if body else begin.end()
        end = _PEM_END.match(text, stop)
        if end:
            stop = end.end()
        else:  # cut off: the key material that is there, not the prose behind it
            stop = begin.end()
            while line := _PEM_LINE.match(text, stop):
                stop = line.end()
        if _PEM_DATA.search(text, begin.end(), stop):
            yield begin.start(), stop, text[begin.start() : stop]


_PEM_LINE = re.compile(r"\s{0,4}[A-Za-z0-9+/=]{32,}+", re.ASCII)

_URL_USER = re.compile(
    r"(?<=://)([^\s/@:?#\"'<>\[\]]{0,128}):([^\s/\"'<>,\[\]]{1,256})@(?=[\w\[])",
    re.ASCII,
)


def url_credentials(text: str) -> Iterator[Span]:
    """`user:password` of a URL; templates such as `{user}:{password}` are none."""
    for match in _URL_USER.finditer(text) if "://" in text else ():
        if not re.search(r"[{}$*]|%\(|%s", match.group(0)):
            yield match.start(), match.end(2), f"{match.group(1)}:{match.group(2)}"
