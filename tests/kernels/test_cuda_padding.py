"""pack_tokens and restore_padding as the CUDA sources have them, exact; run thread by thread on the CPU."""

import pytest
import torch
from operands import BATCHES, normal, refused, right_padded
from torch.library import opcheck

from pytest_perfq.kernels import reference

HOLED = torch.tensor([[0, 0, 1, 1], [1, 0, 1, 0], [0, 0, 0, 0], [1, 1, 1, 1], [0, 1, 0, 5]])
TAIL, SPOILT = -1, -2
MASKS = [right_padded(lengths, max(lengths, default=3) + 2) for lengths in BATCHES]
MASKS += [HOLED, torch.zeros(2, 0, dtype=torch.int64), torch.zeros(0, 4, dtype=torch.int64)]
# More than one tile of the block, rows of one place, and rows longer than a warp's run.
LARGE = [
    right_padded([(7 * row) % 4 for row in range(4096)], 3),
    right_padded([4096, 1, 4000], 4096),
    right_padded([1] * 300, 1),
]


def check_packed(emulated, mask, extra):
    cu_seqlens, index = reference.pack_tokens(mask)
    ours = emulated.pack_tokens(mask, len(index) + extra)
    assert torch.equal(ours[0], cu_seqlens)
    assert torch.equal(ours[1], torch.cat([index, torch.full((extra,), TAIL, dtype=torch.int32)]))


@pytest.mark.parametrize("mask", MASKS, ids=str)
def test_packing_is_the_oracles(emulated, order, mask):
    check_packed(emulated, mask, 0)
    check_packed(emulated, mask, 5)


@pytest.mark.parametrize("mask", LARGE, ids=lambda mask: str(tuple(mask.shape)))
def test_packing_many_places(emulated, mask):
    check_packed(emulated, mask, 3)


def test_more_tokens_than_promised_spoil_the_index_and_nothing_reaches_behind_it(emulated, order):
    mask = right_padded([3, 2], 4)
    cu_seqlens, index = emulated.pack_tokens(mask, 4)
    assert cu_seqlens.tolist() == [0, 3, 4] and index.tolist() == [SPOILT] * 4
    assert emulated.restore_padding(normal(4, 6), index, 2, 4).isnan().all()


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
@pytest.mark.parametrize("hidden", [1, 7, 64, 264])
def test_restoring_is_the_oracles(emulated, order, hidden, dtype):
    for mask in MASKS:
        index = reference.pack_tokens(mask)[1]
        for extra in (0, 3):
            x = normal(len(index) + extra, hidden).to(dtype)
            tail = torch.full((extra,), TAIL, dtype=torch.int32)
            padded = emulated.restore_padding(x, torch.cat([index, tail]), *mask.shape)
            assert torch.equal(padded, reference.restore_padding(x[: len(index)], index, *mask.shape))


@pytest.mark.parametrize("tokens", [31, 33, 1023, 1057, 1300])
def test_restoring_finds_every_place_among_many_tokens(emulated, tokens):
    places = torch.randperm(1400, generator=torch.Generator().manual_seed(tokens))[:tokens].sort().values.to(torch.int32)
    x = normal(tokens, 3)
    assert torch.equal(emulated.restore_padding(x, places, 14, 100), reference.restore_padding(x, places, 14, 100))


def test_nan_moves_with_its_token(emulated):
    x = normal(3, 4)
    x[1] = float("nan")
    padded = emulated.restore_padding(x, torch.tensor([0, 2, 3], dtype=torch.int32), 2, 2)
    assert padded.isnan().any(2).tolist() == [[False, False], [True, False]]


def test_a_view_with_gaps_is_read_as_it_is(emulated):
    mask = right_padded([3, 5], 5)
    gapped = torch.stack([mask, 1 - mask], 2)[..., 0]
    assert not gapped.is_contiguous()
    assert torch.equal(emulated.pack_tokens(gapped, 8)[1], reference.pack_tokens(mask)[1])
    behind = torch.cat([torch.zeros(1, 1, dtype=torch.int64), mask.view(1, -1)], 1)[:, 1:]  # begins at 8 bytes
    assert torch.equal(emulated.pack_tokens(behind.view(2, 5), 8)[1], reference.pack_tokens(mask)[1])


def test_what_does_not_fit_is_refused(emulated):
    index = torch.tensor([0, 1], dtype=torch.int32)
    pack, restore = emulated.pack_tokens, emulated.restore_padding
    refused(lambda: pack(right_padded([1], 2).int(), 1), "pack_tokens", "mask", "int32", "int64")
    refused(lambda: pack(torch.ones(3, dtype=torch.int64), 3), "pack_tokens", "mask", 1, 2)
    refused(lambda: pack(right_padded([1] * 4097, 1), 4097), "pack_tokens", 4097, 4096, "rows")
    refused(lambda: pack(right_padded([1], 4097), 1), "pack_tokens", 4097, 4096, "wide")
    refused(lambda: pack(right_padded([1], 2), -1), "pack_tokens", "tokens", -1)
    refused(lambda: restore(normal(3, 4), index, 2, 2), "restore_padding", 3, 2)
    refused(lambda: restore(normal(2, 4), index.long(), 2, 2), "restore_padding", "index", "int64", "int32")
    refused(lambda: restore(normal(2, 4).double(), index, 2, 2), "restore_padding", "x", "float64", "bfloat16")
    refused(lambda: restore(normal(2), index, 2, 2), "restore_padding", "x", 1, 2)
    refused(lambda: restore(normal(2, 4), index, -1, 2), "restore_padding", "batch", -1, "negative")
    refused(lambda: restore(normal(2, 0), index, 4097, 1), "restore_padding", 4097, 4096, "rows")
    refused(lambda: restore(normal(2, 0), index, 1, 4097), "restore_padding", 4097, 4096, "wide")


def test_opcheck(emulated):
    opcheck(emulated.pack_tokens.default, (HOLED, 12))
    opcheck(emulated.restore_padding.default, (normal(2, 8), torch.tensor([0, 2], dtype=torch.int32), 2, 2))
