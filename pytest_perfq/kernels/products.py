"""The ways in which a GPU can compute activation(x weight' + bias), by name, and which one serves where nothing was timed.

    blas        cuBLASLt with the bias in its epilogue; an activation is a launch of its own
    cublas      cuBLAS without an epilogue; bias and activation are one launch of their own
    epilogue    cuBLASLt with bias and activation in its epilogue: ReLU, and the GELU that is made of tanh
    fused       our own product on tensor cores with bias and activation in its epilogue; fused1 to fused3 by a given tile

All give the same numbers but for rounding. torch's TunableOp is not among them: on NVIDIA's GPUs it knows the default alone.
Knows no model and no clock.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor

# kernels (the ops of csrc/schema.cpp), x [T, K], weight [N, K], bias [N] or None, activation -> [T, N]
Way = Callable[[Any, Tensor, Tensor, "Tensor | None", str], Tensor]
FUSED_TYPES = (torch.float16, torch.bfloat16)
FUSED_MULTIPLE = 8  # features of x


@contextmanager
def _library(name: str) -> Iterator[None]:
    """torch's choice between cuBLAS and cuBLASLt for the calls inside. Costs the host a microsecond, and a graph nothing."""
    before = torch.backends.cuda.preferred_blas_library()
    torch.backends.cuda.preferred_blas_library(name)
    try:
        yield
    finally:
        torch.backends.cuda.preferred_blas_library(before)


def blas(kernels: Any, x: Tensor, weight: Tensor, bias: Tensor | None, activation: str) -> Tensor:
    y = torch.nn.functional.linear(x, weight, bias)
    return y if activation == "none" else kernels.bias_activation(y, None, activation)


def cublas(kernels: Any, x: Tensor, weight: Tensor, bias: Tensor | None, activation: str) -> Tensor:
    with _library("cublas"):
        y = torch.nn.functional.linear(x, weight)
    return y if bias is None and activation == "none" else kernels.bias_activation(y, bias, activation)


def epilogue(kernels: Any, x: Tensor, weight: Tensor, bias: Tensor | None, activation: str) -> Tensor:
    assert bias is not None
    return torch._addmm_activation(bias, x, weight.t(), use_gelu=activation == "gelu_tanh")


def fused(tile: int) -> Way:
    def way(kernels: Any, x: Tensor, weight: Tensor, bias: Tensor | None, activation: str) -> Tensor:
        return kernels.linear_fused(x, weight, bias, activation, tile)

    return way


WAYS: dict[str, Way] = {
    "blas": blas,
    "cublas": cublas,
    "epilogue": epilogue,
    "fused": fused(0),
    **{f"fused{tile}": fused(tile) for tile in (1, 2, 3)},
}


def serves(name: str, x: Tensor, bias: Tensor | None, activation: str) -> bool:
    """Whether a way computes this product at all."""
    if name == "epilogue":
        # torch's GELU of this name is made of tanh on a GPU, and of erf on a CPU.
        return bias is not None and (activation == "relu" or (activation == "gelu_tanh" and x.is_cuda))
    return not name.startswith("fused") or (x.dtype in FUSED_TYPES and x.shape[1] % FUSED_MULTIPLE == 0)


def usual(x: Tensor, bias: Tensor | None, activation: str) -> str:
    """The way that serves where nothing was timed: one launch wherever there is one. Our own product is expected to be slower
    than cuBLASLt's on Hopper by about what an activation's own pass over memory costs, and elsewhere by less."""
    if activation == "none":
        return "blas"
    return next((name for name in ("epilogue", "fused") if serves(name, x, bias, activation)), "blas")
