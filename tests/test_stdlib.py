"""The standard library as training data: the code is the program, the answer is its author's, nothing is imported."""

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest

from pipeline_config.errors import SourceError
from tasks.ingest import stdlib

FENCE = re.compile(r"```python\n(.*)\n```", re.DOTALL)


@pytest.fixture(scope="module")
def records() -> list[dict]:
    return list(stdlib.records())


def code_of(record: dict) -> str:
    return FENCE.search(record["prompt"]).group(1)


def one(source: str) -> dict:
    (record,) = stdlib.module_records("m", source)
    return record


def test_every_prompt_is_the_function_without_its_docstring(records):
    wanted = {}
    for module, path in stdlib._modules():
        for node in ast.walk(ast.parse(path.read_bytes())):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and ast.get_docstring(node):
                docstring = node.body.pop(0)
                first = min([node.lineno, *(decorator.lineno for decorator in node.decorator_list)])
                wanted[module, first] = ast.dump(node)
                node.body.insert(0, docstring)
    for record in records:
        (shown,) = ast.parse(code_of(record)).body
        assert ast.dump(shown) == wanted[record["task"], record["lineno"]], (record["task"], record["qualname"])


def test_there_are_about_6000_with_what_real_data_has(records):
    assert 5000 < len(records) < 7000
    text = [record["prompt"] + record["completion"] for record in records]
    assert len(set(text)) < len(records)  # repeats
    assert any(len(record["completion"].split()) == 1 for record in records)
    assert any(re.search(r"\w@\w+\.\w", each) for each in text)
    assert all(record["completion"].strip() for record in records)


def test_records_come_by_module_then_in_source_order_and_are_the_same_again(records):
    keys = [(record["task"], record["lineno"]) for record in records]
    assert keys == sorted(keys)
    assert list(stdlib.records()) == records


def test_only_library_modules_are_read(records):
    modules = {record["task"] for record in records}
    parts = {part for module in modules for part in module.split(".")}
    assert not parts & {"test", "tests", "idlelib", "turtledemo", "lib2to3", "pip", "setuptools"}
    assert {module.split(".")[0] for module in modules} <= sys.stdlib_module_names
    assert "email.message" in modules
    assert "asyncio.base_events" in modules


def test_nothing_that_is_read_is_imported():
    check = (
        "import sys; from tasks.ingest.stdlib import records; before = set(sys.modules); read = {r['task'] for r in "
        "records()}; assert 'turtle' in read and 'turtle' not in sys.modules; print(len(set(sys.modules) - before))"
    )
    done = subprocess.run([sys.executable, "-c", check], capture_output=True, text=True, check=True)
    assert int(done.stdout) < 5  # codecs of the files


def test_decorated_nested_and_async_functions_keep_their_place():
    source = (
        "class A:\n"
        "    @property\n"
        "    def size(self):\n"
        '        """The size.\n\n        In bytes.\n        """\n'
        "\n"
        "        return 1\n"
        "\n"
        "    async def read(self):\n"
        "        '''Read\n        it.'''\n"
        "        def inner():\n"
        "            'Do it.'\n"
        "            pass\n"
        "        return inner\n"
    )
    size, read, inner = stdlib.module_records("m", source)
    assert code_of(size) == "@property\ndef size(self):\n    return 1"
    assert (size["completion"], size["qualname"], size["lineno"]) == ("The size.", "A.size", 2)
    assert code_of(read).startswith("async def read(self):\n    def inner():\n        'Do it.'")
    assert (read["completion"], read["qualname"]) == ("Read it.", "A.read")
    assert inner["qualname"] == "A.read.<locals>.inner"


def test_a_form_feed_and_a_comment_after_the_docstring_stay():
    record = one('import os\n\x0c\ndef f(x):\n    """Say it."""\n    # why\n    return x\n')
    assert code_of(record) == "def f(x):\n    # why\n    return x"


def test_a_string_continued_by_a_backslash_keeps_its_indentation():
    source = "class A:\n    def f(self):\n        'Help.'\n        return 'a\\\n        b'\n"
    assert code_of(one(source)) == "def f(self):\n    return 'a\\\n        b'"


def test_lines_inside_a_string_keep_their_indentation():
    source = 'class A:\n    def f(self):\n        """Help."""\n        return """\n        kept\n    kept\n"""\n'
    assert code_of(one(source)) == 'def f(self):\n    return """\n        kept\n    kept\n"""'


@pytest.mark.parametrize(
    "source",
    [
        'def f():\n    """Only words."""\n',
        'def f(): "On one line."\n',
        'def f(a,\n      b): "Beside the signature."; return a\n',
        'def f():\n    """On one line."""; return 1\n',
        'def f():\n    """   """\n    return 1\n',
        "def f():\n    return 1\n",
    ],
)
def test_a_function_without_summary_or_body_is_no_record(source):
    assert list(stdlib.module_records("m", source)) == []


def test_the_digest_follows_content_and_names_and_nothing_else(tmp_path, monkeypatch):
    first, second = tmp_path / "a.py", tmp_path / "b.py"
    first.write_text("x = 1\n")
    second.write_text("x = 1\n")
    files = [("a", first)]
    monkeypatch.setattr(stdlib, "_modules", lambda: files)
    digest = stdlib.digest(tmp_path / "data")
    assert stdlib.digest(tmp_path / "elsewhere") == digest
    files = [("a", second)]
    assert stdlib.digest(tmp_path / "data") == digest
    files = [("b", second)]
    assert stdlib.digest(tmp_path / "data") != digest
    files = [("a", first)]
    first.write_text("x = 2\n")
    assert stdlib.digest(tmp_path / "data") != digest


def test_a_python_without_sources_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(stdlib.sysconfig, "get_paths", lambda: {"stdlib": str(tmp_path)})
    with pytest.raises(SourceError, match="no standard library sources") as caught:
        stdlib.digest(Path(tmp_path))
    assert caught.value.exit_code == 2
    assert caught.value.cure
