"""A device that several processes measure on. Knows no case."""

from __future__ import annotations

import getpass
import tempfile
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from filelock import ReadWriteLock


@cache
def device_lock(name: str) -> ReadWriteLock:
    """Shared by every process of this user on this machine: readers build and evaluate, one writer times."""
    from filelock import ReadWriteLock

    folder = Path(tempfile.gettempdir()) / f"perfq-{getpass.getuser()}"
    folder.mkdir(mode=0o700, exist_ok=True)
    return ReadWriteLock(folder / f"{name}.lock.db")
