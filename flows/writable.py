"""Whether a folder can be written to, found out before anything runs."""

import tempfile
from pathlib import Path

from pipeline_config.errors import ConfigError


def check_writable(folder: Path, *, place: str, cure: str) -> None:
    """Make a folder if it is missing, and raise ConfigError if it can't be written to."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            return
    except OSError as error:
        raise ConfigError(f"{folder} can't be written: {error.strerror or error}", place=place, cure=cure) from error
