"""A gate's bound on a rule that does not exist is refused; the table of rule names is what the stages' code says."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from pipeline_config.errors import ConfigError
from pipeline_config.load import load_config
from pipeline_config.rule_names import EDITED, KINDS, QUARANTINED, REMOVED
from pipeline_config.schema import DATA_STAGES
from tasks.clean.row import Rules
from tasks.kernels.pii import KINDS as PII
from tasks.quality.rules import MODEL_RULES, RULE_SETS
from tasks.toxicity.decide import CATEGORY_RULE
from tasks.toxicity.decide import RULES as JUDGES

SOURCE = "ingest.sources=[{path: rows.jsonl}]"
TASKS = Path(__file__).parent.parent / "tasks"
ELSEWHERE = {"ingest": ["kernels/reading/*.py"], "tokenize": ["kernels/chat.py", "kernels/encoding.py"]}
NAME = re.compile(r"[a-z][a-z0-9_]+")
MAKERS = {"NotReadable", "unread", "Unread", "_give_up"}  # the reason is their first text that is a name
PLACES = {"reason", "refused", "rule", "CONTAMINATED"}  # variables, keywords and keys that hold one


def strings(node: ast.AST) -> list[str]:
    found = [each.value for each in ast.walk(node) if isinstance(each, ast.Constant)]
    return [text for text in found if isinstance(text, str) and NAME.fullmatch(text)]


def literals(node: ast.AST) -> list[str]:
    calls = [each for each in ast.walk(node) if isinstance(each, ast.Call) and called(each.func) == "lit"]
    return [text for each in calls for text in strings(each)]


def named_in(tree: ast.AST) -> Iterator[str]:
    """Every rule and reason that code writes as a literal."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Dict):
            for key, value in zip(node.keys, node.values, strict=True):
                if isinstance(key, ast.Constant) and key.value in PLACES and isinstance(value, ast.Constant):
                    yield from strings(value)
        elif isinstance(node, ast.Assign) and any(called(target) in PLACES for target in node.targets):
            if isinstance(node.value, ast.IfExp | ast.Constant | ast.Tuple):
                yield from [text for text in strings(node.value) if "_" in text or text == "contaminated"]
            elif isinstance(node.value, ast.Call):
                yield from literals(node.value)
        elif isinstance(node, ast.keyword) and node.arg in PLACES and isinstance(node.value, ast.Tuple):
            yield from strings(node.value)[:1]
        elif isinstance(node, ast.Call) and called(node.func) in MAKERS:
            yield from [text for argument in node.args for text in strings(argument)][:1]
        elif isinstance(node, ast.Call) and called(node.func) == "alias" and set(strings(node)) & {"rule", "reason"}:
            yield from literals(node)
        elif isinstance(node, ast.FunctionDef) and node.name == "broken_reason":
            yield from [text for text in strings(node) if text.startswith("invalid_")]


def called(node: ast.AST) -> str:
    if isinstance(node, ast.Subscript):
        return called(node.value)
    return node.attr if isinstance(node, ast.Attribute) else getattr(node, "id", "")


@pytest.mark.parametrize("stage", DATA_STAGES)
def test_the_table_is_what_the_code_says(stage: str) -> None:
    files = [*(TASKS / stage).glob("*.py"), *(path for p in ELSEWHERE.get(stage, ()) for path in TASKS.glob(p))]
    written = {name for path in files for name in named_in(ast.parse(path.read_text("utf-8")))}
    pii = {f"pii_{kind}" for kind in PII}
    written |= {
        "clean": {"empty_after_clean", *Rules(load_config("default", (SOURCE, "clean={}")).clean).repairs, *pii},  # type: ignore[arg-type]
        "quality": {rule.name for rules in (*RULE_SETS.values(), MODEL_RULES) for rule in rules},
        "toxicity": {*(rule for rule, *_ in JUDGES.values()), CATEGORY_RULE},
    }.get(stage, set())
    added = {"balance": {"repeat"}}.get(stage, set())
    known = {*REMOVED.get(stage, ()), *QUARANTINED.get(stage, ()), *EDITED.get(stage, ())}
    assert written - added == known


@pytest.mark.parametrize("key", KINDS)
@pytest.mark.parametrize("stage", DATA_STAGES)
def test_every_rule_can_be_bounded_and_no_other(stage: str, key: str) -> None:
    section = {"select": "{description: x, gate: {}}"}.get(stage, "{gate: {}}")
    on = (SOURCE,) if stage == "ingest" else (SOURCE, f"{stage}={section}")
    rules = KINDS[key][1].get(stage, ())
    for rule in rules:
        load_config("default", (*on, f"{stage}.gate.{key}.{rule}=0.5"))
    for mistyped in ("nothing_like_it", *(rule[:-2] + rule[-1] for rule in rules[:1])):
        with pytest.raises(ConfigError) as caught:
            load_config("default", (*on, f"{stage}.gate.{key}.{mistyped}=0.5"))
        assert caught.value.exit_code == 2
        assert caught.value.place == f"--set {stage}.gate.{key}.{mistyped}"
        assert f"{stage}.gate.{key}" in caught.value.message
        assert all(rule in caught.value.cure for rule in rules)
        assert mistyped == "nothing_like_it" or f"did you mean {rules[0]!r}?" in caught.value.message


def test_a_mistyped_rule_names_its_line_and_the_right_word(tmp_path: Path) -> None:
    text = "ingest: {sources: [{path: a.jsonl}]}\ndedupe:\n  gate:\n    max_removed_share_by_rule:\n      exat: 0.1\n"
    (tmp_path / "mine.yaml").write_text(text)
    with pytest.raises(ConfigError, match=re.escape("did you mean 'exact_duplicate'?")) as caught:
        load_config(str(tmp_path / "mine.yaml"))
    assert caught.value.place == "mine.yaml, line 5"
    assert caught.value.cure == "there are: exact_duplicate, near_duplicate, semantic"


def test_names_that_only_the_data_know_are_free() -> None:
    names = [f"quality.gate.{key}.whatever={{min: 0.1}}" for key in ("labels", "tasks", "languages")]
    load_config("default", (SOURCE, "quality={}", *names))
