"""Every op of csrc/schema.cpp in plain torch: the oracle of the native kernels, written for reading and not for speed.

Shapes are the schema's (T tokens, B sequences, S padded length, H hidden, K in and N out features). Everything is computed in
the dtype of its inputs, so an oracle in float64 is the same call with float64 tensors. Weights come as they are, [N, K]:
packing is a layout, and layouts are what this module does not know. Nor does it check its arguments, or know a backend.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from pytest_perfq.kernels.bits import BITS

# What torch.nn.functional.normalize divides by at least.
NORM_FLOOR = 1e-12


def pack_tokens(mask: Tensor) -> tuple[Tensor, Tensor]:
    """mask [B, S] -> cu_seqlens [B + 1] int32, index [T] int32 of the real tokens in row-major order."""
    cu_seqlens = torch.zeros(mask.shape[0] + 1, dtype=torch.int32)
    cu_seqlens[1:] = (mask != 0).sum(1).cumsum(0)
    return cu_seqlens, mask.flatten().nonzero().flatten().to(torch.int32)


def restore_padding(x: Tensor, index: Tensor, batch: int, seq: int) -> Tensor:
    """x [T, H], index [T] -> [B, S, H], zero where there is no token."""
    padded = x.new_zeros(batch * seq, x.shape[1])
    padded[index.long()] = x
    return padded.view(batch, seq, x.shape[1])


def sequences(x: Tensor, cu_seqlens: Tensor) -> Sequence[Tensor]:
    """The rows of each sequence: x [T, ...] -> B tensors [L, ...]."""
    return [x[begin:end] for begin, end in itertools.pairwise(cu_seqlens.tolist())]


def pool(x: Tensor, cu_seqlens: Tensor, how: str, normalize: bool) -> Tensor:
    """x [T, H] -> [B, H] by the first token ('cls'), 'mean' or 'max'; zeros for an empty sequence. normalize: to L2 norm 1."""
    ways: dict[str, Callable[[Tensor], Tensor]] = {
        "cls": lambda rows: rows[0],
        "mean": lambda rows: rows.mean(0),
        "max": lambda rows: rows.amax(0),
    }
    pooled = x.new_zeros(len(cu_seqlens) - 1, x.shape[1])
    for row, tokens in enumerate(sequences(x, cu_seqlens)):
        if len(tokens):
            pooled[row] = ways[how](tokens)
    return pooled / pooled.norm(dim=1, keepdim=True).clamp(min=NORM_FLOOR) if normalize else pooled


def layernorm(x: Tensor, weight: Tensor, bias: Tensor, eps: float) -> Tensor:
    """(x - mean) / sqrt(variance + eps) * weight + bias over the last dimension; the variance of the whole population."""
    centred = x - x.mean(-1, keepdim=True)
    return centred / (centred.square().mean(-1, keepdim=True) + eps).sqrt() * weight + bias


def embed_layernorm(
    input_ids: Tensor,
    token_type_ids: Tensor | None,
    index: Tensor,
    word: Tensor,
    position: Tensor,
    token_type: Tensor | None,
    weight: Tensor,
    bias: Tensor,
    eps: float,
) -> Tensor:
    """Ids [B, S] -> [T, H]. A token's position is its column. With a type table and no type ids every type is 0, as in BERT."""
    at = index.long()
    summed = word[input_ids.flatten()[at]] + position[at % max(input_ids.shape[1], 1)]
    if token_type is not None:
        types = torch.zeros_like(input_ids) if token_type_ids is None else token_type_ids
        summed = summed + token_type[types.flatten()[at]]
    return layernorm(summed, weight, bias, eps)


def add_layernorm(x: Tensor, residual: Tensor, linear_bias: Tensor | None, weight: Tensor, bias: Tensor, eps: float) -> Tensor:
    """LayerNorm(x + linear_bias + residual), [T, H]."""
    return layernorm(x + residual if linear_bias is None else x + linear_bias + residual, weight, bias, eps)


def varlen_attention(qkv: Tensor, cu_seqlens: Tensor, heads: int, scale: float, may_round: bool = False) -> Tensor:
    """qkv [T, 3H] -> softmax(scale q k') v within each sequence, [T, H]; a head is H / heads columns side by side. may_round
    allows kernels what is not done here."""
    hidden = qkv.shape[1] // 3
    output = qkv.new_empty(len(qkv), hidden)
    for rows, into in zip(sequences(qkv, cu_seqlens), sequences(output, cu_seqlens), strict=True):
        queries, keys, values = rows.view(len(rows), 3, heads, hidden // heads).permute(1, 2, 0, 3)  # 3 x [heads, L, D]
        weights = torch.softmax(scale * queries @ keys.transpose(1, 2), dim=-1)  # [heads, L, L]
        into.copy_((weights @ values).transpose(0, 1).reshape(len(rows), hidden))
    return output


def activate(x: Tensor, activation: str) -> Tensor:
    """'none', 'relu', 'tanh', 'gelu' (by erf) or 'gelu_tanh' of x."""
    if activation == "gelu":
        return x * 0.5 * (1 + torch.erf(x / math.sqrt(2)))
    if activation == "gelu_tanh":
        return x * 0.5 * (1 + torch.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3)))
    return {"none": lambda one: one, "relu": torch.relu, "tanh": torch.tanh}[activation](x)


def linear(x: Tensor, weight: Tensor, bias: Tensor | None, activation: str) -> Tensor:
    """x [T, K], weight [N, K] -> activation(x weight' + bias), [T, N]. With a weight in bfloat16 x is rounded to it as well,
    nearest, ties to even; their products are summed in the dtype of x."""
    if weight.dtype == torch.bfloat16:
        x, weight = x.to(torch.bfloat16).to(x.dtype), weight.to(x.dtype)
    product = x @ weight.T
    return activate(product if bias is None else product + bias, activation)


def quantize(x: Tensor, scale: Tensor, zero: Tensor, levels: int) -> Tensor:
    """round(x / scale) + zero within 0..levels, ties to even, uint8. x must be numbers: NaN has no place in a uint8."""
    return (torch.round(x / scale) + zero).clamp(0, levels).to(torch.uint8)


def dequantize(x: Tensor, scale: Tensor, zero: Tensor) -> Tensor:
    """(x - zero) scale in the dtype of scale."""
    return (x.to(scale.dtype) - zero) * scale


def row_scales(x: Tensor, levels: int) -> tuple[Tensor, Tensor]:
    """x [T, K] -> scale [T, 1] and zero [T, 1] of each row, such that 0 and the row's extremes lie within 0..levels
    (ONNX's DynamicQuantizeLinear, a row at a time). A row of zeros has scale 1."""
    low, high = x.amin(1, keepdim=True).clamp(max=0), x.amax(1, keepdim=True).clamp(min=0)
    scale = (high - low) / levels
    scale = torch.where(scale == 0, torch.ones_like(scale), scale)
    return scale, torch.round(-low / scale).clamp(0, levels)


def linear_int8(
    x: Tensor,
    weight: Tensor,
    weight_scale: Tensor,
    bias: Tensor | None,
    input_scale: Tensor | None,
    input_zero: Tensor | None,
    output_scale: Tensor | None,
    output_zero: Tensor | None,
    bits: str,
    activation: str,
) -> Tensor:
    """x [T, K] float or uint8, weight [N, K] int8, weight_scale [N] -> float [T, N] in the dtype of weight_scale, or uint8
    with output_scale and output_zero. The product is exact, in int64."""
    levels = BITS[bits].activation
    if input_scale is None or input_zero is None:
        input_scale, input_zero = row_scales(x, levels)
    quantized = quantize(x, input_scale, input_zero, levels) if x.is_floating_point() else x
    product = (quantized.long() - input_zero.long()) @ weight.long().T
    output = product.to(weight_scale.dtype) * (input_scale * weight_scale)
    output = activate(output if bias is None else output + bias, activation)
    if output_scale is None or output_zero is None:
        return output
    return quantize(output, output_scale, output_zero, levels)


def layer(
    x: Tensor,
    cu_seqlens: Tensor,
    weights: Sequence[Tensor],
    scales: Sequence[Tensor],
    biases: Sequence[Tensor],
    norms: Sequence[Tensor],
    heads: int,
    scale: float,
    attention_eps: float,
    output_eps: float,
    bits: str,
    activation: str,
) -> Tensor:
    """x [T, H] -> [T, H]: a layer of the encoder. weights and biases: of qkv, out, up and down; scales: of int8 weights,
    none in "fp32" and "bf16"; norms: weight and bias of the first and of the second."""

    def multiply(at: int, x: Tensor, activation: str = "none") -> Tensor:
        if bits in ("fp32", "bf16"):
            return linear(x, weights[at], biases[at], activation)
        return linear_int8(x, weights[at], scales[at], biases[at], None, None, None, None, bits, activation)

    attended = varlen_attention(multiply(0, x), cu_seqlens, heads, scale)
    middle = add_layernorm(multiply(1, attended), x, None, norms[0], norms[1], attention_eps)
    inner = multiply(2, middle, activation)
    return add_layernorm(multiply(3, inner), middle, None, norms[2], norms[3], output_eps)


def add_layernorm_int8(
    x: Tensor,
    residual: Tensor,
    weight: Tensor,
    bias: Tensor,
    eps: float,
    scales: Sequence[Tensor],
    zeros: Sequence[Tensor],
    levels: int,
) -> Tensor:
    """add_layernorm between uint8 tensors; scales and zeros are those of x, of the residual and of the output."""
    summed = dequantize(x, scales[0], zeros[0]) + dequantize(residual, scales[1], zeros[1])
    return quantize(layernorm(summed, weight, bias, eps), scales[2], zeros[2], levels)


def varlen_attention_int8(
    qkv: Tensor, cu_seqlens: Tensor, heads: int, scale: float, scales: Sequence[Tensor], zeros: Sequence[Tensor], levels: int
) -> Tensor:
    """varlen_attention between uint8 tensors; scales and zeros are those of qkv and of the output."""
    attended = varlen_attention(dequantize(qkv, scales[0], zeros[0]), cu_seqlens, heads, scale)
    return quantize(attended, scales[1], zeros[1], levels)
