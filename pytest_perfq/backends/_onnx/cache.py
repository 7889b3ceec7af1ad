"""A folder of built files, named by what they were built from; safe when several processes build the same at once.

An entry is a folder <digest>/ with meta.json (key, facts, checksum of every file) and the files. It is built aside and
renamed into place under a lock, so nobody ever sees half of one. Knows nothing of ONNX.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from filelock import FileLock

# Raise it when a change of this package changes what the same key builds.
RECIPE = 1
Facts = dict[str, str | int | float | bool]


@dataclass(frozen=True, slots=True)
class Entry:
    """folder: where the files are. facts: what its building found out. hit: whether it was there already."""

    folder: Path
    digest: str
    facts: Facts
    hit: bool


def digest(key: Mapping[str, Any]) -> str:
    """24 hex digits of a key of plain values."""
    text = json.dumps({**key, "recipe": RECIPE}, sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:24]


def entry(root: Path, key: Mapping[str, Any], build: Callable[[Path], Facts], progress: Callable[[str], None]) -> Entry:
    """The entry of `key` under `root`; `build` writes its files into an empty folder where there is none, and returns facts.
    An entry whose files are not those it was built with is reported through `progress` and built again."""
    root.mkdir(parents=True, exist_ok=True)
    name = digest(key)
    folder = root / name
    with FileLock(root / f"{name}.lock"):
        if folder.exists():
            facts, fault = _read(folder)
            if fault is None:
                return Entry(folder, name, facts, True)
            progress(f"cache entry {folder} is damaged ({fault}); building it again")
            shutil.rmtree(folder)
        facts = _write(folder, key, build)
    return Entry(folder, name, facts, False)


def _write(folder: Path, key: Mapping[str, Any], build: Callable[[Path], Facts]) -> Facts:
    aside = Path(tempfile.mkdtemp(prefix=f".{folder.name}.", dir=folder.parent))
    try:
        facts = build(aside)
        files = sorted(path for path in aside.rglob("*") if path.is_file())
        checksums = {str(path.relative_to(aside)): checksum(path) for path in files}
        meta = {"key": dict(key), "facts": facts, "files": checksums}
        (aside / "meta.json").write_text(json.dumps(meta, indent=1, sort_keys=True), encoding="utf-8")
        os.replace(aside, folder)
    except BaseException:
        shutil.rmtree(aside, ignore_errors=True)
        raise
    return facts


def _read(folder: Path) -> tuple[Facts, str | None]:
    """The facts of an entry, and what is wrong with it or None."""
    try:
        meta = json.loads((folder / "meta.json").read_text(encoding="utf-8"))
        facts, files = meta["facts"], meta["files"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        return {}, f"meta.json cannot be read: {type(error).__name__}"
    for name, wanted in files.items():
        path = folder / name
        if not path.is_file():
            return {}, f"{name} is missing"
        if checksum(path) != wanted:
            return {}, f"{name} does not have its checksum"
    return facts, None


def checksum(path: Path) -> str:
    """SHA-256 of a file, hex."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
