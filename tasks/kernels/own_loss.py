"""A loss of the user's own: found by import path, digested for the cache key, imported when training begins.

Looked for in the working directory, beside Winnow's own packages, and on Python's path. Its digest is over the syntax
of its module and of every module that this imports from the same place, found by reading: nothing of it runs while a
run is planned. Of an installed library only the module itself counts.

The function gets a `Learned` and the `settings` of its entry, and gives its mean over the batch as a tensor with one
element: the trainer weighs batches by their learned tokens.

    def my_loss(learned, *, margin=1.0):
        log_p = learned.logits().float().log_softmax(-1)
        ...
        return (learned.weights * value).sum() / learned.weights.sum()
"""

import ast
import importlib
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline_config.errors import ConfigError, StageError
from pipeline_config.loss_schema import Loss
from tasks.kernels.digests import json_digest

if TYPE_CHECKING:
    import torch

_HERE = Path(__file__).resolve().parents[2]
_CURE = "write package.module:function, with the package in the working directory or on PYTHONPATH"


@dataclass(frozen=True)
class Learned:
    """What a loss sees of a batch: its n learned tokens, of all its examples.

    Attributes:
        states: (n, d) last hidden states of the positions that predict them.
        targets: (n,) int64 token ids.
        weights: (n,) float32.
        example: (n,) int64; which example of the training set each belongs to.
        logits: gives (n, V); made when asked for, all at once.
        teacher_logits: the same of the teacher, without gradient; None without one.
    """

    states: "torch.Tensor"
    targets: "torch.Tensor"
    weights: "torch.Tensor"
    example: "torch.Tensor"
    logits: "Callable[[], torch.Tensor]"
    teacher_logits: "Callable[[], torch.Tensor] | None" = None


def own_digests(losses: Sequence[Loss], place: str) -> dict[str, str]:
    """Name → digest of the source of each loss that is the user's own.

    Raises:
        ConfigError: there is no such module or function, or its source is no Python.
    """
    found: dict[str, str] = {}
    for number, loss in enumerate(losses):
        if loss.is_own:
            found[loss.name] = _digest(loss.name, f"{place}.losses.{number}.name")
    return found


def load_own(loss: Loss, place: str) -> Callable[[Learned], "torch.Tensor"]:
    """The function itself, with its settings given and what it returns checked.

    Raises:
        ConfigError: it can't be imported.
    """
    module, _, name = loss.name.partition(":")
    try:
        function = getattr(_imported(module), name)
    except Exception as error:
        raise ConfigError(
            f"{loss.name} can't be imported: {type(error).__name__}: {error}", place=place, cure=_CURE
        ) from error
    if not callable(function):
        raise ConfigError(f"{loss.name} is a {type(function).__name__}, not a function", place=place, cure=_CURE)

    def compute(learned: Learned) -> "torch.Tensor":
        return _called(function, loss.name, loss.settings, learned, place)

    return compute


def _called(
    function: Callable[..., Any], name: str, settings: Mapping[str, Any], learned: Learned, place: str
) -> "torch.Tensor":
    import torch

    try:
        value = function(learned, **settings)
    except (torch.OutOfMemoryError, MemoryError):
        raise
    except Exception as error:
        trace = error.__traceback__
        while trace is not None and trace.tb_next is not None:
            trace = trace.tb_next
        line = f" at {Path(trace.tb_frame.f_code.co_filename).name}:{trace.tb_lineno}" if trace else ""
        cure = "it is called as function(learned, **settings), see docs/optimisation.md"
        raise StageError(f"{name} raised {type(error).__name__}{line}", place=place, cure=cure) from error
    cure = "return the mean over the batch, a tensor with one element that depends on learned.states or logits()"
    if not isinstance(value, torch.Tensor):
        raise StageError(f"{name} gave a {type(value).__name__}, not a tensor", place=place, cure=cure)
    if value.numel() != 1:
        raise StageError(f"{name} gave a tensor of shape {tuple(value.shape)}, not one number", place=place, cure=cure)
    if not value.requires_grad:
        raise StageError(f"{name} gave a number that nothing can be learned from", place=place, cure=cure)
    return value.reshape(()).float()


def _imported(module: str) -> Any:
    """The module as it stands on disk now, also where a process that serves many runs imported it before."""
    known, here = sys.modules.get(module), str(Path.cwd())
    sys.path.insert(0, here)
    try:
        importlib.invalidate_caches()
        installed = known is not None and _is_fixed(Path(known.__file__ or ""))
        return importlib.import_module(module) if known is None or installed else importlib.reload(known)
    finally:
        sys.path.remove(here)


def _digest(name: str, place: str) -> str:
    module, _, function = name.partition(":")
    root, path = _find(module, place)
    tree = _parse(path, place)
    if function not in _defined(tree):
        raise ConfigError(f"{path} defines no {function}", place=place, cure=_CURE)
    seen = {path: tree}
    todo = [] if _is_installed(path) else [(path, tree)]
    while todo:
        each, parsed = todo.pop()
        for used in _imports(parsed, each, root):
            if used not in seen:
                seen[used] = _parse(used, place)
                todo.append((used, seen[used]))
    return json_digest([[each.relative_to(root).as_posix(), _dumped(seen[each])] for each in sorted(seen)])


def _find(module: str, place: str) -> tuple[Path, Path]:
    for root in (Path.cwd(), _HERE, *(Path(each) for each in sys.path if each)):
        if path := _file(root, module.split(".")):
            return root, path
    raise ConfigError(f"there is no module {module}", place=place, cure=_CURE)


def _file(root: Path, parts: Sequence[str]) -> Path | None:
    path = root.joinpath(*parts)
    return next((each for each in (path.with_name(f"{path.name}.py"), path / "__init__.py") if each.is_file()), None)


def _parse(path: Path, place: str) -> ast.Module:
    try:
        return ast.parse(path.read_bytes())
    except (SyntaxError, ValueError, OSError) as error:
        raise ConfigError(f"{path} can't be read as Python: {error}", place=place, cure="correct it") from error


def _defined(tree: ast.Module) -> set[str]:
    """Names that the module binds."""
    names: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            names.add(node.name)
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            names.add(node.id)
        elif isinstance(node, ast.alias):
            names.add(node.asname or node.name)
    return names


def _imports(tree: ast.Module, path: Path, root: Path) -> Iterator[Path]:
    """The files below `root` that a module imports."""
    for node in ast.walk(tree):
        dotted: list[list[str]] = []
        if isinstance(node, ast.Import):
            dotted = [alias.name.split(".") for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            above = path.relative_to(root).parts[: -node.level] if node.level else ()
            start = [*above, *(node.module or "").split(".")] if node.module else [*above]
            dotted = [start, *([*start, alias.name] for alias in node.names)]
        for parts in dotted:
            for length in range(1, len(parts) + 1):
                found = _file(root, parts[:length])
                if found and not _is_installed(found):
                    yield found


def _is_installed(path: Path) -> bool:
    return "site-packages" in path.parts or path.is_relative_to(sys.base_prefix)


def _is_fixed(path: Path) -> bool:
    return _is_installed(path) or path.is_relative_to(_HERE)


def _dumped(tree: ast.Module) -> str:
    """Syntax without comments, positions and docstrings."""
    for node in ast.walk(tree):
        body = getattr(node, "body", None)
        if isinstance(body, list) and body and _is_text(body[0]):
            node.body = body[1:] or [ast.Pass()]  # type: ignore[attr-defined]
    return ast.dump(tree)


def _is_text(node: ast.AST) -> bool:
    return isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str)
