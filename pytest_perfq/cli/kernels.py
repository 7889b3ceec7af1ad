"""What the native kernels are on this machine: the compiler, the instruction sets they run and why not the others, what more
the processor has and they do not use, and whether they are built. Builds nothing and imports no torch."""

from __future__ import annotations

import shlex
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from pytest_perfq.kernels import isas

# The modules that build ahead when they are run, with the cache as their argument.
AHEAD, AHEAD_CUDA = "pytest_perfq.kernels.build", "pytest_perfq.kernels.build_cuda"
# Units that kernels of floats, bytes or bf16 could use; those that no set of this processor has code for are named.
UNITS = ("avx2", "avx512f", "avx512_vnni", "avx_vnni", "avx512_bf16", "amx_int8", "amx_bf16")


def facts(cache: Path, flags: frozenset[str] | None = None) -> dict[str, Any]:
    """compiler: what it says of itself, None where there is none; problem: why they cannot be built, one sentence, or None;
    isas: instruction sets that they run here, the best first; unused: flags of the processor that no set it runs has code for;
    left_out: sets that it runs and isas.CHOICE leaves out, the best first; lacking: every other set -> the units that the
    processor lacks for it; cache, library: where it is or will be built; built: whether it is. flags: of another processor than
    this one, for tests."""
    from pytest_perfq.errors import KernelsUnavailable
    from pytest_perfq.kernels import build

    cuda = _cuda(cache)
    flags = isas.cpu_flags() if flags is None else flags
    found: dict[str, Any] = {
        **_sets(flags, isas.known()),
        "compiler": None,
        "cache": str(cache),
        "library": None,
        "built": False,
        "problem": None,
        "cuda": cuda,
    }
    try:
        found |= _sets(flags, isas.compiled(flags))
        made_from = build.recipe()
    except KernelsUnavailable as error:
        return found | {"problem": str(error)}
    library = cache / "kernels" / made_from.key() / build.LIBRARY
    return found | {"compiler": made_from.version, "library": str(library), "built": library.exists()}


def _sets(flags: frozenset[str], compiled: Iterable[str]) -> dict[str, Any]:
    could, compiled = isas.runnable(flags)[::-1], set(compiled)
    used = frozenset[str]().union(*(isas.known()[name].needs for name in could))
    return {
        "isas": [name for name in could if name in compiled],
        "unused": [name for name in UNITS if name in flags - used],
        "left_out": [name for name in could if name not in compiled],
        "lacking": {name: sorted(isa.needs - flags) for name, isa in isas.known().items() if name not in could},
    }


def _cuda(cache: Path) -> dict[str, Any]:
    """nvcc: what it says of itself, or None; library: one built ahead that the cache has, or None; lacking: what is missing
    here to run it, a sentence each."""
    from pytest_perfq.device import gpu
    from pytest_perfq.errors import KernelsUnavailable
    from pytest_perfq.kernels import build_cuda, cuda_toolkit

    found: dict[str, Any] = {"nvcc": None, "library": None, "lacking": []}
    if not gpu.gpu_present():
        found["lacking"].append("no GPU")
    try:
        if cuda_toolkit.torch_cuda() is None:
            found["lacking"].append("this torch is a CPU build")
        made_from = build_cuda.recipe_cuda([divmod(one, 10) for one in build_cuda.AHEAD])
    except KernelsUnavailable as error:
        found["lacking"].append(str(error))
        return found
    if made_from.tools is None:
        found["lacking"].append(str(made_from.lacking))
    else:
        found["nvcc"] = made_from.tools.version
    library = build_cuda.ready(cache, made_from)
    return found | {"library": None if library is None else str(library)}


def _runs(found: dict[str, Any]) -> str:
    """The sets that run, and why no better one does where they are slow."""
    best, *others = found["isas"]
    runs = str(best) + (f" (and {', '.join(others)})" if others else "")
    if best in isas.PORTABLE and found["left_out"]:
        return f"{runs}: slow, since {isas.CHOICE} leaves {found['left_out'][0]} out"
    missing = found["lacking"].get("avx2")
    return runs + (f": slow, since this CPU lacks {' and '.join(missing)}" if missing else "")


def _others(found: dict[str, Any]) -> str:
    """Every set that does not run here, with the reason."""
    reasons = [f"{name}: left out by {isas.CHOICE}" for name in found["left_out"]]
    reasons += [f"{name}: this CPU lacks {', '.join(units)}" for name, units in reversed(found["lacking"].items())]
    return "; ".join(reasons) or "none"


def _bf16(found: dict[str, Any]) -> str:
    if set(isas.BF16) & set(found["isas"]):
        return "bf16"
    left_out = set(isas.BF16) & set(found["left_out"])
    return f"no bf16, which {isas.CHOICE} leaves out" if left_out else "no bf16, which takes avx512_bf16"


def _ahead(cache: str, module: str) -> str:
    """The command that builds into the cache that is in use."""
    return f"ahead by `python -m {module} {shlex.quote(cache)}`"


def described(found: dict[str, Any]) -> dict[str, str]:
    """The same for a person: name -> text."""
    if found["problem"]:
        return {"not here": found["problem"]}
    more = ", ".join(found["unused"])
    not_built = f"not built yet: at first use, or {_ahead(found['cache'], AHEAD)}"
    lines = {
        "compiler": found["compiler"],
        "library": found["library"] if found["built"] else not_built,
        "instruction set": _runs(found),
        "other sets": _others(found),
        "precisions": "fp32; int8 as w8a8, w8a7 and w7a7; " + _bf16(found),
        "devices": "cpu; the CUDA half compiles, and has not run on a GPU yet",
        "nvcc": found["cuda"]["nvcc"] or "none",
        "CUDA library": found["cuda"]["library"] or f"not built yet: {_ahead(found['cache'], AHEAD_CUDA)}",
        "missing for CUDA": "; ".join(found["cuda"]["lacking"]) or "nothing",
    }
    return lines | ({"not used yet": f"{more}, which this processor has"} if more else {})
