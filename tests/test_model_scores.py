"""Scores that models give: they equal the models' own losses, whatever stands beside a row, and a bound removes."""

import math
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from flows.planner import preflight
from pipeline_config.data_schema import Quality
from pipeline_config.errors import ConfigError, ModelError
from pipeline_config.fields import key_values
from pipeline_config.schema import Config
from tasks.kernels.classifier import classify
from tasks.quality.decide import decide
from tasks.quality.model_scores import score_by_model
from tasks.quality.score import score_rows
from tasks.quality.settings import active_rules
from tasks.quality.task import quality
from tasks.stage import StageInput
from tasks.toxicity.task import toxicity
from tests.test_quality import NARROW, chat, conversation, frame_of
from tests.toy_classifier import make_toy_classifier
from tests.toy_model import make_toy_model

RECORDS = [
    chat("Return the sum of the numbers.", "def function(self, value): return self.value"),
    chat("How are you today?", "今天天气很好，我们去公园吧。" * 12),
    chat("Hello", "hello", "who are you?", "assistant"),
    conversation(("text", "Return the sum of the numbers in the list. " * 30)),
    chat("Return the sum of the numbers.", "def function(self, value): return self.value"),
    conversation(("text", "")),
    chat("Say nothing.", ""),
]
LENGTH = 96
SCORES = ("perplexity", "difficulty", "classifier")


@pytest.fixture(scope="module")
def causal(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_toy_model(tmp_path_factory.mktemp("causal"))


@pytest.fixture(scope="module")
def classifier(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_toy_classifier(tmp_path_factory.mktemp("classifier"), ["bad", "fair", "good"])


def config_of(causal: Path, classifier: Path, **more: Any) -> Quality:
    own = {"model": str(causal), "max_length": LENGTH}
    settings = {"perplexity": own, "difficulty": own, "classifier": {"model": str(classifier), "max_length": LENGTH}}
    return Quality.model_validate(settings | more)


def scored(config: Quality, records: list[dict[str, Any]], tmp_path: Path) -> pl.DataFrame:
    rows = frame_of(*records).lazy()
    on = [name for name in SCORES if getattr(config, name) is not None]
    return pl.DataFrame([score_by_model(name, rows, config, "", tmp_path) for name in on])


def loss(model: Any, ids: list[int], last: int) -> float:
    """Mean loss of the last tokens, by the model's own arithmetic."""
    import torch

    labels = torch.tensor([[-100] * (len(ids) - last) + ids[len(ids) - last :]])
    with torch.inference_mode():
        return float(model(input_ids=torch.tensor([ids]), labels=labels).loss)


def test_scores_are_the_models_own(causal: Path, classifier: Path, tmp_path: Path) -> None:
    import torch
    from transformers import AutoModelForCausalLM, AutoModelForSequenceClassification, AutoTokenizer

    found = scored(config_of(causal, classifier), RECORDS, tmp_path)
    tokenizer, model = AutoTokenizer.from_pretrained(causal), AutoModelForCausalLM.from_pretrained(causal).eval()
    judge = AutoModelForSequenceClassification.from_pretrained(classifier).eval()

    def tokens(text: str) -> list[int]:
        return tokenizer(text, add_special_tokens=False)["input_ids"]

    for row, record in zip(found.iter_rows(named=True), RECORDS, strict=True):
        contents = [turn["content"] for turn in record["messages"]]
        whole = tokens("\n".join(contents))[:LENGTH]
        with torch.inference_mode():
            logits = judge(torch.tensor([whole or [tokenizer.pad_token_id]])).logits[0]
        if whole:
            start = [tokenizer.bos_token_id]
            assert row["perplexity"] == pytest.approx(math.exp(loss(model, start + whole, len(whole))), rel=1e-4)
            assert row["classifier"] == pytest.approx(float(logits.softmax(0)[2]), rel=1e-4)
        else:
            assert row["perplexity"] is None
        answer = tokens(contents[-1])[: LENGTH // 2]
        if len(contents) < 2 or not answer:
            assert row["difficulty"] is None
            continue
        prompt = tokens("\n".join(contents[:-1]) + "\n")[-LENGTH // 2 :]
        behind = loss(model, start + prompt + answer, len(answer))
        alone = loss(model, start + answer, len(answer))
        assert row["difficulty"] == pytest.approx(math.exp(behind - alone), rel=1e-4)


def test_a_score_depends_on_its_row_alone(causal: Path, classifier: Path, tmp_path: Path) -> None:
    config = config_of(causal, classifier)
    together = scored(config, RECORDS, tmp_path)
    apart = pl.concat([scored(config, [record], tmp_path) for record in RECORDS])
    assert together.equals(apart)
    backwards = scored(config, RECORDS[::-1], tmp_path)
    assert backwards.reverse().equals(together)


def test_equal_texts_are_read_once_and_no_row_is_no_work(
    causal: Path, classifier: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import tasks.kernels.likelihood as module

    read: list[int] = []
    original = module.example_losses

    def watched(model: Any, ids: Any, masks: Any, **options: Any) -> Any:
        read.append(len(ids))
        return original(model, ids, masks, **options)

    monkeypatch.setattr(module, "example_losses", watched)
    config = config_of(causal, classifier)
    assert scored(config, [RECORDS[0]] * 5, tmp_path)["perplexity"].n_unique() == 1
    assert read == [1, 1, 1]
    assert scored(config, [], tmp_path).shape == (0, 3)


def test_a_bound_removes_and_changes_no_score(causal: Path, classifier: Path, tmp_path: Path) -> None:
    config = config_of(causal, classifier, rules=[])
    frame = frame_of(*RECORDS)
    scores = score_rows(frame.lazy(), config).hstack(scored(config, RECORDS, tmp_path))
    free = decide(frame.select(NARROW), scores, config)
    assert free.removed.is_empty()
    assert {"score_perplexity", "score_difficulty", "score_classifier"} <= set(free.assigned.columns)
    for name in ("perplexity", "difficulty", "classifier"):
        values = scores[name].to_numpy()
        middle = float(np.nanmedian(values))
        for side, gone in (("max", values > np.float32(middle)), ("min", values < np.float32(middle))):
            settings = getattr(config, name).model_dump() | {side: middle}
            bounded = config.model_copy(update={name: type(getattr(config, name)).model_validate(settings)})
            removed = decide(frame.select(NARROW), scores, bounded).removed
            assert removed["row_id"].to_list() == frame["row_id"].filter(pl.Series(gone)).to_list()
            assert set(removed["rule"]) == {f"{'high' if side == 'max' else 'low'}_{name}"}
    assert "high_perplexity" in [rule.name for rule in active_rules(Quality.model_validate({"perplexity": {"max": 5}}))]
    with pytest.raises(ConfigError):
        active_rules(Quality.model_validate({"disable": ["high_perplexity"]}))


def test_labels_of_one_model_may_be_independent(tmp_path: Path) -> None:
    labels = ["toxic", "insult", "threat"]
    several = make_toy_classifier(tmp_path / "several", labels, multi_label=True)
    texts = ["hello there", "", "hello there", "how are you? " * 90]
    names, said = classify(texts, str(several), tmp_path, max_length=512, batch_size=2, label="")
    assert names == labels
    assert said.shape == (4, 3)
    assert (said[0] == said[2]).all()
    assert not np.allclose(said.sum(axis=1), 1, atol=1e-3)
    one = make_toy_classifier(tmp_path / "one", ["bad", "good"])
    names, said = classify(texts, str(one), tmp_path, max_length=64, batch_size=2, label="")
    assert np.allclose(said.sum(axis=1), 1, atol=1e-5)


def test_a_bound_stands_in_no_key_of_the_scores() -> None:
    on = Quality.model_validate({"perplexity": {}, "difficulty": {}})
    bounded = Quality.model_validate({"perplexity": {"max": 9, "min": None}, "difficulty": {"min": 0.1}})
    assert key_values(on, "scoring") == key_values(bounded, "scoring")
    assert key_values(on) != key_values(bounded)
    assert key_values(on, "scoring") != key_values(Quality(), "scoring")


def test_a_model_that_cannot_is_refused_before_anything_runs(causal: Path, classifier: Path, tmp_path: Path) -> None:
    (tmp_path / "rows.jsonl").write_text('{"text": "hello"}\n')
    sources = {"sources": [{"path": str(tmp_path / "rows.jsonl")}]}

    def check(quality: Quality) -> None:
        run = {"ingest": sources, "model": str(causal), "quality": quality.model_dump()}
        preflight(Config.model_validate(run), tmp_path)

    check(config_of(causal, classifier))
    with pytest.raises(ModelError, match="generates no text") as caught:
        check(config_of(classifier, classifier))
    assert caught.value.place == "quality.perplexity.model"
    with pytest.raises(ModelError, match="has no classes"):
        check(config_of(causal, causal))
    with pytest.raises(ModelError, match="no packaged asset"):
        check(Quality.model_validate({"classifier": {"model": "asset:all-minilm-l6-v2"}}))
    mistyped = Quality.model_validate({"classifier": {"model": str(classifier), "label": "great"}})
    with pytest.raises(ModelError, match="no label 'great'") as caught:
        scored(mistyped, RECORDS, tmp_path)
    assert caught.value.cure == "its labels are: bad, fair, good"


def test_checking_the_models_imports_no_torch(causal: Path, classifier: Path, tmp_path: Path) -> None:
    code = (
        "import sys; from pathlib import Path; from tasks.quality.task import references;"
        "from pipeline_config.schema import Config; from pipeline_config.data_schema import Quality;"
        f"run = Config.model_validate({{'ingest': {{'sources': [{{'path': 'a'}}]}}, 'model': {str(causal)!r}}});"
        f"quality = Quality.model_validate({{'perplexity': {{}}, 'classifier': {{'model': {str(classifier)!r}}}}});"
        f"references(quality, run, Path({str(tmp_path)!r}));"
        "assert not {'torch', 'transformers', 'polars', 'numpy'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_the_stages_score_by_models_and_decide(causal: Path, classifier: Path, tmp_path: Path) -> None:
    own = {"model": str(causal), "max_length": LENGTH, "max": 1e-9}
    judge = {"model": str(classifier), "categories": {"good": {"threshold": 0, "action": "quarantine"}}}
    sections = {"quality": {"rules": [], "perplexity": own}, "toxicity": {"model": judge, "english": None}}
    run = Config.model_validate({"ingest": {"sources": [{"path": "a.jsonl"}]}, **sections})
    frame = frame_of(RECORDS[0], RECORDS[3])
    for stage, kind in ((quality, "high_perplexity"), (toxicity, "toxic_category")):
        section = run.section(stage.name)
        given = StageInput(section, run, 0, frame.lazy(), None, {}, tmp_path, tmp_path, tmp_path)
        own, *apart = [
            stage.score(given),
            *(part.run(given) for name, part in stage.apart.items() if getattr(section, name)),
        ]
        scores = own.hstack([column for part in apart for column in part.drop("row_id")])
        decision = stage.run(replace(given, scores=scores))
        assert [*decision.removed["rule"], *decision.quarantined["reason"]] == [kind, kind]
