"""The kernels of instruction sets that this machine may lack, kept in the cache by all that goes into them: played, the byte dot
product in plain C++ and 64-byte vectors made of two; or as they are, to be read and not run."""

from __future__ import annotations

import ctypes
import dataclasses
import os
import shutil
import tempfile
from collections.abc import Iterable
from functools import cache
from pathlib import Path

from pytest_perfq.kernels import build, isas, ops

TABLE = Path(__file__).parent / "played" / "table.cpp"
# Quick to compile, and multiplies and adds in one rounding as -O3 does.
QUICK = ("-O1", "-fexpensive-optimizations")
# name -> bytes of a vector, and what is compiled: by vectors of 32 bytes only the INT8 linear is another than AVX2's.
WIDE = ("attention", "layer", "layernorm", "linear", "linear_int8", "scratch")
SETS = {"played512": (64, WIDE), "played256": (32, ("linear_int8", "scratch"))}


def choose(name: str, folder: Path) -> None:
    """All calls from here on run on one of SETS. folder: the cache."""
    bring(_loaded(name, folder), name, folder)


def bring(brought: ctypes.CDLL, name: str, folder: Path) -> None:
    """All calls from here on run on the set that a library brings by `perfq_played`."""
    product = ctypes.CDLL(str(ops.load(folder)))
    product.perfq_bring_kernels.restype = brought.perfq_played.restype = ctypes.c_void_p
    best = product.perfq_bring_kernels(None)
    product.perfq_bring_kernels(ctypes.c_void_p(brought.perfq_played(ctypes.c_void_p(best))))
    assert ops.select_isa(name) == name


@cache
def _loaded(name: str, folder: Path) -> ctypes.CDLL:
    size, sources = SETS[name]
    flags = (*isas.X86["avx2"].flags, f"-DPERFQ_PLAYED_VNNI={size}", *QUICK)
    return ctypes.CDLL(str(library(folder, name, flags, sources, [TABLE])))


def library(
    folder: Path,
    name: str,
    flags: tuple[str, ...],
    sources: Iterable[str],
    more: Iterable[Path] = (),
    sanitize: bool | None = None,
) -> Path:
    """Some of the sources and `more`, compiled as the instruction set `name` by the product's own build."""
    sanitize = os.environ.get(ops.SANITIZE) == "1" if sanitize is None else sanitize
    with tempfile.TemporaryDirectory() as aside:
        tree = Path(aside)
        for part in build.FOLDERS:
            (tree / part).mkdir()
        chosen = (build.SOURCES / "cpu" / f"{source}.cpp" for source in sources)
        for path in (*build.SOURCES.glob("cpu/*.h"), *chosen, *more):
            shutil.copy(path, tree / "cpu" / path.name)
        recipe = build.recipe(tree, sanitize)
        return build.library(folder, print, dataclasses.replace(recipe, isas={name: flags}, links=()))
