"""An instruction set whose attention rounds to bfloat16 on any machine: the library's own sources, but for the tiles of AMX, which
played/played_amx.h plays."""

from __future__ import annotations

import ctypes
from functools import cache
from pathlib import Path

import played

from pytest_perfq.kernels import isas

NAME = "played_attention"
TABLE, TILES = (Path(__file__).parent / "played" / name for name in ("attention_table.cpp", "played_amx.h"))


@cache
def library(folder: Path) -> ctypes.CDLL:
    """The set, from the cache in `folder` or compiled."""
    best = "avx2" if "avx2" in isas.runnable(isas.cpu_flags()) else "portable"
    flags = (*isas.known()[best].flags, f'-DPERFQ_PLAYED_AMX="{TILES.name}"')
    return ctypes.CDLL(str(played.library(folder, NAME, flags, ("attention", "attention_amx", "scratch"), [TABLE, TILES])))


def choose(folder: Path) -> None:
    """All calls from here on run on it."""
    played.bring(library(folder), NAME, folder)
