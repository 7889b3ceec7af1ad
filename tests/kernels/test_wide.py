"""What is as wide as the registers beside tiles: on every set of this processor what eight floats at a time give."""

from __future__ import annotations

import math
import os

import pytest
import tolerance
import torch
from operands import bounds, integers, normal, one, weight, weight_int8, zero

from pytest_perfq.kernels import isas, ops
from pytest_perfq.kernels.bits import BITS

# Around 8, 16, 32 and 64 floats, and some of each in one row.
SIZES = [1, 7, 8, 9, 15, 16, 17, 31, 33, 63, 64, 65, 100, 127, 128, 129, 200, 384, 700]
FUSED = pytest.mark.skipif(os.environ.get(ops.SANITIZE) == "1", reason="sets differ there by which multiply-adds are fused")


def both(kernels, isa, other, call):
    """What `call` gives on two sets; the first is chosen again."""
    kernels.select_isa(other)
    theirs = call()
    kernels.select_isa(isa)
    return call(), theirs


def on_avx2(isa):
    """Fused multiply-adds, as on the set; portable's are not."""
    if isa == "portable" or "avx2" not in isas.runnable(isas.cpu_flags()):
        pytest.skip("portable rounds products")
    return "avx2"


@pytest.mark.parametrize("levels", [255, 127])
@pytest.mark.parametrize("size", SIZES)
def test_bytes_are_those_of_the_portable_set(size, levels, isa, kernels):
    x = 3 * normal(1, size)
    x[0, ::5] *= 1e6
    x[0, 1::7] = 0.5 + torch.arange(len(x[0, 1::7]))  # ties
    for scale, at in ((1.0, 3), (0.037, levels)):
        ours, theirs = both(
            kernels, isa, "portable", lambda scale=scale, at=at: kernels.quantize(x, one(scale), zero(at), levels)
        )
        assert torch.equal(ours, theirs)
    q = integers(0, levels, 1, size, dtype=torch.uint8)
    ours, theirs = both(kernels, isa, "portable", lambda: kernels.dequantize(q, one(0.037), zero(levels)))
    assert torch.equal(ours, theirs)


@pytest.mark.parametrize("bits", sorted(BITS))
@pytest.mark.parametrize("size", SIZES)
def test_rows_are_quantized_as_by_the_portable_set(size, bits, isa, kernels):
    """The weights let levels through one by one, so that an output is a level of the row times its scale. One row, whose bytes lie
    together, and several."""
    matrix = torch.eye(size, dtype=torch.int8)[:33].contiguous()
    packed, sums, scales = kernels.pack_weight_int8(matrix, bits), matrix.sum(1, dtype=torch.int32), torch.ones(len(matrix))
    for tokens in (1, 6):
        for ends in ((None, None), (one(0.02), zero(50))):
            x = normal(tokens, size)
            given = (x, packed, scales, sums, None, *ends, None, None, bits, "none")
            ours, theirs = both(kernels, isa, "portable", lambda given=given: kernels.linear_int8(*given))
            assert torch.equal(ours, theirs)


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("size", SIZES)
def test_a_number_that_is_none_spoils_its_row_wherever_it_stands(size, bad, isa, kernels):
    matrix, scales = weight_int8(5, size, "w8a7")
    packed, sums = kernels.pack_weight_int8(matrix, "w8a7"), matrix.sum(1, dtype=torch.int32)
    for place in {0, size // 2, size - 1}:
        x = normal(3, size)
        x[1, place] = bad
        for ends in ((None, None), (one(0.02), zero(50))):
            output = kernels.linear_int8(x, packed, scales, sums, None, *ends, None, None, "w8a7", "none")
            assert output.isnan().all(1).tolist() == output.isnan().any(1).tolist() == [False, True, False]


@FUSED
@pytest.mark.parametrize("activation", ["none", "relu", "tanh", "gelu", "gelu_tanh"])
def test_activated_sums_are_those_of_avx2(activation, isa, kernels):
    other = on_avx2(isa)
    for tokens, out_features in ((1, 16), (5, 33), (13, 100), (40, 64)):
        x, packed = normal(tokens, 70), kernels.pack_weight(3 * weight(out_features, 70))
        given = (x, packed, normal(out_features), out_features, activation)
        ours, theirs = both(kernels, isa, other, lambda given=given: kernels.linear(*given))
        assert torch.equal(ours, theirs)


@FUSED
@pytest.mark.parametrize("size", [8, 24, 32, 64, 88, 128])
def test_attention_is_that_of_avx2(size, isa, kernels):
    other, lengths = on_avx2(isa), [1, 7, 12, 13, 40, 395, 0, 33]
    given = (normal(sum(lengths), 3 * 2 * size), bounds(lengths), 2, size**-0.5)
    ours, theirs = both(kernels, isa, other, lambda: kernels.varlen_attention(*given))
    assert torch.equal(ours, theirs)


@pytest.mark.parametrize("size", SIZES[3:])
def test_normalized_rows_differ_by_the_order_of_sums(size, isa, kernels):
    given = (
        normal(4, size),
        normal(4, size, seed=2),
        normal(size),
        1 + 0.2 * normal(size, seed=8),
        normal(size, seed=9),
        1e-12,
    )
    ours, theirs = both(kernels, isa, "portable", lambda: kernels.add_layernorm(*given))
    tolerance.close(ours, theirs.double(), tolerance.LAYERNORM)
