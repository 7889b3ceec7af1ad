"""bias_activation and its outputs in levels and f8 as the CUDA sources have them, against the oracle; run thread by thread on
the CPU."""

import pytest
import tolerance
import torch
from operands import normal, refused
from torch.library import opcheck

from pytest_perfq.kernels import reference

KINDS = ["none", "relu", "tanh", "gelu", "gelu_tanh"]
TYPES = [torch.float32, torch.float16, torch.bfloat16]
# (rows, features): none, one value, odd; a line of a block and more; the inner sizes; what eight warps share.
SHAPES = [(0, 8), (1, 1), (9, 7), (3, 64), (17, 520), (1, 1536), (1, 3072), (1, 4096), (1, 1037), (1, 8192)]


def oracle(x, bias, activation):
    x = x.double()
    return reference.activate(x if bias is None else x + bias.double(), activation)


def slack(expected):
    return tolerance.ACTIVATION + tolerance.GELU_TAIL * expected.abs()


@pytest.mark.parametrize("dtype", TYPES)
@pytest.mark.parametrize("shape", SHAPES)
def test_shapes(emulated, order, shape, dtype):
    x, bias = (3 * normal(*shape)).to(dtype), normal(shape[1], seed=1).to(dtype)
    for given in (bias, None):
        expected = oracle(x, given, "gelu")
        tolerance.rounded(emulated.bias_activation(x, given, "gelu"), expected, dtype, slack(expected))


@pytest.mark.parametrize("dtype", TYPES)
@pytest.mark.parametrize("kind", KINDS)
def test_every_activation(emulated, kind, dtype):
    x = (
        torch.cat([torch.linspace(-12, 12, 2001), torch.tensor([0.0, -0.0, 1e-6, -60.0, 60.0, 1.0, -1.0])])
        .view(8, -1)
        .to(dtype)
    )
    expected = oracle(x, None, kind)
    tolerance.rounded(emulated.bias_activation(x, None, kind), expected, dtype, slack(x.double()))


@pytest.mark.parametrize("kind", KINDS)
def test_nan_stays_where_it_is(emulated, kind):
    x = normal(3, 40)
    x[1, 39] = float("nan")
    output = emulated.bias_activation(x, None, kind)
    assert torch.equal(output.isnan(), x.isnan())


@pytest.mark.parametrize("levels", [255, 127])
@pytest.mark.parametrize("dtype", TYPES)
@pytest.mark.parametrize("shape", SHAPES)
def test_levels(emulated, order, shape, dtype, levels):
    x, bias = (3 * normal(*shape)).to(dtype), normal(shape[1], seed=1).to(dtype)
    q, scale, zero = emulated.bias_activation_levels(x, bias, "gelu", levels)
    expected = oracle(x, bias, "gelu")
    theirs = reference.row_scales(expected, levels)[0] if len(x) else torch.ones(0, 1, dtype=torch.float64)
    tolerance.close(scale[:, None], theirs, 1e-6)
    assert zero.dtype == torch.int32
    tolerance.quantized(q, expected, scale[:, None], zero[:, None], levels, tolerance.ACTIVATION + 1e-6)
    back = (q.double() - zero[:, None]) * scale[:, None].double()
    assert ((back - expected).abs() <= scale[:, None] * 1.01).all()


def f8_step(quotient):
    """Half of the distance between the f8 numbers around a quotient: three bits of fraction, and none below 2^-6."""
    return 2.0 ** (quotient.abs().clamp(min=2.0**-6).log2().floor() - 4)


@pytest.mark.parametrize("dtype", TYPES)
@pytest.mark.parametrize("shape", SHAPES)
def test_f8(emulated, order, shape, dtype):
    x, bias = (3 * normal(*shape)).to(dtype), normal(shape[1], seed=1).to(dtype)
    q, scale = emulated.bias_activation_f8(x, bias, "gelu")
    expected = oracle(x, bias, "gelu")
    assert q.dtype == torch.float8_e4m3fn and q.shape == x.shape
    most = expected.abs().amax(1) if len(x) else torch.ones(0, dtype=torch.float64)
    tolerance.close(scale, most / 448, 1e-6)
    quotient = expected / scale[:, None].double()
    error = tolerance.ACTIVATION / scale[:, None].double() + 1e-6 * quotient.abs()
    assert ((q.double() - quotient).abs() <= f8_step(quotient) + error).all()


def test_f8_without_an_activation_is_torchs_conversion(emulated):
    x = normal(5, 300)
    q, scale = emulated.bias_activation_f8(x, None, "none")
    assert torch.equal(scale, x.abs().amax(1) / 448)
    assert torch.equal(q.view(torch.uint8), (x * (1 / scale)[:, None]).to(torch.float8_e4m3fn).view(torch.uint8))


def test_a_row_of_zeros_has_scale_one(emulated):
    q, scale, zero = emulated.bias_activation_levels(torch.zeros(2, 40), None, "gelu", 255)
    assert (scale.tolist(), zero.tolist(), int(q.max())) == ([1.0, 1.0], [0, 0], 0)
    q, scale = emulated.bias_activation_f8(torch.zeros(2, 40), None, "gelu")
    assert scale.tolist() == [1.0, 1.0] and (q.float() == 0).all()


@pytest.mark.parametrize("hidden", [40, 1500])
@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_a_row_with_a_value_that_is_no_number_has_a_scale_that_says_so(emulated, bad, hidden):
    x = normal(3, hidden)
    x[1, hidden - 1] = bad
    struck = [False, True, False]
    _, scale, _ = emulated.bias_activation_levels(x, None, "none", 255)
    assert scale.isnan().tolist() == struck
    q, scale = emulated.bias_activation_f8(x, None, "none")
    assert scale.isnan().tolist() == struck
    assert (q.float() * scale[:, None]).isnan().all(1).tolist() == struck


def test_what_does_not_fit_is_refused(emulated):
    x = normal(2, 8)
    for name, rest in (("bias_activation", ()), ("bias_activation_levels", (255,)), ("bias_activation_f8", ())):
        call = getattr(emulated, name)
        refused(lambda call=call, rest=rest: call(x, normal(7), "gelu", *rest), name, "bias", 7, 8)
        refused(lambda call=call, rest=rest: call(x, normal(8).half(), "gelu", *rest), name, "bias", "float16", "float32")
        refused(lambda call=call, rest=rest: call(x.double(), None, "gelu", *rest), name, "x", "float64", "float16")
        refused(lambda call=call, rest=rest: call(normal(8), None, "gelu", *rest), name, "x", 1, 2)
        refused(lambda call=call, rest=rest: call(x, None, "swish", *rest), name, "swish", "gelu_tanh")
    refused(lambda: emulated.bias_activation_levels(x, None, "gelu", 100), "bias_activation_levels", 100, 255, 127)
    wide = torch.zeros(1, 8193)
    refused(lambda: emulated.bias_activation_levels(wide, None, "gelu", 255), "bias_activation_levels", 8193, 8192)
    refused(lambda: emulated.bias_activation_f8(wide, None, "gelu"), "bias_activation_f8", 8193, 8192)
    assert torch.equal(emulated.bias_activation(wide, None, "gelu"), wide)


def test_opcheck(emulated):
    opcheck(emulated.bias_activation.default, (normal(3, 24), normal(24), "gelu"))
    opcheck(emulated.bias_activation_levels.default, (normal(3, 24), normal(24), "gelu", 127))
    opcheck(emulated.bias_activation_f8.default, (normal(3, 24), None, "relu"))
