"""Toxicity: the packaged judges as they are (false alarms included), each for its own language, and the decision."""

import itertools
import os
import pickle
import random
import subprocess
import sys
import warnings

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline_config.data_schema import Toxicity
from pipeline_config.errors import ConfigError, ModelError
from tasks.kernels.classifier import classify
from tasks.kernels.rows import ROW_SCHEMA
from tasks.toxicity import english, files
from tasks.toxicity.categories import score_categories
from tasks.toxicity.chinese import count_listed, load_words
from tasks.toxicity.decide import decide
from tasks.toxicity.everyday import everyday_words
from tasks.toxicity.score import SCORES, score_rows
from tasks.toxicity.segment import Dictionary, load_dictionary
from tasks.toxicity.stored_model import read_stored, unpickle
from tests.toy_classifier import make_toy_classifier

THRESHOLD = Toxicity().english.threshold
ABUSE = "Go away, you stupid piece of shit."
REFUSAL = "I won't talk like that. Can I help you with something else?"
COLUMNS = ("row_id", "source", "lang", "messages")


def rows(*conversations, lang=None) -> pl.DataFrame:
    """One row a conversation of (role, content) pairs."""
    records = [
        {
            "row_id": f"{n:016x}",
            "source": "here",
            "lang": lang,
            "messages": [{"role": role, "content": content, "weight": None} for role, content in turns],
        }
        for n, turns in enumerate(conversations)
    ]
    return pl.DataFrame(records, schema={name: ROW_SCHEMA[name] for name in COLUMNS})


def judged(frame: pl.DataFrame, **settings_):
    config = Toxicity(**settings_)
    scores = score_rows(frame.lazy(), config)
    return decide(frame.select("row_id", "source"), scores, config)


def probability(text: str) -> float | None:
    return english.load().probabilities(pl.Series([text]))[0]


def listed(text: str) -> int:
    return count_listed(pl.Series([text]), load_words(2))[0]


# What a model of single words says. `harmful` is what a reader would say; where the two differ, the model is wrong,
# and the table is here so that nobody believes otherwise.
ENGLISH_CASES = [
    # text, flagged, harmful
    ("You are a fucking idiot.", True, True),
    ("I hope you die, you worthless bitch.", True, True),
    ("Shut up, you stupid moron.", True, True),
    ("Go kill yourself, nobody likes you.", False, True),
    ('She said he was a "stupid bitch", and the court fined her.', True, False),  # quoted
    ("The word 'fuck' appears 265 times in the film.", True, False),
    ("I am not stupid, and neither are you.", True, False),  # negated
    ("Please don't call other people idiots.", True, False),
    ("Erectile dysfunction means that the penis does not get hard enough.", True, False),  # medical
    ("The doctor examined the breast for signs of cancer.", False, False),
    ("Sexual intercourse may transmit HIV; use a condom.", False, False),
    ("The rectum and the anus are the last parts of the digestive tract.", False, False),
    ("The cock crows at dawn.", True, False),
    ("Kill the process with SIGKILL and wait for the child to die.", False, False),
    ("A black hole is a region of spacetime from which nothing escapes.", False, False),
    ("Scunthorpe is a town in Lincolnshire.", False, False),
    ("I'm sorry, but I won't write hateful content.", False, False),
]
CHINESE_CASES = [
    ("你真是个混蛋，滚蛋！", True, True),
    ("他妈的，白痴", True, True),
    ("傻b一个", True, True),
    ("他写道：“你这个白痴”，因此被罚款。", True, False),  # quoted
    ("不要说别人是白痴。", True, False),  # negated
    ("医生检查了乳房和阴道，未发现异常。", False, False),  # medical
    ("月经期间应当注意休息。", False, False),
    ("他带着愉快的心情色彩鲜明地画画。", False, False),  # 情色 across two words
    ("晚上你来我家吃饭吗？", False, False),  # 上你
    ("我日常生活很规律。", False, False),  # 我日
    ("妈妈的味道，奶奶的生日。", False, False),
    ("三八妇女节快乐！", False, False),
    ("母鸡下蛋，鸭子游泳，比赛开始，服从安排，交作业。", False, False),  # 鸡 鸭 比 服 交 are on the list
    ("国家发布消息：公共汽车和馒头涨价。", False, False),
]


@pytest.mark.parametrize(("text", "flagged", "_harmful"), ENGLISH_CASES)
def test_english_cases(text, flagged, _harmful):
    assert (probability(text) >= THRESHOLD) is flagged


@pytest.mark.parametrize(("text", "flagged", "_harmful"), CHINESE_CASES)
def test_chinese_cases(text, flagged, _harmful):
    assert (listed(text) >= 1) is flagged


def test_scores_equal_the_packaged_pipeline():
    joblib = pytest.importorskip("joblib")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        vectorizer = joblib.load(files.vocabulary_file())
        classifier = joblib.load(files.classifier_file())
    words = sorted(vectorizer.vocabulary_)
    draw = random.Random(0)
    texts = [
        " ".join(draw.choices([*words, "unheard-of", "the", "☝️", "Ünïcode"], k=draw.randint(1, 30))) for _ in range(500)
    ]
    texts += ["", "THE SAME the same", "don't_join x2 ½ ², 3"]
    expected = classifier.predict_proba(vectorizer.transform(texts))[:, 1]
    unknown = vectorizer.transform(texts).getnnz(axis=1) == 0
    found = english.load().probabilities(pl.Series(texts))
    assert found.is_null().to_list() == unknown.tolist()
    for mine, theirs, missing in zip(found, expected, unknown, strict=True):
        assert missing or mine == pytest.approx(theirs, abs=1e-9)


def test_batches_do_not_change_scores(monkeypatch):
    texts = pl.Series([text for text, _, _ in ENGLISH_CASES])
    whole = english.load().probabilities(texts)
    monkeypatch.setattr(english, "_BLOCK_BYTES", 3)
    assert english.load().probabilities(texts).equals(whole)


def test_loading_imports_neither_sklearn_nor_joblib_nor_jieba():
    code = (
        "import sys; from tasks.toxicity import english, segment; english.load(); segment.load_dictionary();"
        "assert not {'sklearn', 'joblib', 'jieba', 'profanity_check', 'safetext'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-W", "error", "-c", code], check=True)


def test_another_file_than_the_reviewed_one_is_refused(tmp_path):
    altered = tmp_path / "model.joblib"
    altered.write_bytes(files.classifier_file().read_bytes() + b"\0")
    with pytest.raises(ModelError, match="not the file that was reviewed") as caught:
        read_stored(altered, english.CLASSIFIER_SHA256)
    assert caught.value.cure


class _Exploit:
    def __reduce__(self):
        return (os.mkdir, ("should-not-exist",))


@pytest.mark.parametrize("payload", [_Exploit(), print, {"a": 1}])
def test_a_pickle_of_anything_else_is_refused_and_not_run(payload, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ModelError):
        unpickle(pickle.dumps(payload), "planted.joblib")
    assert not list(tmp_path.iterdir())


def test_a_truncated_file_is_refused():
    data = files.classifier_file().read_bytes()
    for size in (0, 10, 1000, len(data) - 10):
        with pytest.raises(ModelError):
            unpickle(data[:size], "cut.joblib")


def test_a_refusal_to_an_abusive_prompt_stays():
    frame = rows([("user", ABUSE), ("assistant", REFUSAL)])
    decision = judged(frame)
    assert decision.removed.is_empty()
    assert decision.assigned["score_toxicity"][0] < 0.5
    assert decision.assigned["score_toxicity_prompt"][0] >= THRESHOLD
    assert judged(frame, judge="all").removed["row_id"].to_list() == [frame["row_id"][0]]


def test_the_worst_turn_decides_and_is_named():
    frame = rows([("user", "Hi"), ("assistant", "Hello!"), ("user", "Bye"), ("assistant", ABUSE)])
    line = judged(frame).removed.row(0, named=True)
    assert line["rule"] == "toxic_english"
    assert line["value"] >= line["threshold"] == THRESHOLD
    assert line["detail"] == "message 3"


@pytest.mark.parametrize("judge", ["assistant", "all"])
def test_raw_text_is_always_judged(judge):
    assert judged(rows([("text", ABUSE)]), judge=judge).removed.height == 1


def test_each_judge_reads_its_own_language_only():
    frame = rows(
        [("text", "今天天气很好，我们去公园。")],
        [("text", "The weather is fine today, so we go to the park.")],
        [("text", "Die Männer, die die dicken Hunde haben, sind sehr nett, und die Frauen auch.")],
        [("text", "日本の消息によると、馬鹿という言葉は変態と同じくらいよく使われます。")],
    )
    scores = score_rows(frame.lazy(), Toxicity())
    assert scores["score_toxicity"].is_null().to_list() == [True, False, True, True]
    assert scores["score_toxicity_zh"].to_list()[:3] == [0.0, None, None]
    assert not scores["score_toxicity_zh"][3]


def test_a_short_turn_is_english_unless_its_row_says_otherwise():
    short = [("assistant", "die dick")]
    assert score_rows(rows(short).lazy(), Toxicity())["score_toxicity"][0] >= THRESHOLD
    assert score_rows(rows(short, lang="de").lazy(), Toxicity())["score_toxicity"][0] is None


def test_chinese_is_flagged_by_default_and_stays():
    decision = judged(rows([("text", "你真是个混蛋")], [("text", "你真是个好人")]))
    assert decision.removed.is_empty()
    assert decision.quarantined.is_empty()
    assert decision.facts["flagged"] == {"toxic_chinese": 1}
    assert decision.metrics["flagged_chinese"] == 1
    assert decision.assigned["score_toxicity_zh"].to_list() == [1.0, 0.0]


@pytest.mark.parametrize(
    ("english_action", "chinese_action", "removed", "quarantined"),
    [
        ("remove", "flag", "toxic_english", None),
        ("flag", "remove", "toxic_chinese", None),
        ("quarantine", "remove", "toxic_chinese", None),
        ("quarantine", "flag", None, "toxic_english"),
        ("flag", "flag", None, None),
    ],
)
def test_a_row_with_two_hits_gets_the_harder_action(english_action, chinese_action, removed, quarantined):
    frame = rows([("assistant", "You fucking idiot, go to hell with your stupid face."), ("assistant", "你真是个混蛋")])
    decision = judged(frame, english={"action": english_action}, chinese={"action": chinese_action})
    assert decision.removed["rule"].to_list() == ([removed] if removed else [])
    assert decision.quarantined["reason"].to_list() == ([quarantined] if quarantined else [])
    assert sum(decision.facts["flagged"].values()) == (0 if removed or quarantined else 2)


def test_few_hits_in_scores_read_back_from_a_file():
    """Scores of many rows come in chunks, most of which a rare hit leaves empty."""
    given = rows(*([("text", ABUSE if n in (0, 6) else "Good morning.")] for n in range(10)))
    scores = score_rows(given.lazy(), Toxicity())
    chunks = pl.concat([scores[at : at + 2] for at in range(0, 10, 2)], rechunk=False)
    decision = decide(given, chunks, Toxicity())
    assert decision.removed["row_id"].to_list() == given["row_id"].gather([0, 6]).to_list()


def test_quarantine_says_where_without_repeating_the_text():
    line = judged(rows([("assistant", ABUSE)]), english={"action": "quarantine"}).quarantined.row(0, named=True)
    assert (line["source"], line["reason"]) == ("here", "toxic_english")
    assert "message 0" in line["detail"]
    assert "shit" not in str(line)


def test_a_judge_that_is_off_scores_nothing():
    frame = rows([("assistant", ABUSE)], [("assistant", "你真是个混蛋")])
    decision = judged(frame, english=None, chinese=None)
    assert decision.removed.is_empty()
    assert decision.assigned.select("score_toxicity", "score_toxicity_zh").null_count().row(0) == (2, 2)
    assert set(files.shaping_files(Toxicity(english=None, chinese=None))) == {"language_model"}


def test_allowed_words_do_not_count():
    frame = rows([("assistant", "你真是个混蛋")])
    assert judged(frame, chinese={"allow": ["混蛋"]}).facts["flagged"] == {}


@pytest.mark.parametrize("turns", [[], [("assistant", "")], [("assistant", None)], [("assistant", "123 ?!")]])
def test_rows_without_words_pass(turns):
    decision = judged(rows(turns))
    assert decision.removed.is_empty()
    assert decision.assigned.height == 1


def test_no_rows():
    decision = judged(rows())
    assert decision.assigned.height == 0
    assert set(decision.assigned.columns) == {"row_id", *(name for name in SCORES if name.startswith("score_"))}


def test_every_everyday_word_is_listed_and_none_counts():
    raw = {line.strip().lower() for file in files.list_files() for line in file.read_text("utf-8").splitlines()}
    assert everyday_words() <= raw
    assert not everyday_words() & load_words(2)
    assert all(len(word) >= 2 for word in load_words(2))


def slow_boundaries(dictionary: Dictionary, text: str) -> float:
    """The largest log-probability over every way to cut the text."""
    if not text:
        return 0.0
    ways = []
    for end in range(1, min(len(text), 8) + 1):
        weight = dictionary.log_frequency.get(text[:end], dictionary.log_unknown if end == 1 else None)
        if weight is not None:
            ways.append(weight + slow_boundaries(dictionary, text[end:]))
    return max(ways)


@settings(max_examples=60, deadline=None)
@given(st.text(alphabet="中国人民日报今天气很好生活在上海", min_size=1, max_size=9))
def test_segmentation_is_the_most_probable_one(text):
    dictionary = load_dictionary()
    offsets = dictionary.boundaries(text)
    assert offsets[0] == 0
    assert offsets[-1] == len(text)
    words = [text[start:end] for start, end in itertools.pairwise(offsets)]
    found = sum(dictionary.log_frequency.get(word, dictionary.log_unknown) for word in words)
    assert found == pytest.approx(slow_boundaries(dictionary, text))


@settings(max_examples=60, deadline=None)
@given(st.lists(st.text(alphabet="混蛋白痴你是好人。 ab", max_size=12), max_size=6))
def test_counts_do_not_depend_on_the_other_texts(texts):
    words = load_words(2)
    together = count_listed(pl.Series(texts, dtype=pl.String), words).to_list()
    assert together == [count_listed(pl.Series([text]), words)[0] for text in texts]


CATEGORIES = {"toxic": {"threshold": 0.0, "action": "flag"}, "severe threat": {"threshold": 0.5, "action": "remove"}}


@pytest.fixture(scope="module")
def category_model(tmp_path_factory):
    folder = tmp_path_factory.mktemp("categories")
    return make_toy_classifier(folder, ["toxic", "severe threat", "insult"], multi_label=True, seed=3)


def by_categories(frame, model, tmp_path, **settings_):
    section = {"model": str(model), "categories": CATEGORIES} | settings_
    config = Toxicity.model_validate({"english": None, "chinese": None, "model": section})
    scores = score_rows(frame.lazy(), config)
    scores = scores.hstack(score_categories(frame.lazy(), config.model, config.judge, tmp_path))
    return config, scores, decide(frame.select("row_id", "source"), scores, config)


def test_each_category_of_a_model_has_its_own_threshold_and_action(category_model, tmp_path):
    texts = ["hello there", "how are you today?", "你好，请问你是谁？", "Return the sum."]
    frame = rows(*([("user", ABUSE), ("assistant", text), ("assistant", "Yes.")] for text in texts), [("user", "Hi")])
    _, scores, free = by_categories(frame, category_model, tmp_path)
    _, said = classify([*texts, "Yes."], str(category_model), tmp_path, max_length=256, batch_size=16, label="")
    worst = np.maximum(said[:4], said[4])
    found = scores.select("score_toxic_toxic", "score_toxic_severe_threat", "score_toxic_insult")
    assert (found.head(4).to_numpy() == worst).all()
    assert found.row(4) == (None, None, None)
    assert free.removed["row_id"].to_list() == frame["row_id"].head(4).filter(pl.Series(worst[:, 1] >= 0.5)).to_list()
    assert free.metrics["judged_model"] == 4
    middle = float(np.median(worst[:, 1]))
    hard = {"severe threat": {"threshold": middle, "action": "quarantine"}, "toxic": {"threshold": 0, "action": "flag"}}
    _, _, decision = by_categories(frame, category_model, tmp_path, categories=hard)
    gone = worst[:, 1] >= np.float32(middle)
    assert decision.quarantined["row_id"].to_list() == frame["row_id"].head(4).filter(pl.Series(gone)).to_list()
    assert set(decision.quarantined["reason"]) == {"toxic_category"}
    assert all(detail.startswith("severe threat: message ") for detail in decision.quarantined["detail"])
    assert decision.facts["flagged"] == {"toxic_category": 4 - int(gone.sum())}
    assert decision.removed.is_empty()


def test_a_model_reads_only_its_languages(category_model, tmp_path):
    frame = rows(
        [("assistant", "今天天气很好，我们去公园。")], [("assistant", "The weather is fine today, so we go out.")]
    )
    _, scores, _ = by_categories(frame, category_model, tmp_path, languages=["en"])
    assert scores["score_toxic_toxic"].is_null().to_list() == [True, False]


def test_a_category_that_the_model_lacks_is_named(category_model, tmp_path):
    with pytest.raises(ConfigError, match="no label 'obscene'") as caught:
        by_categories(rows([("assistant", "Yes.")]), category_model, tmp_path, categories={"obscene": {}})
    assert caught.value.cure == "its labels are: toxic, severe_threat, insult"
    assert caught.value.place == "toxicity.model.categories.obscene"
