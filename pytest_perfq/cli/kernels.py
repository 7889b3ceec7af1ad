"""What the native kernels are on this machine: the compiler, the instruction sets they run, what more the processor has and
they do not use, and whether they are built. Builds nothing and imports no torch."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pytest_perfq.backends._refusals import cpu_flags

AVX2 = frozenset({"avx2", "fma"})
# Flags of units that INT8 or bf16 kernels could use, and these do not have yet.
UNUSED = ("avx512f", "avx512_vnni", "avx_vnni", "avx512_bf16", "amx_int8", "amx_bf16")


def facts(cache: Path, flags: frozenset[str] | None = None) -> dict[str, Any]:
    """compiler: what it says of itself, None where there is none; problem: why they cannot be built, one sentence, or None;
    isas: instruction sets that they run here, the best first; unused: flags of the processor that they have no code for;
    library: where it is or will be built; built: whether it is. flags: of another processor than this one, for tests."""
    from pytest_perfq.errors import KernelsUnavailable
    from pytest_perfq.kernels import build

    flags = cpu_flags() if flags is None else flags
    found: dict[str, Any] = {
        "isas": ["avx2", "portable"] if flags >= AVX2 else ["portable"],
        "unused": [name for name in UNUSED if name in flags],
        "compiler": None,
        "library": None,
        "built": False,
        "problem": None,
    }
    try:
        made_from = build.recipe()
    except KernelsUnavailable as error:
        return found | {"problem": str(error)}
    library = cache / "kernels" / made_from.key() / build.LIBRARY
    return found | {"compiler": made_from.version, "library": str(library), "built": library.exists()}


def described(found: dict[str, Any]) -> dict[str, str]:
    """The same for a person: name -> text."""
    if found["problem"]:
        return {"not here": found["problem"]}
    runs, more = found["isas"][0], ", ".join(found["unused"])
    slow = ": this processor has no AVX2 with FMA, so they are slow" if runs == "portable" else ""
    lines = {
        "compiler": found["compiler"],
        "library": found["library"] if found["built"] else "not built yet: at first use, or ahead by make kernels",
        "instruction set": runs + slow,
        "precisions": "fp32; int8 as w8a8, w8a7 and w7a7; no bf16 kernels yet",
        "devices": "cpu; there are no CUDA kernels yet",
    }
    return lines | ({"not used yet": f"{more}, which this processor has"} if more else {})
