"""The operations as a GPU computes them: what encoder.py takes as `ops`. Products are torch's or ours, the rest is ours.

`kernels` is torch.ops.perfq, or another namespace of csrc/schema.cpp's ops. Weights are read as they are. Nothing waits for the
GPU, so all of it can be captured in a CUDA graph. Knows no model.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from pytest_perfq.kernels import build_cuda, ops, products
from pytest_perfq.kernels.buckets import bucket
from pytest_perfq.kernels.cuda_attention import Attention, ours

_lock = threading.Lock()
_loaded: list[Path] = []


class Problem(NamedTuple):
    """A product as tuning knows it: rows are a bucket of tokens, out and deep features; dtype as 'float16', or 'tf32' where
    torch may round float32 so."""

    rows: int
    out: int
    deep: int
    dtype: str
    bias: bool
    activation: str


def problem(x: Tensor, weight: Tensor, bias: Tensor | None, activation: str) -> Problem:
    """The problem that this product is one of."""
    tf32 = x.dtype == torch.float32 and torch.backends.cuda.matmul.allow_tf32
    dtype = "tf32" if tf32 else str(x.dtype).removeprefix("torch.")
    out, deep = weight.shape
    return Problem(bucket(len(x)), out, deep, dtype, bias is not None, activation)


@dataclass(frozen=True, slots=True)
class CudaOps:
    """tuned: the names of the ways that were fastest when they were timed; without one the usual way serves. served: how many
    products took a way that was timed, and how many the usual one."""

    kernels: Any
    attention: Attention
    tuned: Mapping[Problem, str] = field(default_factory=dict)
    served: dict[str, int] = field(default_factory=lambda: {"tuned": 0, "usual": 0})

    def __getattr__(self, name: str) -> Any:
        return getattr(self.kernels, name)

    def pack_weight(self, weight: Tensor) -> Tensor:
        """The weight as it is, [N, K]."""
        return weight

    def linear(self, x: Tensor, weight: Tensor, bias: Tensor | None, out_features: int, activation: str) -> Tensor:
        """activation(x weight' + bias), [T, N]."""
        way = self.tuned.get(problem(x, weight, bias, activation)) if self.tuned else None
        if way is None or not products.serves(way, x, bias, activation):
            way = products.usual(x, bias, activation)
            self.served["usual"] += 1
        else:
            self.served["tuned"] += 1
        return products.WAYS[way](self.kernels, x, weight, bias, activation)

    def varlen_attention(self, qkv: Tensor, cu_seqlens: Tensor, heads: int, scale: float, may_round: bool = False) -> Tensor:
        """As `attend`, where nobody knows how long the longest sequence is. may_round is a CPU's."""
        return self.attend(qkv, cu_seqlens, heads, scale, len(qkv))

    def attend(self, qkv: Tensor, cu_seqlens: Tensor, heads: int, scale: float, longest: int) -> Tensor:
        """softmax(scale q k') v within each sequence, [T, H]."""
        return self.attention.attend(qkv, cu_seqlens, heads, scale, longest)


def over(kernels: Any) -> CudaOps:
    """The operations with our attention and nothing tuned."""
    return CudaOps(kernels, ours(kernels))


def load(cache: Path, progress: Callable[[str], None] = lambda line: None) -> Any:
    """torch.ops.perfq with CUDA implementations for the GPUs of this machine, built if `cache` lacks them. Raises
    KernelsUnavailable."""
    with _lock:
        if not _loaded:
            ops.load(cache, progress)
            capabilities = [torch.cuda.get_device_capability(one) for one in range(torch.cuda.device_count())]
            path = build_cuda.cuda_library(cache, progress, build_cuda.recipe_cuda(capabilities))
            ops.attach(path, build_cuda.WHAT)
            _loaded.append(path)
        return torch.ops.perfq
