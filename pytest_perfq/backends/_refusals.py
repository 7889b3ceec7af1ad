"""Reasons that several backends share for refusing a case. Loads no model and no framework.

Knows what a CPU says of itself; what a GPU can do is asked of the framework by the backend that uses it.
"""

from __future__ import annotations

import sys
from pathlib import Path

from pytest_perfq.contracts import Lack
from pytest_perfq.core.case import Case
from pytest_perfq.kernels.isas import cpu_flags

# Either unit multiplies bfloat16 natively; names as Linux prints them, x86 and Arm.
BF16_FLAGS = frozenset({"avx512_bf16", "amx_bf16", "bf16"})


def nvidia_driver(root: Path = Path("/")) -> list[str]:
    """Refuses cuda on a Linux without NVIDIA's driver; other systems keep it elsewhere, and are asked by opening a session."""
    signs = ("proc/driver/nvidia/version", "dev/nvidiactl", "dev/dxg")
    if not sys.platform.startswith("linux") or any((root / sign).exists() for sign in signs):
        return []
    return [Lack("device cuda needs an NVIDIA GPU and its driver, and this machine shows none: use device cpu")]


def one_device(case: Case) -> list[str]:
    """Refuses more than one device."""
    if case.tp == 1 and case.pp == 1:
        return []
    return [f"{case.backend.name} runs on one device; tp={case.tp} and pp={case.pp} were asked for: set both to 1"]


def floating_point_only(case: Case) -> list[str]:
    """Refuses every quantization."""
    if case.quantization is None:
        return []
    other = "ort" if case.quantization.type == "int8" else "native, on device cuda,"
    return [f"{case.backend.name} runs in floating point and cannot do {case.quantization.id}: backend {other} can"]


def cpu_precision(case: Case, flags: frozenset[str] | None = None) -> list[str]:
    """Refuses what a CPU does not compute natively. flags: of another CPU than this one, for tests."""
    flags = cpu_flags() if flags is None else flags
    if case.precision == "tf32":
        return ["tf32 is a mode of NVIDIA's tensor cores and no CPU has it: use precision fp32 or device cuda"]
    if case.precision == "fp16":
        return ["fp16 on a CPU is emulated or no faster than fp32: use precision fp32 or device cuda"]
    if case.precision == "bf16" and not flags & BF16_FLAGS:
        units = ", ".join(sorted(BF16_FLAGS))
        return [Lack(f"bf16 needs one of {units} and this CPU has none, so it would be emulated: use precision fp32")]
    return []
