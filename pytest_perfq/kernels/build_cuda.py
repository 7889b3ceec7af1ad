"""From cuda/ beside this file to perfq_kernels_cuda.so, which adds CUDA implementations to the ops of the CPU library.

    *.cu    nvcc, once for all architectures asked for, and PTX of the newest; a kernel that spills is refused
    *.cpp   the host's compiler, torch's stable ABI

A GPU uses a library built ahead for AHEAD where one covers it, and one of its own otherwise. Run as a module it builds ahead,
needing no GPU: `python -m pytest_perfq.kernels.build_cuda CACHE [--arch 75 80 86 90]`. Knows no op.
"""

from __future__ import annotations

import hashlib
import json
import os
import tempfile
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from pytest_perfq.errors import KernelsUnavailable
from pytest_perfq.kernels.build import COMMON, FAST, SOURCES
from pytest_perfq.kernels.complaints import complaint
from pytest_perfq.kernels.cuda_toolkit import Toolkit, host_arguments, toolkit
from pytest_perfq.kernels.keeping import called, cores, kept, whole
from pytest_perfq.kernels.ptxas import Usage, readable, usages
from pytest_perfq.kernels.toolchain import torch_package

WHAT = "the native CUDA kernels"
LIBRARY = "perfq_kernels_cuda.so"
ABOUT = "about.json"
AHEAD = (75, 80, 86, 90)
FOLDERS = ("csrc", "cuda")
# constexpr helpers serve host and device alike.
NVCC = ("--std=c++20", "-O3", "--expt-relaxed-constexpr", "-Xcompiler=-fPIC,-fvisibility=hidden", "-Xptxas=-v")


@dataclass(frozen=True, slots=True)
class About:
    """What a library says of itself. content: as of its recipe; kernels: what ptxas said of each when it was built."""

    content: str
    architectures: tuple[int, ...]
    kernels: tuple[Usage, ...]


@dataclass(frozen=True, slots=True)
class RecipeCuda:
    """All that a library is made from. architectures: 90 is sm_90, ascending. tools: None where some are missing, and then
    lacking says which; a library that the cache has is used all the same."""

    sources: Path
    architectures: tuple[int, ...]
    torch_version: str
    nvcc_flags: tuple[str, ...]
    host_flags: tuple[str, ...]
    links: tuple[str, ...]
    tools: Toolkit | None
    lacking: str | None = None

    def content(self) -> str:
        """24 hex digits of all but the compilers and the architectures: what a library must share to be used instead."""
        files = {str(path.relative_to(self.sources)): hashlib.sha256(path.read_bytes()).hexdigest() for path in self._files()}
        return _digest([files, self.torch_version, self.nvcc_flags, self.host_flags, self.links])

    def key(self) -> str:
        """The name of the library's folder. Raises KernelsUnavailable without tools."""
        return "cuda-" + _digest([self.content(), asdict(self.needed()), self.architectures])

    def needed(self) -> Toolkit:
        if self.tools is None:
            raise KernelsUnavailable(self.lacking or f"{WHAT} need nvcc")
        return self.tools

    def units(self) -> list[Path]:
        """Every compilation, relative to the sources' folder."""
        return [
            path.relative_to(self.sources)
            for path in self._files()
            if path.suffix in (".cu", ".cpp") and path.parent.name == "cuda"
        ]

    def _files(self) -> list[Path]:
        suffixes = (".cu", ".cuh", ".cpp", ".h")
        return sorted(path for name in FOLDERS for path in (self.sources / name).glob("*") if path.suffix in suffixes)


def recipe_cuda(capabilities: Iterable[tuple[int, int]], sources: Path = SOURCES) -> RecipeCuda:
    """What would be built for GPUs of these compute capabilities, such as (9, 0). Raises KernelsUnavailable where torch is
    missing or too old."""
    architectures = tuple(sorted({10 * major + minor for major, minor in capabilities}))
    version, folder = torch_package()
    include = folder / "include"
    headers = (f"-isystem{include}", f"-isystem{include / 'torch' / 'csrc' / 'api' / 'include'}")
    links = (f"-L{folder / 'lib'}", "-ltorch_cpu", "-ltorch", "-lc10")
    tools, lacking = None, None
    try:
        tools = toolkit()
    except KernelsUnavailable as error:
        lacking = str(error)
    return RecipeCuda(sources, architectures, version, NVCC, (*COMMON, *FAST, *headers), links, tools, lacking)


def cuda_library(cache: Path, progress: Callable[[str], None], made_from: RecipeCuda) -> Path:
    """The shared library: one of the cache that covers the recipe's architectures, else built. Raises KernelsUnavailable."""
    if found := ready(cache, made_from):
        return found
    folder = cache / "kernels" / made_from.key()
    kept(folder, WHAT, progress, lambda aside: _build(aside, made_from, progress))
    return folder / LIBRARY


def ready(cache: Path, made_from: RecipeCuda) -> Path | None:
    """A whole library of the cache with machine code for every architecture asked for, without building: the one of AHEAD
    first, then its own; without tools, any that was made from the same sources, flags and torch."""
    kernels = cache / "kernels"
    if made_from.tools is None:
        folders = sorted(path.parent for path in kernels.glob(f"cuda-*/{ABOUT}"))
        folders = [folder for folder in folders if whole(folder)]
        folders = [folder for folder in folders if about(folder).content == made_from.content()]
    else:
        folders = [kernels / replace(made_from, architectures=each).key() for each in (AHEAD, made_from.architectures)]
        folders = [folder for folder in folders if whole(folder)]
    for folder in folders:
        if covers(about(folder).architectures, made_from.architectures):
            return folder / LIBRARY
    return None


def covers(has: Iterable[int], wanted: Iterable[int]) -> bool:
    """Machine code of sm_XY runs on compute capability X.Z where Z is at least Y. PTX would run on later ones too, compiled by
    the driver at each start, and is not counted."""
    has = list(has)
    return all(any(one // 10 == want // 10 and one <= want for one in has) for want in wanted)


def about(folder: Path) -> About:
    """Of a folder that is whole."""
    told = json.loads((folder / ABOUT).read_text(encoding="utf-8"))
    return About(told["content"], tuple(told["architectures"]), tuple(Usage(**one) for one in told["kernels"]))


def _build(aside: Path, made_from: RecipeCuda, progress: Callable[[str], None]) -> None:
    units, content = made_from.units(), made_from.content()
    names = ", ".join(f"sm_{one}" for one in made_from.architectures)
    progress(f"building {WHAT} for {names}: {len(units)} files")
    with tempfile.TemporaryDirectory(dir=aside) as name:
        objects = [Path(name) / f"{unit.stem}-{unit.suffix[1:]}.o" for unit in units]
        with ThreadPoolExecutor(cores()) as pool:
            told = list(pool.map(lambda unit, into: _compile(made_from, unit, into), units, objects))
        _refuse_spills(units, told)
        _link(made_from, objects, aside / LIBRARY)
    if made_from.content() != content:
        raise KernelsUnavailable(f"the sources of {WHAT} changed while they were built; build them again")
    facts = About(content, made_from.architectures, tuple(usage for each in told for usage in each))
    (aside / ABOUT).write_text(json.dumps(asdict(facts), indent=1), encoding="utf-8")


def _compile(made_from: RecipeCuda, unit: Path, into: Path) -> list[Usage]:
    tools, source = made_from.needed(), str(made_from.sources / unit)
    includes = [f"-I{made_from.sources / folder}" for folder in FOLDERS]
    if unit.suffix == ".cpp":
        _call([*tools.host, *made_from.host_flags, *includes, "-c", source, "-o", str(into)], made_from, str(unit))
        return []
    flags = [*host_arguments(tools.host), *made_from.nvcc_flags, *_targets(made_from.architectures), *includes]
    return usages(_call([tools.nvcc, *flags, "-c", source, "-o", str(into)], made_from, str(unit)))


def _refuse_spills(units: list[Path], told: list[list[Usage]]) -> None:
    """One sentence names every kernel that spills, so that one build finds all."""
    spilled = [(unit, usage) for unit, found in zip(units, told, strict=True) for usage in found if usage.spills]
    if spilled:
        each = "; ".join(
            f"{unit}: {readable([usage.kernel])[0]} spills on sm_{usage.architecture}, "
            f"{usage.spill_stores_bytes} bytes stored and {usage.spill_loads_bytes} loaded a thread"
            for unit, usage in spilled
        )
        raise KernelsUnavailable(
            f"{WHAT} cannot be built: {each}; 0 bytes are allowed: hold fewer values at once or run fewer threads a block"
        )


def _link(made_from: RecipeCuda, objects: list[Path], into: Path) -> None:
    tools = made_from.needed()
    flags = [*host_arguments(tools.host), "-shared", "-cudart=static", *_targets(made_from.architectures)]
    _call([tools.nvcc, *flags, *map(str, objects), *made_from.links, "-o", str(into)], made_from, LIBRARY)


def _targets(architectures: tuple[int, ...]) -> list[str]:
    targets = [f"-gencode=arch=compute_{one},code=sm_{one}" for one in architectures]
    return [*targets, f"-gencode=arch=compute_{architectures[-1]},code=compute_{architectures[-1]}"]


def _call(command: list[str], made_from: RecipeCuda, what: str) -> list[str]:
    status, said = called(command)
    if status:
        said = [line.replace(f"{made_from.sources}{os.sep}", "") for line in said] or [f"exit status {status}"]
        raise KernelsUnavailable(complaint(what, said, made_from.needed(), linking=what == LIBRARY))
    return said


def _digest(of: object) -> str:
    return hashlib.sha256(json.dumps(of, sort_keys=True).encode()).hexdigest()[:24]


if __name__ == "__main__":
    from pytest_perfq.kernels.ahead_cuda import main

    main()
