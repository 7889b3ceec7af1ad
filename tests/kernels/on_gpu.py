"""The CUDA kernels on a GPU behind tensors of the CPU: so that each test of the emulation is one of the GPU too, where there is one."""

from __future__ import annotations

import os

import pytest
import torch


class OnGpu:
    """ops: torch.ops.perfq with its CUDA half. An op takes and gives tensors of the CPU; what it changes in place is changed."""

    def __init__(self, ops, device="cuda"):
        self._ops, self._device = ops, device

    def __getattr__(self, name):
        return OneOp(getattr(self._ops, name), self._device)


class OneOp:
    def __init__(self, op, device):
        self._op, self._device = op, device

    def __call__(self, *arguments, **named):
        if os.environ.get("PERFQ_EMULATED_CAPABILITY"):
            pytest.skip("the emulation stands for another GPU here")
        moved = torch.utils._pytree.tree_map_only(torch.Tensor, lambda one: one.to(self._device), (arguments, named))
        output = self._op(*moved[0], **moved[1])
        for ours, theirs in zip(arguments, moved[0], strict=True):
            if isinstance(ours, torch.Tensor) and self._op.__name__ == "absmax":
                ours.copy_(theirs)
        return torch.utils._pytree.tree_map_only(torch.Tensor, lambda one: one.cpu(), output)

    @property
    def default(self):
        return pytest.skip("opcheck is the emulation's")
