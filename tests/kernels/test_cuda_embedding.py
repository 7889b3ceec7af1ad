"""embed_layernorm as the CUDA sources have it, against the oracle; run thread by thread on the CPU."""

import pytest
import tolerance
import torch
from operands import integers, normal, refused, right_padded
from torch.library import opcheck

from pytest_perfq.kernels import reference

WORDS, POSITIONS, TYPES, EPS = 50, 70, 3, 1e-12
NAMES = ["input_ids", "token_type_ids", "index", "word", "position", "token_type", "weight", "bias"]


def arguments(mask, hidden, dtype=torch.float32, typed=True, with_ids=True):
    tables = [normal(rows, hidden, seed=rows).to(dtype) for rows in (WORDS, POSITIONS, TYPES)]
    weight, bias = (1 + 0.2 * normal(hidden, seed=8)).to(dtype), normal(hidden, seed=9).to(dtype)
    ids = integers(0, WORDS - 1, *mask.shape)
    types = integers(0, TYPES - 1, *mask.shape) if with_ids else None
    return [ids, types, reference.pack_tokens(mask)[1], *tables[:2], tables[2] if typed else None, weight, bias]


def changed(values, **places):
    return [places.get(name, value) for name, value in zip(NAMES, values, strict=True)]


def oracle(values, eps=EPS):
    return reference.embed_layernorm(
        *(one.double() if one is not None and one.is_floating_point() else one for one in values), eps
    )


def check(emulated, values, eps=EPS):
    dtype = values[3].dtype
    tolerance.rounded(emulated.embed_layernorm(*values, eps), oracle(values, eps), dtype, tolerance.LAYERNORM)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
@pytest.mark.parametrize("hidden", [1, 7, 17, 64, 384, 768, 1000, 1032, 4104])
def test_hidden_sizes(emulated, order, hidden, dtype):
    check(emulated, arguments(right_padded([3, 0, 2], 4), hidden, dtype), 1e-5 if hidden == 1 else EPS)


@pytest.mark.parametrize("lengths", [[], [0], [1], [0, 5, 0], [3, 0, 1, 17]], ids=str)
@pytest.mark.parametrize(("typed", "with_ids"), [(True, True), (True, False), (False, True), (False, False)])
def test_lengths(emulated, lengths, typed, with_ids):
    check(emulated, arguments(right_padded(lengths, max(lengths, default=2) + 1), 24, torch.float32, typed, with_ids))


def test_a_position_is_a_column_even_behind_padding(emulated):
    check(emulated, arguments(torch.tensor([[0, 0, 1, 1], [1, 0, 0, 1]]), 24))


def test_rows_of_the_tail_are_zeros(emulated, order):
    values = arguments(right_padded([3, 2], 4), 33)
    tail = torch.full((6,), -1, dtype=torch.int32)
    output = emulated.embed_layernorm(*changed(values, index=torch.cat([values[2], tail])), EPS)
    assert torch.equal(output[:5], emulated.embed_layernorm(*values, EPS))
    assert torch.equal(output[5:], torch.zeros(6, 33))


@pytest.mark.parametrize(
    ("name", "value"),
    [("input_ids", WORDS), ("input_ids", -1), ("input_ids", 2**40), ("token_type_ids", TYPES), ("token_type_ids", -7)],
)
def test_an_id_outside_its_table_makes_its_row_nan(emulated, name, value):
    values = arguments(right_padded([3, 5], 5), 40)
    ids = values[NAMES.index(name)].clone()
    ids[1, 3] = value
    output = emulated.embed_layernorm(*changed(values, **{name: ids}), EPS)
    struck = torch.arange(8) == 6  # three tokens of the first row are before it
    assert torch.equal(output.isnan().all(1), struck) and torch.equal(output.isnan().any(1), struck)
    assert torch.equal(output[~struck], emulated.embed_layernorm(*values, EPS)[~struck])


def test_a_place_outside_the_batch_or_the_positions_makes_its_row_nan(emulated):
    values = arguments(right_padded([3, 5], 5), 16)
    output = emulated.embed_layernorm(*changed(values, index=torch.tensor([0, 10, -2], dtype=torch.int32)), EPS)
    assert output.isnan().all(1).tolist() == [False, True, True]
    output = emulated.embed_layernorm(*changed(values, position=values[4][:4]), EPS)
    assert output.isnan().all(1).tolist() == [False] * 7 + [True]


def test_ids_of_padding_are_never_read(emulated):
    mask = right_padded([3, 2], 5)
    values = arguments(mask, 8)
    wild = changed(values, input_ids=values[0].masked_fill(mask == 0, -(2**40)))
    assert torch.equal(emulated.embed_layernorm(*values, EPS), emulated.embed_layernorm(*wild, EPS))


def test_nan_in_a_table_shows_in_its_tokens_alone(emulated):
    values = arguments(right_padded([5, 5], 5), 40)
    values[3][values[0][0, 1], 11] = float("nan")
    output = emulated.embed_layernorm(*values, EPS)
    struck = values[0].flatten() == values[0][0, 1]
    assert torch.equal(output.isnan().all(1), struck) and torch.equal(output.isnan().any(1), struck)


def test_what_does_not_fit_is_refused(emulated):
    values = arguments(right_padded([3, 5], 5), 8)

    def refuse(*words, **places):
        refused(lambda: emulated.embed_layernorm(*changed(values, **places), EPS), "embed_layernorm", *words)

    refuse("position", 7, 8, position=normal(POSITIONS, 7))
    refuse("token_type", 9, 8, token_type=normal(TYPES, 9))
    refuse("weight", 7, 8, weight=normal(7))
    refuse("bias", 9, 8, bias=normal(9))
    refuse("token_type_ids", "columns", 5, 4, token_type_ids=values[1][:, :4])
    refuse("token_type_ids", "rows", 2, 1, token_type_ids=values[1][:1])
    refuse("input_ids", "int32", "int64", input_ids=values[0].int())
    refuse("index", "int64", "int32", index=values[2].long())
    refuse("word", "float64", "bfloat16", word=values[3].double())
    refuse("position", "float16", "float32", position=values[4].half())
    refuse("word", 0, 8192, word=normal(WORDS, 0))
    refuse("word", 8193, 8192, word=torch.zeros(1, 8193))
    wide, tall = torch.zeros(1, 4097, dtype=torch.int64), torch.zeros(4097, 1, dtype=torch.int64)
    refuse("wide", 4097, 4096, input_ids=wide, token_type_ids=None)
    refuse("rows", 4097, 4096, input_ids=tall, token_type_ids=None)


def test_opcheck(emulated):
    opcheck(emulated.embed_layernorm.default, (*arguments(right_padded([3, 1], 4), 16), EPS))
