"""varlen_attention and varlen_attention_int8 as the CUDA sources have them, against the oracle; run thread by thread."""

import math

import pytest
import tolerance
import torch
from operands import BATCHES, bounds, integers, normal, one, refused, zero

from pytest_perfq.kernels import reference

TYPES = [torch.float32, torch.float16, torch.bfloat16]
SIZES = [8, 24, 32, 64, 128]
# Of a warp's 16 queries, of a tile and of a chunk of keys (32 or 64): one less, as many, one more; and an empty one between.
EDGES = [15, 16, 0, 17, 1]
LENGTHS = [*BATCHES, EDGES, [31, 32, 33], [63, 0, 64], [65], [129, 2]]


def exact(qkv, lengths, heads, scale):
    """The oracle in float64, and how far rounded weights may take the output from it."""
    doubles, starts = qkv.double(), bounds(lengths)
    expected = reference.varlen_attention(doubles, starts, heads, scale)
    return expected, tolerance.rounded_weights(doubles, starts, heads, scale, expected, qkv.dtype)


def check(call, qkv, lengths, heads, scale=None, allowed=tolerance.ATTENTION):
    scale = 1 / math.sqrt(qkv.shape[1] // 3 // heads) if scale is None else scale
    tokens = sum(lengths)
    expected, weights = exact(qkv[:tokens], lengths, heads, scale)
    output = call(qkv, bounds(lengths), heads, scale)
    tolerance.rounded(output[:tokens], expected, qkv.dtype, allowed + weights)
    assert not output[tokens:].count_nonzero()


@pytest.mark.parametrize("dtype", TYPES)
@pytest.mark.parametrize("size", SIZES)
def test_head_sizes(emulated, order, size, dtype):
    check(emulated.varlen_attention, normal(46, 6 * size).to(dtype), [7, 1, 38], 2)


@pytest.mark.parametrize("dtype", TYPES)
@pytest.mark.parametrize("lengths", LENGTHS, ids=str)
def test_lengths(emulated, order, lengths, dtype):
    check(emulated.varlen_attention, normal(sum(lengths), 3 * 32).to(dtype), lengths, 1)


@pytest.mark.parametrize("dtype", TYPES)
@pytest.mark.parametrize("lengths", [[65, 31], [129]], ids=str)
def test_chunks_of_the_widest_head(emulated, order, lengths, dtype):
    check(emulated.varlen_attention, normal(sum(lengths), 3 * 128).to(dtype), lengths, 1)


@pytest.mark.parametrize("dtype", TYPES)
def test_a_long_row(emulated, dtype):
    check(emulated.varlen_attention, normal(519, 3 * 8).to(dtype), [2, 517], 1)


@pytest.mark.parametrize("sequences", [31, 32, 33, 34, 67, 1100])
def test_every_row_finds_its_sequence(emulated, sequences):
    """Equal values come out as they are, so each sequence shows whose values it read; searched in one step, two and three."""
    lengths = [row % 3 for row in range(sequences)]
    qkv = normal(sum(lengths), 3 * 8).half()
    mark = torch.arange(sequences).repeat_interleave(torch.tensor(lengths)).half()
    qkv[:, 16:] = mark[:, None]
    output = emulated.varlen_attention(qkv, bounds(lengths), 1, 0.3)
    assert torch.equal(output, mark[:, None].expand(-1, 8))


@pytest.mark.parametrize("dtype", TYPES)
@pytest.mark.parametrize(("lengths", "tail"), [([], 70), ([0, 0], 3), ([60, 3], 1), ([5], 130)])
def test_rows_behind_the_last_sequence_are_zeros(emulated, order, lengths, tail, dtype):
    qkv = normal(sum(lengths) + tail, 6 * 8).to(dtype)
    qkv[sum(lengths) :] = float("nan")
    check(emulated.varlen_attention, qkv, lengths, 2)


@pytest.mark.parametrize("dtype", TYPES)
def test_large_scores_pick_one_value(emulated, dtype):
    """Scores far beyond what exp can take, and those of a later chunk above all before."""
    qkv = normal(70, 3 * 16)
    qkv[:, :32] *= 8
    qkv[65] *= 2
    expected = reference.varlen_attention(qkv.to(dtype).double(), bounds([70]), 1, 1.0)
    assert expected.isfinite().all()
    check(emulated.varlen_attention, qkv.to(dtype), [70], 1, 1.0, tolerance.ATTENTION_SHARP)


@pytest.mark.parametrize("dtype", TYPES)
@pytest.mark.parametrize("scale", [-0.4, 0.0])
def test_any_scale(emulated, scale, dtype):
    check(emulated.varlen_attention, normal(35, 3 * 16).to(dtype), [35], 1, scale)


@pytest.mark.parametrize("dtype", TYPES)
def test_scores_all_far_below_zero(emulated, dtype):
    qkv = normal(20, 3 * 8).to(dtype)
    qkv[:, :8], qkv[:, 8:16] = 10.0, -10.0  # all scores -800: the mean of the values
    output = emulated.varlen_attention(qkv, bounds([20]), 1, 1.0)
    tolerance.rounded(output, qkv[:, 16:].double().mean(0).expand(20, 8), dtype, tolerance.ATTENTION)


@pytest.mark.parametrize("dtype", TYPES)
def test_a_sequence_of_one_token_is_its_value(emulated, dtype):
    qkv = normal(5, 3 * 24).to(dtype)
    assert torch.equal(emulated.varlen_attention(qkv, bounds([1] * 5), 3, 0.2), qkv[:, 48:])


@pytest.mark.parametrize("dtype", TYPES)
def test_a_sequence_does_not_see_its_neighbours(emulated, dtype):
    qkv = normal(50, 3 * 32).to(dtype)
    whole = emulated.varlen_attention(qkv, bounds([20, 13, 17]), 2, 0.2)
    alone = emulated.varlen_attention(qkv[20:33].clone(), bounds([13]), 2, 0.2)
    assert torch.equal(whole[20:33], alone)


@pytest.mark.parametrize("dtype", TYPES)
@pytest.mark.parametrize(("part", "rows"), [("query", [4]), ("key", [3, 4, 5, 6]), ("value", [3, 4, 5, 6])])
def test_nan_shows_where_it_is_seen_alone(emulated, part, rows, dtype):
    """Token 4 of sequence 3..6: a query spoils its own row, a key or value all rows of its sequence; one head of two."""
    qkv = normal(12, 3 * 32).to(dtype)
    qkv[4, {"query": 0, "key": 1, "value": 2}[part] * 32 + 16 + 5] = float("nan")
    output = emulated.varlen_attention(qkv, bounds([3, 4, 5]), 2, 0.25)
    struck = torch.zeros(12, 32, dtype=torch.bool)
    struck[rows, 16:] = part != "value"
    struck[rows, 16 + 5] = True
    assert torch.equal(output.isnan(), struck)


@pytest.mark.parametrize("dtype", TYPES)
@pytest.mark.parametrize("size", [24, 64])
def test_the_launcher_adds_a_bias(emulated, order, size, dtype):
    """As if it had been added to qkv: that of the queries rounded to the type, that of the keys without effect."""
    qkv, bias = normal(40, 6 * size).to(dtype), normal(6 * size, seed=1).to(dtype)
    hidden = 2 * size
    added = qkv.double() + bias.double()
    added[:, :hidden] = (qkv[:, :hidden].float() + bias[:hidden].float()).to(dtype).double()
    expected = reference.varlen_attention(added, bounds([33, 7]), 2, 0.2)
    without = expected - bias[2 * hidden :].double()
    weights = tolerance.rounded_weights(added, bounds([33, 7]), 2, 0.2, expected, dtype)
    output = emulated.biased_attention(qkv, bias, bounds([33, 7]), 2, 0.2)
    tolerance.rounded(output, expected, dtype, tolerance.ATTENTION + weights + 2**-22 * without.abs())


def test_what_does_not_fit_is_refused(emulated):
    qkv, name = normal(4, 48), "varlen_attention"
    call = emulated.varlen_attention
    refused(lambda: call(qkv, bounds([4]).long(), 2, 1.0), name, "cu_seqlens", "int64", "int32")
    refused(lambda: call(qkv, torch.empty(0, dtype=torch.int32), 2, 1.0), name, "cu_seqlens", "empty")
    refused(lambda: call(normal(4, 47), bounds([4]), 1, 1.0), name, "qkv", 47, 1)
    refused(lambda: call(qkv, bounds([4]), 3, 1.0), name, "qkv", 48, 3)
    refused(lambda: call(qkv, bounds([4]), 0, 1.0), name, "heads", 0)
    refused(lambda: call(normal(4, 3 * 12), bounds([4]), 1, 1.0), name, 12, 8)
    refused(lambda: call(normal(4, 3 * 136), bounds([4]), 1, 1.0), name, 136, 128)
    refused(lambda: call(normal(1, 24), bounds([0] * 4096 + [1]), 1, 1.0), name, 4097, 4096)
    refused(lambda: call(qkv.double(), bounds([4]), 2, 1.0), name, "qkv", "float64")
    refused(lambda: call(qkv[0], bounds([4]), 2, 1.0), name, "qkv", 1, 2)


def test_bfloat16_is_refused_where_tensor_cores_lack_it(emulated, monkeypatch):
    monkeypatch.setenv("PERFQ_EMULATED_CAPABILITY", "75")
    qkv = normal(4, 48)
    refused(
        lambda: emulated.varlen_attention(qkv.bfloat16(), bounds([4]), 2, 1.0),
        "varlen_attention",
        "bfloat16",
        "8.0",
        "7.5",
        "float16",
    )
    check(emulated.varlen_attention, qkv.half(), [4], 2)
    check(emulated.varlen_attention, qkv, [4], 2)


# Between uint8 tensors.

SCALES, ZEROS = (one(0.03), one(0.01)), (zero(101), zero(60))


def check_int8(emulated, lengths, heads, size, levels, scale=None, tail=0):
    scale = 1 / math.sqrt(size) if scale is None else scale
    tokens, starts = sum(lengths), bounds(lengths)
    qkv = integers(0, levels, tokens + tail, 3 * heads * size, dtype=torch.uint8)
    output = emulated.varlen_attention_int8(qkv, starts, heads, scale, SCALES, ZEROS, levels)
    real = (qkv[:tokens].double() - ZEROS[0]) * SCALES[0].double()
    expected = reference.varlen_attention(real, starts, heads, scale)
    weights = tolerance.rounded_weights(real, starts, heads, scale, expected, torch.float16)
    tolerance.quantized(output[:tokens], expected, SCALES[1], ZEROS[1], levels, tolerance.ATTENTION + weights)
    assert (output[tokens:] == ZEROS[1]).all()
    return weights


@pytest.mark.parametrize("levels", [255, 127])
@pytest.mark.parametrize("size", SIZES)
def test_int8(emulated, order, size, levels):
    check_int8(emulated, [7, 0, 1, 38], 2, size, levels)


@pytest.mark.parametrize("lengths", LENGTHS, ids=str)
def test_int8_lengths(emulated, order, lengths):
    check_int8(emulated, lengths, 1, 32, 255, tail=3)


def test_int8_sharp_scores_and_any_scale(emulated):
    check_int8(emulated, [70], 1, 64, 255, 3.0)
    check_int8(emulated, [35], 1, 16, 127, -0.4)
    check_int8(emulated, [35], 1, 16, 127, 0.0)


@pytest.mark.parametrize("scale", [0.125, 1.0])
def test_int8_weights_in_f16_are_small_beside_a_level(emulated, scale):
    """Levels of the output three times as fine as those of qkv: one in a hundred is another than exact arithmetic rounds to, by one."""
    qkv = integers(0, 255, 70, 3 * 64, dtype=torch.uint8)
    output = emulated.varlen_attention_int8(qkv, bounds([70]), 1, scale, SCALES, ZEROS, 255)
    doubles = [one.double() for one in SCALES]
    apart = (output.int() - reference.varlen_attention_int8(qkv, bounds([70]), 1, scale, doubles, ZEROS, 255).int()).abs()
    assert apart.max() <= 1
    assert apart.double().mean() < 0.01


def test_int8_what_does_not_fit_is_refused(emulated):
    qkv, name = integers(0, 127, 4, 48, dtype=torch.uint8), "varlen_attention_int8"
    call = emulated.varlen_attention_int8
    refused(lambda: call(qkv, bounds([4]), 2, 1.0, SCALES[:1], ZEROS, 127), name, "scales", 1, 2)
    refused(lambda: call(qkv, bounds([4]), 2, 1.0, SCALES, (*ZEROS, zero(1)), 127), name, "zeros", 3, 2)
    refused(lambda: call(qkv, bounds([4]), 2, 1.0, (one(0.1), normal(2)), ZEROS, 127), name, "scale", "output", 2, 1)
    refused(
        lambda: call(qkv, bounds([4]), 2, 1.0, SCALES, (zero(1).long(), zero(1)), 127), name, "zero", "qkv", "int64", "int32"
    )
    refused(lambda: call(qkv, bounds([4]), 2, 1.0, SCALES, ZEROS, 63), name, "levels", 63, 127, 255)
    refused(lambda: call(qkv.float(), bounds([4]), 2, 1.0, SCALES, ZEROS, 127), name, "qkv", "float32", "uint8")


@pytest.mark.parametrize("dtype", TYPES)
def test_torch_can_trace_it(emulated, dtype):
    qkv = normal(9, 6 * 8).to(dtype)
    torch.library.opcheck(emulated.varlen_attention.default, (qkv, bounds([4, 5]), 2, 0.3))


def test_torch_can_trace_int8(emulated):
    qkv = integers(0, 127, 9, 6 * 8, dtype=torch.uint8)
    torch.library.opcheck(emulated.varlen_attention_int8.default, (qkv, bounds([4, 5]), 2, 0.3, list(SCALES), list(ZEROS), 127))
