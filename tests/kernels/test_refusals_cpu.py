"""What the CPU's ops refuse because a wrong number would come of it, in which words."""

from __future__ import annotations

import math

import pytest
import torch
from operands import integers, normal, one, weight_int8, zero

from pytest_perfq.kernels import reference
from pytest_perfq.kernels.bits import BITS


def refused(call, *given):
    with pytest.raises(RuntimeError) as caught:
        call(*given)
    return str(caught.value).splitlines()[0]


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize(("rows", "columns"), [(1, 1), (3, 17), (5, 384)])
@pytest.mark.parametrize("place", ["first", "last"])
def test_uint8_has_no_place_for_what_is_not_finite(value, rows, columns, place, kernels):
    x = normal(rows, columns)
    row, column = (0, 0) if place == "first" else (rows - 1, columns - 1)
    x[row, column] = value
    assert refused(kernels.quantize, x, one(0.1), zero(60), 127) == (
        f"perfq::quantize: x is {value} at row {row}, column {column}; uint8 holds finite numbers only"
    )


def test_the_largest_numbers_are_finite(isa, kernels):
    x = torch.tensor([[3.4e38, -3.4e38, 1e-45, -0.0, 0.0]])
    wanted = reference.quantize(x, one(0.1), zero(60), 127)
    assert torch.equal(kernels.quantize(x, one(0.1), zero(60), 127)[:, 2:], wanted[:, 2:])
    assert kernels.quantize(x[:0], one(0.1), zero(60), 127).shape == (0, 5)


def product(ops, x, bits, out=40):
    """What linear_int8 gives for x [M, K], and the same in int64."""
    levels, _ = weight_int8(out, x.shape[1], bits)
    packed, sums = ops.pack_weight_int8(levels, bits), levels.sum(1, dtype=torch.int32)
    got = ops.linear_int8(x, packed, torch.ones(out), sums, None, one(1.0), zero(3), None, None, bits, "none")
    return got, ((x.long() - 3) @ levels.long().T).float()


@pytest.mark.parametrize("bits", BITS)
@pytest.mark.parametrize(("rows", "features"), [(1, 1), (1, 8), (7, 33), (3, 384)])
def test_a_byte_beyond_the_bits_is_refused_and_the_largest_within_is_exact(bits, rows, features, isa, kernels):
    most = BITS[bits].activation
    x = integers(0, most, rows, features, dtype=torch.uint8)
    x[-1, -1] = most
    got, exact = product(kernels, x, bits)
    assert torch.equal(got, exact)
    for value in range(most + 1, 256, 64):
        x[-1, -1] = value
        assert refused(product, kernels, x, bits) == f"perfq::linear_int8: a value of x is {value}; {bits} takes 0 to {most}"


def test_bytes_of_no_rows_are_within_any_bits(kernels):
    got, _ = product(kernels, torch.zeros(0, 8, dtype=torch.uint8), "w8a7")
    assert got.shape == (0, 40)


def test_a_number_of_tokens_that_cannot_be_and_a_mask_of_truth_values_are_named(kernels):
    mask = torch.ones(2, 3, dtype=torch.int64)
    assert refused(kernels.pack_tokens, mask, -1) == "perfq::pack_tokens: tokens is -1; it cannot be negative"
    assert refused(kernels.pack_tokens, mask.bool(), 6) == "perfq::pack_tokens: mask is bool, not int64"
