"""add_layernorm and what is fused with it, as the CUDA sources have it, against the oracle; run thread by thread on the CPU."""

import pytest
import tolerance
import torch
from operands import normal

from pytest_perfq.kernels import reference

EPS = 1e-12
# (rows, features): none, one, one value; what fits one vector, one warp, several; odd; what eight warps share.
SHAPES = [(0, 8), (1, 1), (3, 7), (5, 64), (2, 384), (3, 768), (1, 1000), (2, 1024), (2, 1032), (1, 3001)]
TYPES = [torch.float32, torch.float16, torch.bfloat16]


def operands(rows, features, dtype):
    x, residual = normal(rows, features), normal(rows, features, seed=1)
    return [
        one.to(dtype) for one in (x, residual, normal(features, seed=2), normal(features, seed=3), normal(features, seed=4))
    ]


@pytest.mark.parametrize("dtype", TYPES)
@pytest.mark.parametrize("shape", SHAPES)
def test_it_is_the_oracles(emulated, order, shape, dtype):
    given = operands(*shape, dtype)
    expected = reference.add_layernorm(*(one.double() for one in given), EPS)
    tolerance.rounded(emulated.add_layernorm(*given, EPS), expected, dtype, tolerance.LAYERNORM)
    without = reference.add_layernorm(*(one.double() for one in given[:2]), None, *(one.double() for one in given[3:]), EPS)
    tolerance.rounded(emulated.add_layernorm(*given[:2], None, *given[3:], EPS), without, dtype, tolerance.LAYERNORM)
