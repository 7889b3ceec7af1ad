"""quantize and dequantize: uint8 by one scale and one zero."""

import pytest
import tolerance
import torch
from hypothesis import given
from hypothesis import strategies as st
from operands import ODD_SIZES, few, integers, normal, one, refused, zero

from pytest_perfq.kernels import reference

# torch means to drop its quantized tensors; what they round to stays an oracle while they are there.
pytestmark = pytest.mark.filterwarnings("ignore:torch.quantize_per_tensor:UserWarning")


def check(kernels, x, scale, at, levels):
    tolerance.quantized(kernels.quantize(x, scale, at, levels), x.double(), scale, at, levels)


@pytest.mark.parametrize(("scale", "at"), [(0.05, 128), (0.3, 0), (1.0, 255)])
def test_the_oracle_is_torchs_quantization(scale, at):
    x = 5 * normal(40, 30)
    theirs = torch.quantize_per_tensor(x, scale, at, torch.quint8)
    ours = reference.quantize(x, one(scale), zero(at), 255)
    assert (ours != theirs.int_repr()).sum().item() <= 1  # torch multiplies by 1 / scale: another side of a tie
    back = reference.dequantize(theirs.int_repr(), one(scale), zero(at))
    torch.testing.assert_close(back, theirs.dequantize(), rtol=1e-6, atol=0)


@pytest.mark.parametrize("levels", [255, 127])
@pytest.mark.parametrize("tokens", [0, 1, 5])
@pytest.mark.parametrize("hidden", ODD_SIZES)
def test_shapes(hidden, tokens, levels, isa, kernels):
    check(kernels, 2 * normal(tokens, hidden), one(0.021), zero(64), levels)
    levels_in = integers(0, levels, tokens, hidden, dtype=torch.uint8)
    output = kernels.dequantize(levels_in, one(0.021), zero(64))
    expected = reference.dequantize(levels_in, one(0.021).double(), zero(64))
    tolerance.close(output, expected, 0.021 * tolerance.DEQUANTIZED)


@few
@given(
    tokens=st.integers(0, 30),
    hidden=st.integers(1, 100),
    scale=st.floats(1e-3, 10),
    at=st.integers(0, 127),
    seven=st.booleans(),
)
def test_any_shape(tokens, hidden, scale, at, seven, isa, kernels):
    check(kernels, normal(tokens, hidden), one(scale), zero(at), 127 if seven else 255)


def test_ties_go_to_the_even_level_as_torchs_do(isa, kernels):
    x = torch.arange(-20, 21, dtype=torch.float32)[None] / 2
    expected = torch.quantize_per_tensor(x, 1.0, 12, torch.quint8).int_repr()
    assert torch.equal(kernels.quantize(x, one(1.0), zero(12), 255), expected)


@pytest.mark.parametrize("levels", [255, 127])
@pytest.mark.parametrize("at", [0, 7, 127])
def test_what_is_out_of_range_goes_to_its_end(levels, at, isa, kernels):
    x = torch.tensor([[-3.4e38, -1e9, -1e3, 1e3, 1e9, 3.4e38, 0.0]])  # what is infinite is refused: test_refusals_cpu.py
    expected = torch.tensor([[0, 0, 0, levels, levels, levels, at]], dtype=torch.uint8)
    assert torch.equal(kernels.quantize(x, one(0.5), zero(at), levels), expected)


def test_there_and_back_is_within_half_a_level(isa, kernels):
    x = normal(64, 100).clamp(-3, 3)
    scale, at = one(6 / 255), zero(128)
    back = kernels.dequantize(kernels.quantize(x, scale, at, 255), scale, at)
    assert ((back - x).abs() <= (0.5 + 1e-4) * 6 / 255).all()
    levels = torch.arange(256, dtype=torch.uint8)[None]
    assert torch.equal(kernels.quantize(kernels.dequantize(levels, scale, at), scale, at, 255), levels)


def test_what_does_not_fit_is_refused(isa, kernels):
    x, levels = normal(2, 8), integers(0, 255, 2, 8, dtype=torch.uint8)
    refused(lambda: kernels.quantize(x, torch.ones(2), zero(1), 255), "quantize", "scale", 2, 1)
    refused(lambda: kernels.quantize(x, one(1.0), torch.ones(3, dtype=torch.int32), 255), "quantize", "zero", 3, 1)
    refused(lambda: kernels.quantize(x, one(1.0), zero(1), 200), "quantize", "levels", 200, 127, 255)
    for bad in (0.0, -0.1, float("nan"), float("inf")):
        refused(lambda bad=bad: kernels.quantize(x, one(bad), zero(1), 255), "quantize", "scale", "positive")
    refused(lambda: kernels.quantize(x, one(1.0), zero(-1), 255), "quantize", "zero", -1, 255)
    refused(lambda: kernels.quantize(x, one(1.0), zero(128), 127), "quantize", "zero", 128, 127)
    refused(lambda: kernels.quantize(levels, one(1.0), zero(1), 255), "quantize", "x")
    refused(lambda: kernels.quantize(x, one(1.0), one(1.0), 255), "quantize", "zero")
    refused(lambda: kernels.dequantize(x, one(1.0), zero(1)), "dequantize", "x")
    refused(lambda: kernels.dequantize(levels, torch.ones(2), zero(1)), "dequantize", "scale", 2, 1)
