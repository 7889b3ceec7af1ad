"""From the C++ sources beside this file to one shared library, built at first use and kept in the cache.

    sources that open `namespace PERFQ_ISA`   compiled once an instruction set; the library chooses at run time
    all others                                compiled once, for any machine of this architecture

A library's folder is named by all that went into it, so a changed source, flag, compiler or torch is another library. Run as a
module it builds ahead: `python -m pytest_perfq.kernels.build CACHE`. Knows no op, and imports
no torch.
"""

from __future__ import annotations

import hashlib
import json
import os
import platform
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from filelock import FileLock, Timeout

from pytest_perfq.errors import KernelsUnavailable
from pytest_perfq.kernels.toolchain import TORCH_OLDEST, compiler, compiler_version, torch_package

SOURCES = Path(__file__).parent
FOLDERS = ("csrc", "cpu")
LIBRARY = "perfq_kernels.so"
PER_ISA = "namespace PERFQ_ISA"
COMMON = (
    *("-std=c++20", "-fPIC", "-fvisibility=hidden", "-Wall", "-Wextra", "-Wno-psabi"),
    f"-DTORCH_TARGET_VERSION=0x{TORCH_OLDEST[0]:02x}{TORCH_OLDEST[1]:02x}000000000000",
)
FAST = ("-O3",)
# A finding ends the process: a test run that only prints what the sanitizers saw would pass.
SANITIZED = ("-O1", "-g", "-fno-omit-frame-pointer", "-fsanitize=address,undefined", "-fno-sanitize-recover=all")
PORTABLE: Mapping[str, tuple[str, ...]] = {"portable": ()}
X86: Mapping[str, tuple[str, ...]] = {**PORTABLE, "avx2": ("-mavx2", "-mfma")}


@dataclass(frozen=True, slots=True)
class Unit:
    """One compilation. source: relative to the sources' folder. flags: beside those that all units share."""

    source: Path
    name: str
    flags: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Recipe:
    """All that a library is made from. compiler: the command. version: what it says of itself. isas: name -> flags, the
    one that every machine has first."""

    sources: Path
    compiler: tuple[str, ...]
    version: str
    torch_version: str
    flags: tuple[str, ...]
    isas: Mapping[str, tuple[str, ...]]
    links: tuple[str, ...]

    def units(self) -> list[Unit]:
        """Every compilation, in the order of linking: of an inline function that several objects carry the linker keeps the
        first, and that must be one that every machine can run."""
        once: list[Path] = []
        per_isa: list[Path] = []
        for path in self._files(".cpp"):
            source = path.relative_to(self.sources)
            (per_isa if PER_ISA in path.read_text(encoding="utf-8") else once).append(source)
        units = [Unit(source, f"{source.parts[0]}-{source.stem}.o", ()) for source in once]
        for isa, flags in self.isas.items():
            units += [
                Unit(source, f"{source.parts[0]}-{source.stem}-{isa}.o", (f"-DPERFQ_ISA={isa}", *flags)) for source in per_isa
            ]
        return units

    def key(self) -> str:
        """24 hex digits of everything here and of the content of every source and header."""
        content = {
            str(path.relative_to(self.sources)): hashlib.sha256(path.read_bytes()).hexdigest()
            for path in self._files(".cpp", ".h")
        }
        made_from = [content, self.compiler, self.version, self.torch_version, self.flags, dict(self.isas), self.links]
        return hashlib.sha256(json.dumps(made_from, sort_keys=True).encode()).hexdigest()[:24]

    def _files(self, *suffixes: str) -> list[Path]:
        folders = (self.sources / folder for folder in FOLDERS)
        return sorted(path for folder in folders for path in folder.glob("*") if path.suffix in suffixes)


def recipe(sources: Path = SOURCES, sanitize: bool = False) -> Recipe:
    """What would be built here. Raises KernelsUnavailable."""
    command = compiler()
    version, folder = torch_package()
    include, libraries = folder / "include", folder / "lib"
    headers = (f"-isystem{include}", f"-isystem{include / 'torch' / 'csrc' / 'api' / 'include'}")
    links = (f"-L{libraries}", "-ltorch_cpu", "-ltorch", "-lc10")
    isas = X86 if platform.machine().lower() in ("x86_64", "amd64") else PORTABLE
    flags = (*COMMON, *(SANITIZED if sanitize else FAST), *headers)
    return Recipe(sources, command, compiler_version(command), version, flags, isas, links)


def library(cache: Path, progress: Callable[[str], None], made_from: Recipe) -> Path:
    """The shared library in `cache`/kernels/<key>, built if it is not there whole. One process builds, others that ask at the
    same time wait for it. Raises KernelsUnavailable."""
    key = made_from.key()
    folder = cache / "kernels" / key
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with _alone(folder.parent / f"{key}.lock", progress):
            if folder.exists() and not _whole(folder):
                progress(f"the native kernels in {folder} are damaged; building them again")
                shutil.rmtree(folder)
            if not folder.exists():
                _build(folder, made_from, progress)
    except OSError as error:
        raise KernelsUnavailable(
            f"the native kernels cannot be kept in {folder}: {error.strerror or error}; choose another folder by PERFQ_CACHE"
        ) from error
    return folder / LIBRARY


@contextmanager
def _alone(path: Path, progress: Callable[[str], None]) -> Iterator[None]:
    lock = FileLock(path)
    try:
        lock.acquire(timeout=0)
    except Timeout:
        progress("waiting for the native kernels, which another process is building")
        lock.acquire()
    try:
        yield
    finally:
        lock.release()


def _build(folder: Path, made_from: Recipe, progress: Callable[[str], None]) -> None:
    """Compiles aside and renames into place: nobody ever sees half a library. The caller holds the lock."""
    for left in folder.parent.glob(f".{folder.name}.*"):
        shutil.rmtree(left)  # of a process that was killed: nobody else can be building this key
    started_s = time.monotonic()
    units = made_from.units()
    progress(f"building the native kernels: {len(units)} files")
    aside = Path(tempfile.mkdtemp(prefix=f".{folder.name}.", dir=folder.parent))
    try:
        objects = aside / "objects"
        objects.mkdir()
        with ThreadPoolExecutor(_cores()) as pool:
            list(pool.map(lambda unit: _compile(made_from, unit, objects), units))
        _link(made_from, units, objects, aside / LIBRARY)
        shutil.rmtree(objects)
        (aside / "sha256").write_text(_checksum(aside / LIBRARY), encoding="ascii")
        os.replace(aside, folder)
    finally:
        shutil.rmtree(aside, ignore_errors=True)
    progress(f"built the native kernels, {time.monotonic() - started_s:.0f} s")


def _compile(made_from: Recipe, unit: Unit, objects: Path) -> None:
    source = str(made_from.sources / unit.source)
    shared = (*made_from.flags, *(f"-I{made_from.sources / folder}" for folder in FOLDERS))
    _call([*made_from.compiler, *shared, *unit.flags, "-c", source, "-o", str(objects / unit.name)], made_from, unit.name)


def _link(made_from: Recipe, units: list[Unit], objects: Path, into: Path) -> None:
    parts = [str(objects / unit.name) for unit in units]
    _call([*made_from.compiler, *made_from.flags, "-shared", *parts, *made_from.links, "-o", str(into)], made_from, LIBRARY)


def _call(command: list[str], made_from: Recipe, what: str) -> None:
    done = subprocess.run(command, capture_output=True, text=True, errors="replace", env={**os.environ, "LC_ALL": "C"})
    if done.returncode:
        said = [line.strip() for line in done.stderr.splitlines() if line.strip()] or [f"exit status {done.returncode}"]
        # A compiler notes and warns before its first error; a linker complains first, and its driver then says that it did.
        line = said[0] if what == LIBRARY else next((line for line in said if "error:" in line), said[0])
        line = line.replace(f"{made_from.sources}{os.sep}", "")
        raise KernelsUnavailable(
            f"the native kernels cannot be built: {what}: {line}; this was {made_from.version}, name another compiler in CXX"
        )


def _whole(folder: Path) -> bool:
    try:
        return _checksum(folder / LIBRARY) == (folder / "sha256").read_text(encoding="ascii")
    except (FileNotFoundError, UnicodeDecodeError):
        return False


def _checksum(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


if __name__ == "__main__":
    try:
        built = library(Path(sys.argv[1]), print, recipe(sanitize=os.environ.get("PERFQ_KERNELS_SANITIZE") == "1"))
    except KernelsUnavailable as error:
        sys.exit(str(error))
    print(f"the native kernels are in {built}")
