"""Readings of the GPU from NVML, as core.readings describes them. `library` stands for the module pynvml: a recording in tests.

Runs inside the sampler's process, and is loaded there only once a visit is on cuda. Knows no /proc but the tree of processes.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from pytest_perfq.core.readings import Reading
from pytest_perfq.device import proc, visible

# Bits of the clocks event reasons, from nvml.h; the names are those of core.conditions.REASONS.
IDLE = 0x1
BITS = {
    0x4: "power_cap",
    0x8: "hw_slowdown",
    0x10: "sync_boost",
    0x20: "sw_thermal",
    0x40: "hw_thermal",
    0x80: "power_brake",
}
# NVML's answer about processes' time where none of them used any.
NOT_FOUND = 6
# Listing processes takes longer than everything else.
PROCESSES_EVERY_S = 1.0
NAMESPACE = (
    "NVML does not list our own process on the GPU, so foreign ones cannot be told: it runs in another PID namespace, or CUDA "
    "uses another GPU than NVML's first; set CUDA_DEVICE_ORDER=PCI_BUS_ID"
)
SLICE_ENERGY = "a MIG slice has no energy counter of its own, and the GPU's counts its other slices as well"
NO_ENERGY = "this GPU does not count its energy (those since Volta do)"
SILENT = "this GPU does not tell why its clocks are down, so throttling cannot be seen"


def opened(pid: int, library: Any | None = None) -> tuple[NvmlProbe | None, list[str]]:
    """A probe of the GPU that CUDA uses first, for a visit of process `pid`; or None and the sentence that says why."""
    if library is None:
        try:
            import pynvml
        except ImportError as error:
            return None, [f"the GPU cannot be sampled: {error}; install nvidia-ml-py"]
        try:
            pynvml.nvmlInit()
        except pynvml.NVMLError as error:
            return None, [f"the GPU cannot be sampled: NVML says {error}"]
        library = pynvml
    device = visible.handle(library)
    if device is None:
        return None, ["the GPU cannot be sampled: NVML finds none of those in CUDA_VISIBLE_DEVICES"]
    return NvmlProbe(library, device, pid), []


class NvmlProbe:
    """Reads one GPU. pid: the process whose tree is the visit's own."""

    def __init__(self, library: Any, device: Any, pid: int) -> None:
        self._library, self._pid = library, pid
        # A slice of a GPU has the clocks of the whole.
        self._slice = device
        self._whole, self._sliced = visible.whole(library, device), visible.sliced(library, device)
        self._missing: list[str] = []
        self._processes: list[Reading] = []
        self._since_us, self._next_s = 0, 0.0

    def read(self, edge: bool) -> Reading:
        """One reading; at an `edge` the processes are listed whatever the time."""
        library, device = self._library, self._whole
        bits = self._ask(lambda: library.nvmlDeviceGetCurrentClocksEventReasons(device))
        if bits is None:  # drivers before 535
            bits = self._ask(lambda: library.nvmlDeviceGetCurrentClocksThrottleReasons(device))
        self._missing = [SILENT] if bits is None else []
        energy_mj = None if self._sliced else self._ask(lambda: library.nvmlDeviceGetTotalEnergyConsumption(device))
        if energy_mj is None:
            self._missing.append(SLICE_ENERGY if self._sliced else NO_ENERGY)
        power_mw = self._ask(lambda: library.nvmlDeviceGetPowerUsage(device))
        cap_mw = self._ask(lambda: library.nvmlDeviceGetEnforcedPowerLimit(device))
        now_s = time.monotonic()
        if edge or now_s >= self._next_s:
            self._processes = self._foreign()
            self._next_s = now_s + PROCESSES_EVERY_S
        return {
            "sm_mhz": self._ask(lambda: library.nvmlDeviceGetClockInfo(device, library.NVML_CLOCK_SM)),
            "memory_mhz": self._ask(lambda: library.nvmlDeviceGetClockInfo(device, library.NVML_CLOCK_MEM)),
            "energy_j": None if energy_mj is None else energy_mj / 1000,
            "power_w": None if power_mw is None else power_mw / 1000,
            "power_cap_w": None if cap_mw is None else cap_mw / 1000,
            "temperature_c": self._ask(lambda: library.nvmlDeviceGetTemperature(device, library.NVML_TEMPERATURE_GPU)),
            "idle": bool(bits and bits & IDLE),
            "reasons": [name for bit, name in BITS.items() if bits and bits & bit],
            "processes": self._processes,
        }

    def missing(self) -> list[str]:
        """What the last reading could not tell."""
        return self._missing

    def begin(self, pid: int) -> None:
        """A new visit, of this process: what others did before it is none of its business."""
        self._pid, self._since_us = pid, time.time_ns() // 1000

    def _ask(self, question: Callable[[], Any]) -> Any | None:
        """The answer, or None where this GPU or driver has none."""
        try:
            return question()
        except self._library.NVMLError:
            return None

    def _foreign(self) -> list[Reading]:
        listed = self._ask(lambda: self._library.nvmlDeviceGetComputeRunningProcesses(self._slice))
        if listed is None:
            self._missing.append("this GPU does not list the processes on it, so foreign ones cannot be told")
            return []
        own = proc.below(self._pid, proc.processes())
        if not any(one.pid in own for one in listed):
            self._missing.append(NAMESPACE)
            return []
        used = self._utilisation()
        return [
            {
                "pid": one.pid,
                "memory_bytes": getattr(one, "usedGpuMemory", None),
                "utilisation": None if used is None else used.get(one.pid, 0.0),
            }
            for one in listed
            if one.pid not in own
        ]

    def _utilisation(self) -> dict[int, float] | None:
        """Process -> the largest share of the GPU's time that it used since the visit began; None where it is not told."""
        try:
            samples = self._library.nvmlDeviceGetProcessUtilization(self._slice, self._since_us)
        except self._library.NVMLError as error:
            return {} if getattr(error, "value", None) == NOT_FOUND else None
        found: dict[int, float] = {}
        for one in samples:
            if one.timeStamp >= self._since_us:
                found[one.pid] = max(found.get(one.pid, 0.0), one.smUtil / 100)
        return found
