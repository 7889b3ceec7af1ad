"""Why a case is not one for the native encoder, known before a model is loaded. Imports no framework.

What depends on the model (its architecture, its head sizes) is a BuildError of `kernels.weights`.
"""

from __future__ import annotations

from pytest_perfq.backends._native import gpu_refusals
from pytest_perfq.contracts import Lack
from pytest_perfq.core.case import Case
from pytest_perfq.core.quantization import GROUPS, Quantization
from pytest_perfq.errors import KernelsUnavailable
from pytest_perfq.kernels import isas, toolchain

# What the encoder's linears are in an ONNX graph, and so what a quantization calls them.
OPERATOR = "MatMul"
GPU_OPTIONS = ("graph", "attention")


def machine(case: Case) -> list[str]:
    """Of the device, the precision and the compiler."""
    if case.device == "cuda":
        missing = toolchain.unavailable()
        return gpu_refusals.machine(case) + ([] if missing is None else [Lack(missing)])
    named = [name for name in GPU_OPTIONS if name in dict(case.backend.options)]
    if named:
        return [f"{' and '.join(named)} of native is a GPU's, and the case has device cpu: leave it out or use device cuda"]
    if case.precision not in ("fp32", "bf16") and case.quantization is None:
        return [f"the native encoder has no {case.precision} kernels for a CPU: use precision fp32 or device cuda"]
    missing = toolchain.unavailable()
    reasons: list[str] = [] if missing is None else [Lack(missing)]
    return reasons + (bf16(isas.cpu_flags()) if case.precision == "bf16" and case.quantization is None else [])


def bf16(flags: frozenset[str]) -> list[str]:
    """Of a CPU with these flags, and of what is compiled for it: the sets that multiply bfloat16 compute bf16, and nothing else
    does under that name."""
    if not any(name in isas.known() and isas.known()[name].needs <= flags for name in isas.BF16):
        needs = "bf16 needs avx512_bf16 and this CPU has none, so it would be emulated"
        return [Lack(f"{needs}: use precision fp32")]
    try:
        compiled = isas.compiled(flags)
    except KernelsUnavailable as error:
        return [Lack(str(error))]
    if not set(isas.BF16) & set(compiled):
        wanted = isas.BF16[0]
        return [Lack(f"bf16 needs the kernels' set {wanted}, and {isas.CHOICE} leaves it out: name it there, or unset that")]
    return []


def quantization(case: Case) -> list[str]:
    """Of the quantization, of bits without INT8, and of one over several processes."""
    wanted = case.quantization
    if wanted is None:
        if "bits" in dict(case.backend.options):
            bits = dict(case.backend.options)["bits"]
            return [f"bits={bits} says how INT8 is computed, and the case has no quantization: add one or leave bits out"]
        return []
    if wanted.type == "fp8":
        reasons = gpu_refusals.fp8(case, wanted) + _first_mode(wanted)
    else:
        reasons = _second_mode(case, wanted) if wanted.mode == "v2" else _first_mode(wanted)
    if wanted.approach == "aware":
        reasons.append("native quantizes after training and cannot train: use approach static or dynamic")
    others = [name for name in wanted.operators if name != OPERATOR]
    if others:
        reasons.append(
            f"native quantizes the linears, which are {OPERATOR}, and the case asks for {', '.join(others)}: "
            f"ask for {OPERATOR} alone or leave operators out"
        )
    if wanted.format != "qdq":
        reasons.append(f"format {wanted.format} is how an ONNX graph says it, and native has no graph: leave format out")
    if wanted.type == "fp8":
        return reasons
    if case.device == "cuda":
        reasons += gpu_refusals.numbers(case)
    elif case.precision != "fp32":
        reasons.append(f"native quantizes fp32 models and the case asks for {case.precision}: use precision fp32")
    return reasons


def _second_mode(case: Case, wanted: Quantization) -> list[str]:
    reasons = []
    if wanted.approach == "dynamic":
        reasons.append("mode v2 keeps the residual in INT8, whose scales are needed before it runs: use approach static")
    if wanted.per_channel:
        reasons.append("mode v2 has one weight scale a tensor, and the case asks for one a channel: set per_channel=False")
    if wanted.exclude:
        reasons.append(
            f"mode v2 keeps everything between the linears in INT8 and can exclude none of {', '.join(wanted.exclude)}: "
            "use mode v1 or leave exclude out"
        )
    if case.tp > 1:
        reasons.append(f"mode v2 has an INT8 residual, which cannot be summed over tp={case.tp} processes: set tp to 1")
    return reasons


def _first_mode(wanted: Quantization) -> list[str]:
    """The named groups are honoured: it keeps every one of them in floating point anyway. A scale a channel is what it has by
    default, so a case that asks for it would be the same program under a second name."""
    reasons = []
    if wanted.per_channel:
        reasons.append("native has one weight scale a channel anyway, and per_channel gives that a second name: leave it out")
    names = [one for one in wanted.exclude if one not in GROUPS]
    if names:
        excluded = ", ".join(names)
        reasons.append(f"native has no graph whose nodes have names, and the case excludes {excluded}: exclude groups only")
    return reasons
