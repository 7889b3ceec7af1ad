"""The instruction sets that the CPU kernels are compiled for, and those that a processor runs. Knows no source, and imports no
torch.

What is compiled is chosen here; what runs is chosen again by cpu/dispatch.cpp when the library loads, so that a library that
another machine built never runs an instruction that this one lacks.
"""

from __future__ import annotations

import ctypes
import os
import platform
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from pytest_perfq.errors import KernelsUnavailable

# "all", or names between commas: compiled instead of what this processor runs, as for an image that other machines will run.
CHOICE = "PERFQ_KERNELS_ISAS"


@dataclass(frozen=True, slots=True)
class Isa:
    """flags: the compiler's. needs: the units that its code uses, as /proc/cpuinfo names them."""

    flags: tuple[str, ...]
    needs: frozenset[str]


_AVX2 = ("-mavx2", "-mfma")
_AVX512 = (*_AVX2, "-mavx512f", "-mavx512bw", "-mavx512dq", "-mavx512vl")
_AVX2_NEEDS = frozenset({"avx2", "fma"})
_AVX512_NEEDS = _AVX2_NEEDS | {"avx512f", "avx512bw", "avx512dq", "avx512vl"}
_BF16 = (*_AVX512, "-mavx512vnni", "-mavx512bf16")
_BF16_NEEDS = _AVX512_NEEDS | {"avx512_vnni", "avx512_bf16"}
AVX512BF16, AMX = "avx512bf16", "amx"
BF16 = (AVX512BF16, AMX)  # the sets that multiply bfloat16
TILES = frozenset({"amx_tile", "amx_int8", "amx_bf16"})
PORTABLE: Mapping[str, Isa] = {"portable": Isa((), frozenset())}
# The better of two later. A new one is a line here, and one in cpu/processor.h for each unit that is not there yet.
X86: Mapping[str, Isa] = {
    **PORTABLE,
    "avx2": Isa(_AVX2, _AVX2_NEEDS),
    "avxvnni": Isa((*_AVX2, "-mavxvnni"), _AVX2_NEEDS | {"avx_vnni"}),
    "avx512vnni": Isa((*_AVX512, "-mavx512vnni"), _AVX512_NEEDS | {"avx512_vnni"}),
    AVX512BF16: Isa(_BF16, _BF16_NEEDS),
    AMX: Isa((*_BF16, "-mamx-tile", "-mamx-int8", "-mamx-bf16"), _BF16_NEEDS | TILES),
}


def known() -> Mapping[str, Isa]:
    """Every set of this architecture, the better of two later; `portable` is always the first."""
    return X86 if platform.machine().lower() in ("x86_64", "amd64") else PORTABLE


def runnable(flags: frozenset[str]) -> list[str]:
    """Names of the sets that a processor with these flags runs, in the order of `known`; all, where it does not tell its flags
    (on macOS, where there is no /proc/cpuinfo)."""
    return [name for name, isa in known().items() if not flags or isa.needs <= flags]


def compiled(flags: frozenset[str] | None = None) -> dict[str, tuple[str, ...]]:
    """name -> compiler flags of what a library is made of here: what this processor runs, or what CHOICE names. flags: of
    another processor, for tests. Raises KernelsUnavailable."""
    sets, chosen = known(), os.environ.get(CHOICE, "")
    wanted = list(sets) if chosen == "all" else [name.strip() for name in chosen.split(",") if name.strip()]
    if unknown := next((name for name in wanted if name not in sets), None):
        raise KernelsUnavailable(
            f"{CHOICE} names the instruction set {unknown!r}, which is none of {', '.join(sets)}; correct it, or unset it to "
            "compile what this processor runs"
        )
    wanted = wanted or runnable(cpu_flags() if flags is None else flags)
    return {name: isa.flags for name, isa in sets.items() if name in wanted or name in PORTABLE}


def best(flags: frozenset[str] | None = None) -> str:
    """The best set of those that are compiled here and this processor runs. flags: of another processor, for tests. Raises
    KernelsUnavailable."""
    flags = cpu_flags() if flags is None else flags
    kept = compiled(flags)
    return [name for name in runnable(flags) if name in kept][-1]


def held_back(flags: frozenset[str] | None = None) -> str | None:
    """What runs instead of the best set of this processor, where CHOICE leaves that out; None where it does not, or names what
    cannot be compiled. flags: of another processor, for tests."""
    flags = cpu_flags() if flags is None else flags
    try:
        runs = best(flags)
    except KernelsUnavailable:
        return None
    return None if runs == runnable(flags)[-1] else runs


@cache
def cpu_flags(path: str = "/proc/cpuinfo") -> frozenset[str]:
    """Instruction set flags of the first CPU as Linux names them, without those whose registers it does not keep; empty where
    there is no such file."""
    try:
        lines = Path(path).read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return frozenset()
    for line in lines:
        name, _, value = line.partition(":")
        if name.strip() in ("flags", "Features"):
            flags = frozenset(value.split())
            return flags if TILES.isdisjoint(flags) or gives_tiles() else flags - TILES
    return frozenset()


def gives_tiles() -> bool:
    """Whether Linux gives a process tiles that asks, as dispatch.cpp does: a sandbox may forbid that, and another set runs.
    Linux, Documentation/arch/x86/xstate.rst."""
    arch_prctl, get_supported, tile_data = 158, 0x1021, 1 << 18
    supported = ctypes.c_uint64()
    libc = ctypes.CDLL(None, use_errno=True)
    return libc.syscall(arch_prctl, get_supported, ctypes.byref(supported)) == 0 and bool(supported.value & tile_data)
