"""The CUDA kernels and their bindings as ops of torch on the CPU, `torch.ops.perfq_emulated`: the same sources, compiled for
emulation/emulation.h instead of a GPU. Kept in the cache by the hash of all that goes into it."""

from __future__ import annotations

import hashlib
import os
import subprocess
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import torch
from filelock import FileLock

from pytest_perfq.kernels import build, fakes, toolchain

NAME = "perfq_emulated"
HERE = Path(__file__).parent / "emulation"
CUDA, CSRC = build.SOURCES / "cuda", build.SOURCES / "csrc"
FLAGS = (
    *("-std=c++20", "-O2", "-fPIC", "-fvisibility=hidden", "-Wall", "-Wextra", "-Werror", "-Wno-unknown-pragmas", "-Wno-psabi"),
    *("-DPERFQ_EMULATED", f"-DPERFQ_OPS={NAME}", "-DPERFQ_CUDA=CPU", "-DTORCH_TARGET_VERSION=0x020b000000000000"),
    f"-I{HERE}",
)


def library(cache: Path) -> Path:
    """The shared library, compiled unless the cache has it; by one process, where several want it."""
    command = toolchain.compiler()
    version, torch_folder = toolchain.torch_package()
    include = torch_folder / "include"
    flags = (*FLAGS, f"-isystem{include}", f"-isystem{include / 'torch' / 'csrc' / 'api' / 'include'}")
    sources = [*sorted(CUDA.glob("*.cu")), *sorted(CUDA.glob("*.cpp")), *sorted(HERE.glob("*.cpp")), CSRC / "schema.cpp"]
    headers = [path for folder in (CUDA, CSRC, HERE) for path in sorted(folder.glob("*.*h"))]
    seal = hashlib.sha256("\0".join([*command, toolchain.compiler_version(command), version, *flags]).encode())
    for path in (*sources, *headers):
        seal.update(path.read_bytes())
    found = cache / "kernels" / f"emulated-{seal.hexdigest()[:24]}.so"
    found.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(found.with_suffix(".lock")):
        if not found.exists():
            build_into(found, command, flags, sources, torch_folder)
    return found


def build_into(found: Path, command: tuple[str, ...], flags: tuple[str, ...], sources: list[Path], torch_folder: Path) -> None:
    """Compiles aside, and renames into place."""
    with tempfile.TemporaryDirectory(dir=found.parent) as aside:

        def compiled(source: Path) -> str:
            into = f"{aside}/{source.stem}-{source.suffix[1:]}.o"
            subprocess.run([*command, *flags, "-x", "c++", "-c", str(source), "-o", into], check=True)
            return into

        with ThreadPoolExecutor(len(os.sched_getaffinity(0))) as pool:
            objects = list(pool.map(compiled, sources))
        made = Path(aside) / "made.so"
        links = (f"-L{torch_folder / 'lib'}", "-ltorch_cpu", "-ltorch", "-lc10")
        subprocess.run([*command, "-shared", *objects, *links, "-o", str(made)], check=True)
        made.replace(found)


def load(cache: Path) -> object:
    """The namespace of the emulated ops, with their fakes, once a process."""
    if not hasattr(load, "loaded"):
        torch.ops.load_library(library(cache))
        for fake in fakes.FAKES:
            torch.library.register_fake(f"{NAME}::{fake.__name__}", fakes.GPU_FAKES.get(fake.__name__, fake))
        load.loaded = True
    return torch.ops.perfq_emulated
