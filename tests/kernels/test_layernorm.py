"""add_layernorm, and add_layernorm_int8 between quantized tensors."""

import pytest
import tolerance
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st
from operands import ODD_SIZES, few, integers, normal, one, refused, zero

from pytest_perfq.kernels import reference

EPS = 1e-12  # BERT's


def affine(hidden):
    return 1 + 0.2 * normal(hidden, seed=8), normal(hidden, seed=9)


def double(*tensors):
    return [None if tensor is None else tensor.double() for tensor in tensors]


def check(kernels, x, residual, linear_bias, eps=EPS, allowed=tolerance.LAYERNORM):
    weight, bias = affine(x.shape[1])
    output = kernels.add_layernorm(x, residual, linear_bias, weight, bias, eps)
    expected = reference.add_layernorm(*double(x, residual, linear_bias, weight, bias), eps)
    tolerance.close(output, expected, allowed)


@pytest.mark.parametrize("eps", [EPS, 1e-5, 0.1])
def test_the_oracle_is_torchs_layer_norm(eps):
    x, residual, linear_bias, weight, bias = double(normal(5, 17), normal(5, 17, seed=2), normal(17), *affine(17))
    expected = F.layer_norm(x + residual + linear_bias, (17,), weight, bias, eps)
    torch.testing.assert_close(
        reference.add_layernorm(x, residual, linear_bias, weight, bias, eps), expected, rtol=0, atol=tolerance.ORACLE
    )


@pytest.mark.parametrize("with_bias", [False, True])
@pytest.mark.parametrize("tokens", [0, 1, 5])
@pytest.mark.parametrize("hidden", [*ODD_SIZES, 1024, 4096])
def test_shapes(hidden, tokens, with_bias, isa, kernels):
    # One column has no variance: what is left of it is rounding, which eps must dwarf for the answer to mean anything.
    eps = 1e-5 if hidden == 1 else EPS
    check(kernels, normal(tokens, hidden), normal(tokens, hidden, seed=2), normal(hidden) if with_bias else None, eps)


@few
@given(tokens=st.integers(0, 40), hidden=st.integers(8, 300), eps=st.sampled_from([1e-12, 1e-5, 1.0]), with_bias=st.booleans())
def test_any_shape(tokens, hidden, eps, with_bias, isa, kernels):
    bias = normal(hidden) if with_bias else None
    check(kernels, normal(tokens, hidden), normal(tokens, hidden, seed=2), bias, eps)


def test_many_tokens(isa, kernels):
    check(kernels, normal(4096, 24), normal(4096, 24, seed=2), None)


def test_eps_is_inside_the_root(isa, kernels):
    x = torch.tensor([[1.0, -1.0, 1.0, -1.0] * 4])  # variance 1
    output = kernels.add_layernorm(x, torch.zeros_like(x), None, torch.ones(16), torch.zeros(16), 3.0)
    torch.testing.assert_close(output, x / 2, rtol=1e-6, atol=0)


def test_rows_of_one_value_give_the_bias(isa, kernels):
    weight, bias = affine(64)
    x = torch.full((3, 64), 2.0)  # sums of 64 twos are exact
    assert torch.equal(kernels.add_layernorm(x, x, None, weight, bias, EPS), bias.expand(3, 64))


def test_rows_far_from_zero_keep_their_variance(isa, kernels):
    x = normal(4, 384) + 1000
    check(kernels, x, torch.zeros_like(x), None, allowed=tolerance.LAYERNORM_FAR)


def test_small_and_large_rows(isa, kernels):
    """A scale of the row cancels: 1e-4 and 1e+15 times a row are normalized like the row (eps is far below)."""
    for factor in (1e-4, 1e4, 1e15):
        check(kernels, factor * normal(3, 130), torch.zeros(3, 130), None)


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_a_row_with_a_value_that_is_no_number_is_nan_alone(bad, isa, kernels):
    x = normal(3, 35)
    x[1, 34] = bad
    weight, bias = affine(35)
    output = kernels.add_layernorm(x, normal(3, 35, seed=2), None, weight, bias, EPS)
    assert output.isnan().all(1).tolist() == [False, True, False]
    assert not output[[0, 2]].isnan().any()


def test_what_does_not_fit_is_refused(isa, kernels):
    x, (weight, bias) = normal(2, 8), affine(8)
    call = kernels.add_layernorm
    refused(lambda: call(x, normal(3, 8), None, weight, bias, EPS), "add_layernorm", "residual", 3, 2)
    refused(lambda: call(x, normal(2, 7), None, weight, bias, EPS), "add_layernorm", "residual", 7, 8)
    refused(lambda: call(x, x, normal(7), weight, bias, EPS), "add_layernorm", "linear_bias", 7, 8)
    refused(lambda: call(x, x, None, normal(9), bias, EPS), "add_layernorm", "weight", 9, 8)
    refused(lambda: call(x, x, None, weight, normal(7), EPS), "add_layernorm", "bias", 7, 8)
    refused(lambda: call(x.double(), x, None, weight, bias, EPS), "add_layernorm", "x")
    refused(lambda: call(normal(8), x, None, weight, bias, EPS), "add_layernorm", "x", 1, 2)


# Between uint8 tensors.

SCALES, ZEROS = (one(0.02), one(0.03), one(0.04)), (zero(120), zero(3), zero(77))


@pytest.mark.parametrize("levels", [255, 127])
@pytest.mark.parametrize("tokens", [0, 1, 5])
@pytest.mark.parametrize("hidden", [7, 17, 33, 384, 770])
def test_int8(hidden, tokens, levels, isa, kernels):
    x, residual = integers(0, levels, 2, tokens, hidden, dtype=torch.uint8)
    weight, bias = affine(hidden)
    output = kernels.add_layernorm_int8(x, residual, weight, bias, EPS, SCALES, ZEROS, levels)
    summed = reference.dequantize(x, SCALES[0].double(), ZEROS[0]) + reference.dequantize(
        residual, SCALES[1].double(), ZEROS[1]
    )
    expected = F.layer_norm(summed, (hidden,), *double(weight, bias), EPS)
    tolerance.quantized(output, expected, SCALES[2], ZEROS[2], levels, tolerance.LAYERNORM)
    ours = reference.add_layernorm_int8(x, residual, *double(weight, bias), EPS, double(*SCALES), ZEROS, levels)
    tolerance.quantized(ours, expected, SCALES[2], ZEROS[2], levels, 1e-12)


@few
@given(
    tokens=st.integers(0, 40),
    hidden=st.integers(8, 300),
    levels=st.sampled_from([255, 127]),
    spans=st.tuples(st.floats(0.5, 8), st.floats(0.5, 8), st.floats(0.5, 8)),
    zeros=st.tuples(st.floats(0, 1), st.floats(0, 1), st.floats(0, 1)),
)
def test_int8_of_any_shape(tokens, hidden, levels, spans, zeros, isa, kernels):
    """spans: what lies between the lowest and the highest level of x, residual and output; zeros: where 0 is on that way."""
    x, residual = integers(0, levels, 2, tokens, hidden, dtype=torch.uint8)
    (weight, bias), scales = affine(hidden), [one(span / levels) for span in spans]
    at = [zero(round(share * levels)) for share in zeros]
    output = kernels.add_layernorm_int8(x, residual, weight, bias, EPS, scales, at, levels)
    summed = sum(reference.dequantize(q, scale.double(), z) for q, scale, z in zip((x, residual), scales, at, strict=False))
    expected = F.layer_norm(summed, (hidden,), *double(weight, bias), EPS)
    tolerance.quantized(output, expected, scales[2], at[2], levels, tolerance.LAYERNORM)


def test_int8_saturates_at_both_ends(isa, kernels):
    x, residual = integers(0, 127, 2, 6, 64, dtype=torch.uint8)
    weight, bias = affine(64)
    scales = (SCALES[0], SCALES[1], one(0.001))
    output = kernels.add_layernorm_int8(x, residual, weight, bias, EPS, scales, ZEROS, 127)
    assert (output.min().item(), output.max().item()) == (0, 127)


def test_int8_what_does_not_fit_is_refused(isa, kernels):
    x, residual = integers(0, 127, 2, 3, 8, dtype=torch.uint8)
    weight, bias = affine(8)
    name = "add_layernorm_int8"
    call = kernels.add_layernorm_int8
    refused(lambda: call(x, residual[:2], weight, bias, EPS, SCALES, ZEROS, 127), name, "residual", 2, 3)
    refused(lambda: call(x, residual, normal(7), bias, EPS, SCALES, ZEROS, 127), name, "weight", 7, 8)
    refused(lambda: call(x, residual, weight, bias, EPS, SCALES[:2], ZEROS, 127), name, "scales", 2, 3)
    refused(lambda: call(x, residual, weight, bias, EPS, SCALES, ZEROS[:1], 127), name, "zeros", 1, 3)
    refused(lambda: call(x, residual, weight, bias, EPS, SCALES, ZEROS, 100), name, "levels", 100, 127, 255)
    refused(lambda: call(x.float(), residual, weight, bias, EPS, SCALES, ZEROS, 127), name, "x")
