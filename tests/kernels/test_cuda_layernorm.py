"""add_layernorm and what is fused with it, as the CUDA sources have it, against the oracle; run thread by thread on the CPU."""

import pytest
import tolerance
import torch
from operands import integers, normal, one, refused, right_padded, zero
from torch.library import opcheck

from pytest_perfq.kernels import reference

EPS = 1e-12
# (rows, features): none, one, one value; a row of each number of values a thread; odd; what four and eight warps share.
SHAPES = [(0, 8), (1, 1), (3, 7), (5, 64), (2, 384), (3, 768), (1, 1000), (2, 1024), (2, 1032), (1, 3001), (1, 4104)]
FEW = [(0, 8), (5, 7), (3, 384), (2, 1032), (1, 4104)]
TYPES = [torch.float32, torch.float16, torch.bfloat16]


def operands(rows, features, dtype):
    x, residual = normal(rows, features), normal(rows, features, seed=1)
    return [
        one.to(dtype) for one in (x, residual, normal(features, seed=2), normal(features, seed=3), normal(features, seed=4))
    ]


def oracle(given, eps=EPS):
    return reference.add_layernorm(*(None if one is None else one.double() for one in given), eps)


@pytest.mark.parametrize("dtype", TYPES)
@pytest.mark.parametrize("shape", SHAPES)
def test_it_is_the_oracles(emulated, order, shape, dtype):
    given = operands(*shape, dtype)
    tolerance.rounded(emulated.add_layernorm(*given, EPS), oracle(given), dtype, tolerance.LAYERNORM)
    given[2] = None
    tolerance.rounded(emulated.add_layernorm(*given, EPS), oracle(given), dtype, tolerance.LAYERNORM)


def test_eps_is_inside_the_root_and_rows_far_from_zero_keep_their_variance(emulated):
    x = torch.tensor([[1.0, -1.0, 1.0, -1.0] * 4])  # variance 1
    output = emulated.add_layernorm(x, torch.zeros_like(x), None, torch.ones(16), torch.zeros(16), 3.0)
    torch.testing.assert_close(output, x / 2, rtol=1e-6, atol=0)
    given = [normal(2, 384) + 1000, torch.zeros(2, 384), None, torch.ones(384), torch.zeros(384)]
    tolerance.close(emulated.add_layernorm(*given, EPS), oracle(given), tolerance.LAYERNORM_FAR)


@pytest.mark.parametrize("features", [35, 1032])
@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_a_row_with_a_value_that_is_no_number_is_nan_alone(emulated, bad, features):
    given = operands(3, features, torch.float32)
    given[0][1, features - 1] = bad
    struck = [False, True, False]
    assert emulated.add_layernorm(*given, EPS).isnan().all(1).tolist() == struck
    y, _, scale, _ = emulated.add_layernorm_levels(*given, EPS, 255)
    assert scale.isnan().tolist() == y.isnan().any(1).tolist() == struck
    y, q, scale = emulated.add_layernorm_f8(*given, EPS)
    assert scale.isnan().tolist() == y.isnan().any(1).tolist() == q.float().isnan().all(1).tolist() == struck


@pytest.mark.parametrize("levels", [255, 127])
@pytest.mark.parametrize("dtype", TYPES)
@pytest.mark.parametrize("shape", FEW)
def test_levels_are_those_of_the_output_row(emulated, order, shape, dtype, levels):
    given = operands(*shape, dtype)
    y, q, scale, at = emulated.add_layernorm_levels(*given, EPS, levels)
    assert torch.equal(y, emulated.add_layernorm(*given, EPS))
    if len(y):
        theirs, zeros = reference.row_scales(y.double(), levels)
        tolerance.close(scale[:, None], theirs, 1e-7)
        assert torch.equal(at[:, None], zeros.to(torch.int32))
    tolerance.quantized(q, y.double(), scale[:, None], at[:, None], levels)


@pytest.mark.parametrize("dtype", TYPES)
@pytest.mark.parametrize("shape", FEW)
def test_f8_is_torchs_conversion_of_the_output_row(emulated, order, shape, dtype):
    given = operands(*shape, dtype)
    y, q, scale = emulated.add_layernorm_f8(*given, EPS)
    assert torch.equal(y, emulated.add_layernorm(*given, EPS)) and q.dtype == torch.float8_e4m3fn
    assert torch.equal(scale, y.float().abs().amax(1) / 448 if len(y) else torch.ones(0))
    theirs = (y.float() * (1 / scale)[:, None]).to(torch.float8_e4m3fn)
    assert torch.equal(q.view(torch.uint8), theirs.view(torch.uint8))


@pytest.mark.parametrize("dtype", TYPES)
@pytest.mark.parametrize("features", [7, 64, 1032])
def test_restoring_is_restore_padding_of_the_output(emulated, order, features, dtype):
    for lengths in ([0, 5, 0], [3, 0, 1], [2], [0]):
        mask = right_padded(lengths, max(lengths) + 1)
        index = torch.cat([reference.pack_tokens(mask)[1], torch.full((2,), -1, dtype=torch.int32)])
        given = operands(len(index), features, dtype)
        expected = emulated.add_layernorm(*given, EPS)[:-2]
        padded = emulated.add_layernorm_restore(*given, EPS, index, *mask.shape)
        assert torch.equal(padded, reference.restore_padding(expected, index[:-2], *mask.shape))


def test_restoring_by_a_spoilt_index_is_nan(emulated):
    given = operands(2, 16, torch.float32)
    spoilt = torch.full((2,), -2, dtype=torch.int32)
    assert emulated.add_layernorm_restore(*given, EPS, spoilt, 2, 3).isnan().all()


def test_what_does_not_fit_is_refused(emulated):
    x, residual, linear, weight, bias = operands(2, 8, torch.float32)
    index = torch.tensor([0, 2], dtype=torch.int32)
    rest = {"add_layernorm": (), "add_layernorm_levels": (255,), "add_layernorm_f8": (), "add_layernorm_restore": (index, 2, 2)}
    for name, more in rest.items():

        def refuse(*words, more=more, name=name, **places):
            given = {"x": x, "residual": residual, "linear": linear, "weight": weight, "bias": bias} | places
            refused(lambda: getattr(emulated, name)(*given.values(), EPS, *more), name, *words)

        refuse("residual", 3, 2, residual=normal(3, 8))
        refuse("residual", 7, 8, residual=normal(2, 7))
        refuse("residual", "float16", "float32", residual=residual.half())
        refuse("linear_bias", 7, 8, linear=normal(7))
        refuse("weight", 9, 8, weight=normal(9))
        refuse("bias", 7, 8, bias=normal(7))
        refuse("x", "float64", "bfloat16", x=x.double())
        refuse("x", 1, 2, x=normal(8))
        refuse("x", 8193, 8192, x=torch.zeros(2, 8193), residual=torch.zeros(2, 8193))
    given = (x, residual, linear, weight, bias, EPS)
    refused(lambda: emulated.add_layernorm_levels(*given, 100), "add_layernorm_levels", 100, 255, 127)
    restore, name = emulated.add_layernorm_restore, "add_layernorm_restore"
    refused(lambda: restore(*given, index[:1], 2, 2), name, "index", 1, 2)
    refused(lambda: restore(*given, index.long(), 2, 2), name, "index", "int64", "int32")
    refused(lambda: restore(*given, index, 2, -2), name, "seq", -2, "negative")
    refused(lambda: restore(*given, index, 4097, 2), name, 4097, 4096, "rows")
    refused(lambda: restore(*given, index, 2, 4097), name, 4097, 4096, "wide")


# Between uint8 tensors.

SCALES, ZEROS = [one(0.02), one(0.03), one(0.04)], [zero(120), zero(3), zero(77)]


@pytest.mark.parametrize("levels", [255, 127])
@pytest.mark.parametrize("dtype", TYPES)
@pytest.mark.parametrize("shape", [(0, 8), (1, 7), (5, 384), (2, 768), (1, 1032), (1, 1500), (1, 4104)])
def test_int8(emulated, order, shape, dtype, levels):
    x, residual = integers(0, levels, 2, *shape, dtype=torch.uint8)
    weight, bias = (1 + 0.2 * normal(shape[1], seed=8)).to(dtype), normal(shape[1], seed=9).to(dtype)
    output = emulated.add_layernorm_int8(x, residual, weight, bias, EPS, SCALES, ZEROS, levels)
    summed = reference.dequantize(x, SCALES[0].double(), ZEROS[0]) + reference.dequantize(
        residual, SCALES[1].double(), ZEROS[1]
    )
    expected = reference.layernorm(summed, weight.double(), bias.double(), EPS)
    tolerance.quantized(output, expected, SCALES[2], ZEROS[2], levels, tolerance.LAYERNORM)


def test_int8_saturates_at_both_ends(emulated):
    x, residual = integers(0, 127, 2, 6, 64, dtype=torch.uint8)
    scales = [*SCALES[:2], one(0.001)]
    output = emulated.add_layernorm_int8(x, residual, torch.ones(64), torch.zeros(64), EPS, scales, ZEROS, 127)
    assert (output.min().item(), output.max().item()) == (0, 127)


def test_int8_what_does_not_fit_is_refused(emulated):
    x, residual = integers(0, 127, 2, 3, 8, dtype=torch.uint8)
    weight, bias, name, call = normal(8), normal(8), "add_layernorm_int8", emulated.add_layernorm_int8
    refused(lambda: call(x, residual[:2], weight, bias, EPS, SCALES, ZEROS, 127), name, "residual", 2, 3)
    refused(lambda: call(x, residual[:, :7], weight, bias, EPS, SCALES, ZEROS, 127), name, "residual", 7, 8)
    refused(lambda: call(x, residual, normal(7), bias, EPS, SCALES, ZEROS, 127), name, "weight", 7, 8)
    refused(lambda: call(x, residual, weight, normal(9), EPS, SCALES, ZEROS, 127), name, "bias", 9, 8)
    refused(lambda: call(x, residual, weight, bias.half(), EPS, SCALES, ZEROS, 127), name, "bias", "float16", "float32")
    refused(lambda: call(x, residual, weight, bias, EPS, SCALES[:2], ZEROS, 127), name, "scales", 2, 3)
    refused(lambda: call(x, residual, weight, bias, EPS, SCALES, ZEROS[:1], 127), name, "zeros", 1, 3)
    two = [SCALES[0], torch.ones(2), SCALES[2]]
    refused(lambda: call(x, residual, weight, bias, EPS, two, ZEROS, 127), name, "residual", 2, 1)
    refused(lambda: call(x, residual, weight, bias, EPS, SCALES, ZEROS, 100), name, "levels", 100, 127, 255)
    refused(lambda: call(x.float(), residual, weight, bias, EPS, SCALES, ZEROS, 127), name, "x", "float32", "uint8")
    wide = torch.zeros(2, 1, 8193, dtype=torch.uint8)
    refused(lambda: call(*wide, weight, bias, EPS, SCALES, ZEROS, 127), name, "x", 8193, 8192)


def test_opcheck(emulated):
    given = (*operands(3, 24, torch.float32), EPS)
    opcheck(emulated.add_layernorm.default, given)
    opcheck(emulated.add_layernorm_levels.default, (*given, 255))
    opcheck(emulated.add_layernorm_f8.default, given)
    opcheck(emulated.add_layernorm_restore.default, (*given, torch.tensor([0, 2, 3], dtype=torch.int32), 2, 2))
    levels = integers(0, 127, 2, 3, 24, dtype=torch.uint8)
    opcheck(emulated.add_layernorm_int8.default, (*levels, normal(24), normal(24), EPS, SCALES, ZEROS, 127))
