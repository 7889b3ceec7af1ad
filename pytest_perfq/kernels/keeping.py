"""A folder of the cache that is made once: named by all that goes into it, made aside under a lock, renamed into place, and
made again when it is damaged. And how a compiler is called. Knows no source and no flag, and imports no torch."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from pytest_perfq.errors import KernelsUnavailable

SEAL = "sha256"


def kept(folder: Path, what: str, progress: Callable[[str], None], make: Callable[[Path], None]) -> None:
    """`folder`, whole: `make` fills an empty one if it is not. One process makes it, others that ask at the same time wait.
    what: the kernels, as sentences call them. Raises KernelsUnavailable, as `make` may."""
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with _alone(folder.parent / f"{folder.name}.lock", what, progress):
            if folder.exists() and not whole(folder):
                progress(f"{what} in {folder} are damaged; building them again")
                shutil.rmtree(folder)
            if not folder.exists():
                _make(folder, what, progress, make)
    except OSError as error:
        raise KernelsUnavailable(
            f"{what} cannot be kept in {folder}: {error.strerror or error}; choose another folder by PERFQ_CACHE"
        ) from error


def whole(folder: Path) -> bool:
    """Whether the folder holds what it held when it was made."""
    try:
        return _checksum(folder) == (folder / SEAL).read_text(encoding="ascii")
    except (FileNotFoundError, NotADirectoryError, UnicodeDecodeError):
        return False


def cores() -> int:
    """How many compilations go on at once."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def called(command: Sequence[str]) -> tuple[int, list[str]]:
    """A compiler's exit status, and the lines that it says of errors, in English."""
    done = subprocess.run(command, capture_output=True, text=True, errors="replace", env={**os.environ, "LC_ALL": "C"})
    said = [line.strip() for line in (done.stderr + done.stdout).splitlines() if line.strip()]
    return done.returncode, said


@contextmanager
def _alone(path: Path, what: str, progress: Callable[[str], None]) -> Iterator[None]:
    lock = FileLock(path)
    try:
        lock.acquire(timeout=0)
    except Timeout:
        progress(f"waiting for {what}, which another process is building")
        lock.acquire()
    try:
        yield
    finally:
        lock.release()


def _make(folder: Path, what: str, progress: Callable[[str], None], make: Callable[[Path], None]) -> None:
    """Makes aside and renames into place: nobody ever sees half a library. The caller holds the lock."""
    for left in folder.parent.glob(f".{folder.name}.*"):
        shutil.rmtree(left)  # of a process that was killed: nobody else can be building this key
    started_s = time.monotonic()
    aside = Path(tempfile.mkdtemp(prefix=f".{folder.name}.", dir=folder.parent))
    try:
        make(aside)
        (aside / SEAL).write_text(_checksum(aside), encoding="ascii")
        os.replace(aside, folder)
    finally:
        shutil.rmtree(aside, ignore_errors=True)
    progress(f"built {what}, {time.monotonic() - started_s:.0f} s")


def _checksum(folder: Path) -> str:
    seal = hashlib.sha256()
    for path in sorted(folder.iterdir()):
        if path.name != SEAL:
            seal.update(path.read_bytes())
    return seal.hexdigest()
