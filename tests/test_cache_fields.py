"""Every field of the configuration, one a line: the stage whose key it stands in, and no other.

Nothing runs here. Each line changes one field of a finished run and asks which stages would run on the inputs they
had: its own stage for a field that shapes output, none for one that does not. A field that no line names fails the
last test.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel

from pipeline_config.schema import DATA_STAGES, STAGES, Config
from tasks.execute import examine
from tasks.key import key_of
from tasks.scores import score_parts, wanted_scores
from tests.cached_place import Outcome, Place, make_place, settings, stages, stand_in_encoder

OPTIMISATION = {
    "learning_rate": 0.5, "lr_scheduler_type": "linear", "warmup_ratio": 0.5, "num_train_epochs": 2, "max_steps": 2,
    "max_minutes": 9.0,
    "per_device_train_batch_size": 2, "gradient_accumulation_steps": 2, "max_grad_norm": 2, "weight_decay": 0.1,
    "optim": "adam", "plateau_patience": 3, "plateau_factor": 0.2, "label_smoothing_factor": 0.1,
    "neftune_noise_alpha": 5.0, "embedding_dropout": 0.1, "residual_dropout": 0.1,
    "losses": [{"name": "cross_entropy", "weight": 0.5}],
    "packing": False, "group_by_length": True, "packed_length": 65, "precision": "fp32", "eval_steps": 3,
    "max_eval_examples": 3,
}  # fmt: skip
SHAPING: dict[str, dict[str, Any]] = {
    "ingest": {
        "max_record_mb": 1.0, "sources.1.name": "other", "sources.1.format": "auto", "sources.1.encoding": "utf-8",
        "sources.1.fields": {"label": "text"}, "sources.1.task": "t", "sources.1.lang": "en", "sources.1.subset": "s",
        "sources.1.dataset_split": "test", "sources.1.revision": "r",
    },
    "clean": {
        "mojibake": False, "unicode": "NFKC", "markup": "keep", "whitespace": False, "control": False,
        "pii.email": "keep", "pii.phone": "keep", "pii.ip": "keep", "pii.url_credentials": "keep",
        "pii.bank_card": "keep", "pii.identity_number": "keep", "pii.secret": "keep", "pii.allow": ["a@b.org"],
    },
    "dedupe": {
        "exact": False, "near": False, "unit": "whole", "threshold": 0.8, "text_threshold": 0.8, "shingle": 4,
        "num_perm": 64, "bands": 8, "recall": 0.9, "conflicting_answer": "keep", "priority": "longest",
        "semantic": {}, "index": False,
    },
    "toxicity": {
        "judge": "all", "english": None, "english.threshold": 0.5, "english.action": "flag", "chinese": None,
        "chinese.min_word_length": 1, "chinese.allow": ["坏"], "chinese.threshold": 2, "chinese.action": "remove",
        "model": {"model": "asset:all-minilm-l6-v2", "categories": {"toxic": {}}},
    },
    "quality": {
        "rules": [], "thresholds": {"empty_answer": 1}, "disable": ["empty_answer"],
        "languages": ["en"], "min_language_score": 0.6, "perplexity": {"max": 9}, "difficulty": {"min": 0.1},
        "classifier": {"model": "asset:all-minilm-l6-v2"},
    },
    "select": {
        "description": "stories", "sources": ["talk"], "nearest": 2, "keep": 3, "min_similarity": 0.1,
        "method": "importance", "field": "score", "quota_by": "source", "diversity": 2,
        "max_length": 32,
    },
    "split": {
        "validation": 0.2, "test": 0.3, "folds": 2, "group_by": "id", "near_threshold": 0.7, "decontaminate": False,
        "max_overlap": 0.6, "width": 0.5, "stratify": ["task"], "time_by": "day",
    },
    "balance": {
        "mode": "report", "by": "task", "temperature": 2, "cap": 5, "floor": 2, "max_repeats": 2,
        "shares": {"mail": 0.5}, "resample": "down",
    },
    "augment": {"methods": ["delete"], "share": 0.5, "strength": 0.2, "sources": ["talk"], "near_threshold": 0.7,
                "budgets": {"t": 0.5}, "min_similarity": 0.5},
    "tokenize": {"train_on": "last", "max_length": 128, "on_too_long": "drop", "max_lost_tokens": 0.1,
                 "max_lost_of_task": 0.1},
    "train": {
        **OPTIMISATION, "method": "full", "lora": {"lora_r": 4}, "early_stopping": {"patience": 2},
        "lora.lora_r": 4, "lora.lora_alpha": 4, "lora.lora_dropout": 0.1, "lora.lora_target": ["q_proj"],
        "lora.use_rslora": True, "lora.use_dora": True, "lora.use_pissa": True, "lora.use_vera": True,
        "lora.loraplus_lr_ratio": 2, "partial": {"layers": 1}, "partial.layers": "last-1", "partial.modules": ["mlp"],
        "adapter": {"reduction_factor": 4}, "adapter.placement": "houlsby", "adapter.reduction_factor": 4,
        "adapter.adapter_dropout": 0.1, "prompt": {"init_text": "Go."}, "prompt.num_virtual_tokens": 3,
        "prompt.init_text": "Go.",
    },
    "distill": {
        **{f"small.{name}": value for name, value in OPTIMISATION.items()},
        "other": {}, "small.layers": 1, "small.temperature": 3, "small.alpha": 0.1,
    },
    "compress": {"merged.from": "train", "merged.dtype": "float16", "other": {}},
    "evaluate": {
        "models": ["base"], "test_sets": ["test"], "max_examples": 3, "max_loss_examples": 3, "max_new_tokens": 3,
        "max_prompt_tokens": 32, "batch_size": 2, "metrics": ["bleu"], "bootstrap": 200, "precision": "fp32",
    },
    "report": {"title": "T", "examples": 1},
}  # fmt: skip
ELSEWHERE = {  # a field of one section that shapes what another stage does
    "ingest.sources.1.split": ("test", "ingest split"),
    "ingest.sources.1.name": ("other", "ingest report"),
    "distill.small.from": ("train", ""),
}
NEUTRAL = {
    "select.batch_size": 8,
    "augment.workers": 2,
    "train.save_steps": 3,
    "distill.small.save_steps": 3,
    **{f"{stage}.gate": {"on_fail": "warn"} for stage in STAGES},
    **{f"{stage}.gate.min_rows": 0 for stage in DATA_STAGES},
}
PLACES = {"ingest.sources.0.path", "ingest.sources.0.dataset", "select.seed_set", "select.encoder", "evaluate.encoder"}
PLACES |= {"augment.encoder", "augment.masked_model"}
PLACES |= {
    "split.frozen",
    "split.frozen_digest",
    "split.cutoff",
    "split.held_fold",
    "split.decontaminate_against",
}  # `test_split_given.py`
PLACES |= {"dedupe.against"}  # by content: `test_dedupe_against.py`
PLACES |= {
    "model",
    "tokenize.model",
    "tokenize.chat_template",
    "train.model",
    "train.teacher",
}  # by content: `test_cache_table.py`
SCORING = {
    "toxicity.judge", "toxicity.model", "toxicity.english", "toxicity.chinese", "toxicity.chinese.min_word_length",
    "toxicity.chinese.allow", "quality.rules", "quality.perplexity", "quality.difficulty",
    "quality.classifier",
    "select.method", "select.description", "select.sources", "select.nearest", "select.max_length",
}  # fmt: skip

LINES = [(f"{stage}.{name}", value, stage) for stage, fields in SHAPING.items() for name, value in fields.items()]
LINES = [line for line in LINES if line[0] not in ELSEWHERE]
LINES += [(f"{stage}.seed", 99, stage) for stage in STAGES] + [("seed", 99, " ".join(STAGES))]
LINES += [(path, value, ran) for path, (value, ran) in ELSEWHERE.items()]
LINES += [(path, value, "") for path, value in NEUTRAL.items()]


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Place, Outcome]]:
    with stand_in_encoder():
        place = make_place(tmp_path_factory.mktemp("fields"))
        yield place, place.run()


def would_run(finished: tuple[Place, Outcome], path: str, value: Any) -> tuple[list[str], dict[str, list[str]]]:
    """The stages that would run on the inputs they had, and the keys of the scores."""
    place, done = finished
    changed = Place(place.root, Config.model_validate(place.config).model_dump(mode="json", by_alias=True))
    changed.set(path, value)
    work = changed.workspace()
    ran: list[str] = []
    scores: dict[str, list[str]] = {}
    for stage in stages({}):
        work.upstream = {name: done.artifacts[name] for name in STAGES[: STAGES.index(stage.name)]}
        verdict = examine(stage, work)
        if verdict.verdict == "run":
            ran.append(stage.name)
        if stage.score is not None:
            wanted = wanted_scores(stage, work)
            scores[stage.name] = [key_of(score_parts(stage, verdict, work, name)) for name in wanted]
    return ran, scores


@pytest.mark.parametrize(("path", "value", "ran"), LINES, ids=[line[0] for line in LINES])
def test_a_field_stands_in_the_keys_it_shapes(finished: tuple[Place, Outcome], path: str, value: Any, ran: str) -> None:
    found, scores = would_run(finished, path, value)
    assert " ".join(found) == ran
    assert {stage for stage in scores if not all(known(finished[0], stage, key) for key in scores[stage])} == (
        {path.split(".")[0]} if path in SCORING else set()
    )


def known(place: Place, stage: str, key: str) -> bool:
    return (place.data / "artifacts" / stage / "scores" / key).exists()


def test_every_field_has_a_line() -> None:
    named = {path for path, _, _ in LINES} | PLACES
    named |= {path.replace(".1.", ".0.") for path in named}
    config = Config.model_validate(make_settings())
    assert {path for path in leaves(config) if not covered(path, named)} == set()


def covered(path: str, named: set[str]) -> bool:
    return any(path == name or path.startswith(f"{name}.") for name in named)


def leaves(model: BaseModel, path: str = "") -> Iterator[str]:
    """Every field of a model, by its dotted path; of lists the first entry."""
    values = {name: getattr(model, name) for name in type(model).model_fields} | (model.__pydantic_extra__ or {})
    for name, value in values.items():
        field = type(model).model_fields.get(name)
        here = f"{path}.{(field.alias if field else None) or name}".removeprefix(".")
        if isinstance(value, BaseModel):
            yield from leaves(value, here)
        elif isinstance(value, list) and value and isinstance(value[0], BaseModel):
            yield from leaves(value[0], f"{here}.0")
        else:
            yield here


def make_settings() -> dict[str, Any]:
    """Every section, every optional part of one too."""
    found = settings(Path("place"))
    found["train"]["early_stopping"] = {}
    return found
