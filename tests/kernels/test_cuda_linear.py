"""The tensor core products of the CUDA sources against the oracle in float64, run thread by thread on the CPU."""

import itertools

import pytest
import tolerance
import torch
from operands import integers, normal, one, refused, weight, weight_int8, zero
from test_linear_int8 import choices, oracle

from pytest_perfq.kernels import reference

ACTIVATIONS = ["none", "relu", "tanh", "gelu", "gelu_tanh"]
TYPES = [torch.float16, torch.bfloat16]
TILES = [1, 2, 3]  # 128 x 128, 64 x 64, 32 x 32
CHOSEN = 0
# (tokens, in, out features): none, one, around a fragment's 8 and 16, around every tile's edge, depths of no whole stage, and
# of more stages than the largest tile's ring has.
SHAPES = [
    *((0, 8, 5), (3, 8, 0), (1, 8, 1), (15, 24, 7), (16, 32, 8), (17, 40, 9), (31, 72, 15), (33, 64, 17), (32, 136, 33)),
    *((64, 8, 31), (65, 24, 65), (63, 40, 64), (2, 264, 129), (129, 8, 40)),
]
# Of more stages than any ring has.
DEEP = (5, 1048, 24)


@pytest.fixture
def without_late_copies(monkeypatch):
    """A GPU whose copies do not run beside its products, and whose rings have two stages."""
    monkeypatch.setenv("PERFQ_EMULATED_CAPABILITY", "75")


def check(emulated, x, matrix, bias, activation="none", tile=CHOSEN):
    output = emulated.linear_fused(x, matrix, bias, activation, tile)
    expected = reference.linear(x.double(), matrix.double(), None if bias is None else bias.double(), activation)
    allowed = tolerance.LINEAR if activation in ("none", "relu") else tolerance.ACTIVATED
    tolerance.rounded(output, expected, x.dtype, allowed)
    return output


def floats(tokens, in_features, out_features, dtype):
    return [one.to(dtype) for one in (normal(tokens, in_features), weight(out_features, in_features), normal(out_features))]


@pytest.mark.parametrize("tile", TILES)
@pytest.mark.parametrize("shape", SHAPES)
def test_every_tile_at_its_edges(emulated, order, shape, tile):
    check(emulated, *floats(*shape, torch.float16), tile=tile)


@pytest.mark.parametrize("tile", TILES)
@pytest.mark.parametrize("shape", [(1, 8, 1), (33, 136, 65), (2, 264, 129)])
def test_every_tile_without_late_copies(emulated, order, without_late_copies, shape, tile):
    check(emulated, *floats(*shape, torch.float16), tile=tile)


@pytest.mark.parametrize("dtype", TYPES)
def test_a_deep_product(emulated, order, dtype):
    check(emulated, *floats(*DEEP, dtype), tile=3)


@pytest.mark.parametrize("dtype", TYPES)
@pytest.mark.parametrize("activation", ACTIVATIONS)
@pytest.mark.parametrize("with_bias", [False, True])
def test_activations(emulated, dtype, activation, with_bias):
    x, matrix, bias = floats(19, 48, 43, dtype)
    check(emulated, x, 2 * matrix, bias if with_bias else None, activation)


def test_a_product_with_one_is_a_copy(emulated):
    """Every output comes from its own row of x and of the weight, and is exact: 200 x 200 are several of the largest tiles."""
    x, matrix = torch.zeros(200, 16, dtype=torch.float16), torch.zeros(200, 16, dtype=torch.float16)
    x[:, 3], matrix[:, 3] = torch.arange(200), 1
    x[:, 9], matrix[:, 9] = 1, torch.arange(200)
    for tile in (CHOSEN, *TILES):
        expected = torch.arange(200)[:, None] + torch.arange(200)
        assert torch.equal(emulated.linear_fused(x, matrix, None, "none", tile), expected.half())


def test_many_rows_of_tiles(emulated):
    """More tiles below each other than follow one another in a column, and one left over."""
    check(emulated, *floats(17 * 32 + 3, 8, 70, torch.float16), tile=3)


def test_the_tile_makes_no_difference_where_sums_are_exact(emulated):
    x, matrix = integers(-8, 8, 70, 88).half(), integers(-8, 8, 90, 88).half()
    exact = (x.long() @ matrix.long().T).half()
    for tile in (CHOSEN, *TILES):
        assert torch.equal(emulated.linear_fused(x, matrix, None, "none", tile), exact)


def test_a_row_depends_neither_on_its_batch_nor_on_the_tile(emulated):
    """To the last bit: every tile sums the depth in one order."""
    x, matrix, bias = floats(70, 200, 41, torch.float16)
    whole = emulated.linear_fused(x, matrix, bias, "gelu")
    for tile in TILES:
        assert torch.equal(emulated.linear_fused(x, matrix, bias, "gelu", tile), whole)
    for row in (0, 33, 69):
        assert torch.equal(emulated.linear_fused(x[row : row + 1], matrix, bias, "gelu")[0], whole[row])


@pytest.mark.parametrize("dtype", TYPES)
@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_nan_in_a_row_is_nan_in_that_row_alone(emulated, dtype, bad):
    x, matrix, bias = floats(40, 24, 37, dtype)
    x[17, 3], x[17, 20] = bad, float("nan")
    for tile in TILES:
        output = emulated.linear_fused(x, matrix, bias, "gelu", tile)
        assert output.isnan().all(1).tolist() == output.isnan().any(1).tolist() == [row == 17 for row in range(40)]


def test_nan_in_a_weight_is_nan_in_its_column_alone(emulated):
    x, matrix, bias = floats(40, 24, 37, torch.float16)
    matrix[5, 23] = float("nan")
    output = emulated.linear_fused(x, matrix, bias, "none")
    assert output.isnan().all(0).tolist() == output.isnan().any(0).tolist() == [column == 5 for column in range(37)]


def test_views_are_copied(emulated):
    x, matrix, bias = floats(20, 49, 30, torch.float16)
    check(emulated, x[:, 1:], matrix[:, :48], bias)
    check(emulated, normal(48, 20).half().T, matrix[:, 1:], bias)


def test_what_does_not_fit_is_refused(emulated, monkeypatch):
    x, matrix, bias = floats(2, 16, 5, torch.float16)

    def refuse(*words, x=x, matrix=matrix, bias=bias, activation="none", tile=0):
        refused(lambda: emulated.linear_fused(x, matrix, bias, activation, tile), "linear_fused", *words)

    refuse("x", "float32", "float16", "bfloat16", x=x.float())
    refuse("weight", "bfloat16", "float16", matrix=matrix.bfloat16())
    refuse("bias", "float32", "float16", bias=bias.float())
    refuse("x", 1, 2, x=x[0])
    refuse(16, 24, matrix=floats(2, 24, 5, torch.float16)[1])
    refuse("x", 12, 8, x=x[:, :12], matrix=matrix[:, :12])
    refuse("x", 0, 65536, x=x[:, :0], matrix=matrix[:, :0])
    refuse("x", 65544, 65536, x=torch.zeros(1, 65544).half(), matrix=torch.zeros(1, 65544).half(), bias=None)
    refuse("bias", 4, 5, bias=bias[:4])
    refuse("silu", "gelu", activation="silu")
    refuse("tile", 4, 3, tile=4)
    monkeypatch.setenv("PERFQ_EMULATED_CAPABILITY", "75")
    refuse("bfloat16", "8.0", "7.5", "float16", x=x.bfloat16(), matrix=matrix.bfloat16(), bias=None)


# INT8.

INT8_SHAPES = [
    *((0, 8, 5), (3, 8, 0), (1, 1, 1), (15, 24, 7), (16, 32, 8), (17, 40, 9), (31, 72, 15), (33, 64, 17), (32, 131, 33)),
    *((64, 16, 31), (65, 33, 65), (63, 48, 64), (2, 300, 129), (129, 31, 40)),
]


def levels(emulated, q, matrix, scales, bias, inputs, activation="none", dtype=torch.float32, tile=CHOSEN):
    packed, sums = emulated.pack_weight_int8(matrix, "w8a8"), matrix.sum(1, dtype=torch.int32)
    return emulated.linear_levels(q, *inputs, packed, scales, sums, bias, activation, dtype, tile)


def per_row(tokens):
    return 0.01 + torch.arange(tokens) % 5 / 100.0, integers(0, 255, tokens, dtype=torch.int32)


def levels_oracle(q, matrix, scales, bias, inputs, activation="none"):
    scale, at = inputs[0].double()[:, None], inputs[1][:, None]
    bias = None if bias is None else bias.double()
    return reference.linear_int8(q, matrix, scales.double(), bias, scale, at, None, None, "w8a8", activation)


def check_sums(emulated, tokens, in_features, out_features, tile):
    """Sums stay under 2^24 here, so that a float holds each one."""
    q, (matrix, _) = integers(0, 255, tokens, in_features, dtype=torch.uint8), weight_int8(out_features, in_features, "w8a8")
    at = integers(0, 255, tokens, dtype=torch.int32)
    expected = (q.long() - at.long()[:, None]) @ matrix.long().T
    found = levels(emulated, q, matrix, torch.ones(out_features), None, (torch.ones(tokens), at), tile=tile)
    assert torch.equal(found, expected.float())


@pytest.mark.parametrize("tile", TILES)
@pytest.mark.parametrize("shape", INT8_SHAPES)
def test_integer_sums_are_exact(emulated, order, shape, tile):
    check_sums(emulated, *shape, tile)


@pytest.mark.parametrize("tile", TILES)
@pytest.mark.parametrize("shape", [(1, 8, 1), (33, 136, 65), (2, 300, 129)])
def test_integer_sums_are_exact_without_late_copies(emulated, order, without_late_copies, shape, tile):
    check_sums(emulated, *shape, tile)


def test_deep_integer_sums_are_exact(emulated, order):
    check_sums(emulated, 5, 1100, 24, tile=3)


@pytest.mark.parametrize("in_features", [1, 32, 65536])
def test_the_largest_sums_do_not_overflow(emulated, in_features):
    """All levels and all weights at their largest, and zero on the other side: 255 * 128 * 65536 is just under 2^31."""
    q = torch.full((2, in_features), 255, dtype=torch.uint8)
    q[1] = 0
    for value in (127, -128):
        matrix = torch.full((3, in_features), value, dtype=torch.int8)
        found = levels(emulated, q, matrix, torch.ones(3), None, (torch.ones(2), torch.tensor([0, 255], dtype=torch.int32)))
        assert torch.equal(
            found, torch.tensor([255 * value * in_features, -255 * value * in_features]).float()[:, None].expand(2, 3)
        )


@pytest.mark.parametrize("dtype", [torch.float32, *TYPES])
@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_levels_of_rows_and_of_tensors(emulated, dtype, activation):
    q, (matrix, scales) = integers(0, 255, 21, 50, dtype=torch.uint8), weight_int8(43, 50, "w8a8")
    bias, allowed = normal(43).to(dtype), tolerance.INT8 if activation in ("none", "relu") else tolerance.INT8_ACTIVATED
    for inputs, shift in itertools.product((per_row(21), (one(0.02), zero(119))), (bias, None)):
        found = levels(emulated, q, matrix, scales, shift, inputs, activation, dtype)
        tolerance.rounded(found, levels_oracle(q, matrix, scales, shift, inputs, activation), dtype, allowed)


def test_one_row_with_one_scale(emulated):
    q, (matrix, scales) = integers(0, 255, 1, 24, dtype=torch.uint8), weight_int8(9, 24, "w8a8")
    inputs = one(0.02), zero(100)
    tolerance.close(
        levels(emulated, q, matrix, scales, None, inputs), levels_oracle(q, matrix, scales, None, inputs), tolerance.INT8
    )


def int8(emulated, x, matrix, scales, bias, activation="none", inputs=(None, None), outputs=(None, None)):
    packed, sums = emulated.pack_weight_int8(matrix, "w8a8"), matrix.sum(1, dtype=torch.int32)
    return emulated.linear_int8(x, packed, scales, sums, bias, *inputs, *outputs, "w8a8", activation)


@pytest.mark.parametrize("dtype", [torch.float32, *TYPES])
@pytest.mark.parametrize("in_features", [1, 7, 32, 384, 770, 1032])
@pytest.mark.parametrize("inputs", [(None, None), (one(0.031), zero(64))], ids=["by row", "static"])
def test_from_float(emulated, order, in_features, dtype, inputs):
    """A row is quantized as the oracle would quantize the same values; a tie may go either way, and moves its row alone."""
    x, (matrix, scales), bias = normal(9, in_features).to(dtype), weight_int8(35, in_features, "w8a8"), normal(35).to(dtype)
    found = int8(emulated, x, matrix, scales, bias, inputs=inputs)
    moved = choices(x, matrix, scales, "w8a8", inputs)
    tolerance.rounded(found, oracle(x, matrix, scales, bias, "w8a8", inputs=inputs), dtype, tolerance.INT8 + moved)


@pytest.mark.parametrize("dtype", [torch.float32, *TYPES])
def test_rows_of_one_sign_and_of_zeros(emulated, dtype):
    """A row's levels always reach zero, so that a row of zeros is the bias, exactly."""
    (matrix, scales), bias = weight_int8(33, 20, "w8a8"), normal(33).to(dtype)
    rows = torch.stack([normal(20).abs() + 3, -normal(20).abs() - 3, torch.zeros(20), torch.full((20,), 2.5)]).to(dtype)
    found = int8(emulated, rows, matrix, scales, bias)
    assert torch.equal(found[2], bias)
    allowed = 4 * tolerance.INT8 + choices(rows, matrix, scales, "w8a8")
    tolerance.rounded(found, oracle(rows, matrix, scales, bias, "w8a8"), dtype, allowed)


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), -float("inf")])
@pytest.mark.parametrize("inputs", [(None, None), (one(0.03), zero(64))], ids=["by row", "static"])
@pytest.mark.parametrize("in_features", [40, 45])
def test_a_row_with_a_value_that_is_no_number_is_nan_alone(emulated, order, bad, inputs, in_features):
    x, (matrix, scales) = normal(9, in_features), weight_int8(37, in_features, "w8a8")
    x[4, in_features - 1] = bad
    found = int8(emulated, x, matrix, scales, normal(37), "gelu", inputs)
    assert found.isnan().all(1).tolist() == found.isnan().any(1).tolist() == [row == 4 for row in range(9)]


@pytest.mark.parametrize("activation", ["none", "gelu"])
@pytest.mark.parametrize(("in_features", "out_features"), [(32, 40), (33, 41), (384, 8)])
def test_to_uint8(emulated, order, activation, in_features, out_features):
    """INT8 in, INT8 out, as between the linears of mode v2."""
    matrix, scales = weight_int8(out_features, in_features, "w8a8")
    q, bias = integers(0, 255, 15, in_features, dtype=torch.uint8), normal(out_features)
    inputs, outputs = (one(0.02), zero(61)), (one(0.03), zero(50))
    found = int8(emulated, q, matrix, scales, bias, activation, inputs, outputs)
    expected = oracle(q, matrix, scales, bias, "w8a8", activation, inputs)
    tolerance.quantized(found, expected, *outputs, 255, tolerance.INT8_ACTIVATED)
    half = int8(emulated, q, matrix, scales, bias.half(), activation, inputs, outputs)
    expected = oracle(q, matrix, scales, bias.half(), "w8a8", activation, inputs)
    tolerance.quantized(half, expected, *outputs, 255, tolerance.INT8_ACTIVATED)


def test_levels_end_at_their_ends(emulated):
    """Far beyond any level, and beyond what an integer holds."""
    matrix, q = torch.tensor([[127], [-127], [1]], dtype=torch.int8), torch.full((1, 1), 255, dtype=torch.uint8)
    for size in (1.0, 1e30):
        scales = torch.tensor([size, size, 0.0])
        found = int8(emulated, q, matrix, scales, None, inputs=(one(1.0), zero(0)), outputs=(one(1e-3), zero(50)))
        assert found.tolist() == [[255, 0, 50]]


def test_bytes_to_float_are_float32(emulated):
    q, (matrix, scales) = integers(0, 255, 15, 45, dtype=torch.uint8), weight_int8(41, 45, "w8a8")
    found, inputs = int8(emulated, q, matrix, scales, normal(41), "relu", (one(0.02), zero(61))), (one(0.02), zero(61))
    tolerance.close(found, oracle(q, matrix, scales, normal(41), "w8a8", "relu", inputs), tolerance.INT8)


def test_float_to_uint8(emulated):
    matrix, scales = weight_int8(16, 64, "w8a8")
    x = (integers(-60, 60, 8, 64).float() / 50).half()  # far from every tie
    inputs, outputs = (one(0.02), zero(64)), (one(0.03), zero(50))
    found = int8(emulated, x, matrix, scales, None, inputs=inputs, outputs=outputs)
    tolerance.quantized(found, oracle(x, matrix, scales, None, "w8a8", inputs=inputs), *outputs, 255, tolerance.INT8)


def test_packing(emulated):
    """Rows as they are, of bytes with zeros up to a multiple of 32."""
    for dtype in (torch.float32, *TYPES):
        matrix = weight(5, 7).to(dtype)
        assert torch.equal(emulated.pack_weight(matrix), matrix.flatten())
    for in_features in (1, 31, 32, 33):
        matrix, _ = weight_int8(5, in_features, "w8a8")
        padded = torch.nn.functional.pad(matrix, (0, -in_features % 32))
        assert torch.equal(emulated.pack_weight_int8(matrix, "w8a8"), padded.flatten())


def test_what_does_not_fit_int8_is_refused(emulated):
    matrix, scales = weight_int8(5, 8, "w8a8")
    packed, sums, bias = emulated.pack_weight_int8(matrix, "w8a8"), matrix.sum(1, dtype=torch.int32), normal(5)
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
    good = dict(zip(names, (normal(2, 8), packed, scales, sums, bias, None, None, None, None, "w8a8"), strict=True))
    q = integers(0, 9, 2, 8, dtype=torch.uint8)

    def refuse(*words, **places):
        refused(lambda: emulated.linear_int8(*{**good, "activation": "none", **places}.values()), "linear_int8", *words)

    refuse("w8a7", "w8a8", bits="w8a7")
    refuse("weight", 160, 320, x=normal(2, 33))
    refuse("weight_sum", 4, 5, weight_sum=sums[:4])
    refuse("bias", 4, 5, bias=bias[:4])
    refuse("bias", "float16", "float32", bias=bias.half())
    refuse("silu", "gelu", activation="silu")
    refuse("x", "uint8", "input_scale", x=q)
    refuse("input_scale", "input_zero", input_scale=one(1.0))
    refuse("output_scale", "output_zero", output_scale=one(1.0))
    refuse("input_scale", 2, 1, input_scale=torch.ones(2), input_zero=zero(1))
    refuse("x", "float64", "float32", x=normal(2, 8).double())
    refuse("x", 1, 2, x=normal(8))
    refuse("x", 0, 65536, x=normal(2, 0))
    refuse("x", 65537, 65536, x=torch.zeros(1, 65537))
    refuse("weight_scale", "float64", "float32", weight_scale=scales.double())
    refused(lambda: emulated.pack_weight_int8(matrix.float(), "w8a8"), "pack_weight_int8", "weight", "int8")
    refused(lambda: emulated.pack_weight_int8(matrix, "w7a7"), "pack_weight_int8", "w7a7", "w8a8")
    refused(lambda: emulated.pack_weight_int8(matrix[:, :0], "w8a8"), "pack_weight_int8", "weight", 0, 1)
    refused(lambda: emulated.pack_weight(matrix), "pack_weight", "weight", "int8", "float16")


def test_what_does_not_fit_levels_is_refused(emulated):
    matrix, scales = weight_int8(5, 8, "w8a8")
    names = ("q", "scale", "zero", "weight", "weight_scale", "weight_sum", "bias", "activation", "dtype", "tile")
    packed, sums = emulated.pack_weight_int8(matrix, "w8a8"), matrix.sum(1, dtype=torch.int32)
    q, inputs = integers(0, 255, 4, 8, dtype=torch.uint8), per_row(4)
    good = dict(zip(names, (q, *inputs, packed, scales, sums, normal(5), "none", torch.float32, 0), strict=True))

    def refuse(*words, **places):
        refused(lambda: emulated.linear_levels(*{**good, **places}.values()), "linear_levels", *words)

    refuse("q", "float32", "uint8", q=q.float())
    refuse("q", 1, 2, q=q[0])
    refuse("q", 0, 65536, q=q[:, :0])
    refuse("scale", 3, 4, scale=inputs[0][:3], zero=inputs[1][:3])
    refuse("zero", 1, 4, zero=zero(1))
    refuse("bias", "float32", "float16", dtype=torch.float16)
    refuse("dtype", "int32", "float32", dtype=torch.int32)
    refuse("tile", 9, 3, tile=9)


def ops_of(emulated):
    """name -> arguments; sizes that no padding hides."""
    matrix, scales = weight_int8(37, 45, "w8a8")
    packed, sums = emulated.pack_weight_int8(matrix, "w8a8"), matrix.sum(1, dtype=torch.int32)
    x, q, static = normal(6, 45), integers(0, 255, 6, 45, dtype=torch.uint8), (one(0.02), zero(61))
    by = (packed, scales, sums)
    return {
        "linear_fused": (*floats(6, 24, 37, torch.float16), "gelu"),
        "linear_fused tile": (*floats(6, 24, 37, torch.bfloat16), "none", 2),
        "linear_levels": (q, *per_row(6), *by, normal(37).half(), "relu", torch.float16),
        "linear_int8": (x.half(), *by, normal(37).half(), None, None, None, None, "w8a8", "gelu"),
        "linear_int8 static": (x, *by, None, *static, None, None, "w8a8", "none"),
        "linear_int8 bytes": (q, *by, normal(37), *static, None, None, "w8a8", "none"),
        "linear_int8 to uint8": (q, *by, normal(37), *static, one(0.1), zero(60), "w8a8", "none"),
        "pack_weight": (weight(5, 7).half(),),
        "pack_weight_int8": (matrix, "w8a8"),
    }


@pytest.mark.parametrize("name", [
    *("linear_fused", "linear_fused tile", "linear_levels", "linear_int8", "linear_int8 static", "linear_int8 bytes"),
    *("linear_int8 to uint8", "pack_weight", "pack_weight_int8"),
])  # fmt: skip
def test_torch_can_trace_them(emulated, name):
    torch.library.opcheck(getattr(emulated, name.split()[0]).default, ops_of(emulated)[name])
