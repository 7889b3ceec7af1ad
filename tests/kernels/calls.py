"""One good call of every op, by name: what the tests that hold for all ops go through."""

from __future__ import annotations

import torch
from operands import bounds, integers, normal, one, right_padded, weight, weight_int8, zero
from plain_layer import layer_weights

LENGTHS, TOKENS = [9, 0, 1, 14], 24
# Those that compute in float and could hide a NaN; with the argument to put one into.
FLOAT_INPUT = {"restore_padding": 0, "pool": 0, "embed_layernorm": 3, "add_layernorm": 0, "varlen_attention": 0, "linear": 0}


def calls(kernels) -> dict[str, tuple]:
    """name -> arguments, all of them in the order of the schema."""
    mask = right_padded(LENGTHS, 15)
    cu_seqlens, index = kernels.pack_tokens(mask, TOKENS)
    matrix, scales = weight_int8(40, 24, "w8a7")
    packed, sums = kernels.pack_weight_int8(matrix, "w8a7"), matrix.sum(1, dtype=torch.int32)
    ids, types = integers(0, 49, *mask.shape), integers(0, 1, *mask.shape)
    tables = (normal(50, 24), normal(15, 24), normal(2, 24, seed=3))
    affine = (normal(24, seed=4), normal(24, seed=5))
    x, residual = normal(TOKENS, 24), normal(TOKENS, 24, seed=6)
    levels = integers(0, 127, 2, TOKENS, 24, dtype=torch.uint8)
    three = ([one(0.02), one(0.03), one(0.04)], [zero(60), zero(50), zero(70)])
    static = (one(0.04), zero(64))
    return {
        "pack_tokens": (mask, TOKENS),
        "restore_padding": (x, index, *mask.shape),
        "pool": (x, cu_seqlens, "mean", True),
        "embed_layernorm": (ids, types, index, *tables, *affine, 1e-12),
        "add_layernorm": (x, residual, normal(24, seed=7), *affine, 1e-12),
        "varlen_attention": (normal(TOKENS, 72), bounds(LENGTHS), 3, 0.3),
        "pack_weight": (weight(40, 24),),
        "linear": (x, kernels.pack_weight(weight(40, 24)), normal(40), 40, "gelu"),
        "pack_weight_int8": (matrix, "w8a7"),
        "linear_int8": (x, packed, scales, sums, normal(40), None, None, None, None, "w8a7", "gelu"),
        "linear_int8 static": (x, packed, scales, sums, normal(40), *static, None, None, "w8a7", "none"),
        "linear_int8 to uint8": (levels[0], packed, scales, sums, None, *static, one(0.1), zero(60), "w8a7", "relu"),
        "add_layernorm_int8": (*levels, *affine, 1e-12, *three, 127),
        "varlen_attention_int8": (
            integers(0, 127, TOKENS, 72, dtype=torch.uint8), bounds(LENGTHS), 3, 0.3, three[0][:2], three[1][:2], 127
        ),
        "layer": (x, cu_seqlens, *layer_weights(kernels, 24, 40, "w8a7"), 3, 0.3, 1e-12, 1e-5, "w8a7", "gelu"),
        "quantize": (x, *static, 127),
        "dequantize": (levels[0], *static),
    }  # fmt: skip


NAMES = [
    *(
        "pack_tokens",
        "restore_padding",
        "pool",
        "embed_layernorm",
        "add_layernorm",
        "varlen_attention",
        "pack_weight",
        "linear",
    ),
    *("pack_weight_int8", "linear_int8", "linear_int8 static", "linear_int8 to uint8", "add_layernorm_int8"),
    *("varlen_attention_int8", "layer", "quantize", "dequantize"),
]
