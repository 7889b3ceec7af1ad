"""Why a case is not one for the native encoder on this machine's GPUs. Imports torch only where it could use one."""

from __future__ import annotations

from dataclasses import dataclass

from pytest_perfq.backends import _declared, _refusals
from pytest_perfq.contracts import Lack
from pytest_perfq.core.case import Case
from pytest_perfq.core.quantization import Quantization
from pytest_perfq.errors import KernelsUnavailable
from pytest_perfq.kernels import cuda_toolkit

OLDEST = (7, 5)  # what our kernels are compiled for
FP8_SINCE = (8, 9)  # whose tensor cores multiply float8
PRECISIONS = ("fp32", "tf32", "fp16", "bf16")


@dataclass(frozen=True, slots=True)
class Gpus:
    """What torch sees: how many, and of the current one its name and compute capability."""

    count: int
    name: str
    capability: tuple[int, int]


def machine(case: Case) -> list[str]:
    """Of the driver, torch, the GPU and what the case wants of it."""
    lacking = _refusals.nvidia_driver()
    if lacking:
        return lacking
    try:
        if cuda_toolkit.torch_cuda() is None:
            return [Lack("device cuda needs a CUDA build of PyTorch, and this is a CPU build: install one or use device cpu")]
    except KernelsUnavailable as error:
        return [Lack(str(error))]
    from pytest_perfq.backends import _torch

    return _torch.cuda_refusals(case.precision) or wanted(case, _seen())


def _seen() -> Gpus:
    import torch

    return Gpus(torch.cuda.device_count(), torch.cuda.get_device_name(), torch.cuda.get_device_capability())


def wanted(case: Case, gpus: Gpus) -> list[str]:
    """Of a case on GPUs that torch can use in its precision."""
    reasons: list[str] = []
    if gpus.capability < OLDEST:
        needs, has = ("{}.{}".format(*one) for one in (OLDEST, gpus.capability))
        reasons.append(
            Lack(f"the native CUDA kernels need compute capability {needs}; {gpus.name} has {has}: use backend eager")
        )
    if case.quantization is not None and case.quantization.type == "fp8" and gpus.capability < FP8_SINCE:
        needs, has = ("{}.{}".format(*one) for one in (FP8_SINCE, gpus.capability))
        reasons.append(Lack(f"fp8 products need compute capability {needs}; {gpus.name} has {has}: use type int8"))
    processes = case.tp * case.pp
    if processes > gpus.count:
        seen = "1 GPU" if gpus.count == 1 else f"{gpus.count} GPUs"
        split = f"tp={case.tp} and pp={case.pp}"
        reasons.append(Lack(f"{split} need {processes} GPUs, one a process, and this machine shows {seen}: use fewer"))
    if _declared.options(case.backend)["attention"] == "torch":
        reasons += _attention(case, gpus)
    return reasons


def _attention(case: Case, gpus: Gpus) -> list[str]:
    from pytest_perfq.backends._torch import DTYPES
    from pytest_perfq.kernels import cuda_attention

    if case.quantization is not None and case.quantization.mode == "v2":
        return ["mode v2 attends between bytes, and torch's varlen_attn does not: use attention=ours"]
    reason = cuda_attention.lacking(DTYPES[case.precision], gpus.capability, cuda_attention.found())
    return [] if reason is None else [Lack(f"{reason}: use attention=ours")]


def fp8(case: Case, wanted: Quantization) -> list[str]:
    """Of a quantization to FP8, on any machine."""
    reasons = []
    if case.device != "cuda":
        reasons.append(f"fp8 is multiplied by a GPU, and the case has device {case.device}: use type int8 or device cuda")
    if wanted.approach == "static":
        reasons.append("native finds the scales of fp8 as it runs, one a token, and calibrates none: use approach dynamic")
    if wanted.mode is not None:
        reasons.append(f"mode {wanted.mode} is one of INT8, and the case has type fp8: leave mode out")
    if "bits" in dict(case.backend.options):
        reasons.append(
            f"bits={dict(case.backend.options)['bits']} says how INT8 is computed, and the case has type fp8: leave bits out"
        )
    if case.precision != "bf16":
        reasons.append(
            f"products of fp8 come in bf16, which all else then is, and the case asks for {case.precision}: use precision bf16"
        )
    return reasons


def numbers(case: Case) -> list[str]:
    """Of INT8's bits and precision together, on any GPU."""
    bits = dict(case.backend.options).get("bits", "w8a8")
    reasons = []
    if bits != "w8a8":
        reasons.append(
            f"a GPU multiplies eight by eight bits and gains nothing by fewer, and the case has bits={bits}: use w8a8"
        )
    if case.precision == "tf32":
        reasons.append("tf32 is how fp32 products are rounded, and INT8 has none: use precision fp32, fp16 or bf16")
    return reasons
