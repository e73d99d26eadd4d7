"""The code digest of a stage: the syntax of every function and constant that its entry points can reach.

Found by reading the source (`syntax.py`, `names.py`), never by importing it: docstrings, comments and positions do not
count, a changed helper three calls away does. A name that can't be resolved takes its whole module, and a module that
asks where it stands (`__file__`) the data files beside it. The wrapper's own files are left out, since the format
version covers them, and so are the words of errors.

All modules are read at once, before the first stage runs: code that is edited while a run goes on belongs to the next.
"""

import json
import sys
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tasks import syntax
from tasks.kernels.digests import SETTLE_NS, file_stamp, json_digest, sha256_file, write_memo
from tasks.names import PATH, START, references
from tasks.syntax import EFFECTS, WHOLE, Definition, Module

ROOT = Path(__file__).resolve().parent.parent
_WRAPPER = {
    "tasks.stage",
    "tasks.execute",
    "tasks.reasons",
    "tasks.scores",
    "tasks.artifact",
    "tasks.apply",
    "tasks.key",
    "tasks.gates.facts",
    "tasks.code",
    "tasks.syntax",
    "tasks.names",
    "tasks.runs",
    "tasks.kernels.progress",
    "pipeline_config.errors",
    "pipeline_config.suggest",
}
_SHORT = 16  # hex digits of a module's digest


@dataclass(frozen=True)
class Code:
    """What an entry point reaches.

    Attributes:
        digest: over all of it, 64 hex digits.
        modules: module → digest of what is reached in it, to say what changed.
        libraries: import names of other people's modules.
    """

    digest: str
    modules: Mapping[str, str]
    libraries: frozenset[str] = frozenset()


class Sources:
    """Our modules as they stood on disk at one moment."""

    def __init__(self, root: Path) -> None:
        self._root = root
        files = sorted(path for package in syntax.PACKAGES for path in (root / package).rglob("*.py"))
        self._texts = {_module_name(root, path): (path, path.read_bytes()) for path in files}
        self._parsed: dict[str, Module] = {}
        self._read: dict[Definition, tuple[str, list[Definition]]] = {}

    def code(self, entry: Definition) -> Code:
        """Everything reachable from one entry."""
        seen: dict[Definition, str] = {}
        libraries: set[str] = set()
        todo = [entry]
        while todo:
            module_name, name = todo.pop()
            if not syntax.is_ours(module_name):
                libraries.add(module_name.split(".")[0])
            elif name in (PATH, START):
                todo += self._placed(module_name) if name == PATH else self._starting(module_name)
            elif (module_name, name) not in seen and module_name not in _WRAPPER:
                module = self._module(module_name)
                if module is None:
                    continue
                if name not in (EFFECTS, WHOLE) and name not in module.definitions:
                    todo += self._placed(f"{module_name}.{name}")
                    continue
                seen[module_name, name], used = self._definition(module, name)
                todo += used
        texts: dict[str, list[list[str]]] = {}
        for (module_name, name), text in sorted(seen.items()):
            if text:
                texts.setdefault(module_name, []).append([name, text])
        modules = {name: json_digest(found)[:_SHORT] for name, found in texts.items()}
        return Code(json_digest(list(texts.items())), modules, frozenset(libraries))

    def _definition(self, module: Module, name: str) -> tuple[str, list[Definition]]:
        """The syntax of a name, and what it uses."""
        if (module.name, name) not in self._read:
            used = references(module, name)
            used += [(package, EFFECTS) for package in (module.name, *_packages(module.name))]
            text = syntax.dump(module, name) + self._data(module, name)
            self._read[module.name, name] = text, list(dict.fromkeys(used))
        return self._read[module.name, name]

    def _placed(self, dotted: str) -> list[Definition]:
        """What a dotted name stands for: a module, a name in it, or what that name was imported from."""
        parts = dotted.split(".")
        length = next((n for n in range(len(parts), 0, -1) if ".".join(parts[:n]) in self._texts), 0)
        module = self._module(".".join(parts[:length]))
        if module is None:
            return []
        if length == len(parts):
            return [(module.name, WHOLE)]
        name = parts[length]
        found = [(module.name, name)] if name in module.definitions else []
        for source, target in module.imports.get(name, []):
            names = [part for part in (target, *parts[length + 1 :]) if part != WHOLE]
            found.append((".".join([source, *names]), PATH) if syntax.is_ours(source) else (source, WHOLE))
        return found or [(module.name, WHOLE)]

    def _starting(self, start: str) -> list[Definition]:
        return [(name, WHOLE) for name in self._texts if name.startswith(start)]

    def _module(self, name: str) -> Module | None:
        if name not in self._texts:
            return None
        if name not in self._parsed:
            path, text = self._texts[name]
            self._parsed[name] = syntax.parse(name, text, path.name == "__init__.py")
        return self._parsed[name]

    def _data(self, module: Module, name: str) -> str:
        """Digest of the data files beside a module that asks where it stands."""
        path, text = self._texts[module.name]
        if b"__file__" not in text or not syntax.mentions(module, name, "__file__"):
            return ""
        folder = path.parent
        files = sorted(path for path in folder.rglob("*") if path.is_file() and path.suffix not in (".py", ".pyc"))
        kept = [path for path in files if "__pycache__" not in path.parts]
        return json_digest([[path.relative_to(folder).as_posix(), sha256_file(path)] for path in kept])


class CodeDigests:
    """The code of stages, remembered in the data folder for as long as no source file changes its stamp."""

    def __init__(self, data_dir: Path) -> None:
        self._path = data_dir / "code_digests.json"
        self._known: dict[str, Code] | None = None
        self._sources: Sources | None = None
        self._stamp = ""

    def of(self, entry: Definition) -> str:
        """The digest of everything reachable from one entry."""
        return self.code(entry).digest

    def code(self, entry: Definition) -> Code:
        """Everything reachable from one entry (of a remembered one, libraries are left out)."""
        known = self._load()
        name = ":".join(entry)
        if name not in known:
            known[name] = self._read().code(entry)
            self._save(known)
        return known[name]

    def _load(self) -> dict[str, Code]:
        if self._known is None:
            self._stamp = _source_stamp()
            try:
                saved: dict[str, Any] = json.loads(self._path.read_text("utf-8"))
                remembered = saved["code"] if saved["stamp"] == self._stamp else {}
                self._known = {name: Code(each["digest"], each["modules"]) for name, each in remembered.items()}
            except (OSError, ValueError, KeyError, TypeError, AttributeError):
                self._known = {}
            if not self._known:
                self._read()
        return self._known

    def _read(self) -> Sources:
        """The sources, read once; what they give is remembered only if no file changed meanwhile."""
        if self._sources is None:
            self._sources = Sources(ROOT)
            self._stamp = self._stamp if self._stamp == _source_stamp() else ""
        return self._sources

    def _save(self, known: Mapping[str, Code]) -> None:
        if self._stamp:
            code = {name: {"digest": each.digest, "modules": dict(each.modules)} for name, each in known.items()}
            write_memo(self._path, {"stamp": self._stamp, "code": code})


def _source_stamp() -> str:
    """A digest of every file's stamp; empty while one is too fresh to trust its stamp."""
    stamps = {str(path.relative_to(ROOT)): file_stamp(path) for path in _files()}
    newest = max(max(stamp[1], stamp[2]) for stamp in stamps.values())
    return json_digest([sys.version, stamps]) if time.time_ns() - newest > SETTLE_NS else ""


def _files() -> Iterator[Path]:
    """Every file of the packages that may shape a digest, in a fixed order."""
    for package in syntax.PACKAGES:
        for path in sorted((ROOT / package).rglob("*")):
            if "__pycache__" not in path.parts and path.is_file():
                yield path


def _module_name(root: Path, path: Path) -> str:
    parts = path.relative_to(root).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def _packages(module: str) -> list[str]:
    """The packages around a module, which are imported before it."""
    parts = module.split(".")
    return [".".join(parts[:n]) for n in range(1, len(parts))]
