"""linear_int8 and pack_weight_int8: the product is exact in integers, so what may differ is rounding around it."""

import pytest
import tolerance
import torch
from hypothesis import given
from hypothesis import strategies as st
from operands import FEATURES, ODD_SIZES, few, integers, normal, one, refused, weight_int8, zero

from pytest_perfq.kernels import reference
from pytest_perfq.kernels.bits import BITS

ALL_BITS = sorted(BITS)
ACTIVATIONS = ["none", "relu", "tanh", "gelu", "gelu_tanh"]


def run(kernels, x, matrix, scales, bias, bits, activation="none", inputs=(None, None), outputs=(None, None)):
    packed, sums = kernels.pack_weight_int8(matrix, bits), matrix.sum(1, dtype=torch.int32)
    return kernels.linear_int8(x, packed, scales, sums, bias, *inputs, *outputs, bits, activation)


def oracle(x, matrix, scales, bias, bits, activation="none", inputs=(None, None)):
    """float64 [T, N]."""
    x = x.double() if x.is_floating_point() else x
    input_scale, input_zero = inputs
    input_scale = None if input_scale is None else input_scale.double()
    bias = None if bias is None else bias.double()
    return reference.linear_int8(x, matrix, scales.double(), bias, input_scale, input_zero, None, None, bits, activation)


def choices(x, matrix, scales, bits, inputs=(None, None)):
    """How much [T, N] the activations at a rounding tie may move an output: one level each, either way being right."""
    levels = BITS[bits].activation
    scale, at = reference.row_scales(x.double(), levels) if inputs[0] is None else (inputs[0].double(), None)
    quotient = x.double() / scale
    ties = ((quotient - quotient.floor() - 0.5).abs() <= tolerance.QUOTIENT * (quotient.abs() + 1)).sum(1, keepdim=True)
    if at is not None:  # the zero of a row is rounded too; where it is at a tie, the row's extremes may be clipped by a level
        low = -x.double().amin(1, keepdim=True).clamp(max=0) / scale
        ties += 2 * ((low - low.floor() - 0.5).abs() <= tolerance.QUOTIENT * (low + 1))
    return 1.13 * ties * scale * (matrix.abs().amax(1) * scales).double()  # 1.13: the steepest activation's slope


def allowed(activation):
    if activation in ("none", "relu"):
        return tolerance.INT8
    return tolerance.INT8_GELU if activation == "gelu" else tolerance.INT8_ACTIVATED


def check_float(kernels, x, matrix, scales, bias, bits, activation="none", inputs=(None, None)):
    output = run(kernels, x, matrix, scales, bias, bits, activation, inputs)
    moved = choices(x, matrix, scales, bits, inputs)
    tolerance.close(output, oracle(x, matrix, scales, bias, bits, activation, inputs), allowed(activation) + moved)
    assert (moved == 0).all(1).sum() >= 0.8 * len(x), "too many rows at ties for this to be a test"


@pytest.mark.parametrize("bits", ALL_BITS)
def test_the_oracle_is_near_torchs_linear(bits):
    """Half a level of each activation is all that quantizing a row may cost; quantized weights are taken as they are."""
    x = normal(20, 65).double()
    matrix, scales = weight_int8(9, 65, bits)
    real = matrix.double() * scales.double()[:, None]
    error = (oracle(x, matrix, scales, normal(9), bits) - torch.nn.functional.linear(x, real, normal(9).double())).abs()
    step = (x.amax(1, keepdim=True).clamp(min=0) - x.amin(1, keepdim=True).clamp(max=0)) / BITS[bits].activation
    assert (error <= 0.5 * step * real.abs().sum(1) * 1.01).all() and error.max() > 0


@pytest.mark.filterwarnings("ignore:torch.quantize_per_tensor:UserWarning")
def test_the_oracle_is_torchs_quantized_linear():
    """torch's own INT8 product between tensors of one scale, where this build has one."""
    if "fbgemm" not in torch.backends.quantized.supported_engines:
        pytest.skip("this torch has no fbgemm")
    x, (matrix, _) = normal(11, 40), weight_int8(6, 40, "w7a7")
    weight = torch._make_per_tensor_quantized_tensor(matrix, 0.01, 0)
    packed = torch.ops.quantized.linear_prepack(weight, normal(6))
    quantized = torch.quantize_per_tensor(x, 0.05, 60, torch.quint8)
    torch.use_deterministic_algorithms(False)  # theirs has none
    theirs = torch.ops.quantized.linear(quantized, packed, 0.04, 100).int_repr()
    torch.use_deterministic_algorithms(True)
    ours = reference.linear_int8(
        quantized.int_repr(),
        matrix,
        torch.full((6,), 0.01),
        normal(6),
        one(0.05),
        zero(60),
        one(0.04),
        zero(100),
        "w8a8",
        "none",
    )
    assert (theirs.int() - ours.int()).abs().max() <= 1  # they round the bias to levels of the product
    assert (theirs != ours).sum() <= 4


@pytest.mark.parametrize("bits", ALL_BITS)
@pytest.mark.parametrize(("in_features", "out_features"), FEATURES)
def test_features_from_uint8(in_features, out_features, bits, isa, kernels):
    matrix, scales = weight_int8(out_features, in_features, bits)
    bias, inputs = normal(out_features), (one(0.02), zero(61))
    for tokens in (0, 1, 7):
        x = integers(0, BITS[bits].activation, tokens, in_features, dtype=torch.uint8)
        output = run(kernels, x, matrix, scales, bias, bits, inputs=inputs)
        tolerance.close(output, oracle(x, matrix, scales, bias, bits, inputs=inputs), tolerance.INT8)


@pytest.mark.parametrize("bits", ALL_BITS)
@pytest.mark.parametrize("in_features", ODD_SIZES)
def test_from_float_a_row_at_a_time(in_features, bits, isa, kernels):
    matrix, scales = weight_int8(35, in_features, bits)
    for tokens in (0, 1, 6, 33):
        check_float(kernels, normal(tokens, in_features), matrix, scales, normal(35), bits)


@pytest.mark.parametrize("bits", ALL_BITS)
@pytest.mark.parametrize("in_features", ODD_SIZES)
def test_from_float_by_one_scale(in_features, bits, isa, kernels):
    matrix, scales = weight_int8(35, in_features, bits)
    check_float(kernels, normal(9, in_features), matrix, scales, None, bits, inputs=(one(0.031), zero(64)))


@pytest.mark.parametrize("bits", ALL_BITS)
@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_activations(activation, bits, isa, kernels):
    matrix, scales = weight_int8(37, 50, bits)
    check_float(kernels, normal(20, 50), matrix, 2 * scales, normal(37), bits, activation)


@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_activations_over_their_whole_range(activation, isa, kernels):
    """A product of zero and a bias: the activation alone."""
    bias = torch.linspace(-12, 12, 2001)
    matrix = torch.ones(2001, 1, dtype=torch.int8)
    output = run(kernels, torch.zeros(1, 1), matrix, torch.ones(2001), bias, "w8a7", activation)[0]
    near, tail = tolerance.INT8_GELU_NEAR, tolerance.INT8_GELU_TAIL * bias.abs().double()
    permitted = near + tail if activation == "gelu" else tolerance.ACTIVATION
    tolerance.close(output, reference.activate(bias.double(), activation), permitted)


@few
@given(
    tokens=st.integers(0, 40),
    in_features=st.integers(1, 150),
    out_features=st.integers(1, 150),
    bits=st.sampled_from(ALL_BITS),
    activation=st.sampled_from(ACTIVATIONS),
    with_bias=st.booleans(),
)
def test_any_shape(tokens, in_features, out_features, bits, activation, with_bias, isa, kernels):
    matrix, scales = weight_int8(out_features, in_features, bits)
    x = integers(0, BITS[bits].activation, tokens, in_features, dtype=torch.uint8)
    bias, inputs = normal(out_features) if with_bias else None, (one(0.02), zero(61))
    output = run(kernels, x, matrix, scales, bias, bits, activation, inputs)
    tolerance.close(output, oracle(x, matrix, scales, bias, bits, activation, inputs), allowed(activation))


# Magnitudes of sixteen weights in a row that are as large as they may be: in w8a7 the first, second, fifth and sixth of eight, and
# the other four, add up to 258, and in w7a7 the first two of each four, and the last two.
LARGEST = {
    "w8a8": [[127] * 16],
    "w8a7": [[127, 127, 127, 4, 4, 0, 127, 0] * 2, [65, 64, 65, 64, 65, 64, 64, 65] * 2],
    "w7a7": [[63, 63, 63, 63, 63, 63, 3, 3, 6, 0, 63, 63, 0, 0, 0, 0], [33, 32, 32, 33, 32, 32, 32, 32] * 2],
}


@pytest.mark.parametrize("bits", ALL_BITS)
@pytest.mark.parametrize("in_features", [1, 2, 3, 4, 31, 32, 33, 770, 4096])
def test_the_largest_products_do_not_saturate(in_features, bits, isa, kernels):
    """All levels and all weights at their largest: an int16 between the product and its int32 would overflow here."""
    levels = BITS[bits].activation
    columns = torch.arange(in_features)
    x = torch.full((7, in_features), levels, dtype=torch.uint8)
    for signs in (columns * 0 + 1, columns * 0 - 1, 1 - 2 * (columns % 2), 1 - columns // 2 % 2 * 2):  # + - +- ++--
        for magnitudes in LARGEST[bits]:
            matrix = (torch.tensor(magnitudes)[columns % 16] * signs).to(torch.int8).repeat(34, 1)
            for at in (0, levels // 2, levels):
                expected = (x.long() - at) @ matrix.long().T
                output = run(kernels, x, matrix, torch.ones(34), None, bits, inputs=(one(1.0), zero(at)))
                assert torch.equal(output, expected.float())


@pytest.mark.parametrize("bits", ALL_BITS)
@pytest.mark.parametrize("activation", ["none", "gelu"])
@pytest.mark.parametrize("in_features", [7, 33, 384])
def test_to_uint8(in_features, activation, bits, isa, kernels):
    """INT8 in, INT8 out, as between the linears of mode v2."""
    matrix, scales = weight_int8(41, in_features, bits)
    x = integers(0, BITS[bits].activation, 15, in_features, dtype=torch.uint8)
    inputs, outputs = (one(0.02), zero(61)), (one(0.03), zero(50))
    output = run(kernels, x, matrix, scales, normal(41), bits, activation, inputs, outputs)
    expected = oracle(x, matrix, scales, normal(41), bits, activation, inputs)
    tolerance.quantized(output, expected, *outputs, BITS[bits].activation, allowed(activation))


def test_float_to_uint8(isa, kernels):
    matrix, scales = weight_int8(16, 64, "w8a7")
    x = integers(-60, 60, 8, 64).float() / 50  # far from every tie
    inputs, outputs = (one(0.02), zero(64)), (one(0.03), zero(50))
    output = run(kernels, x, matrix, scales, None, "w8a7", inputs=inputs, outputs=outputs)
    expected = oracle(x, matrix, scales, None, "w8a7", inputs=inputs)
    tolerance.quantized(output, expected, *outputs, 127, tolerance.INT8)


@pytest.mark.parametrize("bits", ALL_BITS)
def test_deep_and_tall(bits, isa, kernels):
    matrix, scales = weight_int8(19, 4096, bits)
    x = integers(0, BITS[bits].activation, 3, 4096, dtype=torch.uint8)
    inputs = (one(0.02), zero(61))
    tolerance.close(
        run(kernels, x, matrix, scales, None, bits, inputs=inputs),
        oracle(x, matrix, scales, None, bits, inputs=inputs),
        tolerance.INT8,
    )
    matrix, scales = weight_int8(19, 24, bits)
    check_float(kernels, normal(4096, 24), matrix, scales, normal(19), bits, "gelu")


def test_a_block_that_rounding_leaves_empty(isa, kernels):
    """In w8a8 360 rows of depth 3000 are 60 tiles, 11 blocks by their bytes, of 6 tiles each: the first 10 hold them all."""
    matrix, scales = weight_int8(17, 3000, "w8a8")
    x = integers(0, 255, 360, 3000, dtype=torch.uint8)
    inputs = (one(0.02), zero(61))
    output = run(kernels, x, matrix, scales, None, "w8a8", inputs=inputs)
    tolerance.close(output, oracle(x, matrix, scales, None, "w8a8", inputs=inputs), tolerance.INT8)


@pytest.mark.parametrize("bits", ALL_BITS)
def test_rows_of_one_sign_and_of_zeros(bits, isa, kernels):
    """A row's levels always reach zero, so that a row of zeros is the bias, exactly."""
    matrix, scales = weight_int8(33, 20, bits)
    bias = normal(33)
    rows = torch.stack([normal(20).abs() + 3, -normal(20).abs() - 3, torch.zeros(20), torch.full((20,), 2.5)])
    output = run(kernels, rows, matrix, scales, bias, bits)
    assert torch.equal(output[2], bias)
    tolerance.close(output, oracle(rows, matrix, scales, bias, bits), 4 * tolerance.INT8 + choices(rows, matrix, scales, bits))


@pytest.mark.parametrize("bits", ALL_BITS)
@pytest.mark.parametrize("factor", [2.0**-80, 2.0**80])
def test_rows_of_any_magnitude(factor, bits, isa, kernels):
    """A power of two moves through a row's own scale without a trace."""
    matrix, scales = weight_int8(33, 50, bits)
    x = normal(6, 50)
    assert torch.equal(
        run(kernels, factor * x, matrix, scales, None, bits), factor * run(kernels, x, matrix, scales, None, bits)
    )


@pytest.mark.parametrize("bits", ALL_BITS)
@pytest.mark.parametrize("bad", [float("nan"), float("inf"), -float("inf")])
def test_a_row_with_a_value_that_is_no_number_is_nan_alone(bad, bits, isa, kernels):
    """Quantized a row at a time, its scale is no number either; by one scale, no level of a uint8 could say so. (An infinity by
    one scale is the last level, as any other value out of range.)"""
    x = normal(9, 45)
    x[4, 44] = bad
    matrix, scales = weight_int8(37, 45, bits)
    ways = [(None, None), (one(0.03), zero(64))] if bad != bad else [(None, None)]
    for inputs in ways:
        output = run(kernels, x, matrix, scales, normal(37), bits, "gelu", inputs)
        assert output.isnan().all(1).tolist() == output.isnan().any(1).tolist() == [row == 4 for row in range(9)]


def test_weights_beyond_their_bits_are_refused(isa, kernels):
    """64 in w7a7 would saturate in silence."""
    matrix, _ = weight_int8(5, 8, "w7a7")
    matrix[3, 2] = -64
    refused(lambda: kernels.pack_weight_int8(matrix, "w7a7"), "pack_weight_int8", -64, 63)
    matrix[3, 2] = -128
    for bits in ("w8a7", "w8a8"):
        refused(lambda bits=bits: kernels.pack_weight_int8(matrix, bits), "pack_weight_int8", -128, 127)


def test_weights_whose_products_would_saturate_together_are_refused(isa, kernels):
    """Each fits an int8, and the sum of four of them times 127 does not fit an int16."""
    matrix = torch.zeros(5, 20, dtype=torch.int8)
    matrix[3, 8:16] = torch.tensor([127, 127, -127, -64, 4, 0, 64, 4])
    refused(lambda: kernels.pack_weight_int8(matrix, "w8a7"), "pack_weight_int8", "row 3", "column 8", 259, 258)
    matrix[3, 15] = 3
    x = torch.ones(1, 20)
    assert run(kernels, x, matrix, torch.ones(5), None, "w8a7")[0].tolist() == pytest.approx([0, 0, 0, 134, 0])
    matrix[3] = 0
    matrix[3, [0, 1, 4, 5, 8]] = torch.tensor([63, -63, 63, 63, 7], dtype=torch.int8)
    refused(lambda: kernels.pack_weight_int8(matrix, "w7a7"), "pack_weight_int8", "row 3", "column 0", 259, 258)


@pytest.mark.parametrize(("bits", "largest"), [("w8a8", 127), ("w8a7", 64), ("w7a7", 32)])
def test_weights_whose_sums_would_wrap_around_are_refused(bits, largest, isa, kernels):
    """As many products as fit an int32 are taken, and one more is refused."""
    most = (2**31 - 1) // BITS[bits].activation
    matrix = torch.zeros(2, most // largest + 1, dtype=torch.int8)
    matrix[1, :-1], matrix[1, -1] = -largest, -(most % largest)
    packed = kernels.pack_weight_int8(matrix, bits)
    if bits == "w8a8":  # the shortest row, which is enough
        sums = matrix.sum(1, dtype=torch.int32)
        for value, offset in ((255, 0), (0, 255), (255, 100)):
            x, ends = torch.full((3, matrix.shape[1]), value, dtype=torch.uint8), (one(1.0), zero(offset), None, None)
            got = kernels.linear_int8(x, packed, torch.ones(2), sums, None, *ends, bits, "none")
            assert got[:, 1].tolist() == [float(torch.tensor((offset - value) * most).float())] * 3 and not got[:, 0].any()
    matrix[1, -1] -= 1
    refused(lambda: kernels.pack_weight_int8(matrix, bits), "pack_weight_int8", "row 1", most + 1, bits, most)


def test_what_does_not_fit_is_refused(isa, kernels):
    matrix, scales = weight_int8(5, 8, "w8a7")
    packed, sums, bias = kernels.pack_weight_int8(matrix, "w8a7"), matrix.sum(1, dtype=torch.int32), normal(5)
    names = (
        "x",
        "weight",
        "weight_scale",
        "weight_sum",
        "bias",
        "input_scale",
        "input_zero",
        "output_scale",
        "output_zero",
        "bits",
    )
    good = dict(zip(names, (normal(2, 8), packed, scales, sums, bias, None, None, None, None, "w8a7"), strict=True))

    def refuse(*words, **places):
        refused(lambda: kernels.linear_int8(*{**good, "activation": "none", **places}.values()), "linear_int8", *words)

    refuse("weight", x=normal(2, 9))
    refuse("weight_sum", 4, 5, weight_sum=sums[:4])
    refuse("bias", 4, 5, bias=normal(4))
    refuse("silu", "gelu", activation="silu")
    refuse("w4a4", "w8a7", bits="w4a4")
    refuse("input_scale", x=integers(0, 9, 2, 8, dtype=torch.uint8))
    refuse("input_zero", input_scale=one(1.0))
    refuse("output_zero", output_scale=one(1.0))
    refuse("scale", 2, 1, input_scale=torch.ones(2), input_zero=zero(1))
    refuse("x", x=normal(2, 8).double())
    refuse("weight_scale", weight_scale=scales.double())
    refuse("weight_sum", weight_sum=sums.long())
    refuse("begin", 32, "bytes", weight=torch.cat([packed[:1], packed])[1:])
    refused(lambda: kernels.pack_weight_int8(matrix.float(), "w8a7"), "pack_weight_int8", "weight")
    refused(lambda: kernels.pack_weight_int8(matrix, "w2a2"), "pack_weight_int8", "w2a2", "w8a7")
