"""One layer of packed weights, as the encoder walks it. Knows no layout from the inside, and not how weights were packed."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True, slots=True)
class Scale:
    """Of one activation tensor: a uint8 value q stands for (q - zero) * scale. scale [1] float32, zero [1] int32."""

    scale: Tensor
    zero: Tensor


@dataclass(frozen=True, slots=True)
class LayerScales:
    """The scales of a layer's tensors: its input, what each linear gives (qkv, out, inner after the activation, down),
    the attention's context, what the first normalization gives (middle), and the layer's output."""

    input: Scale
    qkv: Scale
    context: Scale
    out: Scale
    middle: Scale
    inner: Scale
    down: Scale
    output: Scale


@dataclass(frozen=True, slots=True)
class Int8:
    """weight_scale [N]; weight_sum [N] int32, of each row of the quantized weight; input and output: None where the
    operation finds a scale for each token, or gives floating point."""

    bits: str
    weight_scale: Tensor
    weight_sum: Tensor
    input: Scale | None
    output: Scale | None


@dataclass(frozen=True, slots=True)
class Linear:
    """A packed weight and what `linear` or, with int8, `linear_int8` needs beside it. A weight in bfloat16 is multiplied with
    rows rounded to it. f8_scale [1, N]: of a weight that is float8_e4m3fn [N, K]."""

    weight: Tensor
    bias: Tensor | None
    out_features: int
    activation: str
    int8: Int8 | None
    f8_scale: Tensor | None = None

    @property
    def bits(self) -> str:
        """How it multiplies, as the operation `layer` is told: a name of BITS, 'bf16' or 'fp32'."""
        if self.int8 is not None:
            return self.int8.bits
        return "bf16" if self.weight.dtype == torch.bfloat16 else "fp32"


@dataclass(frozen=True, slots=True)
class AddNorm:
    """LayerNorm(x + linear_bias + residual): the bias of the linear that gave x is added here, so that what several devices
    computed of x is summed before it."""

    weight: Tensor
    bias: Tensor
    eps: float
    linear_bias: Tensor | None


@dataclass(frozen=True, slots=True)
class PackedLayer:
    """A Layer as the operations read it. scales: of its tensors where the residual is INT8, else None."""

    qkv: Linear
    out: Linear
    attention_norm: AddNorm
    up: Linear
    down: Linear
    output_norm: AddNorm
    scales: LayerScales | None

    @property
    def may_round(self) -> bool:
        """Whether its attention may multiply in bfloat16: where its linears round as much or more."""
        return self.qkv.bits != "fp32"

    @property
    def one_op(self) -> bool:
        """Whether the operation `layer` computes it: in fp32 or bf16, or in INT8 with a scale for each token."""
        return self.scales is None and (self.qkv.int8 is None or self.qkv.int8.input is None)
