"""Python's own documentation as training data: the code of a library function, and the summary its author wrote.

The source is the running interpreter's standard library, read with `ast` and never imported: real code by many hands,
under a free licence, on every machine, the same for one Python version. A record is a function with its docstring
taken out as prompt, and the docstring's first paragraph as answer. Nothing is tidied: repeats, one-word summaries and
authors' mail addresses are left in, since a pipeline must cope with them.
"""

import ast
import inspect
import os
import platform
import sys
import sysconfig
import tokenize
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pipeline_config.errors import SourceError
from tasks.kernels.digests import FileDigests, json_digest

PLACE = "asset:python-stdlib"
PROMPT = "Write the docstring summary of this Python function.\n\n```python\n{code}\n```"
_LEFT_OUT_MODULES = {"idlelib", "lib2to3", "test", "turtledemo"}  # tests, demonstrations, and an editor
_LEFT_OUT_FOLDERS = {"__pycache__", "_bundled", "idle_test", "site-packages", "test", "tests"}
_STRINGS = {tokenize.STRING, getattr(tokenize, "FSTRING_MIDDLE", tokenize.STRING)}  # 3.12 takes f-strings apart
Function = ast.FunctionDef | ast.AsyncFunctionDef


def records() -> Iterator[dict[str, Any]]:
    """A record for each function that has a docstring and a body, by module name, then in source order.

    Yields:
        `prompt` (instruction and code), `completion` (the docstring's first paragraph, white space collapsed),
        `task` (module), `qualname`, `lineno` (of its first line in the file).

    Raises:
        SourceError: this Python comes without its sources.
    """
    for module, path in _modules():
        with tokenize.open(path) as stream:  # honours a coding comment
            source = stream.read()
        yield from module_records(module, source)


def digest(data_dir: Path) -> str:
    """What the records depend on: the Python version, and name and content of each module.

    Raises:
        SourceError: this Python comes without its sources.
    """
    digests = FileDigests(data_dir)
    value = json_digest([platform.python_version(), [[name, digests.of(path)] for name, path in _modules()]])
    digests.save()
    return value


def module_records(module: str, source: str) -> Iterator[dict[str, Any]]:
    """The records of one module.

    Args:
        module: its dotted name.
        source: its text.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # unknown escapes in old string literals
        tree = ast.parse(source)
    lines = source.split("\n")  # not splitlines: a form feed ends no line of Python
    for qualname, function in _functions(tree, ""):
        summary = _summary(function)
        code = _code_without_docstring(function, lines)
        if summary and code:
            yield {
                "prompt": PROMPT.format(code=code),
                "completion": summary,
                "task": module,
                "qualname": qualname,
                "lineno": _first_line(function),
            }


def _modules() -> list[tuple[str, Path]]:
    """Dotted name and file of each module, sorted by name."""
    root = Path(sysconfig.get_paths()["stdlib"])
    names = sys.stdlib_module_names - _LEFT_OUT_MODULES
    found = [
        (".".join(parts), root.joinpath(*parts[:-1], f"{parts[-1]}.py"))
        for parts in _module_parts(root)
        if parts[0] in names and not parts[-1].startswith("_sysconfigdata")  # written when Python is built
    ]
    if not found:
        message = f"this Python has no standard library sources in {root}"
        raise SourceError(message, place=PLACE, cure="run with a CPython that ships its .py files")
    return sorted((name.removesuffix(".__init__"), path) for name, path in found)


def _module_parts(root: Path) -> Iterator[tuple[str, ...]]:
    for folder, subfolders, files in os.walk(root):
        subfolders[:] = [name for name in subfolders if name not in _LEFT_OUT_FOLDERS and name.isidentifier()]
        inside = Path(folder).relative_to(root).parts
        yield from ((*inside, name.removesuffix(".py")) for name in files if name.endswith(".py"))


def _functions(node: ast.AST, prefix: str) -> Iterator[tuple[str, Function]]:
    """Functions below a node with their qualified names, in source order."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, Function):
            yield prefix + child.name, child
            yield from _functions(child, f"{prefix}{child.name}.<locals>.")
        elif isinstance(child, ast.ClassDef):
            yield from _functions(child, f"{prefix}{child.name}.")
        else:
            yield from _functions(child, prefix)


def _summary(function: Function) -> str:
    docstring = ast.get_docstring(function, clean=False)
    if docstring is None:
        return ""
    paragraph = inspect.cleandoc(docstring).strip().split("\n\n", 1)[0]
    return " ".join(paragraph.split())


def _first_line(function: Function) -> int:
    return min([function.lineno, *(decorator.lineno for decorator in function.decorator_list)])


def _code_without_docstring(function: Function, lines: list[str]) -> str:
    """The function's lines with its docstring's taken out, from the margin on; empty if nothing else is in it.

    It is the same program: lines that begin inside a string keep their indentation.
    """
    docstring, *body = function.body
    last = docstring.end_lineno or docstring.lineno
    if not body or body[0].lineno == last or lines[docstring.lineno - 1][: docstring.col_offset].strip():
        return ""  # the docstring is all there is, or shares a line with code
    first = _first_line(function)
    inside = _lines_inside_strings(lines[first - 1 : function.end_lineno], function)
    indent = lines[function.lineno - 1][: function.col_offset]
    code = [
        line if number in inside else line.removeprefix(indent)
        for number, line in enumerate(lines[first - 1 : function.end_lineno])
    ]
    head, tail = code[: docstring.lineno - first], code[last - first + 1 :]
    while not tail[0].strip():
        tail = tail[1:]
    return "\n".join([*head, *tail])


def _lines_inside_strings(code: list[str], function: Function) -> set[int]:
    """Positions of the lines that begin inside a string of several lines; only methods and the like can have some."""
    triple = sum(line.count(quotes) for line in code for quotes in ('"""', "'''"))
    if not function.col_offset or (triple <= 2 and not any(line.endswith("\\") for line in code)):
        return set()  # no triple quotes but the docstring's, and no string continued by a backslash
    found: set[int] = set()
    for token in tokenize.generate_tokens(iter([f"{line}\n" for line in code]).__next__):
        if token.type in _STRINGS:
            found.update(range(token.start[0], token.end[0]))
    return found
