"""Checkpoint folders by content: made once, complete or absent, safe when several processes want one at once.

Knows no model and no task.
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path

from filelock import FileLock

_KEY_DIGITS = 16


def cached(root: Path, name: str, key: str, make: Callable[[Path], None]) -> Path:
    """The folder `root/NAME-KEY`; where it is not, `make` fills it. Another process that wants it meanwhile waits."""
    target = root / f"{name}-{key[:_KEY_DIGITS]}"
    if target.is_dir():
        return target
    root.mkdir(parents=True, exist_ok=True)
    with FileLock(f"{target}.lock"):
        if not target.is_dir():
            # Filled aside and renamed, so that a killed run leaves no half checkpoint under the name.
            filling = Path(tempfile.mkdtemp(prefix=f".{name}-", dir=root))
            try:
                make(filling)
                filling.rename(target)
            finally:
                shutil.rmtree(filling, ignore_errors=True)
    return target
