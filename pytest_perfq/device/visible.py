"""Which GPU, or slice of one, CUDA uses first, asked of NVML. Knows nothing of what it can do. `library` stands for pynvml.

The first of CUDA_VISIBLE_DEVICES: an index, a UUID or the beginning of one (`GPU-8932`, `MIG-1a2b`); the first GPU where it is
not set; of a GPU in MIG mode its first slice, since CUDA sees nothing else of it. NVML counts in PCI order, CUDA by default
fastest first: `disagreement` says where the two mean different GPUs.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
from math import ceil
from typing import Any

MIG = " MIG "
MIB_PER_GIB = 1024


def ask(library: Any, question: Callable[[], Any]) -> Any | None:
    """The answer, or None where this GPU or driver has none."""
    try:
        return question()
    except library.NVMLError:
        return None


def first(environment: Mapping[str, str] | None = None) -> str | None:
    """The first of CUDA_VISIBLE_DEVICES ('' when it hides all), or None when it is not set."""
    value = (os.environ if environment is None else environment).get("CUDA_VISIBLE_DEVICES")
    return None if value is None else value.split(",")[0].strip()


def handle(library: Any, environment: Mapping[str, str] | None = None) -> Any | None:
    """NVML's handle of the GPU, or MIG slice, that CUDA uses first; None where it uses none."""
    wanted = first(environment)
    if wanted in ("", "-1"):
        return None
    if wanted and not wanted.isdigit():
        device = _named(library, wanted)
    else:
        device = ask(library, lambda: library.nvmlDeviceGetHandleByIndex(int(wanted or 0)))
    if device is None or ask(library, lambda: library.nvmlDeviceGetMigMode(device)[0]) != 1:
        return device
    # A GPU in MIG mode computes by its slices alone: without one there is nothing to use.
    return next(_slices(library, device), None)


def _named(library: Any, name: str) -> Any | None:
    """The GPU or slice with this UUID, or the only one whose UUID begins like this."""
    found = ask(library, lambda: library.nvmlDeviceGetHandleByUUID(name))
    if found is not None:
        return found
    alike = [one for one in _all(library) if (uuid(library, one) or "").startswith(name)]
    return alike[0] if len(alike) == 1 else None


def _all(library: Any) -> Iterator[Any]:
    """Every GPU and every slice."""
    for index in range(ask(library, library.nvmlDeviceGetCount) or 0):
        device = ask(library, lambda index=index: library.nvmlDeviceGetHandleByIndex(index))  # type: ignore[misc]
        if device is not None:
            yield device
            yield from _slices(library, device)


def _slices(library: Any, device: Any) -> Iterator[Any]:
    """The MIG slices of a GPU. Their numbers have gaps where a slice was taken away."""
    for index in range(ask(library, lambda: library.nvmlDeviceGetMaxMigDeviceCount(device)) or 0):
        found = ask(library, lambda index=index: library.nvmlDeviceGetMigDeviceHandleByIndex(device, index))  # type: ignore[misc]
        if found is not None:
            yield found


def whole(library: Any, device: Any) -> Any:
    """The GPU that a slice is cut from; a GPU itself."""
    parent = ask(library, lambda: library.nvmlDeviceGetDeviceHandleFromMigDeviceHandle(device))
    return device if parent is None else parent


def sliced(library: Any, device: Any) -> bool:
    """Whether this is a slice."""
    return ask(library, lambda: library.nvmlDeviceGetDeviceHandleFromMigDeviceHandle(device)) is not None


def uuid(library: Any, device: Any) -> str | None:
    """`GPU-...` of a GPU, `MIG-...` of a slice."""
    return _text(ask(library, lambda: library.nvmlDeviceGetUUID(device)))


def name(library: Any, device: Any) -> str | None:
    """What NVML calls the GPU: `NVIDIA H100 80GB HBM3`. Of a slice the GPU's name and the profile: `... MIG 1g.10gb`."""
    called = _text(ask(library, lambda: library.nvmlDeviceGetName(device)))
    if called is None or MIG in called or not sliced(library, device):
        return called
    # A driver that gives a slice its GPU's name: budgets of the whole must not hold for it all the same.
    return f"{called}{MIG}{_profile(library, device) or 'of an unknown profile'}"


def _profile(library: Any, device: Any) -> str | None:
    """The profile of a slice by its share of the GPU and its memory: `1g.10gb`, and `1c.3g.40gb` of a part of its units."""
    told = ask(library, lambda: library.nvmlDeviceGetAttributes(device))
    if told is None:
        return None
    part = "" if told.computeInstanceSliceCount == told.gpuInstanceSliceCount else f"{told.computeInstanceSliceCount}c."
    return f"{part}{told.gpuInstanceSliceCount}g.{ceil(told.memorySizeMB / MIB_PER_GIB)}gb"


def disagreement(library: Any, cuda: str) -> str | None:
    """Why NVML would tell of another GPU than the one that computes; None where both mean the same. cuda: the UUID that CUDA
    gives its first device, with or without `GPU-`."""
    device = handle(library)
    if device is None:
        return None  # then nothing is told
    told = [one for one in (uuid(library, device), uuid(library, whole(library, device))) if one is not None]
    if not told or _bare(cuda) in map(_bare, told):
        return None
    return (
        f"CUDA computes on the GPU {cuda} and NVML's first is {told[0]}, whose name and clocks are not those of what is timed: "
        "set CUDA_DEVICE_ORDER=PCI_BUS_ID, or CUDA_VISIBLE_DEVICES to a UUID"
    )


def _bare(name: str) -> str:
    return name.lower().removeprefix("gpu-").removeprefix("mig-")


def _text(value: Any) -> str | None:
    return value.decode() if isinstance(value, bytes) else value
