"""pack_tokens and restore_padding: exact, whatever the rows."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from operands import BATCHES, few, normal, refused, right_padded

from pytest_perfq.kernels import reference

HOLED = torch.tensor([[0, 0, 1, 1], [1, 0, 1, 0], [0, 0, 0, 0], [1, 1, 1, 1]])
MASKS = [right_padded(lengths, max(lengths, default=3) + 2) for lengths in BATCHES] + [
    HOLED,
    torch.zeros(2, 0, dtype=torch.int64),
]


@pytest.mark.parametrize("mask", MASKS, ids=str)
def test_the_oracle_is_torch_boolean_indexing(mask):
    cu_seqlens, index = reference.pack_tokens(mask)
    assert cu_seqlens.tolist() == [0, *mask.sum(1).cumsum(0).tolist()]
    assert torch.equal(index.long(), torch.arange(mask.numel()).view(mask.shape)[mask.bool()])
    x = normal(len(index), 5)
    padded = torch.zeros(*mask.shape, 5)
    padded[mask.bool()] = x
    assert torch.equal(reference.restore_padding(x, index, *mask.shape), padded)


@pytest.mark.parametrize("mask", MASKS, ids=str)
@pytest.mark.parametrize("hidden", [1, 7, 33])
def test_pack_and_restore(mask, hidden, isa, kernels):
    cu_seqlens, index = kernels.pack_tokens(mask, int(mask.sum()))
    expected_bounds, expected_index = reference.pack_tokens(mask)
    assert (cu_seqlens.dtype, index.dtype) == (torch.int32, torch.int32)
    assert torch.equal(cu_seqlens, expected_bounds) and torch.equal(index, expected_index)
    x = normal(len(index), hidden)
    assert torch.equal(kernels.restore_padding(x, index, *mask.shape), reference.restore_padding(x, index, *mask.shape))


@few
@given(data=st.data(), batch=st.integers(0, 9), seq=st.integers(1, 40), hidden=st.integers(1, 70))
def test_any_mask(data, batch, seq, hidden, isa, kernels):
    rows = st.lists(st.integers(0, 1), min_size=seq, max_size=seq)
    mask = torch.tensor(data.draw(st.lists(rows, min_size=batch, max_size=batch)), dtype=torch.int64).view(batch, seq)
    cu_seqlens, index = kernels.pack_tokens(mask, int(mask.sum()))
    assert torch.equal(cu_seqlens, reference.pack_tokens(mask)[0]) and torch.equal(index, reference.pack_tokens(mask)[1])
    x = normal(len(index), hidden)
    padded = kernels.restore_padding(x, index, batch, seq)
    assert torch.equal(padded.flatten(0, 1)[index.long()], x)
    assert torch.equal(padded[mask == 0], torch.zeros(int((mask == 0).sum()), hidden))


def test_the_largest_batch_and_the_longest_row(isa, kernels):
    for batch, seq in ((4096, 5), (2, 4096)):
        mask = right_padded([(7 * row) % (seq + 1) for row in range(1, batch + 1)], seq)
        cu_seqlens, index = kernels.pack_tokens(mask, int(mask.sum()))
        assert torch.equal(cu_seqlens, reference.pack_tokens(mask)[0]) and torch.equal(index, reference.pack_tokens(mask)[1])
        x = normal(len(index), 9)
        assert torch.equal(kernels.restore_padding(x, index, batch, seq), reference.restore_padding(x, index, batch, seq))


def test_nan_moves_with_its_token(isa, kernels):
    x = normal(3, 4)
    x[1] = float("nan")
    padded = kernels.restore_padding(x, torch.tensor([0, 2, 3], dtype=torch.int32), 2, 2)
    assert padded.isnan().any(2).tolist() == [[False, False], [True, False]]


@pytest.mark.parametrize("promised", [0, 2, 4, 8])
def test_a_wrong_token_count_is_refused(promised, isa, kernels):
    mask = right_padded([1, 2], 4)
    refused(lambda: kernels.pack_tokens(mask, promised), "pack_tokens", 3, promised)


def test_what_does_not_fit_is_refused(isa, kernels):
    index = torch.tensor([0, 1], dtype=torch.int32)
    refused(lambda: kernels.pack_tokens(right_padded([1], 2).int(), 1), "pack_tokens", "mask")
    refused(lambda: kernels.pack_tokens(torch.ones(3, dtype=torch.int64), 3), "pack_tokens", "mask", 1, 2)
    refused(lambda: kernels.pack_tokens(right_padded([1] * 4097, 1), 4097), "pack_tokens", 4097, 4096)
    refused(lambda: kernels.pack_tokens(right_padded([1], 4097), 1), "pack_tokens", 4097, 4096)
    refused(lambda: kernels.restore_padding(normal(3, 4), index, 2, 2), "restore_padding", 3, 2)
    refused(lambda: kernels.restore_padding(normal(2, 4), index.long(), 2, 2), "restore_padding", "index")
    refused(lambda: kernels.restore_padding(normal(2, 4), index + 3, 2, 2), "restore_padding", "index", 4, 3)
    refused(lambda: kernels.restore_padding(normal(2, 4), index - 1, 2, 2), "restore_padding", "index", -1, 3)
    refused(lambda: kernels.restore_padding(normal(2, 4), index.flip(0), 2, 2), "restore_padding", "index", 0, 1)
