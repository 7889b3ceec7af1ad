"""What the native kernels are on this machine: the compiler, the instruction sets they run, what more the processor has and
they do not use, and whether they are built. Builds nothing and imports no torch."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from pytest_perfq.kernels import isas

# Units that kernels of floats, bytes or bf16 could use; those that no set running here has code for are named.
UNITS = ("avx2", "avx512f", "avx512_vnni", "avx_vnni", "avx512_bf16", "amx_int8", "amx_bf16")


def facts(cache: Path, flags: frozenset[str] | None = None) -> dict[str, Any]:
    """compiler: what it says of itself, None where there is none; problem: why they cannot be built, one sentence, or None;
    isas: instruction sets that they run here, the best first; unused: flags of the processor that they have no code for;
    library: where it is or will be built; built: whether it is. flags: of another processor than this one, for tests."""
    from pytest_perfq.errors import KernelsUnavailable
    from pytest_perfq.kernels import build

    cuda = _cuda(cache)
    flags = isas.cpu_flags() if flags is None else flags
    found: dict[str, Any] = {
        **_sets(flags, isas.known()),
        "compiler": None,
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


def _sets(flags: frozenset[str], compiled: Iterable[str]) -> dict[str, list[str]]:
    runs = [name for name in isas.runnable(flags) if name in compiled]
    used = frozenset[str]().union(*(isas.known()[name].needs for name in runs))
    return {"isas": runs[::-1], "unused": [name for name in UNITS if name in flags - used]}


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


def _bf16(runs: list[str]) -> str:
    return "bf16" if isas.BF16 in runs else "no bf16, which takes avx512_bf16"


def described(found: dict[str, Any]) -> dict[str, str]:
    """The same for a person: name -> text."""
    if found["problem"]:
        return {"not here": found["problem"]}
    best, *others = found["isas"]
    runs, more = best + (f" (and {', '.join(others)})" if others else ""), ", ".join(found["unused"])
    slow = ": without AVX2 and FMA, so they are slow" if best == "portable" else ""
    lines = {
        "compiler": found["compiler"],
        "library": found["library"] if found["built"] else "not built yet: at first use, or ahead by make kernels",
        "instruction set": runs + slow,
        "precisions": "fp32; int8 as w8a8, w8a7 and w7a7; " + _bf16(found["isas"]),
        "devices": "cpu; the CUDA half compiles, and has not run on a GPU yet",
        "nvcc": found["cuda"]["nvcc"] or "none",
        "CUDA library": found["cuda"]["library"] or "not built yet: ahead by make kernels-cuda",
        "missing for CUDA": "; ".join(found["cuda"]["lacking"]) or "nothing",
    }
    return lines | ({"not used yet": f"{more}, which this processor has"} if more else {})
