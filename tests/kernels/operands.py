"""Operands from seeds, of order one so that a tolerance means the same everywhere, and what several tests ask of an op."""

from __future__ import annotations

import math
import re

import pytest
import torch
from hypothesis import settings

from pytest_perfq.kernels.bits import BITS

# Derandomized: the same shapes in every run, so that a failure is a change and not luck.
few = settings(max_examples=20, derandomize=True)
# Hidden sizes and features: one, less than a vector, odd, one over a tile, MiniLM's, and one that no unroll divides.
ODD_SIZES = [1, 7, 17, 33, 384, 770]
# (in, out) features: every odd size on both sides, the ends with the ends.
FEATURES = [
    (1, 1),
    (1, 770),
    (770, 1),
    (7, 17),
    (17, 7),
    (33, 384),
    (384, 33),
    (384, 770),
    (770, 384),
    (17, 33),
    (33, 17),
    (7, 7),
]
# Lengths of the sequences of a batch: no sequence, no token, one token, empty rows at either end, rows of one, a mix.
BATCHES = [[], [0], [0, 0, 0], [1], [1, 1, 1], [0, 5, 0], [3, 0, 1, 17], [64, 33, 1]]


def normal(*shape: int, seed: int = 0) -> torch.Tensor:
    """float32 of mean 0 and deviation 1."""
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed + 1000 * sum(shape)))


def integers(low: int, high: int, *shape: int, seed: int = 0, dtype: torch.dtype = torch.int64) -> torch.Tensor:
    """Uniform on low..high, both included."""
    return torch.randint(low, high + 1, shape, generator=torch.Generator().manual_seed(seed + 1000 * sum(shape)), dtype=dtype)


def weight(out_features: int, in_features: int, seed: int = 1) -> torch.Tensor:
    """[N, K] such that x of order one gives a product of order one."""
    return normal(out_features, in_features, seed=seed) / math.sqrt(in_features)


def weight_int8(out_features: int, in_features: int, bits: str, seed: int = 1) -> tuple[torch.Tensor, torch.Tensor]:
    """[N, K] int8 over the whole range of `bits`, and scales [N] such that a float x of order one gives a product of order
    one, every column its own. A run of weights that might saturate an int16 together is a quarter as large."""
    largest, together = BITS[bits].weight, BITS[bits].together
    values = integers(-largest, largest, out_features, in_features, seed=seed, dtype=torch.int8)
    if together:
        runs = torch.nn.functional.pad(values.int(), (0, -in_features % (2 * together))).unflatten(1, (-1, together, 2))
        pairs = runs.abs().sum(3)  # the first, third, ... of a run meet in one int16, the second, fourth, ... in another
        over = torch.maximum(pairs[..., ::2].sum(2), pairs[..., 1::2].sum(2)) > 258
        runs = torch.where(over[..., None, None], runs // 4, runs)
        values = runs.view(out_features, -1)[:, :in_features].to(torch.int8).contiguous()
    return values, (0.5 + torch.arange(out_features) % 3) / (largest * math.sqrt(in_features))


def bounds(lengths: list[int]) -> torch.Tensor:
    """cu_seqlens [B + 1] int32."""
    return torch.tensor([0, *lengths], dtype=torch.int32).cumsum(0, dtype=torch.int32)


def right_padded(lengths: list[int], columns: int) -> torch.Tensor:
    """mask [B, S] int64."""
    return (torch.arange(columns)[None, :] < torch.tensor(lengths, dtype=torch.int64)[:, None]).long()


def one(value: float, dtype: torch.dtype = torch.float32) -> torch.Tensor:
    """A scale or zero: [1]."""
    return torch.tensor([value], dtype=dtype)


def zero(value: int) -> torch.Tensor:
    """A zero point, [1] int32."""
    return one(value, torch.int32)


def refused(call, *words: object) -> None:
    """`call` raises one line that holds every word (an op, an argument, both values) as a word of its own."""
    with pytest.raises(RuntimeError) as caught:
        call()
    line = str(caught.value).splitlines()[0]
    missing = [str(word) for word in words if not re.search(rf"(?<![\w.]){re.escape(str(word))}(?![\w.]*\w)", line)]
    assert not missing, f"{line!r} does not name {missing}"
