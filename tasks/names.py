"""What a definition uses: the names in its syntax, and what each of them may stand for.

Names follow Python's scopes: a local variable hides a function of the same name, and an import inside a function counts
there, so that a definition depends on what it uses and on nothing else. A module's name inside a string counts as well.
"""

import ast
import re
from collections.abc import Iterable

from tasks.syntax import (
    EFFECTS,
    PACKAGES,
    WHOLE,
    Definition,
    Function,
    Module,
    add_import,
    arguments,
    is_ours,
)

PATH = "?"  # in place of a name: the module's name ends in names inside it, which the reader of all modules parts
START = "^"  # in place of a name: every module whose name begins so

_REFLECTION = {"globals", "locals", "vars", "eval", "exec"}
_MODULE_NAME = re.compile(rf"({'|'.join(PACKAGES)})(\.\w+)+(:\w+)?")
_MODULE_START = re.compile(rf"({'|'.join(PACKAGES)})\.")

Comprehension = ast.ListComp | ast.SetComp | ast.DictComp | ast.GeneratorExp


def references(module: Module, name: str) -> list[Definition]:
    """Everything that a name of the module uses, as the modules and names it may stand for.

    Modules that are not ours stand with their dotted name; what a name of theirs means is not looked into.
    """
    found = _References(module)
    for statement in module.statements(name):
        found.visit(statement)
    if name == EFFECTS:
        found.found += [(loaded, EFFECTS) for loaded in module.loads]
        found.found += [target for target in module.imports.get("*", []) if is_ours(target[0])]
    return found.found


class _References:
    """Walks statements with Python's scopes and notes what each global name may stand for."""

    def __init__(self, module: Module) -> None:
        self.module = module
        self.found: list[Definition] = []
        self._scopes: list[tuple[set[str], dict[str, list[Definition]]]] = []

    def visit(self, node: ast.AST) -> None:
        """Note what a node, and everything in it, uses."""
        match node:
            case ast.FunctionDef() | ast.AsyncFunctionDef():
                every = arguments(node.args)
                self._each([*node.decorator_list, *_defaults(node.args)])
                self._each(argument.annotation for argument in every if argument.annotation is not None)
                self._inside(node.body, {argument.arg for argument in every})
            case ast.Lambda():
                self._each(_defaults(node.args))
                self._inside([node.body], {argument.arg for argument in arguments(node.args)})
            case ast.ListComp() | ast.SetComp() | ast.DictComp() | ast.GeneratorExp():
                self._comprehension(node)
            case ast.Name():
                self._name(node.id, [])
            case ast.Attribute():
                self._attribute(node)
            case ast.Import() | ast.ImportFrom():
                loaded = add_import(self.module, node, {}) if self._scopes else []
                self.found += [(name, EFFECTS) for name in loaded if is_ours(name)]
            case ast.Constant(value=str() as text) if _MODULE_NAME.fullmatch(text):
                self.found.append((text.replace(":", "."), PATH))
            case ast.JoinedStr(values=[ast.Constant(value=str() as text), *_]) if _MODULE_START.match(text):
                self.found.append((text, START))
                self._each(node.values)
            case _:
                self._each(ast.iter_child_nodes(node))

    def _comprehension(self, node: Comprehension) -> None:
        targets = [each for generator in node.generators for each in ast.walk(generator.target)]
        bound = {each.id for each in targets if isinstance(each, ast.Name)}
        self.visit(node.generators[0].iter)  # evaluated outside
        parts = [node.key, node.value] if isinstance(node, ast.DictComp) else [node.elt]
        for place, generator in enumerate(node.generators):
            parts += [*generator.ifs, *([generator.iter] if place else [])]
        self._inside(parts, bound)

    def _attribute(self, node: ast.Attribute) -> None:
        chain: list[str] = []
        inner: ast.expr = node
        while isinstance(inner, ast.Attribute):
            chain.insert(0, inner.attr)
            inner = inner.value
        if isinstance(inner, ast.Name):
            self._name(inner.id, chain)
        else:
            self.visit(inner)

    def _each(self, nodes: "Iterable[ast.AST]") -> None:
        for node in nodes:
            self.visit(node)

    def _inside(self, body: "list[ast.stmt] | list[ast.expr]", arguments: set[str]) -> None:
        bound, imports, shared = set(arguments), dict[str, list[Definition]](), set[str]()
        for statement in body:
            for node in _own_nodes(statement):
                if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
                    bound.add(node.id)
                elif isinstance(node, Function | ast.ClassDef):
                    bound.add(node.name)
                elif isinstance(node, ast.Import | ast.ImportFrom):
                    add_import(self.module, node, imports)
                elif isinstance(node, ast.Global | ast.Nonlocal):
                    shared |= set(node.names)
        self._scopes.append((bound - shared, imports))
        self._each(body)
        self._scopes.pop()

    def _name(self, name: str, chain: list[str]) -> None:
        for bound, imports in reversed(self._scopes):
            if name in imports:
                self._targets(imports[name], chain)
                return
            if name in bound:
                return
        if name in _REFLECTION:
            self.found.append((self.module.name, WHOLE))
        self._targets(self.module.imports.get(name, []), chain)
        if name in self.module.definitions:
            self.found.append((self.module.name, name))

    def _targets(self, targets: list[Definition], chain: list[str]) -> None:
        for module, name in targets:
            dotted = ".".join(part for part in (module, "" if name == WHOLE else name, *chain) if part)
            self.found.append((dotted, PATH) if is_ours(module) else (module, WHOLE))


def _own_nodes(node: ast.AST) -> list[ast.AST]:
    """The nodes of a scope, without those of the functions, classes and comprehensions inside it."""
    found, todo = [], [node]
    while todo:
        each = todo.pop()
        found.append(each)
        if not isinstance(each, Function | ast.ClassDef | ast.Lambda | Comprehension):
            todo += ast.iter_child_nodes(each)
    return found


def _defaults(given: ast.arguments) -> list[ast.expr]:
    return [*given.defaults, *[default for default in given.kw_defaults if default is not None]]
