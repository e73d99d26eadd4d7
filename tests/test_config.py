"""The configuration says where it is wrong, and what would be right."""

from pathlib import Path

import pytest

from pipeline_config.errors import ConfigError
from pipeline_config.fields import key_values
from pipeline_config.load import RECIPES, load_config, recipe_names
from pipeline_config.schema import STAGES, Config

SOURCE = "ingest:\n  sources:\n    - {path: rows.jsonl}\n"


def write(folder: Path, text: str, name: str = "mine.yaml") -> str:
    (folder / name).write_text(text, encoding="utf-8")
    return str(folder / name)


def fails(name: str, *overrides: str) -> ConfigError:
    with pytest.raises(ConfigError) as caught:
        load_config(name, overrides)
    return caught.value


@pytest.mark.parametrize("name", [name for name in recipe_names() if name != "default"])
def test_every_recipe_loads(name: str) -> None:
    assert load_config(name).ingest.sources


def test_the_default_recipe_wants_sources_and_then_loads() -> None:
    assert "ingest" in fails("default").message
    assert load_config("default", ("ingest.sources=[{path: a.jsonl}]",)).train is not None


def test_a_mistyped_key_names_file_line_and_the_right_word(tmp_path: Path) -> None:
    error = fails(write(tmp_path, SOURCE + "dedupe:\n  treshold: 0.7\n"))
    assert error.place == "mine.yaml, line 5"
    assert "did you mean 'threshold'" in error.message


def test_a_mistyped_section_is_found(tmp_path: Path) -> None:
    assert "did you mean 'dedupe'" in fails(write(tmp_path, SOURCE + "dedup: {}\n")).message


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("dedupe: {threshold: much}", "dedupe.threshold is 'much'"),
        ("dedupe: {threshold: 1.5}", "less than or equal to 1"),
        ("train: {method: lara}\ntokenize: {}", "'full', 'partial', 'lora', 'adapter', 'prefix', 'prompt' or 'none'"),
        ("train: {}", "train needs tokenize"),
        ("tokenize: {}\ntrain: {early_stopping: {}}", "validation split"),
        ("distill: {}", "distill needs train"),
        ("select: {}", "seed_set"),
        ("distill: {small: {layrs: 3}}\ntrain: {}\ntokenize: {}", "did you mean 'layers'"),
    ],
)
def test_wrong_values_are_refused_in_words(tmp_path: Path, line: str, words: str) -> None:
    error = fails(write(tmp_path, SOURCE + line + "\n"))
    assert words in f"{error.message} {error.cure}"
    assert error.place.startswith("mine.yaml, line")


@pytest.mark.parametrize("text", ["a: [1", "a: b: c", "\t- x", "a: 'open"])
def test_broken_yaml_names_the_line(tmp_path: Path, text: str) -> None:
    error = fails(write(tmp_path, text))
    assert "line" in error.place
    assert "not valid YAML" in error.message


def test_yaml_never_builds_python_objects(tmp_path: Path) -> None:
    error = fails(write(tmp_path, "ingest: !!python/object/apply:os.system ['true']\n"))
    assert isinstance(error, ConfigError)


def test_a_key_that_stands_twice_is_refused(tmp_path: Path) -> None:
    assert "stands twice" in fails(write(tmp_path, SOURCE + "dedupe: {}\ndedupe: {}\n")).message


def test_extends_inherits_merges_and_switches_off(tmp_path: Path) -> None:
    write(tmp_path, SOURCE + "dedupe: {threshold: 0.9, shingle: 3}\nclean: {}\n", "base.yaml")
    config = load_config(write(tmp_path, "extends: ./base.yaml\ndedupe: {threshold: 0.8}\nclean: null\n"))
    assert config.dedupe is not None
    assert (config.dedupe.threshold, config.dedupe.shingle) == (0.8, 3)
    assert config.clean is None


def test_a_file_that_extends_itself_is_refused(tmp_path: Path) -> None:
    assert "itself" in fails(write(tmp_path, "extends: ./mine.yaml\n")).message


def test_paths_hang_on_the_file_and_overrides_on_the_working_directory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    there, here = tmp_path / "there", tmp_path / "here"
    there.mkdir()
    here.mkdir()
    monkeypatch.chdir(here)
    name = write(there, SOURCE)
    assert load_config(name).ingest.sources[0].path == str(there / "rows.jsonl")
    changed = load_config(name, ("ingest.sources.0.path=rows.jsonl",))
    assert changed.ingest.sources[0].path == str(here / "rows.jsonl")


def test_overrides_index_append_and_create(tmp_path: Path) -> None:
    name = write(tmp_path, SOURCE)
    config = load_config(name, ("ingest.sources.+={path: b.csv}", "dedupe.threshold=0.5", "ingest.sources.0.task=qa"))
    assert [source.name for source in config.ingest.sources] == ["rows", "b"]
    assert config.ingest.sources[0].task == "qa"
    assert config.dedupe is not None
    assert config.dedupe.threshold == 0.5
    assert "use 0 to 0" in fails(name, "ingest.sources.3.path=x").cure
    assert fails(name, "dedupe.threshold=3").place == "--set dedupe.threshold"
    assert "override" in fails(name, "dedupe").message


def test_a_model_folder_becomes_absolute_and_a_hub_name_stays(tmp_path: Path) -> None:
    (tmp_path / "m").mkdir()
    assert load_config(write(tmp_path, SOURCE + "model: m\n")).model == str(tmp_path / "m")
    assert load_config(write(tmp_path, SOURCE + "model: org/name\n")).model == "org/name"


def test_two_sources_of_one_name_are_refused(tmp_path: Path) -> None:
    assert "two sources" in fails(write(tmp_path, SOURCE), "ingest.sources.+={path: x/rows.csv}").message


def test_an_unknown_recipe_suggests_one() -> None:
    error = fails("dmo")
    assert "did you mean 'demo'" in error.message
    assert (RECIPES / "demo.yaml").is_file()


def test_paths_and_gates_stand_in_no_key(tmp_path: Path) -> None:
    name = write(
        tmp_path, SOURCE + "dedupe: {gate: {min_rows: 5}}\ndistill: {a: {layers: 3}}\ntrain: {}\ntokenize: {}\n"
    )
    config = load_config(name)
    assert config.dedupe is not None
    assert "gate" not in key_values(config.dedupe)
    assert "path" not in key_values(config.ingest)["sources"][0]
    assert config.distill is not None
    assert key_values(config.distill)["a"]["layers"] == 3


def test_every_stage_is_a_section() -> None:
    assert set(STAGES) <= set(Config.model_fields)


@pytest.mark.parametrize(
    ("override", "place", "words"),
    [
        ("dedup.threshold=0.5", "--set dedup.threshold", "did you mean 'dedupe'"),
        ("tokenize=null", "--set tokenize", "train needs tokenize"),
        ("dedupe.threshold=yes", "--set dedupe.threshold", "should not be true or false"),
        ("split.test=true", "--set split.test", "should not be true or false"),
        ("seed=5000000000", "--set seed", "less than or equal to 4294967295"),
        ("ingest.sources.0.dataset=org/name", "--set ingest.sources.0.dataset", "both are given"),
        ("ingest.sources.+={task: qa}", "--set ingest.sources.+", "needs a path (files) or a dataset"),
        ("quality={languages: [english]}", "--set quality", "quality.languages.0 is 'english'"),
    ],
)
def test_an_override_that_is_to_blame_is_named(tmp_path: Path, override: str, place: str, words: str) -> None:
    error = fails(write(tmp_path, SOURCE + "tokenize: {}\ntrain: {}\nsplit: {}\n"), override)
    assert (error.place, words in error.message) == (place, True), error.message


def test_a_yaml_merge_may_be_overridden_and_an_alias_may_not_hold_itself(tmp_path: Path) -> None:
    text = "ingest:\n  sources:\n  - &first {path: a.jsonl, name: a, task: qa}\n  - {<<: *first, name: b}\n"
    sources = load_config(write(tmp_path, text)).ingest.sources
    assert [(source.name, source.task) for source in sources] == [("a", "qa"), ("b", "qa")]
    error = fails(write(tmp_path, "ingest: &all\n  sources: *all\n"))
    assert (error.message, error.place) == ("ingest.sources holds itself", "mine.yaml, line 2")
