"""nlpaug without its zoo, and without its grip on the global random state.

`import nlpaug.augmenter.word.random` runs the package's `__init__`, which imports every augmenter there is, with
transformers: 7.3 s on two cores, against 1.9 s for the few modules used here (0.4 s once torch is loaded, as it is in
a run that trains). So the packages in between are given to the import system as bare folders while those modules load.

nlpaug draws from the global generators of `random` and numpy. `drawing_from` seeds both for one call and puts them
back.
"""

import contextlib
import importlib
import importlib.util
import random
import sys
import types
import warnings
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

from pipeline_config.errors import ConfigError

_BARE = ("nlpaug.augmenter", "nlpaug.augmenter.word", "nlpaug.augmenter.char")


def check_installed() -> None:
    """Raise ConfigError if nlpaug is not installed; it is not imported."""
    if importlib.util.find_spec("nlpaug") is None:
        message = "the package nlpaug is not installed"
        raise ConfigError(message, place="augment.methods", cure="install it: pip install 'winnow-pipeline[augment]'")


@cache
def augmenter_class(module: str, name: str) -> Any:
    """A class of nlpaug, such as `word.random`, `RandomWordAug`.

    Raises:
        ConfigError: nlpaug is not installed.
    """
    check_installed()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        root = Path(importlib.import_module("nlpaug").__path__[0])
        with _bare_packages(root):
            kind = module.split(".", 1)[0]
            base = f"{kind.capitalize()}Augmenter"
            package, parent = sys.modules[f"nlpaug.augmenter.{kind}"], _part(f"{kind}.{kind}_augmenter")
            setattr(package, base, getattr(parent, base))  # the one name that its modules ask their package for
            return getattr(_part(module), name)


@contextlib.contextmanager
def drawing_from(seed: int) -> Iterator[None]:
    """Within it the global generators of `random` and numpy start at a seed; afterwards they are as they were."""
    import numpy as np

    python_state, numpy_state = random.getstate(), np.random.get_state()
    random.seed(seed)
    np.random.seed(seed & 0xFFFFFFFF)
    try:
        yield
    finally:
        random.setstate(python_state)
        np.random.set_state(numpy_state)


def _part(name: str) -> Any:
    return importlib.import_module(f"nlpaug.augmenter.{name}")


@contextlib.contextmanager
def _bare_packages(root: Path) -> Iterator[None]:
    """Within it the packages between nlpaug and its augmenters are folders without an `__init__`."""
    if any(name in sys.modules for name in _BARE):  # somebody imported all of it already: nothing is left to save
        importlib.import_module("nlpaug.augmenter.word")
        importlib.import_module("nlpaug.augmenter.char")
        yield
        return
    for name in _BARE:
        package = types.ModuleType(name)
        package.__path__ = [str(root.joinpath(*name.split(".")[1:]))]
        sys.modules[name] = package
    try:
        yield
    finally:
        for name in [name for name in sys.modules if name.startswith("nlpaug.augmenter")]:
            del sys.modules[name]  # so that a later import by name finds the package as it is
