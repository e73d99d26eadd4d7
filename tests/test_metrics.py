"""Metrics over texts: the field's own values, right for Chinese, for empty answers and for whole corpora."""

import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import sacrebleu
from hypothesis import example, given, settings
from hypothesis import strategies as st
from rouge_score.rouge_scorer import RougeScorer
from rouge_score.tokenizers import DefaultTokenizer

from tasks.evaluate.metrics.classification import Accuracy, F1Macro, normalised
from tasks.evaluate.metrics.corpus import CorpusMetric
from tasks.evaluate.metrics.rouge_l import AnyScript, RougeL
from tasks.evaluate.metrics.sacre import Bleu, Chrf
from tasks.kernels.comparison import comparison_table, parse_key

ENGLISH = ["the cat sat on the mat .", "a dog barks at night", "it returns the sum of two numbers", "yes"]
ENGLISH_REFERENCES = ["the cat sat on a mat .", "dogs bark all night long", "it returns the sum of all numbers", "no"]
CHINESE = ["今天天气很好。", "我喜欢喝绿茶", "他在图书馆看书"]
CHINESE_REFERENCES = ["今天的天气很好。", "我很喜欢喝茶", "她在图书馆里看书"]


def _value(metric: CorpusMetric, predictions: list[str], references: list[str]) -> float:
    return metric.compute(predictions=predictions, references=references)[metric.key]


def test_bleu_and_chrf_are_sacrebleus_corpus_scores() -> None:
    assert _value(Bleu(), ENGLISH, ENGLISH_REFERENCES) == pytest.approx(
        sacrebleu.corpus_bleu(ENGLISH, [ENGLISH_REFERENCES]).score
    )
    assert _value(Bleu(), CHINESE, CHINESE_REFERENCES) == pytest.approx(
        sacrebleu.corpus_bleu(CHINESE, [CHINESE_REFERENCES], tokenize="zh").score
    )
    mixed, references = ENGLISH + CHINESE, ENGLISH_REFERENCES + CHINESE_REFERENCES
    assert _value(Chrf(), mixed, references) == pytest.approx(sacrebleu.corpus_chrf(mixed, [references]).score)


def test_bleu_is_not_the_mean_of_sentence_scores() -> None:
    sentences = [sacrebleu.sentence_bleu(p, [r]).score for p, r in zip(ENGLISH, ENGLISH_REFERENCES, strict=True)]
    assert abs(_value(Bleu(), ENGLISH, ENGLISH_REFERENCES) - np.mean(sentences)) > 1


def test_bleu_counts_chinese_by_character_beside_english() -> None:
    predictions, references = [*ENGLISH, *CHINESE], [*ENGLISH_REFERENCES, *CHINESE_REFERENCES]
    mixed = _value(Bleu(), predictions, references)
    apart = [_value(Bleu(), ENGLISH, ENGLISH_REFERENCES), _value(Bleu(), CHINESE, CHINESE_REFERENCES)]
    assert min(apart) < mixed < max(apart)
    assert mixed > sacrebleu.corpus_bleu(predictions, [references]).score  # Chinese sentences as single words


def test_chinese_rouge_is_not_zero_where_the_librarys_own_is() -> None:
    own = [
        RougeScorer(["rougeL"]).score(r, p)["rougeL"].fmeasure for p, r in zip(CHINESE, CHINESE_REFERENCES, strict=True)
    ]
    assert own == [0, 0, 0]
    assert _value(RougeL(), CHINESE, CHINESE_REFERENCES) > 0.7
    assert _value(RougeL(), ["我爱吃苹果"], ["今日下雨了"]) == 0


def test_rouge_of_a_known_pair() -> None:
    # longest common subsequence: "returns the sum of numbers", 5 of 6 and 5 of 7 tokens
    value = _value(RougeL(), ["Returns the sum of two numbers."], ["it returns the sum of all numbers"])
    assert value == pytest.approx(2 * 5 / (6 + 7))


@settings(max_examples=200, deadline=None)
@given(st.text(alphabet=st.characters(max_codepoint=127), max_size=60))
@example("snake_case_name(x) -> 3.14, don't")
def test_ascii_is_tokenised_as_rouge_score_does(text: str) -> None:
    assert AnyScript().tokenize(text) == DefaultTokenizer().tokenize(text)


@settings(max_examples=100, deadline=None)
@given(st.text(alphabet="中文分词abé1 _。ひらカ한글", max_size=30))
def test_each_east_asian_character_is_a_token_and_none_is_lost(text: str) -> None:
    tokens = AnyScript().tokenize(text)
    assert "".join(tokens) == "".join(c for c in text if c not in " _。")
    assert all(len(token) == 1 for token in tokens if token[0] in "中文分词ひらカ한글")


def test_equal_texts_score_highest_and_empty_answers_lowest() -> None:
    for metric, best in ((Bleu(), 100), (Chrf(), 100), (RougeL(), 1)):
        texts = ENGLISH[:3] + CHINESE
        assert _value(metric, texts, texts) == pytest.approx(best)
        assert _value(metric, [""] * 6, texts) == 0


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.sampled_from("abcd?"), st.sampled_from("abc")), min_size=1, max_size=25))
def test_label_metrics_from_counts_are_scikit_learns(pairs: list[tuple[str, str]]) -> None:
    predictions, references = [p for p, _ in pairs], [r for _, r in pairs]
    for metric in (Accuracy(), F1Macro()):
        statistics = metric.statistics(predictions, references)
        from_counts = metric.value(statistics.sum(axis=0, keepdims=True))[0]
        assert metric.score(predictions, references, statistics) == pytest.approx(from_counts)


def test_labels_are_compared_after_normalisation_and_nothing_else_counts() -> None:
    predictions = [" Positive.", "“负面”", "It is positive", "NEUTRAL", "ｐｏｓｉｔｉｖｅ"]
    references = ["positive", "负面", "positive", "neutral", "positive"]
    assert _value(Accuracy(), predictions, references) == pytest.approx(0.8)
    assert len({normalised(label) for label in ("C", "C++", "C#", "+", "-")}) == 5


def test_macro_f1_gives_a_rare_label_the_weight_of_a_frequent_one() -> None:
    references = ["a"] * 9 + ["b"]
    assert _value(F1Macro(), ["a"] * 10, references) == pytest.approx((2 * 9 / 19) / 2)


def test_statistics_have_one_row_for_each_example() -> None:
    for metric in (Bleu(), Chrf(), RougeL(), Accuracy(), F1Macro()):
        found = metric.compute(predictions=ENGLISH, references=ENGLISH_REFERENCES)
        assert found["statistics"].shape[0] == len(ENGLISH)
        assert 0 <= found[metric.key] <= 100


def test_a_metric_module_loads_by_path_without_a_hub(tmp_path: Path) -> None:
    module = Path(sys.modules[RougeL.__module__].__file__ or "")
    shutil.copy(module, tmp_path / "rouge_l.py")
    code = (
        "import evaluate; metric = evaluate.load('rouge_l.py'); "
        "print(metric.compute(predictions=['天气好'], references=['天气很好'])['rouge_l'])"
    )
    root = Path(__file__).parent.parent
    paths = {"HF_HOME": str(tmp_path / "home"), "PYTHONPATH": str(root), "PATH": "/usr/bin:/bin", "HF_HUB_OFFLINE": "1"}
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, env=paths, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr[-2000:]
    assert float(done.stdout) == pytest.approx(6 / 7)


@pytest.fixture(scope="module")
def encoder(tmp_path_factory: pytest.TempPathFactory) -> str:
    from tasks.kernels.models import model_folder

    return model_folder("asset:all-minilm-l6-v2", tmp_path_factory.mktemp("data"))


def test_bertscore_of_empty_equal_near_and_far_answers(encoder: str) -> None:
    from tasks.evaluate.metrics.bertscore import BertScoreF1

    metric = BertScoreF1(encoder)
    predictions = ["", "  ", "\u200b", "The weather is nice.", "The weather is lovely today.", "Sort the list of keys."]
    found = metric.compute(predictions=predictions, references=["The weather is nice."] * 6)
    empty, blank, unseen, same, near, far = found["statistics"][:, 0]
    assert (empty, blank, unseen) == (0, 0, 0)
    assert same == pytest.approx(1, abs=1e-5)
    assert 1 > near > far
    assert found["bertscore_f1"] == pytest.approx(found["statistics"][:, 0].mean())


def test_bertscore_of_a_pair_depends_on_nothing_beside_it(encoder: str) -> None:
    from tasks.evaluate.metrics.bertscore import BertScoreF1

    metric = BertScoreF1(encoder)
    predictions = ["yes", "Iterate over all files below a folder, longest names first.", CHINESE[1]]
    references = ["Compile a regular expression.", "no", "Raised when a key is missing from a mapping of names."]
    together = metric.statistics(predictions, references)
    for row, pair in enumerate(zip(predictions, references, strict=True)):
        assert metric.statistics([pair[0]], [pair[1]])[0, 0] == together[row, 0]


def test_bertscore_reads_what_its_encoder_can_of_a_long_answer(encoder: str) -> None:
    from tasks.evaluate.metrics.bertscore import BertScoreF1

    assert 0 < BertScoreF1(encoder).statistics(["word " * 3000], ["word and word"])[0, 0] < 1


def test_comparison_puts_models_side_by_side_on_each_test_set() -> None:
    metrics = {
        "train.loss": 1.0,
        "evaluate.zeta.python.loss": 4.0,
        "evaluate.tuned.python.loss": 2.0,
        "evaluate.tuned.python.loss_low": 1.5,
        "evaluate.base.python.loss": 3.0,
        "evaluate.distilled.python.size_mb": 5.0,
        "evaluate.base.v1.2.rouge_l": 0.5,
        "evaluate.odd": 1.0,
    }
    table = comparison_table(metrics)
    assert [(line["test_set"], line["model"]) for line in table] == [
        ("python", "base"), ("python", "tuned"), ("python", "distilled"), ("python", "zeta"), ("v1.2", "base"),
    ]  # fmt: skip
    assert table[1]["loss"] == 2.0
    assert table[1]["loss_low"] == 1.5
    assert table[2]["loss"] is None
    assert comparison_table({}) == []


def test_a_key_is_parted_at_its_first_and_last_dot() -> None:
    assert parse_key("evaluate.tuned.set.1.bleu") == ("tuned", "set.1", "bleu")
    assert parse_key("evaluate.tuned.bleu") is None
    assert parse_key("report.a.b.c") is None
