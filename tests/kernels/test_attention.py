"""varlen_attention: softmax within each sequence, never across; and varlen_attention_int8 between quantized tensors."""

import math

import pytest
import tolerance
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st
from operands import BATCHES, bounds, few, integers, normal, one, refused, zero
from played import BY_TILES

from pytest_perfq.kernels import reference

# NaNs: quiet ones as processors make them, signalling ones, and ones that carry other bits.
NANS = [0x7FC00000, 0xFFC00000, 0x7F800001, 0x7FC00001, 0x7FC001FF, 0x7F9ABCDE, 0xFFD23456, 0x7FFFFFFF, 0xFFFFFFFF]


def by_torch(qkv, lengths, heads, scale):
    """torch's own attention, one sequence at a time."""
    tokens, hidden = qkv.shape[0], qkv.shape[1] // 3
    split = qkv.view(tokens, 3, heads, hidden // heads).permute(1, 2, 0, 3).split(lengths, dim=2)
    rows = [F.scaled_dot_product_attention(*one, scale=scale).transpose(0, 1).reshape(-1, hidden) for one in split]
    return torch.cat([qkv.new_empty(0, hidden), *rows])


def check(kernels, qkv, lengths, heads, scale=None, allowed=tolerance.ATTENTION):
    scale = 1 / math.sqrt(qkv.shape[1] // 3 // heads) if scale is None else scale
    output = kernels.varlen_attention(qkv, bounds(lengths), heads, scale)
    tolerance.close(output, reference.varlen_attention(qkv.double(), bounds(lengths), heads, scale), allowed)


@pytest.mark.parametrize("heads", [1, 3])
def test_the_oracle_is_torchs_attention(heads):
    lengths = [5, 0, 1, 9]
    qkv = normal(15, 3 * 24).double()
    expected = by_torch(qkv, lengths, heads, 0.3)
    torch.testing.assert_close(
        reference.varlen_attention(qkv, bounds(lengths), heads, 0.3), expected, rtol=0, atol=tolerance.ORACLE
    )


@pytest.mark.parametrize("lengths", BATCHES, ids=str)
@pytest.mark.parametrize(("heads", "size"), [(1, 8), (3, 32), (2, 64)])
def test_lengths(lengths, heads, size, isa, kernels):
    check(kernels, normal(sum(lengths), 3 * heads * size), lengths, heads)


@pytest.mark.parametrize("size", range(8, 129, 8))
def test_head_sizes(size, isa, kernels):
    check(kernels, normal(46, 6 * size), [7, 1, 38], 2)


@few
@given(
    lengths=st.lists(st.integers(0, 70), max_size=6),
    heads=st.integers(1, 5),
    size=st.sampled_from([8, 24, 32, 64, 96, 128]),
    scale=st.floats(0.01, 0.5),
)
def test_any_shape(lengths, heads, size, scale, isa, kernels):
    check(kernels, normal(sum(lengths), 3 * heads * size), lengths, heads, scale, 2 * tolerance.ATTENTION)


@pytest.mark.parametrize("length", [127, 128, 129, 511, 700])
def test_rows_around_and_over_a_block(length, isa, kernels):
    check(kernels, normal(length + 3, 3 * 32), [length, 3], 1)


def test_the_longest_row(isa, kernels):
    check(kernels, normal(4096, 3 * 8), [4096], 1)


def test_the_largest_batch(isa, kernels):
    lengths = [row % 4 for row in range(4096)]
    check(kernels, normal(sum(lengths), 3 * 16), lengths, 2)


def test_large_scores_pick_one_value(isa, kernels):
    """exp of a score over 88 is beyond float32: the largest score of a row must be taken off first."""
    qkv = normal(40, 3 * 16)
    qkv[:, :32] *= 16
    check(kernels, qkv, [33, 7], 1, 1.0, tolerance.ATTENTION_SHARP)


def test_scores_all_far_below_zero(isa, kernels):
    """Every exp underflows unless the largest score is taken off, however negative it is."""
    qkv = normal(20, 3 * 8)
    qkv[:, :8], qkv[:, 8:16] = 10.0, -10.0  # all scores -800: the mean of the values
    output = kernels.varlen_attention(qkv, bounds([20]), 1, 1.0)
    tolerance.close(output, qkv[:, 16:].double().mean(0).expand(20, 8), tolerance.ATTENTION)


def test_a_sequence_of_one_token_is_its_value(isa, kernels):
    qkv = normal(5, 3 * 24)
    torch.testing.assert_close(kernels.varlen_attention(qkv, bounds([1] * 5), 3, 0.2), qkv[:, 48:], rtol=1e-6, atol=0)


def test_a_sequence_does_not_see_its_neighbours(isa, kernels):
    qkv = normal(50, 3 * 32)
    whole = kernels.varlen_attention(qkv, bounds([20, 13, 17]), 2, 0.2)
    alone = kernels.varlen_attention(qkv[20:33].clone(), bounds([13]), 2, 0.2)
    assert torch.equal(whole[20:33], alone)


@pytest.mark.parametrize(("part", "rows"), [("query", [4]), ("key", [3, 4, 5, 6]), ("value", [3, 4, 5, 6])])
def test_nan_shows_where_it_is_seen_alone(part, rows, isa, kernels):
    """Token 4 of sequence 3..6: a query spoils its own row, a key or value all rows of its sequence; one head of two."""
    qkv = normal(12, 3 * 32)
    qkv[4, {"query": 0, "key": 1, "value": 2}[part] * 32 + 16 + 5] = float("nan")
    output = kernels.varlen_attention(qkv, bounds([3, 4, 5]), 2, 0.25)
    struck = torch.zeros(12, 32, dtype=torch.bool)
    struck[rows, 16:] = part != "value"
    struck[rows, 16 + 5] = True
    assert torch.equal(output.isnan(), struck)


@pytest.mark.parametrize(("part", "rows"), [(0, [4]), (1, [3, 4, 5, 6])], ids=["query", "key"])
@pytest.mark.parametrize("bits", NANS, ids=hex)
def test_a_nan_is_one_whatever_its_bits_are(bits, part, rows, isa, kernels):
    """As damaged weights have them: none becomes a finite weight of the softmax, which would hide it."""
    qkv = normal(12, 3 * 16)
    qkv[4, part * 16 + 5] = torch.tensor([bits], dtype=torch.int64).to(torch.int32).view(torch.float32)
    for may_round in (False, True):
        output = kernels.varlen_attention(qkv, bounds([3, 4, 5]), 1, 0.25, may_round)
        assert output.isnan().all(1).nonzero().flatten().tolist() == output.isnan().any(1).nonzero().flatten().tolist() == rows


@pytest.mark.parametrize("length", [1, 40, 500])
def test_a_row_of_scores_that_are_all_minus_infinity_is_nan(length, isa, kernels):
    """As torch.softmax of it is; where a row has one other score, that is the only weight."""
    qkv = normal(length, 3 * 16)
    qkv[:, 16] = -1.0
    qkv[length // 2, 0] = torch.inf
    expected = reference.varlen_attention(qkv, bounds([length]), 1, 0.25)
    assert expected.isnan().all(1).nonzero().flatten().tolist() == [length // 2]
    for may_round in (False, True):
        assert torch.equal(kernels.varlen_attention(qkv, bounds([length]), 1, 0.25, may_round).isnan(), expected.isnan())
    qkv = normal(length, 3 * 16)
    qkv[:, 0], qkv[:, 16] = 1.0, -torch.inf
    qkv[length // 2, 16] = 0.0
    only = qkv[length // 2, 32:].expand(length, 16)
    assert torch.equal(reference.varlen_attention(qkv, bounds([length]), 1, 0.25), only)
    torch.testing.assert_close(kernels.varlen_attention(qkv, bounds([length]), 1, 0.25), only, rtol=1e-6, atol=0.0)
    # A weight and what is summed are rounded to 8 bits.
    torch.testing.assert_close(kernels.varlen_attention(qkv, bounds([length]), 1, 0.25, True), only, rtol=2**-8, atol=0.0)


def test_what_does_not_fit_is_refused(isa, kernels):
    qkv, name = normal(4, 48), "varlen_attention"
    call = kernels.varlen_attention
    refused(lambda: call(qkv, bounds([3]), 2, 1.0), name, 3, 4)
    refused(lambda: call(qkv, bounds([2, 2]).long(), 2, 1.0), name, "cu_seqlens")
    refused(lambda: call(qkv, torch.tensor([0, 6, 4], dtype=torch.int32), 2, 1.0), name, "cu_seqlens")
    refused(lambda: call(qkv, torch.tensor([1, 4], dtype=torch.int32), 2, 1.0), name, "cu_seqlens")
    refused(lambda: call(normal(4, 47), bounds([4]), 1, 1.0), name, "qkv", 47, 1)
    refused(lambda: call(qkv, bounds([4]), 3, 1.0), name, "qkv", 48, 3)
    refused(lambda: call(qkv, bounds([4]), 0, 1.0), name, "heads", 0)
    refused(lambda: call(normal(4, 3 * 12), bounds([4]), 1, 1.0), name, 12, 8)
    refused(lambda: call(normal(4, 3 * 136), bounds([4]), 1, 1.0), name, 136, 128)
    refused(lambda: call(normal(4097, 24), bounds([4097]), 1, 1.0), name, 4097, 4096)
    refused(lambda: call(normal(1, 24), bounds([0] * 4096 + [1]), 1, 1.0), name, 4097, 4096)
    refused(lambda: call(qkv.double(), bounds([4]), 2, 1.0), name, "qkv")


# Between uint8 tensors.

SCALES, ZEROS = (one(0.03), one(0.01)), (zero(101), zero(60))


def check_int8(kernels, isa, qkv, lengths, heads, scales, zeros, levels, allowed=tolerance.ATTENTION):
    """Against torch's, by the rounding of the output; where weights are rounded, by that as well. Levels themselves are exact."""
    scale = (qkv.shape[1] // 3 // heads) ** -0.5
    output = kernels.varlen_attention_int8(qkv, bounds(lengths), heads, scale, scales, zeros, levels)
    real = reference.dequantize(qkv, scales[0].double(), zeros[0])
    expected = by_torch(real, lengths, heads, scale)
    if isa in BY_TILES:  # which round the weights to bfloat16
        apart = tolerance.rounded_weights(real, bounds(lengths), heads, scale, expected, torch.bfloat16)
        allowed = allowed + tolerance.ATTENTION_ROUGHLY * apart
    tolerance.quantized(output, expected, scales[1], zeros[1], levels, allowed)


@pytest.mark.parametrize("levels", [255, 127])
@pytest.mark.parametrize("lengths", BATCHES, ids=str)
@pytest.mark.parametrize(("heads", "size"), [(1, 8), (2, 32), (2, 64)])
def test_int8(heads, size, lengths, levels, isa, kernels):
    qkv = integers(0, levels, sum(lengths), 3 * heads * size, dtype=torch.uint8)
    check_int8(kernels, isa, qkv, lengths, heads, SCALES, ZEROS, levels)
    scale, doubles = 1 / math.sqrt(size), [one.double() for one in SCALES]
    real = (qkv.double() - ZEROS[0]) * doubles[0]
    ours = reference.varlen_attention_int8(qkv, bounds(lengths), heads, scale, doubles, ZEROS, levels)
    tolerance.quantized(ours, by_torch(real, lengths, heads, scale), SCALES[1], ZEROS[1], levels, 1e-12)


@few
@given(
    lengths=st.lists(st.integers(0, 70), max_size=6),
    heads=st.integers(1, 5),
    size=st.sampled_from([8, 24, 32, 64, 96, 128]),
    levels=st.sampled_from([255, 127]),
    spans=st.tuples(st.floats(1, 4), st.floats(0.5, 4)),
    zeros=st.tuples(st.floats(0.3, 0.7), st.floats(0, 1)),
)
def test_int8_of_any_shape(lengths, heads, size, levels, spans, zeros, isa, kernels):
    """spans: what lies between the lowest and the highest level of qkv and output; zeros: where 0 is on that way."""
    qkv = integers(0, levels, sum(lengths), 3 * heads * size, dtype=torch.uint8)
    scales, at = [one(span / levels) for span in spans], [zero(round(share * levels)) for share in zeros]
    check_int8(kernels, isa, qkv, lengths, heads, scales, at, levels, 2 * tolerance.ATTENTION)


def test_int8_the_longest_row_and_the_largest_batch(isa, kernels):
    for lengths, size in (([4096], 8), ([row % 4 for row in range(4096)], 16)):
        qkv = integers(0, 127, sum(lengths), 3 * size, dtype=torch.uint8)
        check_int8(kernels, isa, qkv, lengths, 1, SCALES, ZEROS, 127)


def test_int8_what_does_not_fit_is_refused(isa, kernels):
    qkv, name = integers(0, 127, 4, 48, dtype=torch.uint8), "varlen_attention_int8"
    call = kernels.varlen_attention_int8
    refused(lambda: call(qkv, bounds([3]), 2, 1.0, SCALES, ZEROS, 127), name, 3, 4)
    refused(lambda: call(qkv, bounds([4]), 2, 1.0, SCALES[:1], ZEROS, 127), name, "scales", 1, 2)
    refused(lambda: call(qkv, bounds([4]), 2, 1.0, SCALES, (*ZEROS, zero(1)), 127), name, "zeros", 3, 2)
    refused(lambda: call(qkv, bounds([4]), 2, 1.0, SCALES, ZEROS, 63), name, "levels", 63, 127, 255)
    refused(lambda: call(qkv.float(), bounds([4]), 2, 1.0, SCALES, ZEROS, 127), name, "qkv")
