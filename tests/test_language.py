"""Language detection: script first, then the model; code and short texts never decide."""

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tasks.kernels.language import UNDETERMINED, detect, prose, sample

SENTENCES = {
    "en": "The quick brown fox jumps over the lazy dog near the river.",
    "de": "Guten Tag, wie geht es Ihnen heute? Ich hoffe, es geht Ihnen gut.",
    "fr": "Bonjour, comment allez-vous aujourd'hui, mon cher ami ?",
    "es": "Buenos días, ¿cómo está usted hoy en esta hermosa mañana?",
    "ru": "Привет, как твои дела сегодня, дорогой друг мой?",
    "zh": "今天天气很好，我们一起去公园散步吧。",
    "ja": "今日はとても良い天気ですから、公園へ行きましょう。",
    "ko": "오늘은 날씨가 정말 좋아서 공원에 가고 싶어요.",
}


def languages(texts: list[str]) -> list[str]:
    frame = pl.DataFrame({"text": texts}, schema={"text": pl.String})
    return detect(frame.select(sample(pl.col("text"))).to_series())["lang"].to_list()


def test_each_language_is_recognised():
    assert languages(list(SENTENCES.values())) == list(SENTENCES)


@pytest.mark.parametrize("lang", SENTENCES)
def test_code_between_fences_changes_no_language(lang):
    code = "```python\nfor item in collection:\n    print('hello there my dear friend', item)\n```"
    assert languages([f"{code}\n{SENTENCES[lang]}", f"{SENTENCES[lang]}\n{code}"]) == [lang, lang]


def test_code_in_another_language_does_not_confuse_chinese_prose():
    text = "下面的函数返回长度：\n```python\ndef length(values): return len(values)\n```\n调用 `length` 即可。"
    assert languages([text]) == ["zh"]


@pytest.mark.parametrize("text", ["", "Hello!", "1234567890 1234567890", "```\nSELECT name FROM users\n```"])
def test_what_cannot_be_told_is_undetermined(text):
    assert languages([text]) == [UNDETERMINED]


def test_one_chinese_character_is_enough():
    assert languages(["好"]) == ["zh"]


def test_a_few_chinese_characters_do_not_make_english_chinese():
    assert languages(["Could you please explain what the greeting 你好 means in English?"]) == ["en"]


def test_an_advertisers_kana_does_not_make_chinese_japanese():
    assert languages(["这款の面膜非常好用，推荐给大家"]) == ["zh"]


def test_addresses_and_placeholders_are_not_prose():
    frame = pl.DataFrame({"text": ["Schreiben Sie [EMAIL_1] oder https://example.org/the/english/path bitte"]})
    assert frame.select(prose(pl.col("text"))).item().split() == ["Schreiben", "Sie", "oder", "bitte"]


def test_order_and_length_are_kept():
    texts = ["", *SENTENCES.values(), "x", SENTENCES["en"], ""]
    assert languages(texts) == [UNDETERMINED, *SENTENCES, UNDETERMINED, "en", UNDETERMINED]


def test_no_text_and_null_text():
    assert detect(pl.Series([], dtype=pl.String)).shape == (0, 2)
    assert detect(pl.Series([None], dtype=pl.String)).row(0) == (UNDETERMINED, 0.0)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.text(max_size=60), max_size=5))
def test_any_text_has_a_language_and_a_score(texts):
    frame = pl.DataFrame({"text": texts}, schema={"text": pl.String})
    found = detect(frame.select(sample(pl.col("text"))).to_series())
    assert found.height == len(texts)
    assert found["lang"].null_count() == found["score"].null_count() == 0
    assert found["score"].is_between(0, 1).all()


@given(st.text(alphabet="ab 中\n`~@[<{hw.tp:/ \t", max_size=60), st.integers(1, 30))
def test_a_sample_is_the_beginning_of_the_prose(piece, times):
    text = piece * times
    frame = pl.DataFrame({"text": [text]})
    whole = frame.select(prose(pl.col("text").str.slice(0, 4000)).str.replace_all(r"\s+", " ").str.strip_chars())
    assert frame.select(sample(pl.col("text"))).item() == whole.item()[:200]
