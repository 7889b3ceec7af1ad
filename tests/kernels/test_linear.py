"""linear and pack_weight: a product, a bias and an activation in one."""

import pytest
import tolerance
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st
from operands import FEATURES, few, normal, refused, weight

from pytest_perfq.kernels import reference

ACTIVATIONS = {
    "none": lambda x: x,
    "relu": F.relu,
    "tanh": torch.tanh,
    "gelu": F.gelu,
    "gelu_tanh": lambda x: F.gelu(x, approximate="tanh"),
}


def check(kernels, x, matrix, bias, activation="none"):
    output = kernels.linear(x, kernels.pack_weight(matrix), bias, len(matrix), activation)
    expected = reference.linear(x.double(), matrix.double(), None if bias is None else bias.double(), activation)
    tolerance.close(output, expected, tolerance.LINEAR if activation in ("none", "relu") else tolerance.ACTIVATED)


@pytest.mark.parametrize("activation", ACTIVATIONS)
@pytest.mark.parametrize("with_bias", [False, True])
def test_the_oracle_is_torchs_linear_and_activations(activation, with_bias):
    x, matrix, bias = normal(9, 13).double(), 3 * weight(7, 13).double(), normal(7).double() if with_bias else None
    expected = ACTIVATIONS[activation](F.linear(x, matrix, bias))
    torch.testing.assert_close(reference.linear(x, matrix, bias, activation), expected, rtol=0, atol=tolerance.ORACLE)


@pytest.mark.parametrize(("in_features", "out_features"), FEATURES)
def test_features(in_features, out_features, isa, kernels):
    for tokens in (0, 1, 7):
        check(kernels, normal(tokens, in_features), weight(out_features, in_features), normal(out_features))


@pytest.mark.parametrize("tokens", [2, 3, 4, 5, 6, 11, 12, 13, 31, 65, 200])
def test_tokens(tokens, isa, kernels):
    check(kernels, normal(tokens, 48), weight(40, 48), None)


@pytest.mark.parametrize(("in_features", "out_features"), [(600, 40), (768, 7), (1000, 33), (3100, 40)])
def test_few_rows_go_another_way_to_the_same_numbers(in_features, out_features, isa, kernels):
    """Packed whole, and not some of the depth at a time: each sum is added up in the same order, whatever the other rows are."""
    x, matrix, bias = normal(190, in_features), weight(out_features, in_features), normal(out_features)
    check(kernels, x, matrix, bias)
    check(kernels, x[:30], matrix, bias)
    panels = kernels.pack_weight(matrix)
    many = kernels.linear(x, panels, bias, out_features, "gelu")
    for rows in (1, 30, 64):
        assert torch.equal(kernels.linear(x[:rows].contiguous(), panels, bias, out_features, "gelu"), many[:rows])


@pytest.mark.parametrize("activation", ACTIVATIONS)
@pytest.mark.parametrize("with_bias", [False, True])
def test_activations(activation, with_bias, isa, kernels):
    check(kernels, normal(13, 33), 2 * weight(35, 33), normal(35) if with_bias else None, activation)


@few
@given(
    tokens=st.integers(0, 80),
    in_features=st.integers(1, 200),
    out_features=st.integers(1, 200),
    activation=st.sampled_from(sorted(ACTIVATIONS)),
    with_bias=st.booleans(),
)
def test_any_shape(tokens, in_features, out_features, activation, with_bias, isa, kernels):
    bias = normal(out_features) if with_bias else None
    check(kernels, normal(tokens, in_features), weight(out_features, in_features), bias, activation)


def test_deep_and_tall(isa, kernels):
    check(kernels, normal(3, 4096), weight(17, 4096), normal(17))
    check(kernels, normal(4096, 24), weight(18, 24), normal(18), "gelu")


@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_activations_over_their_whole_range(activation, isa, kernels):
    """A product with one is a copy: the activation alone, from where it is straight to where it is flat."""
    x = torch.cat([torch.linspace(-12, 12, 4001), torch.tensor([-1e4, -100.0, -1e-6, -0.0, 0.0, 1e-6, 100.0, 1e4])])[:, None]
    allowed = tolerance.ACTIVATION + (tolerance.GELU_TAIL * x.abs().double() if activation == "gelu" else 0.0)
    output = kernels.linear(x, kernels.pack_weight(torch.ones(1, 1)), None, 1, activation)
    tolerance.close(output, ACTIVATIONS[activation](x.double()), allowed)


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), -float("inf")])
@pytest.mark.parametrize("activation", ["none", "relu", "tanh", "gelu", "gelu_tanh"])
def test_nan_in_a_row_is_nan_in_that_row_alone(activation, bad, isa, kernels):
    """inf times weights of both signs is NaN too, except alone in its sum, where it goes through the activation."""
    x = normal(9, 20)
    x[4, [3, 11]] = torch.tensor([bad, float("nan")])
    output = kernels.linear(x, kernels.pack_weight(weight(37, 20)), normal(37), 37, activation)
    assert output.isnan().all(1).tolist() == [row == 4 for row in range(9)]
    assert output.isnan().any(1).tolist() == [row == 4 for row in range(9)]


@pytest.mark.parametrize("activation", ["none", "relu", "tanh", "gelu", "gelu_tanh"])
def test_an_infinite_input(activation, isa, kernels):
    x = torch.tensor([[float("inf")], [3.0]])
    output = kernels.linear(x, kernels.pack_weight(torch.ones(1, 1)), None, 1, activation)
    tolerance.close(output[1:], ACTIVATIONS[activation](x[1:].double()), tolerance.ACTIVATION)
    assert output[0].item() == (1.0 if activation == "tanh" else float("inf"))


def test_a_row_does_not_depend_on_its_batch(isa, kernels):
    x, packed = normal(50, 384), kernels.pack_weight(weight(100, 384))
    whole = kernels.linear(x, packed, None, 100, "gelu")
    for row in (0, 17, 49):
        alone = kernels.linear(x[row : row + 1], packed, None, 100, "gelu")[0]
        torch.testing.assert_close(alone, whole[row], rtol=0, atol=tolerance.ROW_ALONE)


def test_what_does_not_fit_is_refused(isa, kernels):
    x, packed, bias = normal(2, 8), kernels.pack_weight(weight(5, 8)), normal(5)
    refused(lambda: kernels.linear(normal(2, 7), packed, bias, 5, "none"), "linear", 128, 112)
    refused(lambda: kernels.linear(x, packed, bias, 17, "none"), "linear", 128, 256)
    refused(lambda: kernels.linear(x, packed, normal(4), 5, "none"), "linear", "bias", 4, 5)
    refused(lambda: kernels.linear(x, packed, bias, 5, "silu"), "linear", "silu", "gelu")
    refused(lambda: kernels.linear(x.double(), packed, bias, 5, "none"), "linear", "x")
    refused(lambda: kernels.linear(x, packed.double(), bias, 5, "none"), "linear", "weight")
    refused(lambda: kernels.linear(x[0], packed, bias, 5, "none"), "linear", "x", 1, 2)
    refused(lambda: kernels.pack_weight(normal(8)), "pack_weight", "weight", 1, 2)
    refused(lambda: kernels.pack_weight(weight(5, 8).double()), "pack_weight", "weight")
