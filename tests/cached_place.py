"""A small run below Prefect, to ask after one change what runs again: real data stages, stand-ins for the model stages.

A stand-in writes what its key stands for, so its output differs whenever it runs for a new reason. Its key, references
and code are those of the real stage. The encoder is a stand-in too: a hash of the text in place of a vector.
"""

import json
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import xxhash

from flows.planner import load_stage
from pipeline_config.fields import key_values
from pipeline_config.schema import MODEL_STAGES, STAGES, Config
from tasks.artifact import Artifact, Store
from tasks.execute import Verdict, Workspace, examine, produce
from tasks.kernels.digests import canonical_json
from tasks.key import parents
from tasks.ledger import Output
from tasks.stage import Stage, StageInput
from tests.toy_model import CHAT_TEMPLATE, _tokenizer

_WORDS = [
    "river", "stone", "window", "garden", "market", "letter", "morning", "engine", "colour", "number", "season",
    "teacher", "island", "winter", "paper", "bridge", "music", "harbour", "forest", "kitchen", "mountain", "ticket",
    "pattern", "signal", "village", "doctor", "picture", "lantern", "copper", "weather",
]  # fmt: skip


def record(n: int) -> dict[str, str]:
    """An instruction and its answer, unlike every other."""
    words = [_WORDS[(n * k + k * k) % len(_WORDS)] for k in range(1, 26)]
    asked = f"Tell me how the {words[0]} and the {words[1]} of story {n} came to the {words[2]}."
    return {"instruction": asked, "output": f"In story {n} the " + " ".join(words[3:]) + f" met at noon on day {n}."}


RECORDS = [record(n) for n in range(40)]
DIRT = [
    RECORDS[3],
    {
        "instruction": "How do I reach the office?",
        "output": "Write to jane.doe@gmail.com, and they will answer you soon.",
    },
    {
        "instruction": "What do you think of my neighbour?",
        "output": "He is a fucking stupid asshole, and you are one too.",
    },
    {"instruction": "今天的天气怎么样？", "output": "今天天气很好，我们可以一起去公园散步，然后在湖边喝茶。"},
    {"instruction": "Say yes.", "output": ""},
]
NOTES = [f"Note {n}: " + " ".join(_WORDS[(n * 7 + k) % len(_WORDS)] for k in range(30)) for n in range(12)]


def settings(root: Path) -> dict[str, Any]:
    """A configuration with every section."""
    model = {"packed_length": 64, "max_steps": 1}
    return {
        "model": str(root / "model"),
        "seed": 17,
        "ingest": {
            "sources": [
                {"name": "talk", "path": str(root / "talk.jsonl"), "format": "alpaca"},
                {"name": "notes", "path": str(root / "notes.txt"), "format": "text"},
            ]
        },
        "clean": {},
        "dedupe": {},
        "toxicity": {},
        "quality": {},
        "select": {"seed_set": str(root / "seed.jsonl"), "keep": 0.9, "encoder": str(root / "encoder")},
        "split": {"validation": 0.1, "test": 0.2},
        "balance": {"mode": "apply", "by": "source", "cap": 20},
        "augment": {"methods": ["swap"], "share": 0.3},
        "tokenize": {"chat_template": str(root / "template.jinja"), "max_length": 256},
        "train": model,
        "distill": {"small": dict(model)},
        "compress": {"merged": {"from": "small"}},
        "evaluate": {"encoder": str(root / "encoder")},
        "report": {},
    }


@dataclass
class Place:
    """Inputs, a configuration and a data folder.

    Attributes:
        root: holds `talk.jsonl`, `notes.txt`, `seed.jsonl`, `template.jinja`, `model/`, `encoder/` and `data/`.
        config: as written in a YAML file.
        previous: stage → key in the run before.
    """

    root: Path
    config: dict[str, Any]
    previous: dict[str, str] = field(default_factory=dict)
    folder: str = "data"

    @property
    def data(self) -> Path:
        """The data folder."""
        return self.root / self.folder

    def set(self, path: str, value: Any) -> None:
        """Change one value of the configuration, by its dotted path."""
        *above, last = path.split(".")
        inner: Any = self.config
        for part in above:
            inner = inner[int(part)] if isinstance(inner, list) else inner.setdefault(part, {})
        inner[last] = value

    def lines(self, name: str) -> list[str]:
        """The lines of an input file."""
        return (self.root / name).read_text("utf-8").splitlines()

    def write(self, name: str, lines: list[str]) -> None:
        """Write an input file."""
        (self.root / name).write_text("".join(f"{line}\n" for line in lines), "utf-8")

    def workspace(self) -> Workspace:
        """What the stages of one run share, before any of them ran."""
        return Workspace(Config.model_validate(self.config), self.data, Store(self.data), previous=self.previous)

    def run(self, real: tuple[str, ...] = ()) -> "Outcome":
        """Take every stage in order, as a run does; of the model stages, `real` ones by their own function."""
        outcome, work = Outcome({}, {}), self.workspace()
        for stage in stages(outcome.scored, real):
            verdict = examine(stage, work)
            outcome.verdicts[stage.name] = verdict
            if verdict.verdict != "skipped":
                work.upstream[stage.name] = verdict.artifact or produce(stage, verdict, work)
        work.store.digests.save()
        outcome.artifacts = work.upstream
        return outcome

    def from_scratch(self) -> "Outcome":
        """The same run with no artifact there."""
        (self.root / "fresh").mkdir()
        shutil.copy(self.data / "code_digests.json", self.root / "fresh")  # known by the stamps of our own files
        return Place(self.root, self.config, folder="fresh").run()

    def copy(self, root: Path) -> "Place":
        """The same place elsewhere; artifacts are linked, inputs copied."""
        shutil.copytree(self.root, root, ignore=lambda _, names: ["artifacts"] if "artifacts" in names else [])
        shutil.copytree(self.data / "artifacts", root / "data" / "artifacts", copy_function=_link)
        text = canonical_json(self.config).replace(str(self.root), str(root))
        return Place(root, json.loads(text), dict(self.previous))


@dataclass
class Outcome:
    """What a run did.

    Attributes:
        scored: stage → rows whose scores were computed.
    """

    verdicts: dict[str, Verdict]
    scored: dict[str, int]
    artifacts: dict[str, Artifact] = field(default_factory=dict)

    @property
    def ran(self) -> list[str]:
        """The stages that ran, in order."""
        return [name for name, verdict in self.verdicts.items() if verdict.verdict == "run"]

    @property
    def keys(self) -> dict[str, str]:
        """Stage → key."""
        return {name: verdict.key for name, verdict in self.verdicts.items() if verdict.key}


def make_place(root: Path) -> Place:
    """Write the inputs, without a run."""
    place = Place(root, settings(root))
    root.mkdir(parents=True, exist_ok=True)
    place.write("talk.jsonl", [json.dumps(each, ensure_ascii=False) for each in (*RECORDS, *DIRT)])
    place.write("notes.txt", NOTES)
    place.write("seed.jsonl", [json.dumps(record(n)) for n in range(100, 104)])
    (root / "template.jinja").write_text(CHAT_TEMPLATE)
    _tokenizer().save_pretrained(root / "model")
    for name in ("model", "encoder"):
        (root / name).mkdir(exist_ok=True)
        (root / name / "config.json").write_text('{"max_position_embeddings": 512}')
        (root / name / "model.safetensors").write_bytes(b"weights")
    return place


def stages(scored: dict[str, int], real: tuple[str, ...] = ()) -> Iterator[Stage]:
    """Every stage; model stages but the `real` ones with a stand-in for their function, scores counted."""
    for name in STAGES:
        stage = load_stage(name)
        if name in MODEL_STAGES and name not in real:
            stage = replace(stage, run=_named(_stand_in, stage.run, stage))
        if stage.score is not None:
            stage = replace(stage, score=_named(_counting, stage.score, name, scored))
        yield stage


def _named(make: Callable[..., Any], real: Callable[..., Any], *given: Any) -> Any:
    function = make(real, *given)
    function.__module__, function.__name__ = real.__module__, real.__name__
    return function


def _stand_in(real: Callable[..., Any], stage: Stage) -> Callable[[StageInput[Any]], Output]:
    def run(given: StageInput[Any]) -> Output:
        inputs = [artifact.digest for artifact in parents(stage.name, dict(given.upstream))]
        read = stage.references(given.config, given.run, given.data_dir) if stage.references else {}
        (given.out / "output.json").write_text(canonical_json([key_values(given.config), given.seed, inputs, read]))
        return Output()

    return run


def _counting(real: Callable[..., Any], name: str, scored: dict[str, int]) -> Callable[[StageInput[Any]], Any]:
    def score(given: StageInput[Any]) -> Any:
        scored[name] = given.rows.select(pl.len()).collect().item()
        return real(given)

    return score


def embed(texts: list[str], encoder: str, data_dir: Path, **_: Any) -> "np.ndarray[Any, np.dtype[np.float32]]":
    """A vector for each text, from its hash."""
    drawn = [np.random.default_rng(xxhash.xxh3_64_intdigest(text.encode())).standard_normal(8) for text in texts]
    vectors = np.array(drawn, dtype=np.float32).reshape(len(texts), 8)
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


@contextmanager
def stand_in_encoder() -> Iterator[None]:
    """`embed` in place of a model's."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("tasks.kernels.encoder.embed", embed)
        yield


def _link(source: str, target: str) -> None:
    Path(target).hardlink_to(source)
