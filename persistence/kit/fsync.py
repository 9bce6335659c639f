"""Waits until a file, or the names in a folder, are on the disk: before that, a power failure may lose them."""

from __future__ import annotations

import os
from pathlib import Path


def sync(path: Path) -> None:
    """Of a folder, this syncs the names of its files, not their contents."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
