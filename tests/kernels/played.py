"""The kernels of instruction sets that this machine may lack, kept in the cache by all that goes into them: played, the units they
ask for in plain C++ (and 64-byte vectors made of two); or as they are, to be read and not run."""

from __future__ import annotations

import ctypes
import dataclasses
import os
import shutil
import tempfile
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from pytest_perfq.kernels import build, isas, ops

FOLDER = Path(__file__).parent / "played"
# Quick to compile, and multiplies and adds in one rounding as -O3 does.
QUICK = ("-O1", "-fexpensive-optimizations")
WIDE = ("attention", "layer", "layernorm", "linear", "linear_int8", "scratch")


@dataclass(frozen=True, slots=True)
class Set:
    """flags: what plays which unit, beside those of the best set that is no better than AVX2. sources: what is compiled; by vectors
    of 32 bytes only the INT8 linear is another than AVX2's. files: of FOLDER, the table first."""

    flags: tuple[str, ...]
    sources: tuple[str, ...]
    files: tuple[str, ...]


BYTES = {  # the dot product of bytes, by vectors of so many; they take AVX2
    "played512": Set(("-DPERFQ_PLAYED_VNNI=64", *QUICK), WIDE, ("table.cpp",)),
    "played256": Set(("-DPERFQ_PLAYED_VNNI=32", *QUICK), ("linear_int8", "scratch"), ("table.cpp",)),
}
BF16 = "played_bf16"  # vdpbf16ps
TILES = "played_amx"
BY_TILES = (isas.AMX, TILES)  # sets that multiply bfloat16 by tiles
SETS = {
    **BYTES,
    BF16: Set(('-DPERFQ_PLAYED_DOT="dot.h"',), (*WIDE, "linear_bf16"), ("bf16.cpp", "dot.h")),
    TILES: Set(
        ('-DPERFQ_PLAYED_AMX="played_amx.h"',),
        (*WIDE, "attention_amx", "linear_int8_amx", "linear_bf16_amx"),
        ("amx.cpp", "played_amx.h"),
    ),
}


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
    made = SETS[name]
    best = "avx2" if name in BYTES or "avx2" in isas.runnable(isas.cpu_flags()) else "portable"
    flags = (*isas.X86[best].flags, *made.flags)
    return ctypes.CDLL(str(library(folder, name, flags, made.sources, [FOLDER / file for file in made.files])))


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
