"""Where the time of a PyTorch call goes, by torch.profiler: operators on a CPU, kernels on a CUDA device. Knows no program."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import torch
from torch.autograd import DeviceType
from torch.profiler import ProfilerActivity, profile

# Before what is profiled: the first calls find cold caches.
WARMUPS = 2
# What the compiler calls its graphs differs from process to process.
GRAPH = re.compile(r"CompiledFxGraph|^Torch-Compiled Region")
# Template arguments and parameters of a kernel's name.
ARGUMENTS = re.compile(r"<.*|\(.*")


def operators(run: Callable[[], Any], calls: int, cuda: bool) -> dict[str, tuple[int, int]]:
    """Name -> (calls, ns of itself) over so many calls of `run`. cuda: kernels of the device instead of operators."""
    for _ in range(WARMUPS):
        run()
    activities = [ProfilerActivity.CPU, *([ProfilerActivity.CUDA] if cuda else [])]
    with profile(activities=activities, acc_events=True) as profiled:
        for _ in range(calls):
            run()
        if cuda:
            torch.cuda.synchronize()
    found: dict[str, tuple[int, int]] = {}
    for one in profiled.key_averages():
        if (one.device_type == DeviceType.CUDA) != cuda:
            continue
        taken_ns = round((one.self_device_time_total if cuda else one.self_cpu_time_total) * 1e3)
        name = _kernel(one.key) if cuda else _operator(one.key)
        before, before_ns = found.get(name, (0, 0))
        found[name] = (before + one.count, before_ns + taken_ns)
    return found


def _operator(name: str) -> str:
    return "compiled graph" if GRAPH.search(name) else name.removeprefix("aten::")


def _kernel(name: str) -> str:
    """Such as `at::native::vectorized_elementwise_kernel`, without what it was made for."""
    return ARGUMENTS.sub("", name.removeprefix("void ")).strip() or name
