"""layer: bit for bit what its ops give one after the other, and in fp32 the oracle's."""

import pytest
import tolerance
import torch
from hypothesis import given
from hypothesis import strategies as st
from operands import BATCHES, bounds, few, normal, refused
from plain_layer import FLOATS, biases_and_norms, layer_matrices, layer_weights
from played import BY_TILES

from pytest_perfq.kernels import isas, reference
from pytest_perfq.kernels.bits import BITS

ALL = ["fp32", *sorted(BITS)]
# Beside those of every op: rows of one call that the layer takes in several groups, and one row longer than a group.
LONG = [[200, 200, 200, 0, 150], [3, 700, 1]]
ENDS = (1e-12, 1e-5)  # eps of the two normalizations


def one_by_one(kernels, x, cu_seqlens, weights, heads, scale, bits, activation, may_round=None):
    """may_round: as attention is told, by default as it is in a layer of these bits."""
    packed, scales, sums, biases, norms = weights

    def multiply(at, x, bias, activation="none"):
        if bits in FLOATS:
            return kernels.linear(x, packed[at], bias, len(biases[at]), activation)
        return kernels.linear_int8(x, packed[at], scales[at], sums[at], bias, None, None, None, None, bits, activation)

    may_round = bits != "fp32" if may_round is None else may_round
    attended = kernels.varlen_attention(multiply(0, x, biases[0]), cu_seqlens, heads, scale, may_round)
    middle = kernels.add_layernorm(multiply(1, attended, None), x, biases[1], *norms[:2], ENDS[0])
    inner = multiply(2, middle, biases[2], activation)
    return kernels.add_layernorm(multiply(3, inner, None), middle, biases[3], *norms[2:], ENDS[1])


@pytest.mark.parametrize("bits", ALL)
@pytest.mark.parametrize("lengths", [*BATCHES, *LONG], ids=str)
def test_it_is_its_ops_one_after_the_other(lengths, bits, isa, kernels):
    cu_seqlens, weights = bounds(lengths), layer_weights(kernels, 40, 70, bits)
    x = normal(sum(lengths), 40)
    wanted = one_by_one(kernels, x, cu_seqlens, weights, 5, 0.35, bits, "gelu")
    assert torch.equal(kernels.layer(x, cu_seqlens, *weights, 5, 0.35, *ENDS, bits, "gelu"), wanted)


@pytest.mark.parametrize("lengths", [*BATCHES, *LONG], ids=str)
def test_it_is_its_ops_in_bf16(lengths, bf16):
    test_it_is_its_ops_one_after_the_other(lengths, "bf16", None, bf16)


@pytest.mark.parametrize("activation", ["gelu_tanh", "relu"])
@pytest.mark.parametrize(("hidden", "heads", "inner"), [(8, 1, 1), (64, 2, 33), (384, 12, 1536)])
def test_it_is_the_oracles(hidden, heads, inner, activation, isa, kernels):
    lengths = [9, 0, 1, 14]
    x, cu_seqlens = normal(sum(lengths), hidden), bounds(lengths)
    (matrices, _), (biases, norms) = layer_matrices(hidden, inner, "fp32"), biases_and_norms(hidden, inner)
    got = kernels.layer(x, cu_seqlens, *layer_weights(kernels, hidden, inner, "fp32"), heads, 0.3, *ENDS, "fp32", activation)
    doubled = [[one.double() for one in some] for some in (matrices, [], biases, norms)]
    wanted = reference.layer(x.double(), cu_seqlens, *doubled, heads, 0.3, *ENDS, "fp32", activation)
    tolerance.close(got, wanted, tolerance.LAYER)


@pytest.mark.parametrize(("hidden", "heads", "inner"), [(8, 1, 1), (64, 2, 33), (384, 12, 1536)])
def test_in_bf16_it_is_the_oracles(hidden, heads, inner, bf16_isa, bf16):
    """As near as rounding lets it be: rows that the oracle and the kernels know to a few roundings are rounded to bfloat16 three
    times, and some of them to the other side."""
    lengths = [9, 0, 1, 14]
    x, cu_seqlens = normal(sum(lengths), hidden), bounds(lengths)
    (matrices, _), (biases, norms) = layer_matrices(hidden, inner, "bf16"), biases_and_norms(hidden, inner)
    ends = heads, 0.3, *ENDS, "bf16", "gelu"
    got = bf16.layer(x, cu_seqlens, *layer_weights(bf16, hidden, inner, "bf16"), *ends)
    doubled = [[one.double() for one in some] for some in (biases, norms)]
    wanted = reference.layer(x.double(), cu_seqlens, matrices, [], *doubled, *ends)
    tolerance.close(got, wanted, tolerance.LAYER_BF16_TILES if bf16_isa in BY_TILES else tolerance.LAYER_BF16)
    torch.library.opcheck(torch.ops.perfq.layer.default, (x, cu_seqlens, *layer_weights(bf16, hidden, inner, "bf16"), *ends))


@few
@given(
    lengths=st.lists(st.integers(0, 40), max_size=5),
    heads=st.integers(1, 4),
    size=st.sampled_from([8, 16, 24, 40]),
    inner=st.integers(1, 90),
    bits=st.sampled_from(ALL),
    activation=st.sampled_from(["gelu", "gelu_tanh", "relu"]),
)
def test_any_shape(lengths, heads, size, inner, bits, activation, isa, kernels):
    """To the bit its ops one after the other, in fp32 near the oracle too."""
    hidden, cu_seqlens = heads * size, bounds(lengths)
    weights, x = layer_weights(kernels, hidden, inner, bits), normal(sum(lengths), hidden)
    got = kernels.layer(x, cu_seqlens, *weights, heads, 0.3, *ENDS, bits, activation)
    assert torch.equal(got, one_by_one(kernels, x, cu_seqlens, weights, heads, 0.3, bits, activation))
    if bits == "fp32":
        matrices, _ = layer_matrices(hidden, inner, bits)
        doubled = [[one.double() for one in some] for some in (matrices, [], *biases_and_norms(hidden, inner))]
        wanted = reference.layer(x.double(), cu_seqlens, *doubled, heads, 0.3, *ENDS, bits, activation)
        tolerance.close(got, wanted, tolerance.LAYER)


def test_threads_do_not_change_it(isa, kernels):
    cu_seqlens, weights, x = bounds([300, 40, 300]), layer_weights(kernels, 64, 96, "w8a7"), normal(640, 64)
    before, outputs = torch.get_num_threads(), []
    try:
        for threads in (1, 2, 3):
            torch.set_num_threads(threads)
            outputs.append(kernels.layer(x, cu_seqlens, *weights, 2, 0.2, *ENDS, "w8a7", "gelu"))
    finally:
        torch.set_num_threads(before)
    assert all(torch.equal(outputs[0], other) for other in outputs[1:])


def test_what_does_not_fit_is_refused(kernels):
    cu_seqlens, x = bounds([4, 3]), normal(7, 24)
    packed, scales, sums, biases, norms = layer_weights(kernels, 24, 40, "w7a7")
    names = ("x", "cu_seqlens", "packed", "scales", "sums", "biases", "norms", "heads", "scale", "bits", "activation")
    good = dict(zip(names, (x, cu_seqlens, packed, scales, sums, biases, norms, 3, 0.3, "w7a7", "gelu"), strict=True))

    def refuse(*words, **places):
        call = {**good, **places}
        ends = call.pop("bits"), call.pop("activation")
        refused(lambda: kernels.layer(*call.values(), *ENDS, *ends), "layer", *words)

    refuse("cu_seqlens", 6, 7, cu_seqlens=bounds([3, 3]))
    refuse("packed", 3, 4, packed=packed[:3])
    refuse("scales", 0, 4, scales=[])
    refuse("scales", 4, 0, bits="fp32")
    refuse("sums", 5, 4, sums=[*sums, sums[0]])
    refuse("biases", 71, 72, biases=[biases[0][:71], *biases[1:]])
    refuse("norms", 23, 24, norms=[*norms[:3], norms[3][:23]])
    refuse("packed", packed[0].numel(), packed=[packed[0], packed[0], *packed[2:]])
    refuse("scales", 24, 72, scales=[scales[1], *scales[1:]])
    refuse("sums", 24, 72, sums=[sums[1], *sums[1:]])
    refuse("heads", 0, heads=0)
    refuse("features", 72, 5, heads=5)
    refuse("head", 6, 8, heads=4)
    refuse("w3a3", "w8a7", bits="w3a3")
    refuse("silu", "gelu", activation="silu")


def test_a_set_without_the_unit_refuses_bf16(isa, kernels):
    if isa in isas.BF16:
        pytest.skip("this set has the unit")
    cu_seqlens, x = bounds([4, 3]), normal(7, 24)
    weights = layer_weights(kernels, 24, 40, "bf16")
    refused(lambda: kernels.layer(x, cu_seqlens, *weights, 3, 0.3, *ENDS, "bf16", "gelu"), "layer", "avx512_bf16", isa)


def test_what_does_not_fit_in_bf16_is_refused(bf16):
    cu_seqlens, x = bounds([4, 3]), normal(7, 24)
    packed, _, _, biases, norms = layer_weights(bf16, 24, 40, "bf16")
    floats = layer_weights(bf16, 24, 40, "fp32")[0]

    def call(packed, bits, scales=()):
        return lambda: bf16.layer(x, cu_seqlens, packed, scales, [], biases, norms, 3, 0.3, *ENDS, bits, "gelu")

    refused(call(floats, "bf16"), "layer", "packed", "float32", "bfloat16")
    refused(call(packed, "fp32"), "layer", "packed", "bfloat16", "float32")
    refused(call([packed[1], *packed[1:]], "bf16"), "layer", "packed", packed[1].numel(), packed[0].numel())
    refused(call(packed, "bf16", [biases[0]]), "layer", "scales", 1, 0)
