"""One module of ours as the code digest sees it: which statements bind which name, and which run on import.

A module is parsed, never imported. What runs when it is imported, and binds no name, counts for everything in it: so
do definitions that a decorator may have registered somewhere. Docstrings, and the annotations of plain functions, are
taken out. What a definition uses is told by `names.py`.
"""

import ast
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cache

PACKAGES = ("tasks", "pipeline_config")
Definition = tuple[str, str]  # module, top-level name
EFFECTS = ""  # in place of a name: the statements that run on import and bind no name
WHOLE = "*"  # in place of a name: all of the module

_PURE_DECORATORS = {
    "abstractmethod", "cache", "cached_property", "classmethod", "compiled", "contextmanager", "dataclass", "final",
    "intrinsic", "jit", "lru_cache", "njit", "override", "property", "stage", "staticmethod", "total_ordering", "wraps",
}  # fmt: skip
Function = ast.FunctionDef | ast.AsyncFunctionDef


@dataclass
class Module:
    """One parsed module.

    Attributes:
        name: dotted.
        is_package: it is an `__init__.py`.
        definitions: top-level name → the statements that bind it.
        effects: statements that run on import and are not only a binding.
        imports: top-level name → what it may stand for; `*` for star imports.
        loads: modules that are imported with this one.
        everything: all statements.
    """

    name: str
    is_package: bool
    definitions: dict[str, list[ast.stmt]] = field(default_factory=dict)
    effects: list[ast.stmt] = field(default_factory=list)
    imports: dict[str, list[Definition]] = field(default_factory=dict)
    loads: list[str] = field(default_factory=list)
    everything: list[ast.stmt] = field(default_factory=list)

    def statements(self, name: str) -> list[ast.stmt]:
        """The statements that a name stands for."""
        if name == WHOLE:
            return self.everything
        return self.effects if name == EFFECTS else self.definitions[name]


@cache
def parse(name: str, text: bytes, is_package: bool) -> Module:
    """Read a module's source."""
    tree = ast.parse(text)
    _strip(tree, docstrings=b"__doc__" not in text)
    if name.split(".")[0] == "pipeline_config":
        _strip_fields(tree)
    module = Module(name, is_package, everything=tree.body)
    for statement in tree.body:
        _collect(module, statement)
    return module


def dump(module: Module, name: str) -> str:
    """The normalised syntax of a name: no comments, no docstrings, no positions."""
    return " ".join(ast.dump(statement) for statement in module.statements(name))


def mentions(module: Module, name: str, word: str) -> bool:
    """Whether a definition uses a bare name, such as `__file__`."""
    nodes = (node for statement in module.statements(name) for node in ast.walk(statement))
    return any(isinstance(node, ast.Name) and node.id == word for node in nodes)


def is_ours(module: str) -> bool:
    """Whether a dotted name is one of our modules."""
    return module.split(".")[0] in PACKAGES


def _collect(module: Module, statement: ast.stmt) -> None:
    """Note what a top-level statement imports, binds and does."""
    if isinstance(statement, ast.Import | ast.ImportFrom):
        add_import(module, statement, module.imports)
        return
    if _for_type_checking(statement):
        return
    names = _bound(statement)
    for name in names:
        module.definitions.setdefault(name, []).append(statement)
    if not names or _registers(statement) or _reaches_out(statement):
        module.effects.append(statement)
    if isinstance(statement, Function):
        for node in ast.walk(statement):
            for name in node.names if isinstance(node, ast.Global) else []:
                module.definitions.setdefault(name, []).append(statement)
    for inner in _blocks(statement):
        _collect_inner(module, inner, statement)


def _collect_inner(module: Module, inner: ast.stmt, outer: ast.stmt) -> None:
    """Names bound inside a top-level `if`, `try`, `with` or loop stand for the whole of it."""
    if isinstance(inner, ast.Import | ast.ImportFrom):
        add_import(module, inner, module.imports)
    for name in _bound(inner):
        module.definitions.setdefault(name, []).append(outer)
    for each in _blocks(inner):
        _collect_inner(module, each, outer)


def _blocks(statement: ast.stmt) -> Iterator[ast.stmt]:
    if isinstance(statement, Function | ast.ClassDef):
        return
    for name in ("body", "orelse", "finalbody"):
        yield from getattr(statement, name, [])
    for part in (*getattr(statement, "handlers", []), *getattr(statement, "cases", [])):
        yield from part.body


def add_import(module: Module, node: ast.Import | ast.ImportFrom, into: dict[str, list[Definition]]) -> list[str]:
    """Add what an import binds; give the modules it loads."""
    loaded: list[str] = []
    if isinstance(node, ast.Import):
        for alias in node.names:
            bound = alias.asname or alias.name.split(".")[0]
            into.setdefault(bound, []).append((alias.name if alias.asname else bound, WHOLE))
            loaded.append(alias.name)
    else:
        base = node.module or ""
        if node.level:
            package = module.name.split(".")
            package = package[: len(package) - node.level + module.is_package]
            base = ".".join([*package, base] if base else package)
        for alias in node.names:
            target = (base, WHOLE if alias.name == "*" else alias.name)
            into.setdefault(alias.asname or alias.name, []).append(target)
            loaded += [base, f"{base}.{alias.name}"]
    if into is module.imports:
        module.loads += [name for name in loaded if is_ours(name)]
    return loaded


def _bound(statement: ast.stmt) -> list[str]:
    if isinstance(statement, Function | ast.ClassDef):
        return [statement.name]
    if isinstance(statement, ast.Assign | ast.AnnAssign | ast.AugAssign):
        targets = statement.targets if isinstance(statement, ast.Assign) else [statement.target]
        return [node.id for target in targets for node in ast.walk(target) if isinstance(node, ast.Name)]
    return []


def _registers(statement: ast.stmt) -> bool:
    """Whether a decorator may have put the definition somewhere."""
    if not isinstance(statement, Function | ast.ClassDef):
        return False
    names = []
    for decorator in statement.decorator_list:
        called = decorator.func if isinstance(decorator, ast.Call) else decorator
        names.append(called.attr if isinstance(called, ast.Attribute) else getattr(called, "id", ""))
    return not _PURE_DECORATORS.issuperset(names)


def _reaches_out(statement: ast.stmt) -> bool:
    """Whether an assignment changes an object rather than binding a name."""
    if not isinstance(statement, ast.Assign | ast.AnnAssign | ast.AugAssign):
        return False
    targets = statement.targets if isinstance(statement, ast.Assign) else [statement.target]
    return any(isinstance(node, ast.Attribute | ast.Subscript) for target in targets for node in ast.walk(target))


def _for_type_checking(statement: ast.stmt) -> bool:
    return isinstance(statement, ast.If) and ast.unparse(statement.test).endswith("TYPE_CHECKING")


def _strip(tree: ast.AST, docstrings: bool) -> None:
    """Take out docstrings, and the annotations that no decorator can read."""
    for node in ast.walk(tree):
        if not isinstance(node, ast.Module | Function | ast.ClassDef):
            continue
        first = node.body[0] if node.body else None
        if docstrings and isinstance(first, ast.Expr) and isinstance(getattr(first.value, "value", None), str):
            node.body = node.body[1:] or [ast.Pass()]
        if isinstance(node, Function) and not node.decorator_list:
            node.returns = None
            for argument in arguments(node.args):
                argument.annotation = None


def arguments(given: ast.arguments) -> list[ast.arg]:
    every = [*given.posonlyargs, *given.args, *given.kwonlyargs, given.vararg, given.kwarg]
    return [argument for argument in every if argument is not None]


def _strip_fields(tree: ast.Module) -> None:
    """Of a section, only what stages may call: its values stand in the key, checked or filled in by validators."""
    for node in tree.body:
        if isinstance(node, ast.ClassDef):
            node.decorator_list = []
            node.body = [each for each in node.body if isinstance(each, Function) and _is_called(each)] or [ast.Pass()]


def _is_called(method: Function) -> bool:
    decorators = [ast.unparse(each) for each in method.decorator_list]
    return not method.name.startswith("_") and not any("validator" in each for each in decorators)
