"""What counts as personal data, and what only looks like it."""

import re
import string
from itertools import pairwise

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tasks.kernels import pii, pii_email, pii_numbers, pii_secrets
from tasks.kernels.pii import KINDS, find, fold, mask, suspects

# text → what must be found: (kind, characters); nothing else may be
POSITIVE: list[tuple[str, list[tuple[str, str]]]] = [
    # e-mail
    ("Write to bob.smith+news@example.com.", [("email", "bob.smith+news@example.com")]),
    (
        "Bob <bob@example.org>, ann@mail.example.co.uk",
        [("email", "bob@example.org"), ("email", "ann@mail.example.co.uk")],
    ),
    ("我的邮箱是zhangsan@qq.com，请联系", [("email", "zhangsan@qq.com")]),
    ("邮箱：ｌｉｓｉ＠１６３．ｃｏｍ", [("email", "ｌｉｓｉ＠１６３．ｃｏｍ")]),
    ("请联系：张三@例子.中国。", [("email", "张三@例子.中国")]),
    ("reach alice [at] example [dot] com", [("email", "alice [at] example [dot] com")]),
    ("josé@exämple.de schrieb", [("email", "josé@exämple.de")]),
    ("o'brien@example.ie", [("email", "o'brien@example.ie")]),
    ("?mail=alice%40example.com&x=1", [("email", "alice%40example.com")]),
    ("send('bob@example.com', b'ann@example.com')", [("email", "bob@example.com"), ("email", "ann@example.com")]),
    ('{"text": "hello\\nbob@example.com"}', [("email", "bob@example.com")]),
    ("Ask bob@example.com.Then wait", [("email", "bob@example.com")]),
    ("root@10.1.2.3 and ops@db.internal", [("ip", "10.1.2.3"), ("email", "ops@db.internal")]),
    # phone
    ("Call +1 (201) 555-0123 now", [("phone", "+1 (201) 555-0123")]),
    ("(555) 123-4567 or 555.123.4567", [("phone", "(555) 123-4567"), ("phone", "555.123.4567")]),
    ("1-800-555-0199", [("phone", "1-800-555-0199")]),
    ("my number is 555 123 4567", [("phone", "555 123 4567")]),
    ("phone: 5551234567", [("phone", "5551234567")]),
    ("+44 20 7946 0958 (two lines)", [("phone", "+44 20 7946 0958")]),
    ("Tel. +49 (0)30 901820", [("phone", "+49 (0)30 901820")]),
    ("06 12 34 56 78 et 07700 900123", [("phone", "06 12 34 56 78"), ("phone", "07700 900123")]),
    ("電話 03-1234-5678", [("phone", "03-1234-5678")]),
    ("0044 20 7946 0958", [("phone", "0044 20 7946 0958")]),
    ("手机13812345678微信同号", [("phone", "13812345678")]),
    ("手机号：138 1234 5678，或139-8765-4321", [("phone", "138 1234 5678"), ("phone", "139-8765-4321")]),
    ("+86 138-1234-5678 (86)13912345678", [("phone", "+86 138-1234-5678"), ("phone", "(86)13912345678")]),
    ("电话１３８１２３４５６７８", [("phone", "１３８１２３４５６７８")]),
    ("固话010-62345678，（0571）87654321", [("phone", "010-62345678"), ("phone", "（0571）87654321")]),
    ("客服热线：400-820-8820", [("phone", "400-820-8820")]),
    ("联系电话：62345678", [("phone", "62345678")]),
    ('"\\n13812345678"', [("phone", "13812345678")]),
    # addresses in networks
    ("from 203.0.113.7:8080", [("ip", "203.0.113.7")]),
    ("登录地址192.168.3.14，已封禁", [("ip", "192.168.3.14")]),
    ("http://[2001:db8::8a2e:370:7334]/", [("ip", "2001:db8::8a2e:370:7334")]),
    ("fe80::1ff:fe23:4567:890a%eth0", [("ip", "fe80::1ff:fe23:4567:890a")]),
    # credentials
    ("https://bob:s3cr3t@git.example.com/x", [("url_credentials", "bob:s3cr3t")]),
    ("postgres://app:p@ss@db:5432/x", [("url_credentials", "app:p@ss")]),
    ("password=hunter2", [("secret", "hunter2")]),
    ('{"password": "Tr0ub4dor&3"}', [("secret", "Tr0ub4dor&3")]),
    ("ｐａｓｓｗｏｒｄ＝ｈｕｎｔｅｒ２２", [("secret", "ｈｕｎｔｅｒ２２")]),
    (r'{"args": "{\"password\": \"hunter22\"}"}', [("secret", "hunter22")]),
    ("密码：abc12345", [("secret", "abc12345")]),
    ("密码是 20230615", [("secret", "20230615")]),
    ("export API_KEY=9f86d081884c7d659a2f", [("secret", "9f86d081884c7d659a2f")]),
    ("token: ghp_" + "a1B2" * 9, [("secret", "ghp_" + "a1B2" * 9)]),
    ("key AKIAIOSFODNN7EXAMPLE", [("secret", "AKIAIOSFODNN7EXAMPLE")]),
    ("sk-proj-" + "a1B2" * 8, [("secret", "sk-proj-" + "a1B2" * 8)]),
    ("Authorization: Bearer abc123def456ghi789", [("secret", "abc123def456ghi789")]),
    (
        "-----BEGIN RSA PRIVATE KEY-----\nMIIEpAIBAAKCAQEA75\nabc+/==\n-----END RSA PRIVATE KEY-----\nend",
        [("secret", "-----BEGIN RSA PRIVATE KEY-----\nMIIEpAIBAAKCAQEA75\nabc+/==\n-----END RSA PRIVATE KEY-----")],
    ),
    # numbers with check digits
    ("Visa 4111 1111 1111 1111 12/27", [("bank_card", "4111 1111 1111 1111")]),
    ("5500005555555559", [("bank_card", "5500005555555559")]),
    ("amex 378282246310005", [("bank_card", "378282246310005")]),
    ("银行卡号6222021234567890128", [("bank_card", "6222021234567890128")]),
    ("身份证11010519491231002X", [("identity_number", "11010519491231002X")]),
    ("ID 440524188001010014.", [("identity_number", "440524188001010014")]),
]

NEGATIVE = [
    # e-mail
    "W @ x.mean() and a@b.to(device) and q@k.T",
    "icon@2x.png, core@12.0.0, @types/node@18.2.1",
    "@app.route('/x')\n@pytest.fixture",
    "git@github.com:user/repo.git",
    "follow @bob, root@localhost, a@b",
    "https://medium.com/@bob.smith/post",
    # phone
    "from 1999-2000 to 2010-2020, on 2023-01-15 10:30:00",
    "Python 3.11.4, v1.2.3-456, build 10.0.19041.1",
    "ISBN 978-7-111-12806-9 and ISBN 0-306-40615-2, 9787111128069",
    "pi = 3.14159265358979, e = 2.718281828459045",
    "$1,234,567.89 and ¥13800138000 and 13800138000元",
    "0x13812345678a, 3f13812345678, 13812345678abc",
    "timestamp 1700000000 or 1700000000000",
    "15485863 * 32452843 = 502,560,280,658,509",
    "13800138000 * 2",
    "n = 20988936657440586486151264256610222593863921",
    "550e8400-e29b-41d4-a716-446655440000",
    "2001-09-11 08:46:40 -0400",
    "rows 100-200-3000, 12-345-6789",
    "quantize(Decimal('+35236450.6'))",
    "call 1000000 times; phone model 2021",
    "第123456789号，共12345678次",
    "2023年01月15日，1234567人",
    "order 00012345678901",
    "+0800, UTC+08:00, -12345678, x+12345678901",
    "0.13812345678 and 13812345678.5",
    # networks
    "127.0.0.1, 0.0.0.0, 255.255.255.0, ::1, 224.0.0.1",
    "version 1.2.3.4, v10.0.0.1, numpy==1.2.3.4, 版本号：2.0.0.1, section 7.1.1.1, rfc7231#section-7.1.1.1",
    "10.0.0.0/8 and 2001:db8::/32",
    "std::vector, a::b, dead::beef, x[1::2], x[::2], 12:30:45",
    "00:1A:2B:3C:4D:5E, 1:2:3:4:5:6:7:8",
    "1.3.6.1.4.1.311, 256.1.1.1, 01.02.03.04",
    # credentials
    "http://host:8080/path and https://user@host",
    "https://{user}:{password}@host and http://$USER:$PASS@host",
    "password=None, password: str, pwd = os.getcwd()",
    "token = tokenizer.next_token(), secret=secret_key_1",
    "password must be at least 8 characters",
    "密码是什么？密码长度为8位",
    "password = '<password>', PASSWORD=****, api_key=YOUR_API_KEY_HERE",
    "The file starts with -----BEGIN PRIVATE KEY----- and then follows base64.",
    "sk-learn, task-force-of-nineteen-people-here",
    "sha256 e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
    # check digits
    "4111 1111 1111 1112",
    "1234567812345670",
    "110105194912310021",
    "11010519491331002X",
    "[EMAIL_1] [PHONE_2] [SECRET_1] password=[SECRET_1] https://[URL_CREDENTIALS_1]@host",
]


@pytest.mark.parametrize(("text", "expected"), POSITIVE, ids=range(len(POSITIVE)))
def test_personal_data_is_found_whole(text: str, expected: list[tuple[str, str]]) -> None:
    assert [(item.kind, text[item.start : item.end]) for item in find(text)] == expected


@pytest.mark.parametrize(
    "text",
    [text for text, _ in POSITIVE]
    + [f"zoe {sign} example.com" for sign in ("(at)", "[at]", "{ at }", "（＠）", "［at］")],
)
def test_the_compiled_filter_flags_whatever_is_found(text: str) -> None:
    assert find(text)
    assert pl.select(suspects(pl.lit(text))).item()


@pytest.mark.parametrize("text", NEGATIVE, ids=range(len(NEGATIVE)))
def test_what_only_looks_like_personal_data_stays(text: str) -> None:
    assert mask(text) == text


def test_the_table_is_large_enough_to_mean_something() -> None:
    assert len(POSITIVE) >= 45
    assert len(NEGATIVE) >= 40
    assert {kind for _, expected in POSITIVE for kind, _ in expected} == set(KINDS)


@pytest.mark.parametrize(
    "spellings",
    [
        ["Bob@Example.com", "bob@example.com", "BOB@EXAMPLE.COM", "bob [at] example [dot] com", "bob%40example.com"],
        ["13812345678", "138 1234 5678", "+86 138-1234-5678", "0086 13812345678", "１３８１２３４５６７８"],
        ["(201) 555-0123", "+1 201 555 0123", "1-201-555-0123", "201.555.0123"],
        ["010-62345678", "+86 10 6234 5678", "(010)62345678"],
        ["4111 1111 1111 1111", "4111111111111111", "4111-1111-1111-1111"],
        ["11010519491231002X", "11010519491231002x", "110105 19491231 002X"],
    ],
)
def test_spellings_of_one_value_agree(spellings: list[str]) -> None:
    values = {(item.kind, item.value) for text in spellings for item in find(text)}
    assert len(values) == 1


def test_mask_names_the_kind_and_leaves_the_rest() -> None:
    text = '{"text": "写信给 bob@example.com\\n电话13812345678", "id": 7'
    assert mask(text) == '{"text": "写信给 [EMAIL]\\n电话[PHONE]", "id": 7'


def _pieces() -> st.SearchStrategy[str]:
    valued = st.sampled_from([text for text, _ in POSITIVE] + NEGATIVE)
    noise = st.text(alphabet=string.digits + "+-. ()@:/\\n[]x：，电话", max_size=12)
    return st.lists(st.one_of(valued, noise, st.text(max_size=6)), max_size=6).map("".join)


@settings(max_examples=300, deadline=None)
@given(_pieces())
def test_the_compiled_filter_misses_nothing(text: str) -> None:
    flagged = pl.select(suspects(pl.lit(text))).item()
    assert flagged or not find(text)


@settings(max_examples=300, deadline=None)
@given(_pieces())
def test_findings_are_ordered_disjoint_and_gone_after_masking(text: str) -> None:
    found = find(text)
    assert len(fold(text)) == len(text)
    for item, following in pairwise(found):
        assert item.end <= following.start
    assert all(0 <= item.start < item.end <= len(text) for item in found)
    assert find(mask(text)) == []


def test_clean_text_passes_the_filter_unflagged() -> None:
    plain = [
        "The capital of France is Paris; it has 2,100,000 inhabitants.",
        "第一章：中国的历史从公元前2070年开始。“你好，”他说……",
        "def area(r: float) -> float:\n    return 3.14159 * r ** 2\n",
        "It is 12:30 on 3 May 1999; see https://example.com/a?b=c#d.",
    ]
    assert not pl.DataFrame({"t": plain}).select(suspects(pl.col("t")))["t"].any()


ADVERSARIAL = [
    "a." * 20_000,
    "a@" * 20_000,
    "a@b." * 20_000,
    "1-" * 20_000,
    "1 " * 20_000,
    "+1(" * 20_000,
    "(" * 40_000,
    "1:" * 20_000,
    "::" * 20_000,
    "://a:" * 8_000,
    "password=" * 5_000,
    "密码是" * 10_000,
    "-----BEGIN PRIVATE KEY-----" * 2_000,
    "-----BEGIN PRIVATE KEY-----\n" + "A" * 40_000,
    "eyJ" + "a" * 40_000,
    "sk-" * 15_000,
    "call " * 8_000 + "1" * 8_000,
    "\\n" * 20_000,
    "bearer " * 6_000,
    "4" * 40_000,
    "[at] " * 8_000,
    "o'" * 20_000,
]


@pytest.mark.parametrize("text", ADVERSARIAL, ids=lambda text: repr(text[:12]))
def test_hostile_text_is_read_to_its_end(text: str) -> None:
    """A smoke test: quadratic work on 40,000 characters would be a thousand million steps."""
    assert isinstance(mask(text), str)


def _patterns() -> list[tuple[str, re.Pattern[str]]]:
    found: list[tuple[str, re.Pattern[str]]] = []
    for module in (pii, pii_email, pii_numbers, pii_secrets):
        for name, value in vars(module).items():
            many = value if isinstance(value, tuple) else (value,)
            found += [(f"{module.__name__}.{name}", item) for item in many if isinstance(item, re.Pattern)]
    return found


def test_no_expression_repeats_without_bound_unless_possessively() -> None:
    """What keeps the work linear: a repeat has a bound, or cannot be backtracked into."""
    from re import _constants, _parser  # type: ignore[attr-defined]

    patterns = _patterns()
    assert len(patterns) > 20
    allowed = {
        "tasks.kernels.pii_numbers._SEVEN_DIGITS",  # every end of the repeat is a match
        "tasks.kernels.pii_numbers._OPEN_OR_SINGLE",  # read over one number, 40 characters at most
    }
    for name, pattern in patterns:
        parsed = _parser.parse(pattern.pattern, pattern.flags & ~re.UNICODE)
        if name not in allowed:
            assert not list(_unbounded(parsed, _constants)), name


def _unbounded(parsed, constants):
    for operator, argument in parsed:
        if operator in (constants.MAX_REPEAT, constants.MIN_REPEAT):
            _, high, inner = argument
            if high == constants.MAXREPEAT:
                yield operator
            yield from _unbounded(inner, constants)
        elif operator is constants.BRANCH:
            for branch in argument[1]:
                yield from _unbounded(branch, constants)
        elif operator is constants.SUBPATTERN:
            yield from _unbounded(argument[3], constants)
        elif operator in (constants.ASSERT, constants.ASSERT_NOT):
            yield from _unbounded(argument[1], constants)
