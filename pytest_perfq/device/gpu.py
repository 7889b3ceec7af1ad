"""The GPU as NVML tells it, without loading a framework. `library` stands for the module pynvml: a recording in tests.

The GPU is the one that CUDA would use first: the first of CUDA_VISIBLE_DEVICES, else the first. NVML counts in PCI order, CUDA
by default fastest first; where different GPUs share a machine set CUDA_DEVICE_ORDER=PCI_BUS_ID.
"""

from __future__ import annotations

import itertools
import os
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from pytest_perfq.core.budget import GPUS
from pytest_perfq.core.fingerprint import Fact

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

    A MIG slice is not the GPU it is cut from, and budgets of the whole do not hold for it: `a100-mig-1g.5gb`.
    """
    whole, _, slice_ = marketing.partition(" MIG ")
    words = [word for word in re.split(r"[^A-Z0-9]+", whole.upper()) if word]
    if OTHER_CARDS & set(words):
        return None
    joined = [f"RTX{after}" for word, after in itertools.pairwise(words) if word == "RTX"]
    found = next((word.lower() for word in (*joined, *words) if word.lower() in GPUS and word != "CPU"), None)
    return f"{found}-mig-{slice_.strip()}" if found and slice_ else found


def _visible(environment: Mapping[str, str]) -> str | None:
    """The first of CUDA_VISIBLE_DEVICES ('' when it hides all), or None when it is not set."""
    value = environment.get("CUDA_VISIBLE_DEVICES")
    return None if value is None else value.split(",")[0].strip()


def handle(library: Any, environment: Mapping[str, str] | None = None) -> Any | None:
    """NVML's handle of the GPU, or MIG slice, that CUDA uses first; None where it uses none."""
    wanted = _visible(os.environ if environment is None else environment)
    if wanted in ("", "-1"):
        return None
    try:
        if wanted and not wanted.isdigit():
            return library.nvmlDeviceGetHandleByUUID(wanted)
        device = library.nvmlDeviceGetHandleByIndex(int(wanted or 0))
    except library.NVMLError:
        return None
    if _ask(library, lambda: library.nvmlDeviceGetMigMode(device)[0]) == 1:
        return _ask(library, lambda: library.nvmlDeviceGetMigDeviceHandleByIndex(device, 0)) or device
    return device


def _ask(library: Any, question: Callable[[], Any]) -> Any | None:
    """The answer, or None where this GPU or driver has none."""
    try:
        return question()
    except library.NVMLError:
        return None


def _name(library: Any, device: Any) -> str | None:
    name = _ask(library, lambda: library.nvmlDeviceGetName(device))
    return name.decode() if isinstance(name, bytes) else name


def gpu_present(library: Any | None = None) -> bool:
    """Whether CUDA would find an NVIDIA GPU, without importing a framework."""
    if _visible(os.environ) in ("", "-1"):
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
    return None if device is None else _name(library, device)


def identity(library: Any | None = None) -> dict[str, Fact]:
    """What must match for timings on a GPU to be compared; empty without a GPU. Power limit in W, memory in GiB."""
    library = library or _library()
    device = None if library is None else handle(library)
    if library is None or device is None:
        return {}
    capability = _ask(library, lambda: library.nvmlDeviceGetCudaComputeCapability(device))
    memory = _ask(library, lambda: library.nvmlDeviceGetMemoryInfo(device).total)
    whole = _ask(library, lambda: library.nvmlDeviceGetDeviceHandleFromMigDeviceHandle(device)) or device
    limit_mw = _ask(library, lambda: library.nvmlDeviceGetEnforcedPowerLimit(whole))
    mode = _ask(library, lambda: library.nvmlDeviceGetMigMode(whole)[0])
    name = _name(library, device) or ""
    return {
        "gpu": name,
        "gpu_compute_capability": ".".join(str(part) for part in capability) if capability else None,
        "gpu_memory_gib": round(memory / 1024**3) if memory else None,
        "gpu_mig": name.partition(" MIG ")[2] or ("enabled" if mode == 1 else "disabled"),
        "gpu_power_limit_w": round(limit_mw / 1000) if limit_mw else None,
    }


def driver(library: Any | None = None) -> str | None:
    """Version of the NVIDIA driver."""
    library = library or _library()
    if library is None:
        return None
    version = _ask(library, library.nvmlSystemGetDriverVersion)
    return version.decode() if isinstance(version, bytes) else version


def volatile(library: Any | None = None) -> dict[str, Fact]:
    """How the GPU feels right now: clocks in MHz, temperature in degrees Celsius, power in W, other processes."""
    library = library or _library()
    device = None if library is None else handle(library)
    if library is None or device is None:
        return {}
    device = _ask(library, lambda: library.nvmlDeviceGetDeviceHandleFromMigDeviceHandle(device)) or device
    milliwatts = _ask(library, lambda: library.nvmlDeviceGetPowerUsage(device))
    processes = _ask(library, lambda: library.nvmlDeviceGetComputeRunningProcesses(device))
    others = None if processes is None else sum(process.pid != os.getpid() for process in processes)
    return {
        "sm_clock_mhz": _ask(library, lambda: library.nvmlDeviceGetClockInfo(device, library.NVML_CLOCK_SM)),
        "sm_clock_max_mhz": _ask(library, lambda: library.nvmlDeviceGetMaxClockInfo(device, library.NVML_CLOCK_SM)),
        "memory_clock_mhz": _ask(library, lambda: library.nvmlDeviceGetClockInfo(device, library.NVML_CLOCK_MEM)),
        "gpu_temperature_c": _ask(library, lambda: library.nvmlDeviceGetTemperature(device, library.NVML_TEMPERATURE_GPU)),
        "gpu_power_w": None if milliwatts is None else round(milliwatts / 1000),
        "gpu_clock_event_reasons": _ask(library, lambda: library.nvmlDeviceGetCurrentClocksEventReasons(device)),
        "gpu_other_processes": others,
    }
