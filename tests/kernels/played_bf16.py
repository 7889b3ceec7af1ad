"""An instruction set whose kernels multiply bfloat16 on any machine: the library's own sources, but for the one instruction of
avx512_bf16, which played/dot.h plays."""

from __future__ import annotations

import ctypes
from functools import cache
from pathlib import Path

import played

from pytest_perfq.kernels import isas

NAME = "played_bf16"
TABLE, DOT = (Path(__file__).parent / "played" / name for name in ("bf16.cpp", "dot.h"))


@cache
def library(folder: Path) -> ctypes.CDLL:
    """The set, from the cache in `folder` or compiled."""
    best = "avx2" if "avx2" in isas.runnable(isas.cpu_flags()) else "portable"
    flags = (*isas.known()[best].flags, f'-DPERFQ_PLAYED_DOT="{DOT.name}"')
    return ctypes.CDLL(str(played.library(folder, NAME, flags, (*played.WIDE, "linear_bf16"), [TABLE, DOT])))


def choose(folder: Path) -> None:
    """All calls from here on run on it."""
    played.bring(library(folder), NAME, folder)
