"""The code digest: a helper three calls away counts, a comment does not."""

from collections.abc import Callable
from pathlib import Path

import pytest

from tasks import code

FILES = {
    "tasks/a/task.py": '''
"""Task."""
from tasks.a.deep import first
from tasks.kernels import numbers as n

LIMIT = 3

def entry(x):
    """Doc."""
    return first(x) + n.double(LIMIT)

def unrelated():
    return 1
''',
    "tasks/a/deep.py": "from tasks.kernels.more import second\n\ndef first(x):\n    return second(x)\n",
    "tasks/kernels/more.py": "def second(x):\n    from tasks.kernels.last import third\n    return third(x)\n",
    "tasks/kernels/last.py": "FACTOR = 2\n\ndef third(x):\n    return x * FACTOR\n\ndef other():\n    return 0\n",
    "tasks/kernels/numbers.py": "def double(x):\n    return 2 * x\n\ndef triple(x):\n    return 3 * x\n",
}
Digest = Callable[[], str]


@pytest.fixture
def tree(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[Path, Digest]:
    for name, text in FILES.items():
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        (path.parent / "__init__.py").touch()
        path.write_text(text)
    monkeypatch.setattr(code, "ROOT", tmp_path)

    def digest() -> str:
        code._module.cache_clear()
        return code.code_digest((("tasks.a.task", "entry"),))

    yield tmp_path, digest  # type: ignore[misc]
    code._module.cache_clear()


@pytest.mark.parametrize(
    ("file", "old", "new", "changes"),
    [
        ("tasks/kernels/last.py", "x * FACTOR", "x + FACTOR", True),
        ("tasks/kernels/last.py", "FACTOR = 2", "FACTOR = 5", True),
        ("tasks/a/task.py", "LIMIT = 3", "LIMIT = 4", True),
        ("tasks/kernels/numbers.py", "2 * x", "4 * x", True),
        ("tasks/kernels/last.py", "def third(x):", "def third(x):\n    '''Doc.'''\n    # why", False),
        ("tasks/a/task.py", '"""Doc."""', '"""Another."""', False),
        ("tasks/a/deep.py", "def first", "\n\n\ndef first", False),
        ("tasks/a/task.py", "return 1", "return 9", False),
        ("tasks/kernels/last.py", "return 0", "return 9", False),
        ("tasks/kernels/numbers.py", "3 * x", "9 * x", False),
    ],
)
def test_what_is_reachable_counts_and_nothing_else(
    tree: tuple[Path, Digest], file: str, old: str, new: str, changes: bool
) -> None:
    root, digest = tree
    before = digest()
    path = root / file
    assert old in path.read_text()
    path.write_text(path.read_text().replace(old, new))
    assert (digest() != before) is changes


def test_side_effects_of_a_reached_module_count(tree: tuple[Path, Digest]) -> None:
    root, digest = tree
    before = digest()
    path = root / "tasks/kernels/last.py"
    path.write_text(path.read_text() + "\nprint('registered')\n")
    assert digest() != before


def test_a_module_passed_around_counts_whole(tree: tuple[Path, Digest]) -> None:
    root, digest = tree
    path = root / "tasks/a/task.py"
    path.write_text(path.read_text().replace("n.double(LIMIT)", "apply(n, LIMIT)"))
    before = digest()
    numbers = root / "tasks/kernels/numbers.py"
    numbers.write_text(numbers.read_text().replace("3 * x", "9 * x"))
    assert digest() != before
