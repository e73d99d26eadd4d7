"""The web rule sets: published thresholds, and statistics that equal a slow and plain count."""

import re

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline_config.data_schema import Quality
from tasks.kernels.rows import ROW_SCHEMA
from tasks.quality.decide import decide
from tasks.quality.rules import RULE_SETS
from tasks.quality.score import score_rows
from tasks.quality.settings import known_rules
from tasks.quality.web import STATISTICS, measure_web
from tests.plain_web_rules import statistics, words_of

# As printed in the papers, written down here apart from the rules.
PUBLISHED = {
    "repeated_paragraphs": (">", 0.30), "repeated_paragraph_chars": (">", 0.20),
    "repeated_lines": (">", 0.30), "repeated_line_chars": (">", 0.20),
    "top_2gram_chars": (">", 0.20), "top_3gram_chars": (">", 0.18), "top_4gram_chars": (">", 0.16),
    "repeated_5gram_chars": (">", 0.15), "repeated_6gram_chars": (">", 0.14), "repeated_7gram_chars": (">", 0.13),
    "repeated_8gram_chars": (">", 0.12), "repeated_9gram_chars": (">", 0.11), "repeated_10gram_chars": (">", 0.10),
    "hashes_per_word": (">", 0.1), "ellipses_per_word": (">", 0.1), "bullet_lines": (">", 0.9),
    "ellipsis_lines": (">", 0.3), "alpha_words": ("<", 0.8), "stop_words": ("<", 2),
    "lorem_ipsum": (">=", 1), "curly_brackets": (">=", 1), "c4_sentences": ("<", 5),
    "punctuated_lines": ("<=", 0.12), "short_lines": (">=", 0.67), "repeated_line_share": (">=", 0.1),
    "newlines_per_word": (">", 0.3),
}  # fmt: skip

WORDS = {
    "Don't stop; it's 5 o'clock.": ["Do", "n't", "stop", ";", "it", "'s", "5", "o'clock", "."],
    "Mr. Smith (of the U.S.) paid $10.50!": ["Mr.", "Smith", "(", "of", "the", "U.S.", ")", "paid", "$", "10.50", "!"],
    "well-known and/or x-ray": ["well", "-", "known", "and", "/", "or", "x", "-", "ray"],
    "end.Begin, yes,no 3,000": ["end", ".", "Begin", ",", "yes", ",", "no", "3,000"],
    "wait... what…no": ["wait", "...", "what", "…", "no"],
    "see http://a.org/b-c, www.x-y.com": ["see", "http://a.org/b-c", ",", "www.x-y.com"],
    "50% of 10km at 3pm.": ["50", "%", "of", "10", "km", "at", "3", "pm", "."],
    "NASA. e.g. “quoted”": ["NASA", ".", "e.g.", "“", "quoted", "”"],
    "They’ll say I'm — not": ["They", "’ll", "say", "I", "'m", "—", "not"],
    "☃snow☃man": ["☃", "snow", "☃", "man"],
    "...": ["..."],
    "'s": ["'s"[0], "s"],
}
SENTENCE = "The cat sat on the mat of the house and that is what I have to say. "
HARD = [
    "",
    " \n ",
    "one",
    "\n\n\n",
    SENTENCE * 12,
    f"{SENTENCE}\n" * 6,
    f"{SENTENCE}\n\n{SENTENCE}\n\nother words\n\n",
    "\nleading and trailing\n",
    "a b c d e f g h i j " * 9,
    "a a a a a a a a a a a",
    "ab c ab c a bc",
    "- one\r\n• two\r\n  - three ...\nfour…\x0bfive\x1csix\u2028seven\x85eight\n",
    "It is so.[12] He said[citation needed] that.[edit]\n[1] [2] x y z.\nHe said “no.” I said 'yes.' Both? All!!",
    "Please enable JavaScript to see this. Yes.\nLorem IPSUM dolor sit amet.\nWe use cookies on this site.",
    "int main() { return 0; }\nThis line has { a bracket.\njavascript {is here too.\n",
    f"{'x' * 1001} is a long word here.\n{'x' * 1000} is not so long here.",
    "This costs $5 and that… costs #7 #8 ##. 50% of it!",
    'Mr. X met Dr. Y in Jan. at 5 p.m. in N.Y. They left. (They did.) "Did they?" Yes...  No.',
    "今天天气很好。我们去公园吧！你好，请问你是谁？",
    "Ünïcode ☃ 🎉🎉 naïve—café ½ ² x\u0301y \U0004fffd",
    "https://a-b.org/c:d=e and a:b c=d e<f 1-2 3--4 a--b a---b 5*6 x^2 2^3 +7 + 8+ 9€ €9",
    "isn't couldn’t 't n't x'll x've're 'd a'm.  don't, (don't) \"it's\" James's",
]


@pytest.mark.parametrize("text", WORDS)
def test_words_are_cut_by_the_conventions(text):
    assert words_of(text) == WORDS[text]


@pytest.mark.parametrize("after_c4", [False, True])
def test_hard_texts_equal_the_plain_count(after_c4):
    check([*HARD, *WORDS], after_c4)


PIECES = (
    "The the be of and that have with word Word x 3 10 km 5% can't It's . , ... … # - • ( ) [12] [edit] { 。 中文 e.g. "
    "U.S. well-known a/b ! ? “ ” ' \" lorem ipsum JavaScript use cookies - -- é ☃"
)
BREAKS = ("\n", "\n\n", "\r\n", "\u2028", "\x1f")
TEXT = st.lists(st.sampled_from([*PIECES.split(), *BREAKS]) | st.text(max_size=6), max_size=60).map(" ".join)
GLUED = st.text(alphabet="aAbB.,'’\"-–/:=<>()%$€3 5nt\n…☃sdm", max_size=40)


@settings(max_examples=60, deadline=None)
@given(st.lists(TEXT | GLUED, max_size=6), st.booleans())
def test_statistics_equal_the_plain_count(texts, after_c4):
    check(texts, after_c4)


def check(texts: list[str], after_c4: bool) -> None:
    found = measure_web(pl.Series(texts, dtype=pl.String), after_c4)
    assert found.columns == list(STATISTICS)
    for text, row in zip(texts, found.iter_rows(named=True), strict=True):
        expected = statistics(text, after_c4)
        for name in STATISTICS:
            wanted = expected.get(name)
            assert row[name] == (None if wanted is None else pytest.approx(wanted, rel=1e-6)), (name, text)


def test_thresholds_are_the_published_ones():
    rules = {rule.statistic: rule for name in ("gopher", "c4", "fineweb") for rule in RULE_SETS[name]}
    assert {name: (rules[name].comparison, rules[name].threshold) for name in PUBLISHED} == PUBLISHED
    bounds = {(rule.statistic, rule.comparison, rule.threshold) for rule in RULE_SETS["gopher"]}
    assert {("words", "<", 50), ("words", ">", 100_000)} <= bounds
    assert {("mean_word_chars", "<", 3), ("mean_word_chars", ">", 10)} <= bounds
    assert {rule.statistic for name in ("gopher", "c4", "fineweb") for rule in RULE_SETS[name]} == set(STATISTICS)


def test_every_published_rule_says_where():
    for name in ("gopher", "c4", "fineweb"):
        assert all(re.search(r"20\d\d|FineWeb", rule.source) for rule in RULE_SETS[name])
    names = [rule.name for rules in RULE_SETS.values() for rule in rules]
    assert len(names) == len(set(names))


def rows(*texts: str) -> pl.DataFrame:
    messages = [[{"role": "text", "content": text, "weight": None}] for text in texts]
    ids = [f"{n:016x}" for n in range(len(texts))]
    return pl.DataFrame({"row_id": ids, "source": "here", "messages": messages}, schema_overrides=ROW_SCHEMA)


def removed_by(*texts: str, **options) -> list[str | None]:
    frame, config = rows(*texts), Quality(**options)
    frame = frame.with_columns(pl.lit(None, pl.String).alias(name) for name in ("task", "label", "lang", "tools"))
    decision = decide(frame.drop("messages"), score_rows(frame.lazy(), config), config)
    by_row = dict(zip(decision.removed["row_id"], decision.removed["rule"], strict=True))
    return [by_row.get(row_id) for row_id in frame["row_id"]]


GOOD = """In spring the miller had to mend his oldest bridge with planks of oak, and it held.
Summer brought traders from far away; they paid with salt, honey, iron nails and long stories.
Nobody could say when autumn began, though the first cold nights were enough for the geese.
Winter shut every road of that valley, so children learned to skate between two frozen barns.
When the thaw came at last, people counted their sheep, repaired roofs and danced until morning."""
BAD = {
    "gopher_repeated_paragraphs": "\n\n".join(["Say it again to me, and with joy."] * 3 + ["Not that."]),
    "gopher_min_words": GOOD.split("\n")[0] + GOOD.split("\n")[1],
    "gopher_stop_words": " ".join(f"Wort{chr(97 + n % 26)}{chr(97 + n // 26)}" for n in range(60)) + ".",
    "gopher_bullet_lines": "\n".join(f"- {line}" for line in GOOD.split("\n")),
    "c4_curly_brackets": GOOD.replace("oak", "{oak}"),
    "c4_min_sentences": GOOD.replace(".", " "),
}


def test_the_sets_remove_what_they_are_for():
    sets = ["gopher", "c4", "fineweb"]
    assert removed_by(GOOD, *BAD.values(), rules=sets) == [None, *BAD]
    listed = "\n".join(f"item {chr(97 + n)}{chr(98 + n)}" for n in range(20))
    assert removed_by(GOOD, listed, rules=["fineweb"]) == [None, "fineweb_punctuated_lines"]


def test_fineweb_judges_what_c4_leaves_where_c4_stands_before_it():
    text = GOOD + "\n" + "\n".join(f"menu {chr(97 + n)}" for n in range(30))
    assert removed_by(text, rules=["c4", "fineweb"]) == [None]
    assert removed_by(text, rules=["fineweb"]) == removed_by(text, rules=["fineweb", "c4"])
    assert removed_by(text, rules=["fineweb"]) == ["fineweb_short_lines"]


def test_sets_may_be_combined_and_thresholds_changed():
    short = "A short and good answer to the question."
    sets = ["gopher", "instruct"]
    assert removed_by(short, rules=sets) == ["gopher_top_3gram_chars"]
    loose = {"gopher_min_words": 3, "gopher_top_2gram_chars": 0.9, "gopher_top_3gram_chars": 0.9}
    assert removed_by(short, rules=sets, thresholds={**loose, "gopher_top_4gram_chars": 1}) == [None]
    assert len(known_rules(Quality(rules=[*RULE_SETS]))) == sum(map(len, RULE_SETS.values()))


def test_long_rows_and_none():
    big = "The same old story of the sea. " * 300_000
    found = measure_web(pl.Series([big, None, "x" * 3_000_000]), True)
    assert found["words"].to_list() == [2_100_000, 0, 1]
    assert measure_web(pl.Series([], dtype=pl.String), False).height == 0
