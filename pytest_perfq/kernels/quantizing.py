"""A float weight in INT8: levels, and the scales that they are multiplied with. Knows no layout and no layer."""

from __future__ import annotations

import torch
from torch import Tensor

from pytest_perfq.kernels.bits import Bits


def int16_weights(weight: Tensor, together: int) -> Tensor:
    """weight [N, K] int8 -> [N, groups]: the summed magnitudes of the weights whose products the kernel adds in one int16.
    Of each run of 2 * together along K these are the first two of every four, and the last two of every four."""
    runs = torch.nn.functional.pad(weight.abs().int(), (0, -weight.shape[1] % (2 * together)))
    return runs.view(len(weight), runs.shape[1] // (2 * together), together // 2, 2, 2).sum((2, 4)).flatten(1)


def quantize_weight(weight: Tensor, bits: Bits, per_tensor: int = 0) -> tuple[Tensor, Tensor]:
    """weight [N, K] -> int8 [N, K] as `bits` has it, and scale [N] (float32 for float32): symmetric, half to even. One scale
    a row, or, with per_tensor, one for each of that many equal blocks of rows: the smallest that the row's extreme fits, or a
    little more where its int16 sums would not."""

    def shared(values: Tensor) -> Tensor:
        blocks = values.view(per_tensor or len(values), -1)
        return blocks.amax(dim=1, keepdim=True).expand_as(blocks).reshape(-1)

    scale = shared(weight.abs().amax(dim=1)) / bits.weight
    scale = torch.where(scale == 0, torch.ones_like(scale), scale)  # a row of zeros stays one
    while True:
        levels = torch.round(weight / scale[:, None]).clamp(-bits.weight, bits.weight).to(torch.int8)
        if not bits.together:
            return levels, scale
        excess = shared(int16_weights(levels, bits.together).amax(dim=1)) / bits.most
        if not bool((excess > 1).any()):
            return levels, scale
        scale = torch.where(excess > 1, scale * excess.to(scale.dtype), scale)
