"""pool: one vector a sequence."""

import pytest
import tolerance
import torch
from hypothesis import given
from hypothesis import strategies as st
from operands import BATCHES, ODD_SIZES, bounds, few, normal, refused

from pytest_perfq.kernels import reference

WAYS = ["cls", "mean", "max"]


@pytest.mark.parametrize("how", ["mean", "max"])
def test_the_oracle_is_torchs_segment_reduction(how):
    lengths = [3, 1, 17]
    x = normal(21, 5).double()
    expected = torch.segment_reduce(x, how, lengths=torch.tensor(lengths))
    torch.testing.assert_close(reference.pool(x, bounds(lengths), how, False), expected, rtol=0, atol=tolerance.ORACLE)
    normalized = torch.nn.functional.normalize(expected, dim=1)
    torch.testing.assert_close(reference.pool(x, bounds(lengths), how, True), normalized, rtol=0, atol=tolerance.ORACLE)


def check(kernels, x, lengths, how, normalize):
    pooled = kernels.pool(x, bounds(lengths), how, normalize)
    expected = reference.pool(x.double(), bounds(lengths), how, normalize)
    exact = how != "mean" and not normalize  # a copy
    tolerance.close(pooled, expected, 0.0 if exact else tolerance.POOL)
    empty = torch.tensor([length == 0 for length in lengths], dtype=torch.bool)
    assert torch.equal(pooled[empty], torch.zeros(int(empty.sum()), x.shape[1]))


@pytest.mark.parametrize("how", WAYS)
@pytest.mark.parametrize("lengths", BATCHES, ids=str)
def test_lengths(lengths, how, isa, kernels):
    for normalize in (False, True):
        check(kernels, normal(sum(lengths), 33), lengths, how, normalize)


@pytest.mark.parametrize("how", WAYS)
@pytest.mark.parametrize("hidden", ODD_SIZES)
def test_hidden_sizes(hidden, how, isa, kernels):
    check(kernels, normal(12, hidden), [4, 0, 1, 7], how, True)


@few
@given(
    lengths=st.lists(st.integers(0, 20), max_size=12), hidden=st.integers(1, 130), how=st.sampled_from(WAYS), norm=st.booleans()
)
def test_any_batch(lengths, hidden, how, norm, isa, kernels):
    check(kernels, normal(sum(lengths), hidden), lengths, how, norm)


@pytest.mark.parametrize("how", WAYS)
def test_the_longest_row_and_the_largest_batch(how, isa, kernels):
    check(kernels, normal(4096, 16), [4096], how, False)
    lengths = [row % 3 for row in range(4096)]
    check(kernels, normal(sum(lengths), 16), lengths, how, True)


def test_the_largest_of_negative_values_is_negative(isa, kernels):
    x = -normal(5, 19).abs() - 1
    assert torch.equal(kernels.pool(x, bounds([5]), "max", False)[0], x.amax(0))


def test_a_vector_of_zeros_has_no_direction_and_stays_zero(isa, kernels):
    assert torch.equal(kernels.pool(torch.zeros(2, 9), bounds([2]), "mean", True), torch.zeros(1, 9))


@pytest.mark.parametrize("factor", [1e-6, 1e-14, 1e6])
def test_short_vectors_are_normalized_as_torchs_are(factor, isa, kernels):
    """To norm 1 however short, down to a norm of 1e-12; below that they are divided by 1e-12."""
    x = factor * normal(5, 19)
    expected = torch.nn.functional.normalize(x.double().mean(0, keepdim=True), dim=1)
    tolerance.close(kernels.pool(x, bounds([5]), "mean", True), expected, tolerance.POOL)


@pytest.mark.parametrize("normalize", [False, True])
@pytest.mark.parametrize("how", WAYS)
@pytest.mark.parametrize("token", [0, 2])
def test_nan_shows_in_its_sequence_alone(token, how, normalize, isa, kernels):
    x = normal(6, 21)
    x[token, 20] = float("nan")
    tolerance.close(
        kernels.pool(x, bounds([3, 3]), how, normalize),
        reference.pool(x.double(), bounds([3, 3]), how, normalize),
        tolerance.POOL,
    )


def test_what_does_not_fit_is_refused(isa, kernels):
    x = normal(4, 8)
    refused(lambda: kernels.pool(x, bounds([3]), "mean", False), "pool", 4, 3)
    refused(lambda: kernels.pool(x, bounds([2, 2]), "sum", False), "pool", "sum", "mean")
    refused(lambda: kernels.pool(x, bounds([2, 2]).long(), "mean", False), "pool", "cu_seqlens")
    refused(lambda: kernels.pool(normal(1, 8), bounds([0] * 4096 + [1]), "mean", False), "pool", 4097, 4096)
    refused(lambda: kernels.pool(x.double(), bounds([2, 2]), "mean", False), "pool", "x")
    refused(lambda: kernels.pool(x, torch.tensor([0, 5, 4], dtype=torch.int32), "mean", False), "pool", "cu_seqlens")
