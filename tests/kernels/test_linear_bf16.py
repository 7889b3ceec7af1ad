"""linear with a weight in bfloat16: rows are rounded as torch rounds them, and their products are summed in float32.

No machine need have the unit: the set is the library's own sources with that one instruction played (played.py).
"""

import re
import shutil
import subprocess

import pytest
import tolerance
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st
from operands import FEATURES, few, normal, refused, weight
from played import BY_TILES
from test_linear import ACTIVATIONS

from pytest_perfq.kernels import build, isas, reference, toolchain


def matrix16(out_features, in_features, seed=1):
    return weight(out_features, in_features, seed=seed).bfloat16()


def check(kernels, x, matrix, bias, activation="none"):
    output = kernels.linear(x, kernels.pack_weight(matrix), bias, len(matrix), activation)
    expected = reference.linear(x.double(), matrix, None if bias is None else bias.double(), activation)
    tolerance.close(output, expected, tolerance.LINEAR if activation in ("none", "relu") else tolerance.ACTIVATED)


@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_the_oracle_is_torchs_linear_of_rounded_numbers(activation):
    x, matrix, bias = normal(9, 13), matrix16(7, 13), normal(7).double()
    expected = ACTIVATIONS[activation](F.linear(x.bfloat16().double(), matrix.double(), bias))
    torch.testing.assert_close(reference.linear(x.double(), matrix, bias, activation), expected, rtol=0, atol=tolerance.ORACLE)


@pytest.mark.parametrize(("out_features", "in_features"), [(1, 1), (32, 2), (33, 7), (5, 40), (64, 31)])
def test_a_packed_weight_is_panels_of_pairs(out_features, in_features, kernels):
    matrix = matrix16(out_features, in_features)
    whole = F.pad(matrix, (0, in_features % 2, 0, -out_features % 32))
    wanted = whole.view(-1, 32, whole.shape[1] // 2, 2).transpose(1, 2).flatten()  # [N / 32][K / 2][32][2]
    assert torch.equal(kernels.pack_weight(matrix), wanted)


def test_rounding_is_torchs(bf16, bf16_isa):
    """A product with one is a copy: every bfloat16, the numbers halfway between two, and their neighbours. Denormals are the
    unit's zeros, and so is what it might make of them."""
    own = torch.arange(65536, dtype=torch.int32).to(torch.int16).view(torch.bfloat16).float()
    own = own[own.isfinite()].sort().values
    halves = ((own[1:].double() + own[:-1].double()) / 2).float()
    up, down = torch.full_like(halves, torch.inf), torch.full_like(halves, -torch.inf)
    beyond = torch.tensor([3.3895e38, 3.4e38, -3.4e38, torch.inf, -torch.inf])
    values = torch.cat([own, halves, halves.nextafter(up), halves.nextafter(down), beyond])
    got = bf16.linear(values[:, None], bf16.pack_weight(torch.ones(1, 1).bfloat16()), None, 1, "none")[:, 0]
    wanted = values.bfloat16().float()
    rounded = values if bf16_isa in BY_TILES else wanted  # vcvtne2ps2bf16 takes denormals for zeros before it rounds
    wanted[rounded.abs() < torch.finfo(torch.float32).tiny] = 0.0
    assert torch.equal(got, wanted)


def test_every_nan_stays_one(bf16):
    """Also those that only bits below the sixteen say: cut off, they would be infinite."""
    codes = [0x7F800001, 0x7F80FFFF, 0x7FC00000, 0x7FFFFFFF, 0x7F808000]
    bits = torch.tensor([code - (1 << 32) * sign for code in codes for sign in (0, 1)] + codes, dtype=torch.int64)
    x = torch.cat([bits[: len(codes)], bits[len(codes) :] | 0x80000000]).to(torch.uint32).view(torch.float32)
    assert x.isnan().all()
    got = bf16.linear(x[:, None], bf16.pack_weight(torch.ones(1, 1).bfloat16()), None, 1, "none")
    assert got.isnan().all()


def test_the_later_of_a_pair_is_added_first(bf16, bf16_isa):
    """As vdpbf16ps is defined: each of the two additions is rounded, to nearest and ties to even."""
    if bf16_isa in BY_TILES:
        pytest.skip("a tile adds its products up before it adds them to what it holds")
    x, bias = torch.tensor([[2.0**-12, 1.0]]), torch.tensor([2.0**12])
    products = torch.tensor([[1.0, 2.0**-12]]).bfloat16()
    # 2^12 + 2^-12 is a tie, and stays 2^12, twice. In float64 both are kept; added to each other first they would be.
    got = bf16.linear(x, bf16.pack_weight(products), bias, 1, "none")
    assert got.item() == 2.0**12
    x = torch.tensor([[1.0, -(2.0**12)]])
    got = bf16.linear(x, bf16.pack_weight(torch.tensor([[2.0**-12, 1.0]]).bfloat16()), bias, 1, "none")
    assert got.item() == 2.0**-12  # 2^12 was gone before the small one came


def test_tiles_add_earlier_and_later_products_up_apart(bf16, bf16_isa):
    """As tdpbf16ps is defined: the products of the earlier ones of all pairs, those of the later ones, and the two sums, each
    addition rounded to nearest and ties to even."""
    if bf16_isa not in BY_TILES:
        pytest.skip("vdpbf16ps adds each product to its sum")
    large, small = 2.0**12, 2.0**-12  # large + small is a tie, and stays large; large + 2 * small is a float
    w = bf16.pack_weight(torch.ones(1, 4).bfloat16())

    def summed(*x):
        return bf16.linear(torch.tensor([x]), w, None, 1, "none").item()

    assert summed(large, small, small, -large) == small  # (large + small) + (small - large): either loses its small one
    assert summed(large, small, 0.0, small) == large + 2 * small
    assert summed(large, 0.0, small, small) == large


@pytest.mark.parametrize(("in_features", "out_features"), FEATURES)
def test_features(in_features, out_features, bf16):
    for tokens in (0, 1, 7):
        check(bf16, normal(tokens, in_features), matrix16(out_features, in_features), normal(out_features))


@pytest.mark.parametrize("tokens", [2, 3, 4, 5, 6, 8, 9, 15, 16, 17, 31, 65, 200, 257, 600])
def test_tokens(tokens, bf16):
    check(bf16, normal(tokens, 48), matrix16(40, 48), None)


@pytest.mark.parametrize("in_features", [255, 256, 257, 271, 272, 273, 511, 512, 513, 2047, 3072])
def test_depths_of_several_runs(in_features, bf16):
    check(bf16, normal(11, in_features), matrix16(33, in_features), normal(33), "gelu")


@pytest.mark.parametrize("activation", ACTIVATIONS)
@pytest.mark.parametrize("with_bias", [False, True])
def test_activations(activation, with_bias, bf16):
    check(bf16, normal(13, 33), 2 * matrix16(35, 33), normal(35) if with_bias else None, activation)


@few
@given(
    tokens=st.integers(0, 80),
    in_features=st.integers(1, 300),
    out_features=st.integers(1, 200),
    activation=st.sampled_from(sorted(ACTIVATIONS)),
    with_bias=st.booleans(),
)
def test_any_shape(tokens, in_features, out_features, activation, with_bias, bf16):
    bias = normal(out_features) if with_bias else None
    check(bf16, normal(tokens, in_features), matrix16(out_features, in_features), bias, activation)


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), -float("inf")])
@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_nan_in_a_row_is_nan_in_that_row_alone(activation, bad, bf16):
    x = normal(9, 20)
    x[4, [3, 11]] = torch.tensor([bad, float("nan")])
    output = bf16.linear(x, bf16.pack_weight(matrix16(37, 20)), normal(37), 37, activation)
    assert output.isnan().all(1).tolist() == output.isnan().any(1).tolist() == [row == 4 for row in range(9)]


def test_a_row_does_not_depend_on_its_batch(bf16):
    x, packed = normal(50, 384), bf16.pack_weight(matrix16(100, 384))
    whole = bf16.linear(x, packed, None, 100, "gelu")
    for row in (0, 17, 49):
        assert torch.equal(bf16.linear(x[row : row + 1], packed, None, 100, "gelu")[0], whole[row])


def test_threads_do_not_change_it(bf16):
    x, packed, wide = normal(700, 96), bf16.pack_weight(matrix16(96, 96)), bf16.pack_weight(matrix16(1500, 96))
    outputs = []
    try:
        for threads in (1, 2, 3, 5):
            torch.set_num_threads(threads)
            outputs.append((bf16.linear(x, packed, None, 96, "gelu"), bf16.linear(x[:3], wide, None, 1500, "none")))
    finally:
        torch.set_num_threads(1)
    for others in outputs[1:]:
        assert all(torch.equal(ours, theirs) for ours, theirs in zip(outputs[0], others, strict=True))


def test_torch_traces_it(bf16):
    matrix = matrix16(40, 25)
    torch.library.opcheck(torch.ops.perfq.pack_weight.default, (matrix,))
    torch.library.opcheck(torch.ops.perfq.linear.default, (normal(7, 25), bf16.pack_weight(matrix), normal(40), 40, "gelu"))


def test_what_does_not_fit_is_refused(bf16):
    x, packed, bias = normal(2, 7), bf16.pack_weight(matrix16(5, 7)), normal(5)
    refused(lambda: bf16.linear(normal(2, 9), packed, bias, 5, "none"), "linear", 256, 320)
    refused(lambda: bf16.linear(x, packed, bias, 33, "none"), "linear", 256, 512)
    refused(lambda: bf16.linear(x, packed, normal(4), 5, "none"), "linear", "bias", 4, 5)
    refused(lambda: bf16.linear(x.bfloat16(), packed, bias, 5, "none"), "linear", "x", "bfloat16", "float32")
    refused(lambda: bf16.linear(x, packed[None], bias, 5, "none"), "linear", "weight", 2, 1)
    shifted = torch.cat([packed[:1], packed])[1:]  # begins within a pair
    refused(lambda: bf16.linear(x, shifted, bias, 5, "none"), "linear", "begin", 4, "bytes")
    refused(lambda: bf16.pack_weight(matrix16(5, 7)[0]), "pack_weight", "weight", 1, 2)
    refused(lambda: bf16.pack_weight(matrix16(5, 7)[:, :0]), "pack_weight", "features", 0, 1)


def test_a_set_without_the_unit_refuses_it(isa, kernels):
    """And does not compute the same in another way under that name."""
    if isa in isas.BF16:
        pytest.skip("this set has the unit")
    line = (
        f"perfq::linear: bfloat16 weights are multiplied by avx512_bf16, and the kernels run on '{isa}'; pack float32 weights"
    )
    with pytest.raises(RuntimeError, match=f"^{re.escape(line)}"):
        kernels.linear(normal(2, 8), kernels.pack_weight(matrix16(5, 8)), None, 5, "none")


@pytest.mark.skipif(toolchain.unavailable() is not None, reason=str(toolchain.unavailable()))
@pytest.mark.skipif(isas.AVX512BF16 not in isas.known(), reason="the unit is x86's")
@pytest.mark.skipif(shutil.which("objdump") is None, reason="there is no objdump to look with")
def test_the_real_set_has_the_real_instruction(tmp_path):
    """Compiled with its own flags the inner loop multiplies 512 bits at a time, in registers."""
    made_from, into = build.recipe(), tmp_path / "linear.o"
    folders = [f"-I{build.SOURCES / folder}" for folder in build.FOLDERS]
    flags = [
        *made_from.flags,
        *folders,
        "-DPERFQ_ISA=avx512bf16",
        *isas.known()["avx512bf16"].flags,
        "-O3",
        "-fno-sanitize=all",
    ]
    source = str(build.SOURCES / "cpu" / "linear_bf16.cpp")
    subprocess.run([*made_from.compiler, *flags, "-c", source, "-o", str(into)], check=True)
    listed = subprocess.run(["objdump", "-dC", "--no-show-raw-insn", str(into)], capture_output=True, text=True, check=True)
    tile = re.search(r"^\w+ <[^\n]*tile_pairs<8, true>.*?\n\n", listed.stdout, re.DOTALL | re.MULTILINE)
    assert tile is not None
    products = re.findall(r"vdpbf16ps\s+%zmm\d+,%zmm\d+,%zmm\d+", tile.group())
    assert len(products) >= 16 and len(products) % 16 == 0  # 8 rows by 2 vectors, once or unrolled
    assert len(re.findall(r"vdpbf16ps", listed.stdout)) == len(re.findall(r"vdpbf16ps.*%zmm", listed.stdout))
