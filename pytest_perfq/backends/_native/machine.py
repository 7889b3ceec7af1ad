"""Where a native program computes: on this CPU, or on the current GPU in some precision. Knows no case and no process."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from pytest_perfq.backends._torch import DTYPES
from pytest_perfq.errors import BuildError
from pytest_perfq.kernels import choices, cuda_attention, cuda_ops, ops, packing
from pytest_perfq.kernels.cuda_encoder import CudaEncoder
from pytest_perfq.kernels.encoder import Encoder, Reduce, alone
from pytest_perfq.kernels.weights import Weights

Facts = dict[str, "str | int | float | bool"]


@dataclass(frozen=True, slots=True)
class Machine:
    """device: 'cpu' or 'cuda'. precision: a case's. attention: of cuda_attention.KINDS."""

    device: str = "cpu"
    precision: str = "fp32"
    attention: str = "auto"

    @property
    def cuda(self) -> bool:
        return self.device == "cuda"

    @property
    def communication(self) -> str:
        """What torch.distributed talks through between processes that compute here."""
        return "nccl" if self.cuda else "gloo"

    def place(self) -> torch.device:
        """The device of tensors: on cuda the process's current GPU."""
        return torch.device("cuda", torch.cuda.current_device()) if self.cuda else torch.device("cpu")

    def encoder(
        self, whole: Weights, recipe: packing.Recipe, cache: Path, progress: Callable[[str], None], reduce: Reduce = alone
    ) -> Encoder:
        """The encoder of these weights, on this device. Raises BuildError, and KernelsUnavailable."""
        if not self.cuda:
            ops.load(cache, progress)
            return Encoder(packing.pack(whole, ops, recipe), ops, reduce)
        kernels = cuda_ops.load(cache, progress)
        gpu = Gpu(kernels, self.place(), torch.cuda.get_device_capability(), choices.choices(cache, choices.identity()))
        return gpu.encoder(whole, recipe, DTYPES[self.precision], self.attention, reduce)


@dataclass(frozen=True, slots=True)
class Gpu:
    """kernels: torch.ops.perfq with its CUDA half; or an emulation, on a CPU. tuned: see CudaOps."""

    kernels: Any
    place: torch.device
    capability: tuple[int, int]
    tuned: Mapping[cuda_ops.Problem, str] = field(default_factory=dict)

    def encoder(
        self, whole: Weights, recipe: packing.Recipe, dtype: torch.dtype, attention: str = "auto", reduce: Reduce = alone
    ) -> CudaEncoder:
        """Weights are quantized from fp32, on the GPU, and what stays in floating point is converted once."""
        try:
            chosen = cuda_attention.choose(attention, self.kernels, dtype, self.capability)
        except ValueError as error:
            raise BuildError(str(error)) from error
        gpu_ops = cuda_ops.CudaOps(self.kernels, chosen, self.tuned)
        packed = packing.pack(packing.placed(whole, self.place), gpu_ops, packing.placed(recipe, self.place))
        return CudaEncoder(packing.placed(packed, dtype=dtype), gpu_ops, reduce)


def facts(made: Encoder) -> Facts:
    """Of an encoder that has computed: which instructions, or which attention and which products."""
    if not isinstance(made, CudaEncoder):
        return {"isa": ops.select_isa("auto")}
    served = made.ops.served
    int8 = made.weights.levels > 0  # attention between bytes is ours alone
    return {
        "attention": "ours" if int8 else made.ops.attention.name,
        "gelu": "exact",
        "tuned_problems": len(made.ops.tuned),
        "products": "usual" if not served["tuned"] else "tuned" if not served["usual"] else "tuned and usual",
    }
