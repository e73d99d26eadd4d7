"""The code digest of a stage: the syntax of every function and constant that its entry points can reach.

Found by reading the source, never by importing it: docstrings, comments and positions do not count, a changed helper
three calls away does. A name that can't be resolved takes its whole module. The schema (`pipeline_config`) is left
out, since the values it gives stand in the key; so are the wrapper's own files, which the format version covers.
"""

import ast
import json
import sys
import time
from functools import cache
from pathlib import Path

from tasks.kernels.digests import SETTLE_NS, file_stamp, json_digest, write_memo

ROOT = Path(__file__).resolve().parent.parent
_PACKAGES = ("tasks",)
_WRAPPER = {
    "tasks.stage",
    "tasks.execute",
    "tasks.scores",
    "tasks.artifact",
    "tasks.apply",
    "tasks.key",
    "tasks.gate",
    "tasks.code",
    "tasks.runs",
    "tasks.kernels.progress",
}
Definition = tuple[str, str]  # module, top-level name ("" for its statements with side effects, "*" for all of it)


def code_digest(entries: tuple[Definition, ...]) -> str:
    """sha256 over the normalised syntax of everything reachable from the entries."""
    seen: dict[Definition, str] = {}
    todo = list(entries)
    while todo:
        definition = todo.pop()
        if definition in seen or definition[0] in _WRAPPER:
            continue
        module = _module(definition[0])
        if module is None:
            continue
        name = definition[1]
        if name == "*":
            seen[definition] = module.whole
            todo.extend(module.every_reference())
            continue
        if name and name not in module.definitions:
            target = module.imports.get(name)
            todo.append(target if target else (definition[0], "*"))
            continue
        seen[definition] = module.dump(name)
        todo.extend(module.references(name))
        todo.append((definition[0], ""))
    return json_digest(sorted([*key, text] for key, text in seen.items()))


class CodeDigests:
    """Code digests, remembered in the data folder for as long as no source file changes its stamp."""

    def __init__(self, data_dir: Path) -> None:
        self._path = data_dir / "code_digests.json"
        self._known: dict[str, str] | None = None
        self._stamp = ""

    def of(self, entry: Definition) -> str:
        """The digest of everything reachable from one entry."""
        known = self._load()
        name = ":".join(entry)
        if name not in known:
            known[name] = code_digest((entry,))
            self._save(known)
        return known[name]

    def _load(self) -> dict[str, str]:
        if self._known is None:
            self._stamp = _source_stamp()
            try:
                saved = json.loads(self._path.read_text("utf-8"))
                self._known = saved["digests"] if saved["stamp"] == self._stamp else {}
            except (OSError, ValueError, KeyError, TypeError):
                self._known = {}
        return self._known

    def _save(self, known: dict[str, str]) -> None:
        if not self._stamp:
            return
        write_memo(self._path, {"stamp": self._stamp, "digests": known})


def _source_stamp() -> str:
    """A digest of every source file's stamp; empty while one is too fresh to trust its stamp."""
    files = sorted(path for package in _PACKAGES for path in (ROOT / package).rglob("*.py"))
    stamps = {str(path.relative_to(ROOT)): file_stamp(path) for path in files}
    newest = max(max(stamp[1], stamp[2]) for stamp in stamps.values())
    return json_digest([sys.version, stamps]) if time.time_ns() - newest > SETTLE_NS else ""


class _Module:
    """One parsed module: its top-level definitions and what its names mean."""

    def __init__(self, name: str, tree: ast.Module) -> None:
        self.name = name
        self.definitions: dict[str, list[ast.stmt]] = {}
        self.loose: list[ast.stmt] = []
        self.imports: dict[str, Definition] = {}
        _strip(tree)
        self._collect(tree.body)
        for node in ast.walk(tree):
            if isinstance(node, ast.Import | ast.ImportFrom):
                self._import(node)
        self.whole = ast.dump(tree)

    def _collect(self, body: list[ast.stmt]) -> None:
        for statement in body:
            names = _bound_names(statement)
            if names:
                for name in names:
                    self.definitions.setdefault(name, []).append(statement)
            elif not isinstance(statement, ast.Import | ast.ImportFrom) and not _type_checking(statement):
                self.loose.append(statement)

    def _import(self, node: ast.Import | ast.ImportFrom) -> None:
        if isinstance(node, ast.Import):
            for alias in node.names:
                if _ours(alias.name) and alias.asname:
                    self.imports[alias.asname] = (alias.name, "*")
                elif _ours(alias.name):
                    self.imports[alias.name.split(".")[0]] = (alias.name, "*")
            return
        base = node.module or ""
        if node.level:
            parents = self.name.split(".")[: -node.level]
            base = ".".join([*parents, base] if base else parents)
        if not _ours(base):
            return
        for alias in node.names:
            submodule = f"{base}.{alias.name}"
            target = (submodule, "*") if _source(submodule) else (base, alias.name)
            self.imports[alias.asname or alias.name] = target

    def dump(self, name: str) -> str:
        statements = self.definitions[name] if name else self.loose
        return " ".join(ast.dump(statement) for statement in statements)

    def references(self, name: str) -> list[Definition]:
        return self._resolve(self.definitions[name] if name else self.loose)

    def every_reference(self) -> list[Definition]:
        return list(self.imports.values())

    def _resolve(self, statements: list[ast.stmt]) -> list[Definition]:
        found: list[Definition] = []
        for statement in statements:
            attributes = {id(n.value): n.attr for n in ast.walk(statement) if isinstance(n, ast.Attribute)}
            for node in ast.walk(statement):
                if isinstance(node, ast.Name):
                    found.extend(self._meaning(node.id, attributes.get(id(node))))
        return found

    def _meaning(self, name: str, attribute: str | None) -> list[Definition]:
        if name in self.imports:
            module, target = self.imports[name]
            if target == "*" and attribute is not None:
                inner = _module(module)
                if inner is not None and (attribute in inner.definitions or attribute in inner.imports):
                    return [(module, attribute)]
            return [(module, target)]
        if name in self.definitions:
            return [(self.name, name)]
        return []


def _ours(module: str) -> bool:
    return module.split(".")[0] in _PACKAGES


def _source(module: str) -> Path | None:
    base = ROOT.joinpath(*module.split("."))
    for path in (base.with_suffix(".py"), base / "__init__.py"):
        if path.is_file():
            return path
    return None


@cache
def _module(name: str) -> _Module | None:
    path = _source(name)
    return None if path is None else _Module(name, ast.parse(path.read_bytes()))


def _bound_names(statement: ast.stmt) -> list[str]:
    if isinstance(statement, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
        return [statement.name]
    if isinstance(statement, ast.Assign | ast.AnnAssign | ast.AugAssign):
        targets = statement.targets if isinstance(statement, ast.Assign) else [statement.target]
        return [node.id for target in targets for node in ast.walk(target) if isinstance(node, ast.Name)]
    return []


def _type_checking(statement: ast.stmt) -> bool:
    return (
        isinstance(statement, ast.If) and isinstance(statement.test, ast.Name) and statement.test.id == "TYPE_CHECKING"
    )


def _strip(tree: ast.AST) -> None:
    """Remove docstrings in place."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Module | ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            first = node.body[0] if node.body else None
            if (
                isinstance(first, ast.Expr)
                and isinstance(first.value, ast.Constant)
                and isinstance(first.value.value, str)
            ):
                node.body = node.body[1:] or [ast.Pass()]
