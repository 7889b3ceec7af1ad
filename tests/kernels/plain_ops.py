"""The operations of csrc/schema.cpp in plain torch behind the schema's own signatures: what the encoder is tried with where no
kernel should be part of the answer. Packing leaves a weight as it is."""

import torch

from pytest_perfq.kernels import reference
from pytest_perfq.kernels.bits import BITS
from pytest_perfq.kernels.reference import (  # noqa: F401
    add_layernorm,
    add_layernorm_int8,
    dequantize,
    embed_layernorm,
    pool,
    quantize,
    restore_padding,
    varlen_attention,
    varlen_attention_int8,
)


def pack_tokens(mask, tokens):
    cu_seqlens, index = reference.pack_tokens(mask)
    assert len(index) == tokens == int(cu_seqlens[-1])
    return cu_seqlens, index


def pack_weight(weight):
    return weight


def linear(x, weight, bias, out_features, activation):
    assert len(weight) == out_features
    return reference.linear(x, weight, bias, activation)


def pack_weight_int8(weight, bits):
    assert weight.dtype == torch.int8 and int(weight.abs().max()) <= BITS[bits].weight
    return weight


def linear_int8(
    x, weight, weight_scale, weight_sum, bias, input_scale, input_zero, output_scale, output_zero, bits, activation
):
    assert torch.equal(weight_sum.long(), weight.long().sum(1)) and weight_sum.dtype == torch.int32
    return reference.linear_int8(
        x, weight, weight_scale, bias, input_scale, input_zero, output_scale, output_zero, bits, activation
    )


def layer(x, cu_seqlens, packed, scales, sums, biases, norms, heads, scale, attention_eps, output_eps, bits, activation):
    assert all(torch.equal(total.long(), weight.long().sum(1)) for total, weight in zip(sums, packed, strict=bool(sums)))
    assert bool(scales) == bool(sums) == (bits not in ("fp32", "bf16"))
    assert all((weight.dtype == torch.bfloat16) == (bits == "bf16") for weight in packed)
    ends = heads, scale, attention_eps, output_eps, bits, activation
    return reference.layer(x, cu_seqlens, packed, scales, biases, norms, *ends)
