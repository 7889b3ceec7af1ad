"""varlen_attention that may round: by tiles of bfloat16 where the set has them, else as it is."""

from __future__ import annotations

import inspect
import math

import played
import pytest
import test_attention
import tolerance
import torch
from hypothesis import given
from hypothesis import strategies as st
from kept import CACHE
from operands import BATCHES, bounds, few, normal
from plain_layer import FLOATS, layer_weights
from test_layer import ENDS, one_by_one

from pytest_perfq.kernels import isas

# Around tiles of 16 and 32, around what one block of queries and one chunk of keys take, and beyond several.
LENGTHS = [1, 15, 16, 17, 31, 32, 33, 48, 63, 65, 127, 128, 129, 191, 193, 384, 385, 1000]
# All that holds of the attention between uint8 tensors holds here.
globals().update(
    (name, test) for name, test in vars(test_attention).items() if name.startswith("test_int8") and inspect.isfunction(test)
)


@pytest.fixture(
    scope="module",
    params=[played.TILES, *(name for name in isas.runnable(isas.cpu_flags()) if name == isas.AMX)],
)
def isa(request, kernels):
    """A set that has tiles: the played one and, where the processor has one, its own."""
    yield request.param
    kernels.select_isa("auto")


@pytest.fixture(autouse=True)
def on_its_set(request, kernels):
    """Chosen again for each test: only one set that is played can be there at a time."""
    name = request.getfixturevalue("isa") if "isa" in request.fixturenames else "auto"
    if name in played.SETS:
        played.choose(name, CACHE)
    else:
        kernels.select_isa(name)


def check(kernels, qkv, lengths, heads, scale=None, allowed=tolerance.ATTENTION):
    scale = (qkv.shape[1] // 3 // heads) ** -0.5 if scale is None else scale
    output = kernels.varlen_attention(qkv, bounds(lengths), heads, scale, True)
    tolerance.close(output, *tolerance.attention_in_bf16(qkv.double(), bounds(lengths), heads, scale, allowed))
    return output


@pytest.mark.parametrize("lengths", BATCHES, ids=str)
@pytest.mark.parametrize(("heads", "size"), [(1, 8), (3, 32), (2, 64)])
def test_lengths(lengths, heads, size, isa, kernels):
    check(kernels, normal(sum(lengths), 3 * heads * size), lengths, heads)


@pytest.mark.parametrize("length", LENGTHS)
@pytest.mark.parametrize("size", [24, 64])
def test_rows_around_tiles(length, size, isa, kernels):
    check(kernels, normal(length + 3, 3 * size), [length, 3], 1)


@pytest.mark.parametrize("size", range(8, 129, 8))
def test_head_sizes(size, isa, kernels):
    check(kernels, normal(46, 6 * size), [7, 1, 38], 2)


def test_the_longest_row_and_the_largest_batch(isa, kernels):
    check(kernels, normal(4096, 3 * 8), [4096], 1)
    lengths = [row % 4 for row in range(4096)]
    check(kernels, normal(sum(lengths), 3 * 16), lengths, 2)


@few
@given(
    lengths=st.lists(st.integers(0, 70), max_size=6),
    heads=st.integers(1, 5),
    size=st.sampled_from(range(8, 129, 8)),
    scale=st.floats(-0.5, 0.5),
)
def test_any_shape(lengths, heads, size, scale, isa, kernels):
    check(kernels, normal(sum(lengths), 3 * heads * size), lengths, heads, scale, 2 * tolerance.ATTENTION)


def test_large_scores_pick_one_value(isa, kernels):
    qkv = normal(40, 3 * 16)
    qkv[:, :32] *= 16
    check(kernels, qkv, [33, 7], 1, 1.0, tolerance.ATTENTION_SHARP)


def test_scores_all_far_below_zero(isa, kernels):
    qkv = normal(20, 3 * 8)
    qkv[:, :8], qkv[:, 8:16] = 10.0, -10.0  # all scores -800: the mean of the values
    output = kernels.varlen_attention(qkv, bounds([20]), 1, 1.0, True)
    values = qkv[:, 16:].to(torch.bfloat16).double()
    tolerance.close(output, values.mean(0).expand(20, 8), tolerance.ATTENTION)


@pytest.mark.parametrize("length", [1, 17, 33, 400])
def test_equal_values_are_their_own_mean(length, isa, kernels):
    """Whatever the weights are rounded to: their sum is that of the rounded ones."""
    qkv = normal(length, 3 * 32)
    qkv[:, 64:] = 3.0
    output = kernels.varlen_attention(qkv, bounds([length]), 1, 0.7, True)
    torch.testing.assert_close(output, torch.full_like(output, 3.0), rtol=2e-6, atol=0)


def test_a_sequence_of_one_token_is_its_value(isa, kernels):
    qkv = normal(5, 3 * 24)
    output = kernels.varlen_attention(qkv, bounds([1] * 5), 3, 0.2, True)
    assert torch.equal(output, qkv[:, 48:].to(torch.bfloat16).float())


def test_a_sequence_does_not_see_its_neighbours(isa, kernels):
    qkv = normal(90, 3 * 32)
    whole = kernels.varlen_attention(qkv, bounds([20, 53, 17]), 2, 0.2, True)
    alone = kernels.varlen_attention(qkv[20:73].clone(), bounds([53]), 2, 0.2, True)
    assert torch.equal(whole[20:73], alone)


@pytest.mark.parametrize(("part", "rows"), [("query", [4]), ("key", [3, 4, 5, 6]), ("value", [3, 4, 5, 6])])
def test_nan_shows_where_it_is_seen(part, rows, isa, kernels):
    """As in float: a query spoils its own row, a key or value all rows of its sequence; one head of two."""
    qkv = normal(12, 3 * 32)
    qkv[4, {"query": 0, "key": 1, "value": 2}[part] * 32 + 16 + 5] = math.nan
    rounded = kernels.varlen_attention(qkv, bounds([3, 4, 5]), 2, 0.25, True)
    struck = torch.zeros(12, 32, dtype=torch.bool)
    struck[rows, 16:] = part != "value"
    struck[rows, 16 + 5] = True
    assert torch.equal(rounded.isnan(), struck)
    assert torch.equal(kernels.varlen_attention(qkv, bounds([3, 4, 5]), 2, 0.25).isnan(), struck)


def test_nan_in_a_long_row(isa, kernels):
    """One key of the second chunk spoils what the first has summed; one query its own row alone."""
    qkv = normal(500, 3 * 16)
    qkv[450, 16 + 3] = math.nan
    assert kernels.varlen_attention(qkv, bounds([500]), 1, 0.25, True).isnan().all()
    qkv = normal(500, 3 * 16)
    qkv[450, 3] = math.nan
    assert kernels.varlen_attention(qkv, bounds([500]), 1, 0.25, True).isnan().any(1).nonzero().flatten().tolist() == [450]


def test_threads_do_not_change_it(isa, kernels):
    qkv, cu_seqlens = normal(640, 3 * 64), bounds([300, 40, 0, 300])
    before, outputs = torch.get_num_threads(), []
    try:
        for threads in (1, 2, 3):
            torch.set_num_threads(threads)
            outputs.append(kernels.varlen_attention(qkv, cu_seqlens, 2, 0.2, True))
    finally:
        torch.set_num_threads(before)
    assert all(torch.equal(outputs[0], other) for other in outputs[1:])


def test_it_rounds_only_where_it_may(isa, kernels):
    qkv, cu_seqlens = normal(50, 3 * 32), bounds([33, 17])
    exact = reference_of(qkv, [33, 17], 2, 0.2)
    tolerance.close(kernels.varlen_attention(qkv, cu_seqlens, 2, 0.2), exact, tolerance.ATTENTION)
    tolerance.close(kernels.varlen_attention(qkv, cu_seqlens, 2, 0.2, False), exact, tolerance.ATTENTION)
    rounded = kernels.varlen_attention(qkv, cu_seqlens, 2, 0.2, True)
    assert (rounded.double() - exact).abs().max() > 100 * tolerance.ATTENTION


def reference_of(qkv, lengths, heads, scale):
    return test_attention.by_torch(qkv.double(), lengths, heads, scale)


@pytest.mark.parametrize("name", [name for name in isas.runnable(isas.cpu_flags()) if name != isas.AMX])
def test_a_set_without_tiles_does_not_round(name, kernels):
    kernels.select_isa(name)
    qkv, cu_seqlens = normal(50, 3 * 32), bounds([33, 17])
    float_alone = kernels.varlen_attention(qkv, cu_seqlens, 2, 0.2)
    assert torch.equal(kernels.varlen_attention(qkv, cu_seqlens, 2, 0.2, True), float_alone)


def test_played_tiles_are_the_processors(kernels):
    """But for what the processor's sums round otherwise, and weights that lie at a tie."""
    if isas.AMX not in isas.runnable(isas.cpu_flags()):
        pytest.skip("this processor has no tiles")
    qkv, cu_seqlens = normal(600, 3 * 40), bounds([33, 17, 550])
    played.choose(played.TILES, CACHE)
    ours = kernels.varlen_attention(qkv, cu_seqlens, 1, 0.2, True)
    kernels.select_isa(isas.AMX)
    theirs = kernels.varlen_attention(qkv, cu_seqlens, 1, 0.2, True)
    assert (ours - theirs).abs().mean() < tolerance.ATTENTION
    assert (ours - theirs).abs().max() < 2**-8


@pytest.mark.parametrize("bits", [*FLOATS, "w8a8", "w8a7", "w7a7"])
def test_a_layer_rounds_where_its_linears_do(bits, kernels):
    if isas.AMX not in isas.runnable(isas.cpu_flags()):
        pytest.skip("this processor has no tiles, and no layer rounds")
    x, cu_seqlens, weights = normal(50, 64), bounds([33, 17]), layer_weights(kernels, 64, 96, bits)
    got = kernels.layer(x, cu_seqlens, *weights, 2, 0.2, *ENDS, bits, "gelu")
    rounding, exact = (one_by_one(kernels, x, cu_seqlens, weights, 2, 0.2, bits, "gelu", may) for may in (True, False))
    assert torch.equal(got, exact if bits == "fp32" else rounding) and not torch.equal(rounding, exact)
