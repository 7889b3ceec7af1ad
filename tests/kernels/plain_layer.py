"""The weights of one layer as the op `layer` takes them."""

from __future__ import annotations

import torch
from operands import normal, weight, weight_int8

PARTS = 4  # qkv, out, up, down
FLOATS = {"fp32": torch.float32, "bf16": torch.bfloat16}


def layer_matrices(hidden: int, inner: int, bits: str) -> tuple[list[torch.Tensor], list[torch.Tensor]]:
    """The four weights as they are, [N, K] float32, bfloat16 or int8, and the four scales [N] of int8 ones."""
    shapes = [(3 * hidden, hidden), (hidden, hidden), (inner, hidden), (hidden, inner)]
    if bits in FLOATS:
        return [weight(*shape, seed=at).to(FLOATS[bits]) for at, shape in enumerate(shapes)], []
    pairs = [weight_int8(*shape, bits, seed=at) for at, shape in enumerate(shapes)]
    return [matrix for matrix, _ in pairs], [scale for _, scale in pairs]


def biases_and_norms(hidden: int, inner: int) -> tuple[list[torch.Tensor], list[torch.Tensor]]:
    """Those of the four linears, and weight and bias of both normalizations."""
    biases = [normal(size, seed=at) for at, size in enumerate((3 * hidden, hidden, inner, hidden))]
    return biases, [normal(hidden, seed=10 + at) for at in range(4)]


def layer_weights(kernels, hidden: int, inner: int, bits: str) -> tuple[list[torch.Tensor], ...]:
    """packed, scales, sums, biases, norms."""
    matrices, scales = layer_matrices(hidden, inner, bits)
    if bits in FLOATS:
        packed, sums = [kernels.pack_weight(matrix) for matrix in matrices], []
    else:
        packed = [kernels.pack_weight_int8(matrix, bits) for matrix in matrices]
        sums = [matrix.sum(1, dtype=torch.int32) for matrix in matrices]
    return packed, scales, sums, *biases_and_norms(hidden, inner)
