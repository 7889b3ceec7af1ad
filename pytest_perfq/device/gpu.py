"""The GPU as NVML tells it, without loading a framework. `library` stands for the module pynvml: a recording in tests.

Which GPU of several it is about, device.visible finds out.
"""

from __future__ import annotations

import itertools
import os
import re
from pathlib import Path
from typing import Any

from pytest_perfq.core.budget import GPUS, known_gpu
from pytest_perfq.core.fingerprint import Fact
from pytest_perfq.device import visible
from pytest_perfq.device.visible import ask, handle

# Words that make a card another card than the one whose number it bears: mobile, cut-down, virtual.
OTHER_CARDS = frozenset({"LAPTOP", "MOBILE", "TI", "SUPER", "D", "MAX", "GRID", "QUADRO", "ADA"})


def _library() -> Any | None:
    """pynvml with NVML running, or None where there is no driver."""
    try:
        import pynvml

        pynvml.nvmlInit()
    except Exception:  # no module, no driver library, no permission: all mean that no GPU can be read here
        return None
    return pynvml


def short_name(marketing: str) -> str | None:
    """The name of `core.budget.GPUS` for what NVML calls a GPU; None for one that has none there.

    A MIG slice is not the GPU it is cut from, and budgets of the whole do not hold for it: `a100-1g.10gb`.
    """
    whole, _, profile = marketing.partition(visible.MIG)
    words = [word for word in re.split(r"[^A-Z0-9]+", whole.upper()) if word]
    if OTHER_CARDS & set(words):
        return None
    joined = [f"RTX{after}" for word, after in itertools.pairwise(words) if word == "RTX"]
    found = next((word.lower() for word in (*joined, *words) if word.lower() in GPUS and word != "CPU"), None)
    if found is None or not profile:
        return found
    name = f"{found}-{profile.strip().lower()}"
    return name if known_gpu(name) else None


def gpu_present(library: Any | None = None) -> bool:
    """Whether CUDA would find an NVIDIA GPU, without importing a framework."""
    if visible.first() in ("", "-1"):
        return False
    library = library or _library()
    if library is not None:
        return handle(library) is not None
    gpus = Path("/proc/driver/nvidia/gpus")
    return gpus.is_dir() and any(gpus.iterdir())


def gpu_name(library: Any | None = None) -> str | None:
    """The GPU's name as budgets write it ('h100'), or None: no GPU, or one without such a name."""
    marketing = gpu_marketing_name(library)
    return None if marketing is None else short_name(marketing)


def gpu_marketing_name(library: Any | None = None) -> str | None:
    """What NVML calls the GPU ('NVIDIA H100 80GB HBM3'), or None without one."""
    library = library or _library()
    device = None if library is None else handle(library)
    return None if device is None else visible.name(library, device)


def other_gpu(library: Any | None = None) -> str | None:
    """Why NVML would tell of another GPU than the one that PyTorch computes on; None where they mean the same, where one of
    the two finds none, or a version of PyTorch does not tell."""
    import torch

    if not torch.cuda.is_available():
        return None
    cuda = getattr(torch.cuda.get_device_properties(torch.cuda.current_device()), "uuid", None)
    library = library or _library()
    return None if cuda is None or library is None else visible.disagreement(library, str(cuda))


def identity(library: Any | None = None) -> dict[str, Fact]:
    """What must match for timings on a GPU to be compared; empty without a GPU. Power limit in W, memory in GiB."""
    library = library or _library()
    device = None if library is None else handle(library)
    if library is None or device is None:
        return {}
    # A slice has memory of its own; the rest is the whole's, and some drivers tell it of the whole alone.
    whole = visible.whole(library, device)
    capability = ask(library, lambda: library.nvmlDeviceGetCudaComputeCapability(whole))
    memory = ask(library, lambda: library.nvmlDeviceGetMemoryInfo(device).total)
    limit_mw = ask(library, lambda: library.nvmlDeviceGetEnforcedPowerLimit(whole))
    mode = ask(library, lambda: library.nvmlDeviceGetMigMode(whole)[0])
    name = visible.name(library, device) or ""
    return {
        "gpu": name,
        "gpu_compute_capability": ".".join(str(part) for part in capability) if capability else None,
        "gpu_memory_gib": round(memory / 1024**3) if memory else None,
        "gpu_mig": name.partition(visible.MIG)[2] or ("enabled" if mode == 1 else "disabled"),
        "gpu_power_limit_w": round(limit_mw / 1000) if limit_mw else None,
    }


def driver(library: Any | None = None) -> str | None:
    """Version of the NVIDIA driver."""
    library = library or _library()
    if library is None:
        return None
    version = ask(library, library.nvmlSystemGetDriverVersion)
    return version.decode() if isinstance(version, bytes) else version


def volatile(library: Any | None = None) -> dict[str, Fact]:
    """How the GPU feels right now: clocks in MHz, temperature in degrees Celsius, power in W, other processes; and
    which one of its kind it is."""
    library = library or _library()
    device = None if library is None else handle(library)
    if library is None or device is None:
        return {}
    own, device = visible.uuid(library, device), visible.whole(library, device)
    milliwatts = ask(library, lambda: library.nvmlDeviceGetPowerUsage(device))
    processes = ask(library, lambda: library.nvmlDeviceGetComputeRunningProcesses(device))
    others = None if processes is None else sum(process.pid != os.getpid() for process in processes)
    return {
        "sm_clock_mhz": ask(library, lambda: library.nvmlDeviceGetClockInfo(device, library.NVML_CLOCK_SM)),
        "sm_clock_max_mhz": ask(library, lambda: library.nvmlDeviceGetMaxClockInfo(device, library.NVML_CLOCK_SM)),
        "memory_clock_mhz": ask(library, lambda: library.nvmlDeviceGetClockInfo(device, library.NVML_CLOCK_MEM)),
        "gpu_temperature_c": ask(library, lambda: library.nvmlDeviceGetTemperature(device, library.NVML_TEMPERATURE_GPU)),
        "gpu_power_w": None if milliwatts is None else round(milliwatts / 1000),
        "gpu_clock_event_reasons": ask(library, lambda: library.nvmlDeviceGetCurrentClocksEventReasons(device)),
        "gpu_other_processes": others,
        "gpu_uuid": own,
    }
