"""What the repairs change in a text, and above all what they leave alone."""

import re
import unicodedata

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tasks.clean.characters import (
    CONTROL_CLASS,
    MAY_COMPOSE,
    MOJIBAKE_SUSPECT,
    control,
    is_about_encoding,
    mojibake,
    unicode_form,
)
from tasks.clean.edits import Edit, apply, replaced
from tasks.clean.markup import SUSPECT as MARKUP_SUSPECT
from tasks.clean.markup import markup
from tasks.clean.whitespace import SUSPECT as WHITESPACE_SUSPECT
from tasks.clean.whitespace import whitespace

CODE = '''def escape(s, quote=True):
    """Replace special characters "&", "<" and ">" by entities."""

    s = s.replace("&", "&amp;") # first!
    s = s.replace("<", "&lt;")


    return "<b>" + s + "</b>"
'''

INTACT = [
    CODE,
    f"Explain this function.\n\n{CODE}",
    "Write the summary.\n\n```python\nx = '<p>a</p>'   \n\n\n\ny = 1\n```",
    "Use `<b>bold</b>` and `&amp;` for that.",
    'Call print("<b>hi</b>") twice.',
    "List<int> xs; Map<String, List<T>> m; std::vector<i> v;",
    "if a < b > c and x <y> z: pass",
    "Read from <stdin> or <module>, mail Bob <bob@example.org>, see <https://example.com/a?b=1&c=2>.",
    "How do I parse <note><to>Tove</to></note> with a library?",
    "<item><b>Bolt</b><price>3</price></item>",
    "Which HTML tag is wrong: <div><p>hi</div>?",
    "In HTML, write &lt; for a less-than sign.",
    "<think>\nfirst this\n</think>\nThe answer is 4.",
    "Summarise:\n<article>Some text.</article>",
    "<?xml version='1.0'?>\n<a>  <b>1</b>\n\n\n\n</a>",
    '{"html": "<p>hi</p>  ",\n\n\n\n "n": 1}',
    "| name | note |\n|------|------|\n| a<br>b | 1&nbsp;2 |",
    "name      age    city\nAnn        31    Rome\n",
    "line one\n\n    indented = True   \n\n\n\n    more()",
    "AT&T, R&D, a && b, x &y; scanf(&sum);",
    "“你好，”他说：“全角！（括号）～ＡＢＣ１２３”……——《书》",
    "It’s “fine” – naïve café, Zürich, señor, ﬁne ligature, ½ × ²",
    "Ünïcödé: Ελληνικά, Русский, עברית, العربية, हिन्दी, 日本語, 한국어",
    "👨‍👩‍👧‍👦 👩🏽‍💻 🏳️‍🌈 ❤️ 🏴󠁧󠁢󠁥󠁮󠁧󠁿 🇨🇳",
    "می‌خواهم क्‍ष ശ്രീ നന്‍",
    "ภาษา\u200bไทย",
    "שלום \u200fabc\u200e",
    "Why do I see Ã© instead of é? It is an encoding problem.",
    "为什么会出现“ä½ å¥½”这样的乱码？",
    "The box: │ café │ ═══ ░▒▓",
    "Math: $a<b$ and $x \\& y$, 5 < 6, 7 > 3, e^{-x}",
    "a\tb\tc",
    "\u3000\u3000中文段落缩进。",
]
CHANGED = [
    (mojibake, "cafÃ©", "café"),
    (mojibake, "ä½\xa0å¥½ï¼Œä¸–ç•Œ", "你好，世界"),
    (mojibake, "Itâ€™s “quoted”", "It’s “quoted”"),
    (mojibake, "fine line\nScienceâ\x80\x94quantifying", "fine line\nScience—quantifying"),
    (control, "a\x00b\x1b[31mred\x1b[0m\x07", "abred"),
    (control, "zero\u200bwidth\ufeff\u2060 so\u00adft", "zerowidth soft"),
    (control, "la\u200dtin 你\u200c好", "latin 你好"),
    (control, "left\u200e right", "left right"),
    (control, "one\u2028two\x0cthree\x85four", "one\ntwo\nthree\nfour"),
    (control, "ta\U000e0041\U000e0042gs", "tags"),
    (markup, "<p>Hello <b>world</b> &amp; all</p>\n<p>Two<br>three</p>", "Hello world & all\n\nTwo\nthree"),
    (markup, "<p>这是<b>测试</b>&nbsp;文本</p>", "这是测试 文本"),
    (markup, "<ul>\n  <li>a</li>\n  <li>b</li>\n</ul><ol><li>x</li><li>y</li></ol>end", "- a\n- b\n1. x\n2. y\nend"),
    (markup, "<table><tr><th>a</th><th>b</th></tr><tr><td>1</td><td>2</td></tr></table>", "a\tb\n1\t2"),
    (markup, "see <a href=\"http://x.com?a=1&amp;b=2\" class='c'>this</a>", "see this"),
    (markup, "<!-- note --><script>if (a<b) {}</script>text<style>p {}</style>", "text"),
    (markup, "<b>10<sup>5</sup></b>, e<sup>x+1</sup>, the 5<sup>th</sup>", "10^5, e^(x+1), the 5th"),
    (
        markup,
        "Try: <pre><code>int a = b &lt; c;\nif (a) {\n}</code></pre> then <code>x&lt;y</code>",
        "Try: \n```\nint a = b < c;\nif (a) {\n}\n```\n then `x<y`",
    ),
    (markup, "Tom &amp; Jerry it&#39;s 5 &lt; 6 &amp;amp; &copy;", "Tom & Jerry it's 5 < 6 & ©"),
    (markup, "<p>HTML was invented in 1990.</p>", "HTML was invented in 1990."),
    (markup, "<br>", ""),
    (whitespace, "\n\n a  \nb\t\n\n\n\nc\n", " a\nb\n\nc"),
    (whitespace, "a\r\nb\rc\r\n\r\nd", "a\nb\nc\n\nd"),
    (whitespace, "```\r\nx  \r\n\r\n\r\n\r\ny\r\n```  \r\n", "```\nx  \n\n\n\ny\n```"),
    (whitespace, "中文。\u3000\n下一行", "中文。\n下一行"),
    (whitespace, " \n ", ""),
]
REPAIRS = (mojibake, control, markup, lambda text: unicode_form(text, "NFC"), whitespace)


@pytest.mark.parametrize("text", INTACT, ids=range(len(INTACT)))
def test_valid_text_and_code_stay_byte_for_byte(text: str) -> None:
    for repair in REPAIRS:
        kept = (
            text.rstrip("\n") if repair is whitespace and text.startswith("name") else text
        )  # prose ends in no line end
        assert apply(text, repair(text)) == kept


@pytest.mark.parametrize(("repair", "text", "expected"), CHANGED, ids=range(len(CHANGED)))
def test_damage_is_repaired(repair, text: str, expected: str) -> None:
    assert apply(text, repair(text)) == expected


def test_a_page_that_an_assistant_wrote_is_its_answer() -> None:
    page = "<!DOCTYPE html>\n<html><body><p>Hi</p></body></html>"
    assert markup(page, role="assistant") == []
    assert apply(page, markup(page, role="text")) == "Hi"


def test_markup_stays_where_the_conversation_speaks_about_it() -> None:
    assert markup("<div>hi</div>", elsewhere=True) == []
    assert apply("<div>hi</div>", markup("<div>hi</div>", elsewhere=False)) == "hi"


def test_composed_and_decomposed_text_become_one() -> None:
    text = "cafe\u0301 한 ①ﬁ Ａ"
    assert apply(text, unicode_form(text, "NFC")) == unicodedata.normalize("NFC", text)
    assert apply(text, unicode_form(text, "NFKC")) == unicodedata.normalize("NFKC", text)


@settings(max_examples=300, deadline=None)
@given(st.text(alphabet=st.characters(blacklist_categories=("Cs",)), max_size=40), st.sampled_from(["NFC", "NFKC"]))
def test_normal_forms_are_those_of_the_whole_text(text: str, form) -> None:
    assert apply(text, unicode_form(text, form)) == unicodedata.normalize(form, text)


@given(st.text(max_size=30), st.text(max_size=30), st.integers(0, 100))
def test_replaced_is_the_smallest_edit_between_two_texts(old: str, new: str, start: int) -> None:
    edits = replaced(start, old, new)
    shifted = [Edit(edit.start - start, edit.end - start, edit.replacement) for edit in edits]
    assert apply(old, shifted) == new
    assert len(edits) == (old != new)


TAGS = ["<b>", "</b>", "<p>", "</p>", "<br>", "<pre>", "</pre>", "<code>", "</code>", "<li>", "<sup>", "</sup>", "<!--"]
TAGS += ["-->", "```", "`", "&amp;", "lt;", "&lt;", "&gt;", "b>", "<b"]
PIECES = st.lists(
    st.one_of(
        st.sampled_from([text for _, text, _ in CHANGED] + INTACT),
        st.sampled_from(TAGS),
        st.sampled_from(
            [
                "\n",
                "\n\n\n",
                " ",
                "  ",
                "\r\n",
                "\t",
                "\u200d",
                "\u200b",
                "\x85",
                "e\u0301",
                "Ã",
                "©",
                "â€",
                "™",
                "\xa0",
            ]
        ),
        st.text(max_size=5),
    ),
    max_size=8,
).map("".join)


@settings(max_examples=400, deadline=None)
@given(PIECES)
def test_edits_are_ordered_and_do_not_overlap(text: str) -> None:
    for repair in REPAIRS:
        at = 0
        for edit in repair(text):
            assert at <= edit.start <= edit.end <= len(text)
            at = edit.end


@settings(max_examples=400, deadline=None)
@given(PIECES)
def test_compiled_filters_miss_no_repair(text: str) -> None:
    suspects = {
        mojibake: MOJIBAKE_SUSPECT,
        control: CONTROL_CLASS,
        markup: MARKUP_SUSPECT,
        whitespace: WHITESPACE_SUSPECT,
    }
    for repair, pattern in suspects.items():
        assert not repair(text) or pl.select(pl.lit(text).str.contains(pattern)).item()


@pytest.mark.parametrize(
    "text",
    [
        "<b>" * 8_000,
        "<!--" * 8_000 + "-->",
        "`" * 20_000,
        "` `` " * 6_000,
        '<a b="' * 6_000,
        " " * 40_000 + "x",
        "\n \n" * 9_000,
        "&amp;" * 8_000,
        "<pre>" * 6_000 + "</pre>",
        "<sup>1" * 6_000 + "</sup>",
        '"""\n' * 9_000,
        "if " + "(" * 40_000,
        "| <b>x</b> " * 4_000,
    ],
    ids=lambda text: repr(text[:10]),
)
def test_hostile_text_is_read_to_its_end(text: str) -> None:
    """A smoke test: quadratic work on 40,000 characters would take minutes."""
    for repair in REPAIRS:
        assert isinstance(apply(text, repair(text)), str)


def test_what_the_filter_for_unicode_form_passes_over_is_in_normal_form():
    quiet = [chr(code) for code in range(0x20000) if not re.match(MAY_COMPOSE, chr(code))]
    assert len(quiet) > 40_000
    assert all(unicodedata.is_normalized("NFC", char) and not unicodedata.combining(char) for char in quiet)
    pairs = (unicodedata.decomposition(chr(code)).split() for code in range(0x20000))
    composing = {chr(int(pair[1], 16)) for pair in pairs if len(pair) == 2 and not pair[0].startswith("<")}
    assert not composing & set(quiet)
    assert not any(unicodedata.is_normalized("NFC", f"가{jamo}") for jamo in "ᆨᇂ")
    assert {*"ᆨᇂᅡᅵ"}.isdisjoint(quiet)


@pytest.mark.parametrize("text", ["UTF8", "in GBK", "ıso-8859", "enCoDing", "an İSO8859 page", "乱码", "charſet"])
def test_whoever_speaks_of_encodings_is_heard_in_any_case(text):
    assert is_about_encoding(text)
    assert not is_about_encoding(" ".join(text))
