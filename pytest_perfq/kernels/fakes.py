"""The shape and type that each op returns, for torch to trace with: no data, and sizes may be symbols.

One function an op, named as in csrc/schema.cpp. Knows no device.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

# The units that packed weights are padded to, as in cpu/launch.h: columns of a panel, and depth of an int8 one.
FLOAT_PANEL = 16
BF16_PANEL = 32
INT8_PANEL = 32
# What a GPU's int8 rows are padded to, as in cuda/bindings_linear.cpp.
GPU_INT8_DEPTH = 32


def int8_depth(bits: str) -> int:
    return 16 if bits == "w7a7" else 8


def _round_up(value: int, step: int) -> int:
    return (value + step - 1) // step * step


def pack_tokens(mask: Tensor, tokens: int) -> tuple[Tensor, Tensor]:
    return mask.new_empty(mask.shape[0] + 1, dtype=torch.int32), mask.new_empty(tokens, dtype=torch.int32)


def restore_padding(x: Tensor, index: Tensor, batch: int, seq: int) -> Tensor:
    return x.new_empty(batch, seq, x.shape[1])


def pool(x: Tensor, cu_seqlens: Tensor, how: str, normalize: bool) -> Tensor:
    return x.new_empty(cu_seqlens.shape[0] - 1, x.shape[1])


def embed_layernorm(
    input_ids: Tensor, token_type_ids: Tensor | None, index: Tensor, word: Tensor, *others: Any, **named: Any
) -> Tensor:
    return word.new_empty(index.shape[0], word.shape[1])


def add_layernorm(x: Tensor, *others: Any, **named: Any) -> Tensor:
    return x.new_empty(x.shape)


def varlen_attention(qkv: Tensor, *others: Any, **named: Any) -> Tensor:
    return qkv.new_empty(qkv.shape[0], qkv.shape[1] // 3)


def pack_weight(weight: Tensor) -> Tensor:
    if weight.is_cuda:
        return pack_weight_on_gpu(weight)
    if weight.dtype == torch.bfloat16:
        return weight.new_empty(_round_up(weight.shape[0], BF16_PANEL) * _round_up(weight.shape[1], 2))
    return weight.new_empty(_round_up(weight.shape[0], FLOAT_PANEL) * weight.shape[1])


def linear(x: Tensor, weight: Tensor, bias: Tensor | None, out_features: int, activation: str) -> Tensor:
    return x.new_empty(x.shape[0], out_features)


def pack_weight_int8(weight: Tensor, bits: str) -> Tensor:
    if weight.is_cuda:
        return pack_weight_int8_on_gpu(weight, bits)
    return weight.new_empty(_round_up(weight.shape[0], INT8_PANEL) * _round_up(weight.shape[1], int8_depth(bits)))


def pack_weight_on_gpu(weight: Tensor) -> Tensor:
    return weight.new_empty(weight.shape[0] * weight.shape[1])


def pack_weight_int8_on_gpu(weight: Tensor, bits: str) -> Tensor:
    return weight.new_empty(weight.shape[0] * _round_up(weight.shape[1], GPU_INT8_DEPTH))


def linear_int8(
    x: Tensor,
    weight: Tensor,
    weight_scale: Tensor,
    weight_sum: Tensor,
    bias: Tensor | None,
    input_scale: Tensor | None,
    input_zero: Tensor | None,
    output_scale: Tensor | None,
    *others: Any,
    **named: Any,
) -> Tensor:
    dtype = x.dtype if x.is_floating_point() else torch.float32
    return x.new_empty(x.shape[0], weight_scale.shape[0], dtype=dtype if output_scale is None else torch.uint8)


def add_layernorm_int8(x: Tensor, *others: Any, **named: Any) -> Tensor:
    return x.new_empty(x.shape)


def varlen_attention_int8(qkv: Tensor, *others: Any, **named: Any) -> Tensor:
    return varlen_attention(qkv)


def layer(x: Tensor, *others: Any, **named: Any) -> Tensor:
    return x.new_empty(x.shape)


def quantize(x: Tensor, scale: Tensor, zero: Tensor, levels: int) -> Tensor:
    return x.new_empty(x.shape, dtype=torch.uint8)


def dequantize(x: Tensor, scale: Tensor, zero: Tensor) -> Tensor:
    return x.new_empty(x.shape, dtype=torch.float32)


def _levels(x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    rows = x.shape[0]
    return x.new_empty(x.shape, dtype=torch.uint8), x.new_empty(rows, dtype=torch.float32), x.new_empty(rows, dtype=torch.int32)


def _f8(x: Tensor) -> tuple[Tensor, Tensor]:
    return x.new_empty(x.shape, dtype=torch.float8_e4m3fn), x.new_empty(x.shape[0], dtype=torch.float32)


def add_layernorm_levels(x: Tensor, *others: Any, **named: Any) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    return x.new_empty(x.shape), *_levels(x)


def add_layernorm_f8(x: Tensor, *others: Any, **named: Any) -> tuple[Tensor, Tensor, Tensor]:
    return x.new_empty(x.shape), *_f8(x)


def add_layernorm_restore(
    x: Tensor,
    residual: Tensor,
    linear_bias: Tensor | None,
    weight: Tensor,
    bias: Tensor,
    eps: float,
    index: Tensor,
    batch: int,
    seq: int,
) -> Tensor:
    return x.new_empty(batch, seq, x.shape[1])


def bias_activation(x: Tensor, *others: Any, **named: Any) -> Tensor:
    return x.new_empty(x.shape)


def bias_activation_levels(x: Tensor, *others: Any, **named: Any) -> tuple[Tensor, Tensor, Tensor]:
    return _levels(x)


def bias_activation_f8(x: Tensor, *others: Any, **named: Any) -> tuple[Tensor, Tensor]:
    return _f8(x)


def linear_fused(x: Tensor, weight: Tensor, *others: Any, **named: Any) -> Tensor:
    return x.new_empty(x.shape[0], weight.shape[0])


def linear_levels(
    q: Tensor,
    scale: Tensor,
    zero: Tensor,
    weight: Tensor,
    weight_scale: Tensor,
    weight_sum: Tensor,
    bias: Tensor | None,
    activation: str,
    dtype: torch.dtype,
    tile: int = 0,
) -> Tensor:
    return q.new_empty(q.shape[0], weight_scale.shape[0], dtype=dtype)


def absmax(most: Tensor, x: Tensor) -> None:
    return None


FAKES: tuple[Callable[..., Any], ...] = (
    pack_tokens,
    restore_padding,
    pool,
    embed_layernorm,
    add_layernorm,
    varlen_attention,
    pack_weight,
    linear,
    pack_weight_int8,
    linear_int8,
    add_layernorm_int8,
    varlen_attention_int8,
    layer,
    quantize,
    dequantize,
    add_layernorm_levels,
    add_layernorm_f8,
    add_layernorm_restore,
    bias_activation,
    bias_activation_levels,
    bias_activation_f8,
    linear_fused,
    linear_levels,
    absmax,
)
# Instead of those above, by name, where the layout is a GPU's on another device: that of the tests' emulation.
GPU_FAKES: dict[str, Callable[..., Any]] = {"pack_weight": pack_weight_on_gpu, "pack_weight_int8": pack_weight_int8_on_gpu}
