"""The cache, line by line: one thing changes, and exactly these stages run again, for the reason that is given.

Each line starts from the same finished run (`cached_place.py`). `report` runs wherever a manifest above it changes,
since the page shows settings, keys and code of every stage; the lines leave it to that rule.
"""

import json
import os
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from pipeline_config.schema import STAGES
from tasks import code, key
from tests.cached_place import Outcome, Place, make_place, record, stand_in_encoder

ALL = " ".join(STAGES)
MODEL = "train distill compress evaluate report"
FRONT = [json.dumps(record(n)) for n in range(50, 53)]
Patch = pytest.MonkeyPatch


@dataclass(frozen=True)
class Line:
    """One change.

    Attributes:
        what: in words.
        change: makes it, at a copy of the finished run.
        ran: the stages that run, in order.
        why: stands in the reason of the first of them.
        scored: stage → rows whose scores are computed anew; of other stages none.
    """

    what: str
    change: Callable[[Place, Patch], object]
    ran: str
    why: str = ""
    scored: tuple[tuple[str, int], ...] = ()


def below(stage: str) -> str:
    """A stage and everything after it."""
    return " ".join(STAGES[STAGES.index(stage) :])


def put(path: str, value: Any) -> Callable[[Place, Patch], object]:
    return lambda place, patch: place.set(path, value)


def write(name: str, edit: Callable[[list[str]], list[str]]) -> Callable[[Place, Patch], object]:
    return lambda place, patch: place.write(name, edit(place.lines(name)))


def append(name: str, data: bytes) -> Callable[[Place, Patch], object]:
    def change(place: Place, patch: Patch) -> None:
        with (place.root / name).open("ab") as stream:
            stream.write(data)

    return change


def touch(name: str) -> Callable[[Place, Patch], object]:
    return lambda place, patch: os.utime(place.root / name, (1_000_000_000, 1_000_000_000))


def move(old: str, new: str, path: str) -> Callable[[Place, Patch], object]:
    def change(place: Place, patch: Patch) -> None:
        (place.root / new).parent.mkdir(exist_ok=True)
        (place.root / old).rename(place.root / new)
        place.set(path, str(place.root / new))

    return change


def replace_file(name: str) -> Callable[[Place, Patch], object]:
    """The same content in a new file, as an editor or rsync leaves it."""

    def change(place: Place, patch: Patch) -> None:
        data = (place.root / name).read_bytes()
        (place.root / name).unlink()
        (place.root / name).write_bytes(data)

    return change


def edit_code(file: str, old: str, new: str) -> Callable[[Place, Patch], object]:
    """Edit a copy of our own source; what runs stays as it is, so outputs stay too."""

    def change(place: Place, patch: Patch) -> None:
        for package in ("tasks", "pipeline_config"):
            ignored = shutil.ignore_patterns("__pycache__")
            shutil.copytree(code.ROOT / package, place.root / "code" / package, ignore=ignored)
        path = place.root / "code" / file
        text = path.read_text("utf-8")
        assert old in text
        path.write_text(text.replace(old, new, 1), "utf-8")
        patch.setattr(code, "ROOT", place.root / "code")
        patch.setattr(code, "SETTLE_NS", -(10**12))  # files just written count as settled, and are read once

    return change


def other_version(library: str) -> Callable[[Place, Patch], object]:
    real = key._version

    def change(place: Place, patch: Patch) -> None:
        patch.setattr(key, "_version", lambda name: "99.0" if name == library else real(name))

    return change


def move_everything(place: Place, patch: Patch) -> None:
    moved = place.root.with_name("moved")
    place.root.rename(moved)
    place.config = json.loads(json.dumps(place.config).replace(str(place.root), str(moved)))
    place.root = moved


def move_data(place: Place, patch: Patch) -> None:
    (place.root / "data").rename(place.root / "elsewhere")
    (place.root / "data").symlink_to(place.root / "elsewhere")


def reorder(place: Place, patch: Patch) -> None:
    place.config = {name: place.config[name] for name in reversed(place.config)}
    place.config["select"] = dict(reversed(place.config["select"].items()))


def add_source(place: Place, patch: Patch) -> None:
    place.write("more.txt", ["Another note: the quick brown fox jumps over the lazy dog near the quiet river bank."])
    place.config["ingest"]["sources"].append({"name": "more", "path": str(place.root / "more.txt"), "format": "text"})


def reorder_sources(place: Place, patch: Patch) -> None:
    place.config["ingest"]["sources"].reverse()


def remove_section(name: str) -> Callable[[Place, Patch], object]:
    return lambda place, patch: place.config.pop(name)


def one_byte(place: Place, patch: Patch) -> None:
    text = (place.root / "talk.jsonl").read_bytes()
    (place.root / "talk.jsonl").write_bytes(text.replace(b"story 7 ", b"story 8 ", 1))


ONE_NEW = (("toxicity", 1), ("quality", 1), ("select", 1))
THREE_NEW = (("toxicity", 3), ("quality", 3), ("select", 3))

DATA = [
    # the same input
    Line("nothing", lambda place, patch: None, ""),
    Line("a file touched", touch("talk.jsonl"), ""),
    Line("a file written anew with the same bytes", replace_file("talk.jsonl"), ""),
    Line("a file renamed", move("talk.jsonl", "chat.jsonl", "ingest.sources.0.path"), ""),
    Line("a file moved", move("talk.jsonl", "deep/talk.jsonl", "ingest.sources.0.path"), ""),
    Line("a suffix that reads alike", move("talk.jsonl", "talk.ndjson", "ingest.sources.0.path"), ""),
    Line("everything moved as a whole", move_everything, ""),
    Line("the data folder moved", move_data, ""),
    Line("keys of the YAML reordered", reorder, ""),
    Line("the seed set touched", touch("seed.jsonl"), ""),
    Line("the model folder moved", move("model", "deep/model", "model"), ""),
    # another input
    Line("one byte of a file", one_byte, ALL, "source `talk` changed", ONE_NEW),
    Line("rows in front", write("talk.jsonl", lambda rows: FRONT + rows), ALL, "source `talk` changed", THREE_NEW),
    Line("rows behind", write("talk.jsonl", lambda rows: rows + FRONT), ALL, "source `talk` changed", THREE_NEW),
    Line("rows taken out", write("talk.jsonl", lambda rows: rows[10:]), ALL, "source `talk` changed"),
    Line("rows in another order", write("talk.jsonl", lambda rows: rows[::-1]), ALL, "source `talk` changed"),
    Line("a row said twice", write("talk.jsonl", lambda rows: [*rows, rows[0]]), 
         "ingest clean dedupe toxicity quality select split balance augment report", "source `talk` changed"),
    Line("an empty line at the end", append("talk.jsonl", b"\n"), "ingest report", "source `talk` changed"),
    Line("a source added", add_source, ALL, "source `more` added", ONE_NEW),
    Line("a source taken out", lambda p, _: p.config["ingest"]["sources"].pop(), ALL, "source `notes` removed"),
    Line("sources in another order", reorder_sources, ALL, "the order of sources changed"),
    Line("a suffix that reads otherwise", move("notes.txt", "notes.csv", "ingest.sources.1.path"), ALL,
         "source `notes` changed"),
    Line("another seed set", append("seed.jsonl", b'{"instruction": "One more", "output": "Seed of another kind"}\n'),
         below("select"), "seed set changed", (("select", 50),)),
    Line("one byte of the encoder", append("encoder/model.safetensors", b"!"),
         "select evaluate report", "encoder changed", (("select", 50),)),
    Line("one byte of the model", append("model/model.safetensors", b"!"), f"tokenize {MODEL}", "tokenizer changed"),
    Line("a note beside the model", append("model/README.txt", b"!"), ""),
    Line("the chat template", append("template.jinja", b"{# a note #}"), f"tokenize {MODEL}", "chat template changed"),
    Line("no chat template given", put("tokenize.chat_template", None), f"tokenize {MODEL}", "chat template removed"),
    # settings
    Line("the seed", put("seed", 18), ALL, "seed 17 -> 18"),
    Line("a stage's own seed", put("split.seed", 99), below("split"), "seed 17 -> 99"),
    Line("a stage's seed, said again", put("split.seed", 17), ""),
    Line("a threshold below which nothing lies", put("toxicity.english.threshold", 0.94), "toxicity report",
         "english.threshold 0.95 -> 0.94; its scores are known"),
    Line("an action that lets a row go on", put("toxicity.english.action", "flag"), below("toxicity"),
         "english.action remove -> flag; its scores are known", (("quality", 1), ("select", 1))),
    Line("what is scored", put("toxicity.judge", "all"),
         "toxicity quality select split balance augment tokenize evaluate report", "judge assistant -> all",
         (("toxicity", 51),)),
    Line("a judge taken out", put("toxicity.chinese", None), "toxicity quality select report", "chinese removed",
         (("toxicity", 51),)),
    Line("a quality threshold", put("quality.min_language_score", 0.51), "quality report", "0.5 -> 0.51; its scores"),
    Line("how many are selected", put("select.keep", 0.8), below("select"), "keep 0.9 -> 0.8; its scores are known"),
    Line("duplicates that need more in common", put("dedupe.threshold", 0.86), "dedupe report", "0.85 -> 0.86"),
    Line("a batch size that changes no byte", put("select.batch_size", 8), ""),
    Line("how often checkpoints are kept", put("train.save_steps", 5), ""),
    Line("the log level", lambda place, patch: patch.setenv("PREFECT_LOGGING_LEVEL", "DEBUG"), ""),
    Line("threads", lambda place, patch: patch.setenv("OMP_NUM_THREADS", "7"), ""),
    Line("a gate's bound", put("quality.gate", {"min_rows": 49}), ""),
    Line("what a failed gate does", put("quality.gate", {"on_fail": "warn"}), ""),
    Line("a learning rate", put("train.learning_rate", 0.5), MODEL, "learning_rate auto -> 0.5"),
    Line("a student", put("distill.small.alpha", 0.9), "distill compress evaluate report", "small.alpha 0.5 -> 0.9"),
    Line("a student added", put("distill.tiny", {}), "distill compress evaluate report", "tiny added"),
    Line("an export", put("compress.merged.dtype", "float16"), "compress evaluate report", "bfloat16 -> float16"),
    Line("the report's title", put("report.title", "Another"), "report", "title Winnow report -> Another"),
    Line("a stage taken out whose output was its input", remove_section("clean"), ALL.replace("ingest clean ", ""),
         "clean is no longer above it", ONE_NEW),
    Line("the last stage taken out", remove_section("report"), ""),
]  # fmt: skip
CODE = [
    # our own
    Line("a helper three calls away", edit_code("tasks/kernels/pii_numbers.py", "offset + start", "start + offset"),
         "ingest clean report", "its code changed: tasks/kernels/pii_numbers.py"),
    Line("a comment and a docstring in it", edit_code("tasks/kernels/pii_numbers.py",
         '"""Phone numbers;', '"""Numbers that ring;'), ""),
    Line("a function of it that nobody calls", edit_code("tasks/kernels/pii_numbers.py",
         "def phones(", "def unused():\n    return 1\n\n\ndef phones("), ""),
    Line("a parameter of a helper", edit_code("tasks/clean/whitespace.py", ") -> ", ", *, new=1) -> "),
         "clean report", "its code changed: tasks/clean/whitespace.py"),
    Line("how scores are made", edit_code("tasks/quality/patterns.py", "REFUSAL_WORDS = ", "REFUSAL_WORDS = 1 + "),
         "quality report", "its code changed: tasks/quality/patterns.py", (("quality", 50),)),
    Line("how scores are judged", edit_code("tasks/quality/decide.py", "_SURE = 0.8", "_SURE = 0.81"),
         "quality report", "its code changed: tasks/quality/decide.py; its scores are known"),
    Line("the page's template", edit_code("tasks/report/template/page.html", "<html", "<html "),
         "report", "its code changed: tasks/report/task.py"),
    Line("words of an error", edit_code("pipeline_config/errors.py", "place", "place "), ""),
    # libraries
    Line("the library that repairs text", other_version("ftfy"), "clean report", "-> 99.0"),
    Line("the library that draws variants", other_version("nlpaug"), "augment report", "nlpaug"),
    Line("the library that trains", other_version("peft"), "train distill compress evaluate report", "peft"),
    Line("a library that shapes nothing", other_version("tqdm"), ""),
]  # fmt: skip


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    """A place where everything ran once."""
    with stand_in_encoder():
        place = make_place(tmp_path_factory.mktemp("cache") / "base")
        first = place.run()
        assert first.ran == list(STAGES)
        place.previous = first.keys
        yield place


@pytest.fixture
def place(finished: Place, tmp_path: Path) -> Place:
    return finished.copy(tmp_path / "place")


def params(table: list[Line]) -> list[Any]:
    return [pytest.param(line, id=line.what) for line in table]


def check(line: Line, place: Place, patch: Patch) -> Outcome:
    line.change(place, patch)
    done = place.run()
    assert " ".join(done.ran) == line.ran
    assert done.scored == dict(line.scored)
    assert line.why in (done.verdicts[done.ran[0]].reason if done.ran else "")
    assert place.run().ran == []
    return done


@pytest.mark.parametrize("line", params(DATA))
def test_exactly_these_stages_run_and_give_what_a_fresh_start_gives(
    line: Line, place: Place, monkeypatch: Patch
) -> None:
    assert digests(check(line, place, monkeypatch)) == digests(place.from_scratch())


@pytest.mark.parametrize("line", params(CODE))
def test_exactly_these_stages_run_for_other_code(line: Line, place: Place, monkeypatch: Patch) -> None:
    check(line, place, monkeypatch)


def digests(outcome: Outcome) -> dict[str, str]:
    return {name: artifact.digest for name, artifact in outcome.artifacts.items()}
