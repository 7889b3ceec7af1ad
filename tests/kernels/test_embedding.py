"""embed_layernorm: three look-ups and a normalization, of the real tokens only."""

import pytest
import tolerance
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st
from operands import BATCHES, ODD_SIZES, few, integers, normal, refused, right_padded

from pytest_perfq.kernels import reference

WORDS, POSITIONS, TYPES, EPS = 50, 70, 3, 1e-12


def tables(hidden):
    """word, position, token_type, weight, bias."""
    weight, bias = 1 + 0.2 * normal(hidden, seed=8), normal(hidden, seed=9)
    return [normal(rows, hidden, seed=rows) for rows in (WORDS, POSITIONS, TYPES)] + [weight, bias]


def arguments(mask, hidden, typed=True, with_ids=True):
    word, position, token_type, weight, bias = tables(hidden)
    ids = integers(0, WORDS - 1, *mask.shape) * mask
    types = integers(0, TYPES - 1, *mask.shape) * mask if with_ids else None
    index = reference.pack_tokens(mask)[1]
    return [ids, types, index, word, position, token_type if typed else None, weight, bias]


def double(values):
    return [value.double() if value is not None and value.is_floating_point() else value for value in values]


def check(kernels, values, eps=EPS):
    tolerance.close(kernels.embed_layernorm(*values, eps), reference.embed_layernorm(*double(values), eps), tolerance.LAYERNORM)


def test_the_oracle_is_torchs_embedding_and_layer_norm():
    mask = right_padded([4, 0, 6], 6)
    values = double(arguments(mask, 16))
    ids, types, _, word, position, token_type, weight, bias = values
    summed = F.embedding(ids, word) + F.embedding(torch.arange(6), position) + F.embedding(types, token_type)
    expected = F.layer_norm(summed, (16,), weight, bias, EPS)[mask.bool()]
    torch.testing.assert_close(reference.embed_layernorm(*values, EPS), expected, rtol=0, atol=tolerance.ORACLE)


@pytest.mark.parametrize("lengths", BATCHES, ids=str)
@pytest.mark.parametrize(("typed", "with_ids"), [(True, True), (True, False), (False, False)])
def test_lengths(lengths, typed, with_ids, isa, kernels):
    check(kernels, arguments(right_padded(lengths, max(lengths, default=2) + 1), 33, typed, with_ids))


@pytest.mark.parametrize("hidden", ODD_SIZES)
def test_hidden_sizes(hidden, isa, kernels):
    check(kernels, arguments(right_padded([3, 5], 5), hidden), 1e-5 if hidden == 1 else EPS)


@few
@given(lengths=st.lists(st.integers(0, 20), max_size=6), extra=st.integers(0, 3), hidden=st.integers(8, 200))
def test_any_shape(lengths, extra, hidden, isa, kernels):
    check(kernels, arguments(right_padded(lengths, max(lengths, default=0) + extra), hidden))


def test_a_position_is_a_column_even_behind_padding(isa, kernels):
    mask = torch.tensor([[0, 0, 1, 1], [1, 0, 0, 1]])
    check(kernels, arguments(mask, 24))


def test_the_largest_batch(isa, kernels):
    check(kernels, arguments(right_padded([row % 4 for row in range(4096)], 3), 16))


def test_nan_in_a_table_shows_in_its_tokens_alone(isa, kernels):
    values = arguments(right_padded([5, 5], 5), 40)
    values[3][values[0][0, 1]] = float("nan")
    output = kernels.embed_layernorm(*values, EPS)
    struck = values[0].flatten() == values[0][0, 1]
    assert torch.equal(output.isnan().all(1), struck) and torch.equal(output.isnan().any(1), struck)


def changed(values, **places):
    names = ["input_ids", "token_type_ids", "index", "word", "position", "token_type", "weight", "bias"]
    values = list(values)
    for name, value in places.items():
        values[names.index(name)] = value
    return values


def test_ids_outside_their_table_are_refused(isa, kernels):
    values = arguments(right_padded([3, 5], 5), 8)
    ids, types = values[0], values[1]

    def refuse(*words, **places):
        refused(lambda: kernels.embed_layernorm(*changed(values, **places), EPS), "embed_layernorm", *words)

    def with_one(tensor, value):
        tensor = tensor.clone()
        tensor[1, 3] = value
        return tensor

    refuse("row", 1, "column", 3, "id", WORDS, input_ids=with_one(ids, WORDS))
    refuse(-1, WORDS, input_ids=with_one(ids, -1))
    refuse("type", TYPES, token_type_ids=with_one(types, TYPES))
    refuse(-7, TYPES, token_type_ids=with_one(types, -7))
    refuse("position", 4, position=values[4][:4])
    refuse("index", 10, index=torch.tensor([10], dtype=torch.int32))


def test_ids_of_padding_are_never_read(isa, kernels):
    values = arguments(right_padded([3, 2], 5), 8)
    wild = changed(values, input_ids=values[0].masked_fill(right_padded([3, 2], 5) == 0, -(2**40)))
    assert torch.equal(kernels.embed_layernorm(*values, EPS), kernels.embed_layernorm(*wild, EPS))


def test_what_does_not_fit_is_refused(isa, kernels):
    values = arguments(right_padded([3, 5], 5), 8)

    def refuse(*words, **places):
        refused(lambda: kernels.embed_layernorm(*changed(values, **places), EPS), "embed_layernorm", *words)

    refuse("position", 7, 8, position=normal(POSITIONS, 7))
    refuse("token_type", 9, 8, token_type=normal(TYPES, 9))
    refuse("weight", 7, 8, weight=normal(7))
    refuse("bias", 9, 8, bias=normal(9))
    refuse("token_type_ids", 10, 8, token_type_ids=values[1][:, :4])
    refuse("input_ids", input_ids=values[0].int())
    refuse("word", word=values[3].double())
