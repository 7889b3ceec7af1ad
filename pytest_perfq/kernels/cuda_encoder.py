"""The encoder as a GPU runs it: few launches a layer, and bytes made where the values are already at hand.

    [T, H]           linear             [T, 3H]    cuBLASLt, the bias in its epilogue
    [T, 3H]          attention          [T, H]
    [T, H]           linear             [T, H]
    [T, H], [T, H]   add_layernorm      [T, H]
    [T, H]           linear, GELU       [T, I]     one launch in float16 and bfloat16, two in float32
    [T, I]           linear             [T, H]
    [T, H], [T, H]   add_layernorm      [T, H]

Seven launches, eight in float32, whose exact GELU no product has in its epilogue. With a scale a row (INT8 v1, FP8) the two
add_layernorm and the activation leave rows in bytes, and the attention's output is made bytes by itself: nine. INT8 v2 has
bytes between all operations: seven. Embeddings, head, and layers of one kind are encoder.py's.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor

from pytest_perfq.kernels.encoder import Encoder, Layout
from pytest_perfq.kernels.packed import AddNorm, Linear, PackedLayer

LEVELS = 255
Rows = Sequence[Tensor]  # values [T, K] in bytes, and what makes numbers of them again, a row at a time


class ByRows(Protocol):
    """How a kind of bytes with a scale a row is made and multiplied."""

    def quantize(self, x: Tensor, bias: Tensor | None, activation: str) -> Rows:
        """activation(x + bias) in bytes."""

    def add_norm(self, x: Tensor, residual: Tensor, norm: AddNorm) -> tuple[Tensor, Rows]:
        """LayerNorm(x + linear_bias + residual), [T, H], and the same in bytes."""

    def product(self, rows: Rows, linear: Linear, bias: Tensor | None, dtype: torch.dtype) -> Tensor:
        """[T, K] -> [T, N]: rows weight' + bias."""


@dataclass(frozen=True, slots=True)
class ByLevels:
    """Unsigned levels by each row's own range, weights of eight bits: INT8 v1."""

    ops: Any

    def quantize(self, x: Tensor, bias: Tensor | None, activation: str) -> Rows:
        rows: Rows = self.ops.bias_activation_levels(x, bias, activation, LEVELS)
        return rows

    def add_norm(self, x: Tensor, residual: Tensor, norm: AddNorm) -> tuple[Tensor, Rows]:
        y, *rows = self.ops.add_layernorm_levels(x, residual, norm.linear_bias, norm.weight, norm.bias, norm.eps, LEVELS)
        return y, rows

    def product(self, rows: Rows, linear: Linear, bias: Tensor | None, dtype: torch.dtype) -> Tensor:
        int8 = linear.int8
        assert int8 is not None
        return self.ops.linear_levels(*rows, linear.weight, int8.weight_scale, int8.weight_sum, bias, "none", dtype)


@dataclass(frozen=True, slots=True)
class ByF8:
    """float8_e4m3fn by each row's largest magnitude; products by torch._scaled_mm, which gives bfloat16 with such scales."""

    ops: Any

    def quantize(self, x: Tensor, bias: Tensor | None, activation: str) -> Rows:
        rows: Rows = self.ops.bias_activation_f8(x, bias, activation)
        return rows

    def add_norm(self, x: Tensor, residual: Tensor, norm: AddNorm) -> tuple[Tensor, Rows]:
        y, *rows = self.ops.add_layernorm_f8(x, residual, norm.linear_bias, norm.weight, norm.bias, norm.eps)
        return y, rows

    def product(self, rows: Rows, linear: Linear, bias: Tensor | None, dtype: torch.dtype) -> Tensor:
        q, scale = rows
        ends = {"scale_a": scale[:, None], "scale_b": linear.f8_scale, "bias": bias, "out_dtype": dtype}
        return torch._scaled_mm(q, linear.weight.t(), **ends)


@dataclass(frozen=True, slots=True)
class CudaEncoder(Encoder):
    """`ops` is a CudaOps."""

    def layers(self, x: Tensor, layout: Layout) -> Tensor:
        """[T, H] -> [T, H]."""
        by = self.by_rows()
        if by is not None:
            return self.layers_by_rows(x, by, layout)
        for layer in self.weights.layers:
            x = self.layer(x, layer, layout) if layer.scales is None else self.layer_int8(x, layer, layer.scales, layout)
        return x

    def by_rows(self) -> ByRows | None:
        """How bytes with a scale a row are made for the linears; None where they take none, or have calibrated scales."""
        first = self.weights.layers[0].qkv
        if first.f8_scale is not None:
            return ByF8(self.ops)
        return ByLevels(self.ops) if first.int8 is not None and first.int8.input is None else None

    def layers_by_rows(self, x: Tensor, by: ByRows, layout: Layout) -> Tensor:
        """All layers: what one's last normalization leaves in bytes is what the next one multiplies."""
        rows = by.quantize(x, None, "none")
        for layer in self.weights.layers:
            x, rows = self.layer_by_rows(x, rows, layer, by, layout)
        return x

    def layer_by_rows(self, x: Tensor, rows: Rows, layer: PackedLayer, by: ByRows, layout: Layout) -> tuple[Tensor, Rows]:
        """A layer whose residual x stays in floating point, [T, H]; rows: x in bytes."""
        qkv = by.product(rows, layer.qkv, layer.qkv.bias, x.dtype)  # [T, H] -> [T, 3H]
        context = by.quantize(self.attention(qkv, layout), None, "none")  # [T, 3H] -> [T, H]
        out = self.reduce(by.product(context, layer.out, None, x.dtype))  # [T, H]
        middle, rows = by.add_norm(out, x, layer.attention_norm)  # [T, H]
        inner = by.quantize(by.product(rows, layer.up, None, x.dtype), layer.up.bias, layer.up.activation)  # [T, H] -> [T, I]
        down = self.reduce(by.product(inner, layer.down, None, x.dtype))  # [T, I] -> [T, H]
        return by.add_norm(down, middle, layer.output_norm)

    def attention(self, qkv: Tensor, layout: Layout, may_round: bool = False) -> Tensor:
        """No sequence is longer than the padded ones were, which is what the host knows. Products are in the type of qkv."""
        return self.ops.attend(qkv, layout.cu_seqlens, self.weights.heads, self.weights.head_size**-0.5, layout.seq)
