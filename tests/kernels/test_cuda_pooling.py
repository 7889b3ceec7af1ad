"""pool as the CUDA sources have it, against the oracle; run thread by thread on the CPU."""

import pytest
import tolerance
import torch
from operands import bounds, normal, refused
from torch.library import opcheck

from pytest_perfq.kernels import reference

WAYS = ["cls", "mean", "max"]


def check(emulated, x, lengths, how, normalize):
    pooled = emulated.pool(x, bounds(lengths), how, normalize)
    expected = reference.pool(x.double(), bounds(lengths), how, normalize)
    exact = how != "mean" and not normalize  # a copy
    tolerance.rounded(pooled, expected, x.dtype, 0.0 if exact else tolerance.POOL)
    empty = torch.tensor([length == 0 for length in lengths], dtype=torch.bool)
    assert torch.equal(pooled[empty], torch.zeros(int(empty.sum()), x.shape[1], dtype=x.dtype))


@pytest.mark.parametrize("normalize", [False, True])
@pytest.mark.parametrize("how", WAYS)
@pytest.mark.parametrize("lengths", [[], [0], [1], [0, 5, 0], [3, 0, 1, 17], [70, 1]], ids=str)
def test_lengths(emulated, lengths, how, normalize):
    check(emulated, normal(sum(lengths), 33), lengths, how, normalize)


@pytest.mark.parametrize("how", WAYS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
@pytest.mark.parametrize("hidden", [1, 7, 136, 384])
def test_sizes_and_types(emulated, order, hidden, dtype, how):
    for normalize in (False, True):
        check(emulated, normal(21, hidden).to(dtype), [20, 1], how, normalize)


def test_the_widest_vector(emulated):
    check(emulated, normal(3, 8192), [2, 1], "mean", True)


def test_rows_of_the_tail_belong_to_nobody(emulated):
    x = normal(6, 24)
    x[4:] = float("nan")
    for how in WAYS:
        assert torch.equal(emulated.pool(x, bounds([3, 1]), how, False), emulated.pool(x[:4], bounds([3, 1]), how, False))


def test_vectors_of_nothing_stay_zeros_and_negative_ones_have_a_maximum(emulated):
    assert torch.equal(emulated.pool(torch.zeros(4, 9), bounds([4]), "mean", True), torch.zeros(1, 9))
    x = -1 - normal(5, 9).abs()
    assert torch.equal(emulated.pool(x, bounds([5]), "max", False)[0], x.amax(0))


@pytest.mark.parametrize("normalize", [False, True])
@pytest.mark.parametrize("how", WAYS)
@pytest.mark.parametrize("token", [0, 2])
def test_nan_shows_in_its_sequence_alone(emulated, token, how, normalize):
    x = normal(6, 21)
    x[token, 20] = float("nan")
    check(emulated, x, [3, 3], how, normalize)


def test_what_does_not_fit_is_refused(emulated):
    x = normal(4, 8)
    refused(lambda: emulated.pool(x, bounds([2, 2]), "sum", False), "pool", "sum", "cls", "mean", "max")
    refused(lambda: emulated.pool(x, bounds([2, 2]).long(), "mean", False), "pool", "cu_seqlens", "int64", "int32")
    refused(lambda: emulated.pool(x, torch.zeros(0, dtype=torch.int32), "mean", False), "pool", "cu_seqlens", "empty")
    refused(lambda: emulated.pool(x, bounds([0] * 4096 + [1]), "mean", False), "pool", 4097, 4096)
    refused(lambda: emulated.pool(x.double(), bounds([2, 2]), "mean", False), "pool", "x", "float64")
    refused(lambda: emulated.pool(torch.zeros(1, 8193), bounds([1]), "mean", False), "pool", "x", 8193, 8192)


def test_opcheck(emulated):
    opcheck(emulated.pool.default, (normal(4, 8), bounds([3, 1]), "mean", True))
