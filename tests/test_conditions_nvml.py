"""Readings of the GPU from recordings of NVML: throttling by name, other processes, and what a driver does not tell."""

import os
import time
from types import SimpleNamespace

import pytest

from pytest_perfq.core.conditions import Foreign, disturbances
from pytest_perfq.core.readings import summarize
from pytest_perfq.device import nvml

ME = os.getpid()


class Nvml:
    """A recording of NVML with one GPU: an object with the functions of pynvml that are used. Every reading shifts the lists of
    clocks and of reasons by one, down to their last."""

    class NVMLError(Exception):
        def __init__(self, text, value=3):
            super().__init__(text)
            self.value = value

    NVML_CLOCK_SM, NVML_CLOCK_MEM, NVML_TEMPERATURE_GPU = 1, 2, 0

    def __init__(self, clocks=(1410,), reasons=(0,), others=(), used=(), own=True, silent=()):
        self.energy_mj, self.sliced = 5_000_000, False
        self.clocks, self.reasons, self.others, self.used, self.own, self.silent = (
            [*clocks],
            [*reasons],
            others,
            used,
            own,
            silent,
        )

    def _next(self, values):
        return values.pop(0) if len(values) > 1 else values[0]

    def __getattribute__(self, name):
        if name.startswith("nvml") and name in object.__getattribute__(self, "silent"):
            return self._refuse
        return object.__getattribute__(self, name)

    def _refuse(self, *given):
        raise self.NVMLError("Not Supported")

    def nvmlDeviceGetHandleByIndex(self, index):
        if index:
            raise self.NVMLError("Invalid Argument")
        return index

    def nvmlDeviceGetMigMode(self, handle):
        raise self.NVMLError("Not Supported")

    def nvmlDeviceGetDeviceHandleFromMigDeviceHandle(self, handle):
        if self.sliced:
            return "whole"
        raise self.NVMLError("Invalid Argument")

    def nvmlDeviceGetTotalEnergyConsumption(self, handle):
        self.energy_mj += 6_950  # between two readings
        return self.energy_mj

    def nvmlDeviceGetCurrentClocksEventReasons(self, handle):
        return self._next(self.reasons)

    def nvmlDeviceGetCurrentClocksThrottleReasons(self, handle):
        return self._next(self.reasons)

    def nvmlDeviceGetClockInfo(self, handle, kind):
        return self._next(self.clocks) if kind == self.NVML_CLOCK_SM else 877

    def nvmlDeviceGetPowerUsage(self, handle):
        return 69500

    def nvmlDeviceGetEnforcedPowerLimit(self, handle):
        return 70000

    def nvmlDeviceGetTemperature(self, handle, sensor):
        return 81

    def nvmlDeviceGetComputeRunningProcesses(self, handle):
        mine = [SimpleNamespace(pid=ME, usedGpuMemory=2**30)] if self.own else []
        return [*mine, *(SimpleNamespace(pid=pid, usedGpuMemory=size) for pid, size in self.others)]

    def nvmlDeviceGetProcessUtilization(self, handle, since_us):
        if not self.used:
            raise self.NVMLError("Not Found", 6)
        return [SimpleNamespace(pid=pid, smUtil=percent, timeStamp=since_us + after) for pid, percent, after in self.used]


@pytest.fixture(autouse=True)
def every_gpu_visible(monkeypatch):
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)


def visit(library, readings=6):
    """The conditions of a visit watched through this library."""
    probe, missing = nvml.opened(ME, library)
    assert missing == []
    probe.begin(ME)
    found = []
    for number in range(readings):
        gpu = probe.read(edge=number in (0, readings - 1))
        found.append({"monotonic_s": number / 10, "wall_s": number / 10, "gpu": gpu, "missing": probe.missing()})
    return summarize(found)


def test_a_calm_gpu():
    found = visit(Nvml(clocks=[300, 1410], reasons=[0x1, 0x0]))
    assert (found.gpu.busy, found.gpu.min_sm_mhz, found.gpu.mean_sm_mhz, found.gpu.mean_memory_mhz) == (5, 1410, 1410, 877)
    assert found.gpu.counted_power_w == 69.5  # 6.95 J in a tenth of a second
    assert (found.gpu.mean_power_w, found.gpu.power_cap_w, found.gpu.max_temperature_c) == (69.5, 70, 81)
    assert found.gpu.throttled == found.gpu.foreign == found.missing == disturbances(found) == ()


# The bits are those of nvml.h.
@pytest.mark.parametrize(
    ("bits", "names"),
    [
        (0x0000000000000004, ["power_cap"]),
        (0x0000000000000008, ["hw_slowdown"]),
        (0x0000000000000010, ["sync_boost"]),
        (0x0000000000000020, ["sw_thermal"]),
        (0x0000000000000040 | 0x8, ["hw_slowdown", "hw_thermal"]),
        (0x0000000000000080, ["power_brake"]),
        (0x1 | 0x2 | 0x100, []),  # idle, clocks that a person set, a display's
    ],
)
def test_reasons_by_name(bits, names):
    assert nvml.opened(ME, Nvml(reasons=[bits]))[0].read(edge=True)["reasons"] == names


def test_the_bits_are_pynvml_s():
    import pynvml

    known = {
        "power_cap": pynvml.nvmlClocksEventReasonSwPowerCap,
        "hw_slowdown": pynvml.nvmlClocksEventReasonHwSlowdown,
        "sync_boost": pynvml.nvmlClocksEventReasonSyncBoost,
        "sw_thermal": pynvml.nvmlClocksEventReasonSwThermalSlowdown,
        "hw_thermal": pynvml.nvmlClocksEventReasonHwThermalSlowdown,
        "power_brake": pynvml.nvmlClocksEventReasonHwPowerBrakeSlowdown,
    }
    assert {name: bit for bit, name in nvml.BITS.items()} == known
    assert (nvml.IDLE, nvml.NOT_FOUND) == (pynvml.nvmlClocksEventReasonGpuIdle, pynvml.NVML_ERROR_NOT_FOUND)


def test_throttled_by_its_power_cap():
    found = visit(Nvml(clocks=[1410, 1410, 1380, 1215], reasons=[0, 0, 4]))
    assert disturbances(found) == ("the GPU was throttled by its power cap for 67 % of the visit (1,410 to 1,215 MHz)",)


def test_drivers_that_know_the_reasons_by_their_old_name():
    found = visit(Nvml(reasons=[0x20], silent=["nvmlDeviceGetCurrentClocksEventReasons"]))
    assert found.gpu.throttled == (("sw_thermal", 1.0),) and found.missing == ()


def test_a_stranger_on_the_gpu():
    found = visit(Nvml(others=[(4711, 2254857830)], used=[(4711, 40, 5), (4711, 90, 9), (ME, 60, 9), (4711, 100, -5)]))
    assert found.gpu.foreign == (Foreign(pid=4711, memory_bytes=2254857830, utilisation=0.9),)
    assert disturbances(found) == ("process 4711 used 2.1 GiB of the GPU and 90 % of its time",)


def test_a_stranger_that_lies_idle_disturbs_nobody():
    found = visit(Nvml(others=[(4711, 2**30)]))
    assert found.gpu.foreign == (Foreign(pid=4711, memory_bytes=2**30, utilisation=0.0),) and disturbances(found) == ()


def test_a_stranger_whose_time_is_not_told_may_use_it():
    found = visit(Nvml(others=[(4711, None)], silent=["nvmlDeviceGetProcessUtilization"]))
    assert disturbances(found) == ("process 4711 used memory of the GPU",)


def test_our_own_children_are_no_strangers(monkeypatch):
    child = os.fork()
    if not child:
        time.sleep(30)
        os._exit(0)
    try:
        assert visit(Nvml(others=[(child, 2**30)])).gpu.foreign == ()
    finally:
        os.kill(child, 9)
        os.waitpid(child, 0)


def test_processes_of_another_namespace_are_not_taken_for_strangers():
    found = visit(Nvml(others=[(4711, 2**30)], own=False))
    assert found.gpu.foreign == () and disturbances(found) == ()
    (sentence,) = found.missing
    assert sentence.startswith("NVML does not list our own process on the GPU, so foreign ones cannot be told")
    assert sentence.endswith("set CUDA_DEVICE_ORDER=PCI_BUS_ID")


def test_what_a_gpu_does_not_tell_is_said():
    names = ["nvmlDeviceGetCurrentClocksEventReasons", "nvmlDeviceGetCurrentClocksThrottleReasons", "nvmlDeviceGetPowerUsage", "nvmlDeviceGetTotalEnergyConsumption", "nvmlDeviceGetComputeRunningProcesses", "nvmlDeviceGetClockInfo"]  # fmt: skip
    found = visit(Nvml(silent=names))
    assert found.missing == (
        "this GPU does not tell why its clocks are down, so throttling cannot be seen",
        "this GPU does not count its energy (those since Volta do)",
        "this GPU does not list the processes on it, so foreign ones cannot be told",
    )
    assert (found.gpu.mean_sm_mhz, found.gpu.mean_power_w, found.gpu.max_temperature_c) == (None, None, 81)


def test_a_gpu_that_is_hidden_is_not_sampled(monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    assert nvml.opened(ME, Nvml()) == (
        None,
        ["the GPU cannot be sampled: NVML finds none of those in CUDA_VISIBLE_DEVICES"],
    )


def test_processes_are_listed_once_a_second():
    library = Nvml()
    probe, _ = nvml.opened(ME, library)
    library.nvmlDeviceGetComputeRunningProcesses = lambda handle: asked.append(handle) or []
    asked = []
    for number in range(20):
        probe.read(edge=number in (0, 19))
    assert len(asked) == 2


def test_the_energy_of_a_gpu_is_not_that_of_its_slice():
    library = Nvml()
    library.sliced = True
    found = visit(library)
    assert found.gpu.counted_power_w is None
    assert found.missing == ("a MIG slice has no energy counter of its own, and the GPU's counts its other slices as well",)
