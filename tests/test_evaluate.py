"""Evaluation: right losses in flat memory, the same rows and prompts for every model, files without timings."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline_config.errors import ConfigError, DataError, StageError
from pipeline_config.model_schema import Evaluate
from pipeline_config.schema import Config
from tasks.artifact import Artifact
from tasks.evaluate.examples import choose_examples, split_answer
from tasks.evaluate.generate import answers
from tasks.evaluate.prompts import end_ids, fitted_prompt, without_middle
from tasks.evaluate.standalone import evaluate_model
from tasks.evaluate.task import check_names, evaluate, references
from tasks.kernels.batches import by_length
from tasks.kernels.chat import Conversation, render_conversations
from tasks.kernels.encoding import encode_conversations
from tasks.kernels.likelihood import example_losses
from tasks.kernels.models import load_causal, load_tokenizer
from tasks.kernels.rows import ROW_SCHEMA
from tasks.stage import StageInput
from tests.toy_model import make_toy_model

LENGTHS = st.lists(st.integers(1, 60), max_size=40)


@pytest.fixture(scope="module")
def toy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_toy_model(tmp_path_factory.mktemp("toy"))


@pytest.fixture(scope="module")
def other(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_toy_model(tmp_path_factory.mktemp("other"), seed=1)


@pytest.fixture(scope="module")
def model(toy: Path) -> Any:
    return load_causal(str(toy), "float32")


@pytest.fixture(scope="module")
def tokenizer(toy: Path) -> Any:
    return load_tokenizer(str(toy))


def turn(role: str, content: str) -> dict[str, Any]:
    return {"role": role, "content": content, "weight": None}


def make_rows(n: int, start: int = 0) -> pl.DataFrame:
    """n rows: every fifth raw text, every third a label, English and Chinese."""
    lines = []
    for i in range(start, start + n):
        question, answer = (f"What is {i}?", f"{i} is a number") if i % 2 else (f"{i}是什么？", f"{i}是一个数")
        turns = [turn("user", question), turn("assistant", answer)] if i % 5 else [turn("text", f"Text {i}. {answer}")]
        label = {"label": "number"} if i % 3 == 0 else {}
        lines.append({"row_id": f"{i * 0x9E3779B97F4A7C15 % 2**64:016x}", "messages": turns, **label})
    return pl.DataFrame(lines, schema=ROW_SCHEMA)


def make_tokens(rows: pl.DataFrame, tokenizer: Any, split: str = "test:numbers") -> pl.DataFrame:
    lines = []
    for row_id, turns in zip(rows["row_id"], rows["messages"], strict=True):
        learned = [n for n, message in enumerate(turns) if message["role"] == "assistant"]
        if learned:
            rendered = render_conversations(tokenizer, [Conversation(row_id, turns, learned)])
            ids, mask = encode_conversations(tokenizer, rendered).row(0)
        else:
            ids = np.array(tokenizer(turns[0]["content"])["input_ids"])
            mask = np.arange(len(ids)) > 0
        lines.append((row_id, split, ids.tolist(), mask.tolist(), int(mask.sum())))
    kinds = {"input_ids": pl.List(pl.Int32), "loss_mask": pl.List(pl.Boolean), "n_trained": pl.Int32}
    return pl.DataFrame(lines, schema={"row_id": pl.String, "split": pl.String, **kinds}, orient="row")


def random_rows(n: int, seed: int = 0) -> tuple[list[list[int]], list[list[bool]]]:
    draw = np.random.default_rng(seed)
    lengths = draw.integers(2, 60, n)
    ids = [draw.integers(3, 300, length).tolist() for length in lengths]
    masks = [[False, *[True], *(draw.random(length - 2) < 0.4)][:length] for length in lengths]
    return ids, masks


@given(LENGTHS, st.integers(1, 8), st.integers(1, 200))
def test_batches_hold_every_item_once_within_their_bounds(lengths: list[int], size: int, tokens: int) -> None:
    batches = by_length(lengths, size, tokens)
    assert sorted(place for batch in batches for place in batch) == list(range(len(lengths)))
    for batch in batches:
        assert len(batch) <= size
        assert len(batch) == 1 or len(batch) * max(lengths[place] for place in batch) <= tokens


def test_a_loss_may_be_asked_not_to_depend_on_its_neighbours(model: Any) -> None:
    ids, masks = random_rows(13)
    whole = example_losses(model, ids, masks, batch_size=4, label="", alone=True)
    assert np.allclose(whole, example_losses(model, ids, masks, batch_size=4, label=""), rtol=1e-5)
    for row in range(13):
        assert (example_losses(model, [ids[row]], [masks[row]], batch_size=4, label="", alone=True) == whole[row]).all()


def test_losses_are_the_models_own_whatever_the_batch(model: Any) -> None:
    ids, masks = random_rows(13)
    found = {size: example_losses(model, ids, masks, batch_size=size, label="") for size in (1, 4, 13)}
    for row, (tokens, mask) in enumerate(zip(ids, masks, strict=True)):
        labels = torch.tensor([[token if learned else -100 for token, learned in zip(tokens, mask, strict=True)]])
        with torch.inference_mode():
            own = model(input_ids=torch.tensor([tokens]), labels=labels).loss.item()
        assert found[1][row, 1] == sum(mask)
        assert found[1][row, 0] / sum(mask) == pytest.approx(own, rel=1e-5)
    for size in (4, 13):
        assert np.allclose(found[size], found[1], rtol=1e-5)


def test_only_trained_positions_are_projected_and_nothing_is_kept(model: Any, monkeypatch: Any) -> None:
    import weakref

    import tasks.kernels.likelihood as module

    ids, masks = random_rows(24)
    kept: list[Any] = []
    projected: list[int] = []
    original = module.token_losses

    def watched(logits: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        assert all(reference() is None for reference in kept)  # logits of earlier batches are gone
        kept.append(weakref.ref(logits.untyped_storage()))
        projected.append(logits.shape[0])
        return original(logits, targets)

    monkeypatch.setattr(module, "token_losses", watched)
    example_losses(model, ids, masks, batch_size=4, label="")
    assert len(projected) == 6
    assert sum(projected) == sum(map(sum, masks))
    assert not model.get_output_embeddings()._forward_pre_hooks


def test_the_models_own_treatment_of_its_logits_is_kept(model: Any) -> None:
    class Scaled(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.device = model.device

        def get_output_embeddings(self) -> Any:
            return model.get_output_embeddings()

        def forward(self, **inputs: Any) -> Any:
            out = model(**inputs)
            out.logits = torch.tanh(out.logits / 2) * 2
            return out

    ids, masks = random_rows(3)
    found = example_losses(Scaled(), ids, masks, batch_size=3, label="")
    with torch.inference_mode():
        logits = torch.tanh(model(input_ids=torch.tensor([ids[0]])).logits[0] / 2) * 2
    learned = torch.tensor(masks[0])[1:]
    own = torch.nn.functional.cross_entropy(logits[:-1][learned], torch.tensor(ids[0])[1:][learned], reduction="sum")
    assert found[0, 0] == pytest.approx(own.item(), rel=1e-5)


def test_answers_do_not_depend_on_the_batch_and_stop_where_they_end(model: Any) -> None:
    prompts, _ = random_rows(9, seed=3)
    never = [model.config.vocab_size - 1]
    alone = answers(model, prompts, ends=never, max_new_tokens=12, batch_size=1, label="")
    assert answers(model, prompts, ends=never, max_new_tokens=12, batch_size=9, label="") == alone
    with torch.inference_mode():
        ids = list(prompts[0])
        for _ in range(12):
            ids.append(int(model(input_ids=torch.tensor([ids])).logits[0, -1].argmax()))
    assert alone[0] == ids[len(prompts[0]) :]
    ends = sorted({alone[0][4], *never})
    stopped = answers(model, prompts, ends=ends, max_new_tokens=12, batch_size=9, label="")
    assert stopped == [row[: next((n for n, token in enumerate(row) if token in ends), 12)] for row in alone]


def test_an_answer_ends_at_eos_or_at_the_templates_end_of_turn(tokenizer: Any) -> None:
    assert end_ids(tokenizer, [7, 9]) == sorted({7, 9, tokenizer.convert_tokens_to_ids("<|im_end|>")})
    template = tokenizer.chat_template
    try:
        tokenizer.chat_template = template.replace("<|im_end|>", "<|endoftext|>")
        assert tokenizer.convert_tokens_to_ids("<|endoftext|>") in end_ids(tokenizer, None)
    finally:
        tokenizer.chat_template = template


@settings(max_examples=40, deadline=None)
@given(st.text("ab 中文。", max_size=400), st.text("xy 字", max_size=40), st.integers(1, 200))
def test_a_prompt_is_cut_only_if_it_must_be_and_then_fits(tokenizer: Any, long: str, short: str, limit: int) -> None:
    messages = [turn("system", "Be kind."), turn("user", long), turn("user", short)]
    whole = fitted_prompt(tokenizer, messages, None, 10_000)
    prompt = fitted_prompt(tokenizer, messages, None, limit)
    assert not whole.cut
    assert prompt.cut == (len(whole.ids) > limit)
    assert len(prompt.ids) <= limit


@pytest.mark.parametrize("filler", ["some words more ", "中间的话"])
def test_the_longest_user_turn_loses_its_middle_and_all_else_stays(tokenizer: Any, filler: str) -> None:
    system = "Answer in one word and be kind to everyone, whatever they may ask you to do. " * 3
    messages = [turn("system", system), turn("user", "first"), turn("user", f"BEGIN {filler * 40}END")]
    limit = len(fitted_prompt(tokenizer, messages, None, 10_000).ids) - 100
    prompt = fitted_prompt(tokenizer, messages, None, limit)
    text = tokenizer.decode(prompt.ids)
    assert limit - 40 < len(prompt.ids) <= limit  # no more is cut than must be
    for kept in (system.strip(), "first", "BEGIN " + filler, filler + "END", "…"):
        assert kept in text


def test_the_middle_goes_and_both_ends_stay() -> None:
    assert without_middle("abcdefghij", 4) == "ab\n…\nij"
    assert without_middle("short", 5) == "short"


def test_the_prompt_ends_before_the_last_answer() -> None:
    turns = [turn("user", "a"), turn("assistant", "b"), turn("user", "c"), turn("assistant", "d"), turn("user", "e")]
    prompt, reference = split_answer(turns) or ([], "")
    assert ([message["content"] for message in prompt], reference) == (["a", "b", "c"], "d")
    for unanswerable in (
        [turn("text", "a")],
        [turn("assistant", "a")],
        [turn("user", "a"), turn("assistant", " ")],
        [],
    ):
        assert split_answer(unanswerable) is None


def test_the_same_rows_are_chosen_when_others_come_or_the_order_changes(tokenizer: Any) -> None:
    config = Evaluate(max_examples=6, max_loss_examples=10)
    rows = make_rows(40)
    tokens = make_tokens(rows, tokenizer)
    chosen = choose_examples(rows.lazy(), tokens.lazy(), config, 0)
    assert len(chosen) >= 10
    assert sum(example.reference is not None for example in chosen) == 6
    shuffled = choose_examples(rows.reverse().lazy(), tokens.sample(fraction=1, shuffle=True, seed=1).lazy(), config, 0)
    assert shuffled == chosen
    more = pl.concat([make_rows(4, start=100), rows])
    widened = choose_examples(more.lazy(), make_tokens(more, tokenizer).lazy(), config, 0)
    known = set(rows["row_id"])
    assert {e.row_id for e in widened} & known <= {e.row_id for e in chosen}
    assert choose_examples(rows.lazy(), tokens.lazy(), config, 1) != chosen


def test_raw_text_is_scored_by_loss_alone_and_train_rows_not_at_all(tokenizer: Any) -> None:
    rows = make_rows(20)
    tokens = pl.concat([make_tokens(rows[:15], tokenizer), make_tokens(rows[15:], tokenizer, "train")])
    chosen = choose_examples(rows.lazy(), tokens.lazy(), Evaluate(), 0)
    assert {e.row_id for e in chosen} == set(rows["row_id"][:15])
    texts = {row["row_id"] for row in rows.iter_rows(named=True) if row["messages"][0]["role"] == "text"}
    assert all((e.reference is None) == (e.row_id in texts) for e in chosen)
    assert all(e.input_ids and e.test_set == "numbers" for e in chosen)


def test_a_test_set_that_does_not_exist_is_named_with_a_near_one(tokenizer: Any) -> None:
    rows = make_rows(4)
    tokens = make_tokens(rows, tokenizer)
    with pytest.raises(ConfigError, match="did you mean 'numbers'"):
        choose_examples(rows.lazy(), tokens.lazy(), Evaluate(test_sets=["test:number"]), 0)
    with pytest.raises(ConfigError, match="no row that was tokenised"):
        choose_examples(rows.lazy(), make_tokens(rows, tokenizer, "train").lazy(), Evaluate(), 0)


def run_config(tmp_path: Path, toy: Path, **changes: Any) -> Config:
    source = tmp_path / "rows.jsonl"
    source.touch()
    sections: dict[str, Any] = {
        "model": str(toy),
        "ingest": {"sources": [{"path": str(source)}]},
        "split": {},
        "tokenize": {},
        "train": {},
        "distill": {"small": {}},
        "evaluate": {"precision": "fp32", "max_examples": 6, "max_new_tokens": 5, "bootstrap": 200},
    }
    return Config.model_validate(sections | changes)


class Tokens:
    def __init__(self, frame: pl.DataFrame) -> None:
        self.frame = frame

    def rows(self) -> pl.LazyFrame:
        return self.frame.lazy()


def run_stage(tmp_path: Path, config: Config, rows: pl.DataFrame, tokenizer: Any, tuned: Path) -> tuple[Any, Path]:
    out = tmp_path / "out"
    out.mkdir(parents=True)
    train = tmp_path / "train"
    train.mkdir()
    (train / "model").symlink_to(tuned)
    tokens = pl.concat([make_tokens(rows[:20], tokenizer), make_tokens(rows[20:], tokenizer, "test")])
    upstream: Any = {"tokenize": Tokens(tokens), "train": Artifact(train, {})}
    given: Any = StageInput(config.evaluate, config, 3, rows.lazy(), None, upstream, out, tmp_path / "work", tmp_path)
    return evaluate.run(given), out


def test_a_run_gives_every_metric_and_files_that_are_the_same_in_every_run(
    tmp_path: Path, toy: Path, other: Path, tokenizer: Any
) -> None:
    rows = make_rows(40)
    config = run_config(tmp_path, toy)
    output, out = run_stage(tmp_path / "a", config, rows, tokenizer, other)
    for name in ("base", "tuned"):
        for test_set in ("numbers", "test"):
            key = f"{name}.{test_set}"
            for metric in ("loss", "bleu", "chrf", "rouge_l", "bertscore_f1", "f1_macro", "accuracy"):
                low, value, high = (output.metrics[f"{key}.{metric}{end}"] for end in ("_low", "", "_high"))
                assert low <= value + 1e-9
                assert value <= high + 1e-9
            assert output.metrics[f"{key}.tokens_per_second"] > 0
            assert output.metrics[f"{key}.size_mb"] > 0
    for metric in ("loss", "rouge_l"):
        difference = output.metrics[f"tuned.test.{metric}_diff"]
        assert difference == pytest.approx(
            output.metrics[f"tuned.test.{metric}"] - output.metrics[f"base.test.{metric}"]
        )
        assert output.metrics[f"tuned.test.{metric}_diff_low"] <= difference + 1e-9
    assert not [key for key in output.metrics if key.startswith("base.") and "_diff" in key]
    again, second = run_stage(tmp_path / "b", config, rows, tokenizer, other)
    assert {path.name for path in out.iterdir()} == {"predictions.parquet", "metrics.json"}
    for path in out.iterdir():
        assert path.read_bytes() == (second / path.name).read_bytes()
    timed = {key for key in output.metrics if key.endswith("tokens_per_second")}
    assert set(json.loads((out / "metrics.json").read_text())) == set(output.metrics) - timed
    assert output.facts == again.facts


def test_each_prediction_stands_beside_its_reference(tmp_path: Path, toy: Path, other: Path, tokenizer: Any) -> None:
    rows = make_rows(40)
    output, out = run_stage(tmp_path, run_config(tmp_path, toy), rows, tokenizer, other)
    lines = pl.read_parquet(out / "predictions.parquet", glob=False)
    assert lines.sort("test_set", "row_id", maintain_order=True).equals(lines)
    truth = {row["row_id"]: row["messages"][-1]["content"] for row in rows.iter_rows(named=True)}
    asked = lines.filter(pl.col("reference").is_not_null())
    assert all(truth[line["row_id"]] == line["reference"] for line in asked.iter_rows(named=True))
    assert asked["prediction"].null_count() == 0
    assert asked.group_by("model", "test_set").len()["len"].to_list() == [6] * 4
    for model in ("base", "tuned"):
        mine = lines.filter((pl.col("model") == model) & (pl.col("test_set") == "test"))
        summed = (mine["loss"].cast(pl.Float64) * mine["n_tokens"]).sum() / mine["n_tokens"].sum()
        assert summed == pytest.approx(output.metrics[f"{model}.test.loss"], rel=1e-5)
    assert output.facts["answered"] == {"numbers": 6, "test": 6}


def test_a_loss_that_is_not_finite_names_model_and_row(tmp_path: Path, toy: Path, tokenizer: Any) -> None:
    from safetensors.torch import load_file, save_file

    broken = make_toy_model(tmp_path / "broken")
    weights = load_file(broken / "model.safetensors")
    weights["model.norm.weight"][:] = float("nan")
    save_file(weights, broken / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(StageError, match="the loss of tuned is not finite"):
        run_stage(tmp_path, run_config(tmp_path, toy), make_rows(30), tokenizer, broken)


def test_names_are_checked_before_anything_runs(tmp_path: Path, toy: Path) -> None:
    config = run_config(tmp_path, toy)
    check_names(["base", "tuned", "small"], config)
    with pytest.raises(ConfigError, match="did you mean 'tuned'"):
        check_names(["tunde"], config)
    with pytest.raises(ConfigError, match="no model 'small'"):
        check_names(["small"], run_config(tmp_path, toy, distill=None))
    with pytest.raises(ConfigError, match="dot"):
        check_names([], run_config(tmp_path, toy, distill={"v1.5": {}}))


def test_a_run_without_tokens_or_test_rows_is_refused_before_it_starts(tmp_path: Path, toy: Path) -> None:
    whole = run_config(tmp_path, toy)
    assert whole.evaluate
    assert {"base", "tokenizer", "encoder"} <= set(references(whole.evaluate, whole, tmp_path))
    for changes, cure in (
        ({"tokenize": None, "train": None, "distill": None}, "tokenize: {}"),
        ({"split": None}, "split: {}"),
    ):
        config = run_config(tmp_path, toy, **changes)
        assert config.evaluate
        with pytest.raises(ConfigError) as error:
            references(config.evaluate, config, tmp_path)
        assert cure in error.value.cure


def test_one_model_is_measured_on_rows_outside_any_run(tmp_path: Path, toy: Path) -> None:
    config = Evaluate(precision="fp32", max_examples=5, max_loss_examples=8, max_new_tokens=4, bootstrap=100)
    rows = make_rows(30)
    found = evaluate_model(str(toy), rows, config, tmp_path, test_set="mine")
    assert found.metrics["model.mine.loss"] > 0
    assert "model.mine.rouge_l_low" in found.metrics
    assert found.predictions["row_id"].n_unique() >= 8
    fewer = evaluate_model(str(toy), rows.reverse(), config, tmp_path, test_set="mine")
    assert fewer.untimed == found.untimed
    empty = rows.with_columns(messages=pl.lit([], dtype=ROW_SCHEMA["messages"]))
    with pytest.raises(DataError):
        evaluate_model(str(toy), empty, config, tmp_path)


@pytest.mark.slow
@pytest.mark.model
def test_the_real_model_prefers_true_answers(tmp_path_factory: pytest.TempPathFactory) -> None:
    pairs = [
        ("What is the capital of France?", "The capital of France is Paris."),
        ("What colour is the sky on a clear day?", "On a clear day the sky is blue."),
        ("How many days are in a week?", "There are seven days in a week."),
        ("Which animal barks?", "A dog barks."),
    ]
    lines = [
        {"row_id": f"{4 * shift + n:016x}", "messages": [turn("user", q), turn("assistant", pairs[(n + shift) % 4][1])]}
        for shift in (0, 1)
        for n, (q, _) in enumerate(pairs)
    ]
    config = Evaluate(max_new_tokens=10, bootstrap=100, metrics=["loss", "rouge_l"])
    rows = pl.DataFrame(lines, schema=ROW_SCHEMA)
    found = evaluate_model("asset:smollm2-135m-instruct", rows, config, tmp_path_factory.getbasetemp())
    right, wrong = found.predictions[:4], found.predictions[4:]
    assert right["prediction"].to_list() == wrong["prediction"].to_list()  # the same questions
    assert right["loss"].mean() < wrong["loss"].mean() - 1
    assert right["rouge_l"].mean() > wrong["rouge_l"].mean() + 0.2
    assert found.metrics["model.data.tokens_per_second"] > 1
