"""The command line: right exit codes, clear errors found before anything runs, and no traceback for bad input."""

import inspect
import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from flows.cli import app, main
from pipeline_config.errors import ConfigError
from tasks.key import data_folder
from tasks.runs import resume_command
from tests.command import Workplace


def write_rows(folder: Path, n: int = 12) -> Path:
    answers = "The answer to this is number {0}, which follows from the {0} rules that were given before it."
    lines = [{"instruction": f"What is rule {i} about, please?", "output": answers.format(i)} for i in range(n)]
    path = folder / "mine.jsonl"
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return path


@pytest.fixture
def place(tmp_path: Path, migrated_home: Path) -> Workplace:
    shutil.copytree(migrated_home, tmp_path / "prefect")
    return Workplace(tmp_path / "data", tmp_path / "prefect")


def sources(path: Path) -> str:
    return f"ingest.sources=[{{path: {path}, format: alpaca}}]"


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("plam",), "did you mean 'plan'"),
        (("run", "dmo"), "did you mean 'demo'"),
        (("run", "nowhere.yaml"), "no configuration file"),
        (("run", "--set", "clean.pi=1"), "did you mean 'pii'"),
        (("run", "--set", "dedupe.threshold=2"), "less than or equal to 1"),
        (("run", "--only", "dedup"), "did you mean 'dedupe'"),
        (("run", "tiny", "--set", "model=./no-such-model"), "no-such-model"),
        (("run", "--set", "ingest.sources=[{path: missing.jsonl}]"), "missing.jsonl"),
        (("run", "tiny", "--only", "dedupe"), "--until"),
        (("explain", "abc"), "winnow run"),
        (("status", "2020"), "no run"),
    ],
)
def test_what_is_wrong_is_found_before_anything_runs(tmp_path: Path, words: tuple[str, ...], said: str) -> None:
    place = Workplace(tmp_path / "data", tmp_path / "prefect")
    done = place.refused(*words)
    assert done.returncode == 2, done.stderr
    assert said.lower() in done.stderr.lower()
    assert "what to do:" in done.stderr
    assert "Traceback" not in done.stderr
    assert not (place.data / "runs").exists()


def test_an_error_is_one_json_document(place: Workplace) -> None:
    done = place.winnow("run", "--set", "dedupe.threshold=2", "--json")
    assert done.returncode == 2
    assert set(json.loads(done.stdout)["error"]) == {"type", "message", "place", "cure"}


def test_an_empty_source_and_a_folder_that_is_no_model_exit_2(place: Workplace, tmp_path: Path) -> None:
    (tmp_path / "empty.jsonl").touch()
    done = place.winnow("run", "--set", f"ingest.sources=[{{path: {tmp_path / 'empty.jsonl'}}}]")
    assert done.returncode == 2
    assert "empty" in done.stderr
    (tmp_path / "nomodel").mkdir()
    done = place.winnow("run", "--set", sources(write_rows(tmp_path)), "--set", f"model={tmp_path / 'nomodel'}")
    assert done.returncode == 2
    assert "config.json" in done.stderr


def test_help_imports_nothing_heavy() -> None:
    heavy = ("prefect", "polars", "torch", "pydantic")
    code = f"import sys; import flows.cli; print([m for m in {heavy} if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_plan_imports_no_engine(place: Workplace) -> None:
    code = (
        "import sys; from flows.cli import app; "
        f"app(['plan', 'tiny', '--data-dir', {str(place.data)!r}], standalone_mode=False); "
        "print([m for m in ('prefect', 'torch', 'transformers', 'numba', 'great_expectations') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip().endswith("[]")


@pytest.mark.server
def test_filters_that_remove_every_row_fail_a_gate(guest: Workplace, tmp_path: Path) -> None:
    done = guest.winnow(
        "run", "--set", sources(write_rows(tmp_path)), "--set", "quality.thresholds={min_answer_words: 5000}",
        "--until", "quality",
    )  # fmt: skip
    assert done.returncode == 1, done.stderr
    assert "rows left is 0" in done.stderr
    assert "min_answer_words" in done.stderr
    assert "to go on: winnow resume 2" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.server
def test_ctrl_c_exits_130_and_the_record_says_interrupted(place: Workplace, tmp_path: Path) -> None:
    words = ["run", "--set", sources(write_rows(tmp_path)), "--until", "ingest", "--data-dir", str(place.data)]
    process = subprocess.Popen(
        [sys.executable, "-c", _STUCK, *words],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=place.environment(), start_new_session=True,
    )  # fmt: skip
    assert process.stdout is not None
    assert process.stdout.readline() == "in the stage\n"
    os.kill(process.pid, signal.SIGINT)
    _, errors = process.communicate(timeout=120)
    assert process.returncode == 130, errors
    assert "Traceback" not in errors
    assert "to go on: winnow resume 2" in errors
    assert "interrupted; the same command goes on" in errors
    record = place.runs()[-1]
    assert record["status"] == "interrupted"
    assert {entry["name"]: entry["state"] for entry in record["stages"]}["ingest"] == "failed"


_STUCK = """
import signal
import flows.runner
from flows.cli import main

def stuck(*given):
    print("in the stage", flush=True)
    signal.pause()

flows.runner.produce = stuck
main()
"""


@pytest.mark.server
def test_a_damaged_artifact_is_an_error_with_a_cure_for_whoever_reads_it(guest: Workplace, tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text('{"text": "Some text."}\n')
    sources = f"ingest.sources=[{{path: {tmp_path / 'a.jsonl'}}}]"
    record = guest.document("run", "default", "--set", sources, "--until", "ingest")
    (part,) = guest.folder(record, "ingest").glob("part-*.parquet")
    part.write_bytes(part.read_bytes()[:-9])
    cut = guest.winnow("export", "--stage", "ingest", "--out", str(tmp_path / "out.jsonl"), "--json")
    part.parent.joinpath("manifest.json").unlink()
    gone = guest.winnow("export", "--stage", "ingest", "--out", str(tmp_path / "out.jsonl"), "--json")
    for done in (cut, gone):
        assert done.returncode == 2
        assert json.loads(done.stdout)["error"]["cure"]
        assert "Traceback" not in done.stderr


COMMANDS = {
    "run": ("tiny",), "plan": ("tiny",), "resume": (), "status": (), "diff": ("a", "b"), "gc": ("--keep", "1"),
    "explain": ("abc",), "export": ("--stage", "clean", "--out", "x.jsonl"), "preview": (), "report": (),
    "evaluate": ("asset:smollm2-135m-instruct", "--data", "x.jsonl"), "serve": ("tiny", "--interval", "60"),
    "dashboard": (), "crossvalidate": ("tiny",), "search": ("tiny", "--space", "train.lora.lora_r=int(2,8)"),
}  # fmt: skip


def test_every_command_with_a_data_folder_is_tried() -> None:
    takes = [each.callback for each in app.registered_commands if each.callback is not None]
    named = {each.__name__ for each in takes if "data_dir" in inspect.signature(each).parameters}
    assert named == set(COMMANDS)


@pytest.mark.parametrize("command", COMMANDS)
@pytest.mark.parametrize("below", ["", "below"])
def test_a_data_folder_that_is_a_file_is_refused(
    command: str, below: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "file"
    file.write_text("a file")
    monkeypatch.setattr("sys.unraisablehook", sys.unraisablehook)  # main() sets its own
    monkeypatch.setattr("sys.argv", ["winnow", command, *COMMANDS[command], "--data-dir", str(file / below)])
    with pytest.raises(SystemExit, match="2"):
        main()
    said = capsys.readouterr().err
    assert said.startswith("error: --data-dir: ")
    assert f"{file} is a file" in said
    assert "what to do: name the folder with --data-dir DIR" in said
    assert file.read_text() == "a file"


def test_a_data_folder_in_the_environment_that_is_a_file_is_refused_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("a file")
    monkeypatch.setenv("WINNOW_DATA", str(tmp_path / "file"))
    with pytest.raises(ConfigError, match="is a file") as caught:
        data_folder(None)
    assert caught.value.place == "$WINNOW_DATA"
    assert data_folder(str(tmp_path / "new" / "deep")) == tmp_path / "new" / "deep"
    assert resume_command("R", tmp_path / "new") == f"winnow resume R --data-dir {tmp_path / 'new'}"
