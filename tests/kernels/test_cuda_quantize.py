"""quantize, dequantize and absmax as the CUDA sources have them; run thread by thread on the CPU."""

import pytest
import tolerance
import torch
from operands import integers, normal, one, refused, zero
from torch.library import opcheck

from pytest_perfq.kernels import reference

TYPES = [torch.float32, torch.float16, torch.bfloat16]
SHAPES = [(0, 5), (1, 1), (3, 7), (5, 64), (2, 1029)]


@pytest.mark.parametrize("levels", [255, 127])
@pytest.mark.parametrize("dtype", TYPES)
@pytest.mark.parametrize("shape", SHAPES)
def test_there_and_back(emulated, order, shape, dtype, levels):
    x = (2 * normal(*shape)).to(dtype)
    q = emulated.quantize(x, one(0.021), zero(64), levels)
    tolerance.quantized(q, x.double(), one(0.021), zero(64), levels)
    back = emulated.dequantize(q, one(0.021), zero(64))
    tolerance.close(back, reference.dequantize(q, one(0.021).double(), zero(64)), 0.021 * tolerance.DEQUANTIZED)


@pytest.mark.parametrize("levels", [255, 127])
@pytest.mark.parametrize("at", [0, 7, 127])
def test_what_is_out_of_range_goes_to_its_end(emulated, levels, at):
    x = torch.tensor([[-3e38, -1e9, -1e3, 1e3, 1e9, 3e38, -float("inf"), float("inf"), 0.0]])
    expected = torch.tensor([[0, 0, 0, levels, levels, levels, 0, levels, at]], dtype=torch.uint8)
    assert torch.equal(emulated.quantize(x, one(0.5), zero(at), levels), expected)


def test_ties_go_to_the_even_level(emulated):
    x = torch.arange(-20, 21, dtype=torch.float32)[None] / 2
    expected = (torch.round(x) + 12).to(torch.uint8)
    assert torch.equal(emulated.quantize(x, one(1.0), zero(12), 255), expected)


@pytest.mark.parametrize("dtype", TYPES)
@pytest.mark.parametrize("shape", [(1, 1), (3, 7), (130, 40), (300, 5), (2, 1032)])
def test_absmax_is_torchs(emulated, order, shape, dtype):
    x = normal(*shape).to(dtype)
    most = torch.zeros(shape[1])
    emulated.absmax(most, x)
    assert torch.equal(most, x.float().abs().amax(0))
    emulated.absmax(most, (x / 2).to(dtype))  # nothing larger in it
    assert torch.equal(most, x.float().abs().amax(0))
    emulated.absmax(most, (3 * x).to(dtype))
    assert torch.equal(most, (3 * x).to(dtype).float().abs().amax(0))


def test_absmax_of_no_rows_changes_nothing_and_nan_shows_in_its_column(emulated):
    most = torch.tensor([1.0, 2.0, 3.0])
    emulated.absmax(most, torch.zeros(0, 3))
    assert most.tolist() == [1.0, 2.0, 3.0]
    x = torch.zeros(4, 3)
    x[2, 1], x[1, 2] = -float("nan"), -float("inf")
    emulated.absmax(most, x)
    assert most.isnan().tolist() == [False, True, False] and most[[0, 2]].tolist() == [1.0, float("inf")]


def test_what_does_not_fit_is_refused(emulated):
    x, levels = normal(2, 8), integers(0, 255, 2, 8, dtype=torch.uint8)
    quantize, dequantize, absmax = emulated.quantize, emulated.dequantize, emulated.absmax
    refused(lambda: quantize(x, torch.ones(2), zero(1), 255), "quantize", "scale", 2, 1)
    refused(lambda: quantize(x, one(1.0), torch.ones(3, dtype=torch.int32), 255), "quantize", "zero", 3, 1)
    refused(lambda: quantize(x, one(1.0), zero(1), 200), "quantize", "levels", 200, 127, 255)
    refused(lambda: quantize(levels, one(1.0), zero(1), 255), "quantize", "x", "uint8")
    refused(lambda: quantize(x[0], one(1.0), zero(1), 255), "quantize", "x", 1, 2)
    refused(lambda: quantize(x, one(1.0), one(1.0), 255), "quantize", "zero", "float32", "int32")
    refused(lambda: dequantize(x, one(1.0), zero(1)), "dequantize", "x", "float32", "uint8")
    refused(lambda: dequantize(levels, torch.ones(2), zero(1)), "dequantize", "scale", 2, 1)
    refused(lambda: absmax(torch.zeros(7), x), "absmax", "most", 7, 8)
    refused(lambda: absmax(torch.zeros(8).half(), x), "absmax", "most", "float16", "float32")
    refused(lambda: absmax(torch.zeros(16)[::2], x), "absmax", "most", "contiguous")
    refused(lambda: absmax(torch.zeros(8), levels), "absmax", "x", "uint8")


def test_opcheck(emulated):
    opcheck(emulated.quantize.default, (normal(3, 24), one(0.04), zero(64), 127))
    opcheck(emulated.dequantize.default, (integers(0, 127, 3, 24, dtype=torch.uint8), one(0.04), zero(64)))
    opcheck(emulated.absmax.default, (torch.zeros(24), normal(3, 24)))
