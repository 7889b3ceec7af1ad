"""Which attention a GPU runs, by name: our own kernel, or torch.nn.attention.varlen's; never one under the other's name."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

KINDS = ("auto", "ours", "torch")
TORCH_TYPES = (torch.float16, torch.bfloat16)
TORCH_CAPABILITY = (8, 0)

# qkv [T, 3H], cu_seqlens, heads, scale, longest (no sequence has more tokens) -> [T, H]
Attend = Callable[[Tensor, Tensor, int, float, int], Tensor]


@dataclass(frozen=True, slots=True)
class Attention:
    """name: 'ours' or 'torch'."""

    name: str
    attend: Attend


def ours(kernels: Any) -> Attention:
    """Our kernel: every precision, every GPU of ours, heads of up to 128."""
    return Attention("ours", lambda qkv, ends, heads, scale, longest: kernels.varlen_attention(qkv, ends, heads, scale))


def torchs(varlen: Callable[..., Tensor]) -> Attention:
    """torch's. It leaves the rows behind the last sequence as they are in memory; nothing takes them to another row."""
    scaled = "scale" in inspect.signature(varlen).parameters  # before torch 2.12 it is always head_size ** -0.5

    def attend(qkv: Tensor, ends: Tensor, heads: int, scale: float, longest: int) -> Tensor:
        queries, keys, values = qkv.view(len(qkv), 3, heads, -1).unbind(1)  # 3 x [T, heads, size], none of them copied
        if not scaled and abs(scale * queries.shape[-1] ** 0.5 - 1.0) > 1e-6:
            raise ValueError(
                f"this torch's varlen_attn has the scale {queries.shape[-1] ** -0.5:g} alone, and {scale:g} was given"
            )
        given = {"scale": scale} if scaled else {}
        return varlen(queries, keys, values, ends, ends, longest, longest, **given).flatten(1)

    return Attention("torch", attend)


def found() -> Callable[..., Tensor] | None:
    """torch's function, or None where this torch has none."""
    try:
        from torch.nn.attention.varlen import varlen_attn
    except ImportError:
        return None
    varlen: Callable[..., Tensor] = varlen_attn
    return varlen


def lacking(dtype: torch.dtype, capability: tuple[int, int], varlen: Callable[..., Tensor] | None) -> str | None:
    """Why torch's attention does not serve, or None."""
    if varlen is None:
        return f"torch {torch.__version__} has no torch.nn.attention.varlen, which came with 2.10"
    if dtype not in TORCH_TYPES:
        return (
            f"torch's varlen_attn takes float16 and bfloat16, and this encoder computes in {str(dtype).removeprefix('torch.')}"
        )
    if capability < TORCH_CAPABILITY:
        return f"torch's varlen_attn needs compute capability 8.0, and this GPU has {capability[0]}.{capability[1]}"
    return None


def choose(kind: str, kernels: Any, dtype: torch.dtype, capability: tuple[int, int]) -> Attention:
    """The attention of a kind of KINDS; 'auto' is torch's where it serves. Raises ValueError where 'torch' does not."""
    varlen = found()
    reason = lacking(dtype, capability, varlen)
    if kind == "ours" or (kind == "auto" and reason is not None):
        return ours(kernels)
    if reason is not None or varlen is None:
        raise ValueError(f"{reason}: use attention=ours")
    return torchs(varlen)
