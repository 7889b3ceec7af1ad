"""From the C++ sources beside this file to one shared library, built at first use and kept in the cache.

    sources that open `namespace PERFQ_ISA`   compiled once an instruction set; the library chooses at run time
    all others                                compiled once, for any machine of this architecture

A library's folder is named by all that went into it, so a changed source, flag, compiler, torch or list of instruction sets is
another library. Run as a module it builds ahead: `python -m pytest_perfq.kernels.build CACHE`. Knows no op, imports no torch.
"""

from __future__ import annotations

import hashlib
import json
import os
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from pytest_perfq.errors import KernelsUnavailable
from pytest_perfq.kernels import isas
from pytest_perfq.kernels.keeping import called, cores, kept
from pytest_perfq.kernels.toolchain import TORCH_OLDEST, compiler, compiler_version, torch_package

SOURCES = Path(__file__).parent
FOLDERS = ("csrc", "cpu")
LIBRARY = "perfq_kernels.so"
MODULE = "pytest_perfq.kernels.build"  # its own name, which it does not have where it is run
PER_ISA = "namespace PERFQ_ISA"
COMMON = (
    *("-std=c++20", "-fPIC", "-fvisibility=hidden", "-Wall", "-Wextra", "-Wno-psabi"),
    f"-DTORCH_TARGET_VERSION=0x{TORCH_OLDEST[0]:02x}{TORCH_OLDEST[1]:02x}000000000000",
)
FAST = ("-O3",)
# A finding ends the process: a test run that only prints what the sanitizers saw would pass.
SANITIZED = ("-O1", "-g", "-fno-omit-frame-pointer", "-fsanitize=address,undefined", "-fno-sanitize-recover=all")


@dataclass(frozen=True, slots=True)
class Unit:
    """One compilation. source: relative to the sources' folder. flags: beside those that all units share."""

    source: Path
    name: str
    flags: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Recipe:
    """All that a library is made from. compiler: the command. version: what it says of itself. isas: name -> flags, the
    one that every machine runs first, the best last."""

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
        sets = "-DPERFQ_SETS(SET)=" + " ".join(f"SET({isa})" for isa in reversed(list(self.isas)))
        units = [Unit(source, f"{source.parts[0]}-{source.stem}.o", (sets,)) for source in once]
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
    flags = (*COMMON, *(SANITIZED if sanitize else FAST), *headers)
    return Recipe(sources, command, compiler_version(command), version, flags, isas.compiled(), links)


def library(cache: Path, progress: Callable[[str], None], made_from: Recipe) -> Path:
    """The shared library in `cache`/kernels/<key>, built if it is not there whole. One process builds, others that ask at the
    same time wait for it. Raises KernelsUnavailable."""
    folder = cache / "kernels" / made_from.key()
    kept(folder, "the native kernels", progress, lambda aside: _build(aside, made_from, progress))
    return folder / LIBRARY


def _build(aside: Path, made_from: Recipe, progress: Callable[[str], None]) -> None:
    units = made_from.units()
    progress(f"building the native kernels: {len(units)} files")
    with tempfile.TemporaryDirectory(dir=aside) as name:
        objects = Path(name)
        with ThreadPoolExecutor(cores()) as pool:
            list(pool.map(lambda unit: _compile(made_from, unit, objects), units))
        _link(made_from, units, objects, aside / LIBRARY)


def _compile(made_from: Recipe, unit: Unit, objects: Path) -> None:
    source = str(made_from.sources / unit.source)
    shared = (*made_from.flags, *(f"-I{made_from.sources / folder}" for folder in FOLDERS))
    _call([*made_from.compiler, *shared, *unit.flags, "-c", source, "-o", str(objects / unit.name)], made_from, unit.name)


def _link(made_from: Recipe, units: list[Unit], objects: Path, into: Path) -> None:
    parts = [str(objects / unit.name) for unit in units]
    _call([*made_from.compiler, *made_from.flags, "-shared", *parts, *made_from.links, "-o", str(into)], made_from, LIBRARY)


def _call(command: list[str], made_from: Recipe, what: str) -> None:
    status, said = called(command)
    if status:
        said = said or [f"exit status {status}"]
        # A compiler notes and warns before its first error; a linker complains first, and its driver then says that it did.
        line = said[0] if what == LIBRARY else next((line for line in said if "error:" in line), said[0])
        line = line.replace(f"{made_from.sources}{os.sep}", "")
        raise KernelsUnavailable(
            f"the native kernels cannot be built: {what}: {line}; this was {made_from.version}, name another compiler in CXX"
        )


def main(words: Sequence[str]) -> str:
    """What the command says once it has built into the cache that it names. Raises KernelsUnavailable."""
    if len(words) != 1:
        raise KernelsUnavailable(
            f"building ahead takes one folder, the cache in use, and was given {len(words)}: "
            f"python -m {MODULE} FOLDER; perfq doctor names the folder"
        )
    path = library(Path(words[0]), print, recipe(sanitize=os.environ.get("PERFQ_KERNELS_SANITIZE") == "1"))
    return f"the native kernels are in {path}"


if __name__ == "__main__":
    try:
        print(main(sys.argv[1:]))
    except KernelsUnavailable as error:
        sys.exit(str(error))
