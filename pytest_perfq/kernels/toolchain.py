"""What the native kernels are built with: a C++ compiler and torch's headers, or the one sentence that says what is missing.
Knows no source and no flag, and imports no torch."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import os
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

from pytest_perfq.errors import KernelsUnavailable

COMPILERS = ("g++", "clang++")
# The oldest torch whose stable ABI has all that the bindings call; the library then runs with every later one.
TORCH_OLDEST = (2, 11)


def unavailable() -> str | None:
    """Why the kernels cannot be built here, one sentence, or None. Cheap: starts no process and imports no torch."""
    try:
        compiler()
        torch_package()
    except KernelsUnavailable as error:
        return str(error)
    return None


def compiler() -> tuple[str, ...]:
    """The compiler's command: CXX (which may carry arguments, as in `ccache g++`), else the first of COMPILERS found.
    Raises KernelsUnavailable."""
    if sys.platform == "win32":
        raise KernelsUnavailable("the native kernels build on Linux and macOS, and this is Windows; choose another backend")
    named = shlex.split(os.environ.get("CXX", ""))
    if named and shutil.which(named[0]) is None:
        raise KernelsUnavailable(
            f"the native kernels need a C++20 compiler, and CXX names {named[0]!r}, which is not there; "
            "install it or change CXX"
        )
    found = next(filter(shutil.which, COMPILERS), None)
    if not named and found is None:
        raise KernelsUnavailable(
            f"the native kernels need a C++20 compiler, and neither {' nor '.join(COMPILERS)} is on the path; "
            "install one or name it in CXX"
        )
    return tuple(named) or (str(found),)


def compiler_version(command: tuple[str, ...]) -> str:
    """The first line of what the compiler says of itself. Raises KernelsUnavailable."""
    done = subprocess.run([*command, "--version"], capture_output=True, text=True, errors="replace")
    lines = done.stdout.strip().splitlines()
    if done.returncode or not lines:
        raise KernelsUnavailable(
            f"{shlex.join(command)!r} does not say which compiler it is (--version: exit status {done.returncode}); change CXX"
        )
    return lines[0]


def torch_package() -> tuple[str, Path]:
    """torch's version and its folder, without importing it. Raises KernelsUnavailable."""
    found = importlib.util.find_spec("torch")
    if found is None or not found.submodule_search_locations:
        raise KernelsUnavailable("the native kernels need torch, which is not installed; install it with pip")
    version = importlib.metadata.version("torch")
    if tuple(int(part) for part in version.split(".")[:2]) < TORCH_OLDEST:
        oldest = ".".join(map(str, TORCH_OLDEST))
        raise KernelsUnavailable(f"the native kernels need torch {oldest} or newer, and this is {version}; upgrade torch")
    return version, Path(found.submodule_search_locations[0])
