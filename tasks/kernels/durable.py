"""Bytes that must survive a power cut."""

import os
from pathlib import Path


def sync(path: Path) -> None:
    """Flush one file or folder to the disk (fsync)."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
