"""The GPU: what budgets call it, which one CUDA would use, and what of it identifies a machine; all from recordings of NVML."""

from __future__ import annotations

import os
from types import SimpleNamespace

import pytest

from pytest_perfq import device
from pytest_perfq.core.budget import GPUS
from pytest_perfq.device import gpu


# What nvidia-smi prints as the product name, and what budgets call it.
@pytest.mark.parametrize(
    ("marketing", "name"),
    [
        ("Tesla T4", "t4"),
        ("NVIDIA T4", "t4"),
        ("Tesla V100-SXM2-16GB", "v100"),
        ("Tesla V100-PCIE-32GB", "v100"),
        ("Tesla P100-PCIE-16GB", "p100"),
        ("NVIDIA A2", "a2"),
        ("NVIDIA A10", "a10"),
        ("NVIDIA A10G", "a10g"),
        ("NVIDIA A16", "a16"),
        ("NVIDIA A30", "a30"),
        ("NVIDIA A40", "a40"),
        ("NVIDIA A100-SXM4-40GB", "a100"),
        ("NVIDIA A100 80GB PCIe", "a100"),
        ("A100-PCIE-40GB", "a100"),
        ("NVIDIA L4", "l4"),
        ("NVIDIA L40", "l40"),
        ("NVIDIA L40S", "l40s"),
        ("NVIDIA H100 80GB HBM3", "h100"),
        ("NVIDIA H100 PCIe", "h100"),
        ("NVIDIA H100 NVL", "h100"),
        ("NVIDIA H200", "h200"),
        ("NVIDIA B200", "b200"),
        ("NVIDIA GeForce RTX 3090", "rtx3090"),
        ("NVIDIA GeForce RTX 4090", "rtx4090"),
        ("NVIDIA GeForce RTX 5090", "rtx5090"),
        ("NVIDIA A100-SXM4-40GB MIG 1g.5gb", "a100-mig-1g.5gb"),
        ("NVIDIA H100 80GB HBM3 MIG 3g.40gb", "h100-mig-3g.40gb"),
        # Other cards, whatever number they bear.
        ("NVIDIA GeForce RTX 3090 Ti", None),
        ("NVIDIA GeForce RTX 4090 Laptop GPU", None),
        ("NVIDIA GeForce RTX 4090 D", None),
        ("NVIDIA RTX A4000", None),
        ("NVIDIA RTX 6000 Ada Generation", None),
        ("GRID T4-8Q", None),
        ("NVIDIA A800-SXM4-80GB", None),
        ("NVIDIA H800", None),
        ("NVIDIA GH200 480GB", None),
        ("Tesla K80", None),
        ("CPU", None),
    ],
)
def test_marketing_names(marketing, name):
    assert gpu.short_name(marketing) == name
    assert name is None or name.partition("-mig-")[0] in GPUS


class Nvml:
    """A recording of NVML on a machine with these GPUs: an object with the functions of pynvml that are used."""

    class NVMLError(Exception):
        pass

    NVML_CLOCK_SM, NVML_CLOCK_MEM, NVML_TEMPERATURE_GPU = 1, 2, 0

    def __init__(self, *names, mig=0, clock=1980):
        self.names, self.mig, self.clock = names, mig, clock

    def nvmlDeviceGetHandleByIndex(self, index):
        if index >= len(self.names):
            raise self.NVMLError("Invalid Argument")
        return index

    def nvmlDeviceGetHandleByUUID(self, uuid):
        if uuid != "GPU-1":
            raise self.NVMLError("Not Found")
        return 1

    def nvmlDeviceGetName(self, handle):
        return self.names[0] + " MIG 1g.5gb" if handle == "slice" else self.names[handle]

    def nvmlDeviceGetMigMode(self, handle):
        if handle == "slice":
            raise self.NVMLError("Not Supported")
        return [self.mig, self.mig]

    def nvmlDeviceGetMigDeviceHandleByIndex(self, handle, index):
        return "slice"

    def nvmlDeviceGetDeviceHandleFromMigDeviceHandle(self, handle):
        if handle != "slice":
            raise self.NVMLError("Invalid Argument")
        return 0

    def nvmlDeviceGetCudaComputeCapability(self, handle):
        return (9, 0)

    def nvmlDeviceGetMemoryInfo(self, handle):
        return SimpleNamespace(total=85520809984)

    def nvmlDeviceGetEnforcedPowerLimit(self, handle):
        return 700000

    def nvmlSystemGetDriverVersion(self):
        return b"580.65.06"

    def nvmlDeviceGetClockInfo(self, handle, kind):
        return self.clock

    def nvmlDeviceGetMaxClockInfo(self, handle, kind):
        return 1980

    def nvmlDeviceGetTemperature(self, handle, sensor):
        return 41

    def nvmlDeviceGetPowerUsage(self, handle):
        raise self.NVMLError("Not Supported")

    def nvmlDeviceGetComputeRunningProcesses(self, handle):
        return [SimpleNamespace(pid=os.getpid()), SimpleNamespace(pid=1)]

    def nvmlDeviceGetCurrentClocksEventReasons(self, handle):
        return 0


@pytest.fixture(autouse=True)
def every_gpu_visible(monkeypatch):
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)


@pytest.mark.parametrize(
    ("visible", "name"),
    [
        (None, "h100"),
        ("0", "h100"),
        ("1", "t4"),
        ("1,0", "t4"),
        ("GPU-1", "t4"),
        ("", None),
        ("-1", None),
        ("5", None),
        ("GPU-9", None),
    ],
)
def test_the_gpu_is_the_first_visible_one(visible, name, monkeypatch):
    if visible is not None:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    library = Nvml("NVIDIA H100 80GB HBM3", "Tesla T4")
    assert gpu.gpu_name(library) == name
    assert gpu.gpu_present(library) is (name is not None)


def test_a_gpu_without_a_known_name_is_still_present():
    library = Nvml("NVIDIA RTX A4000")
    assert (gpu.gpu_present(library), gpu.gpu_name(library)) == (True, None)
    assert gpu.gpu_marketing_name(library) == "NVIDIA RTX A4000"


def test_no_driver_is_no_gpu(monkeypatch, tmp_path):
    monkeypatch.setattr(gpu, "_library", lambda: None)
    monkeypatch.setattr(gpu, "Path", lambda name: tmp_path / "gpus")
    assert (gpu.gpu_present(), gpu.gpu_name(), gpu.identity(), gpu.volatile(), gpu.driver()) == (False, None, {}, {}, None)
    (tmp_path / "gpus" / "0000:17:00.0").mkdir(parents=True)
    assert gpu.gpu_present()  # the driver shows one that NVML cannot open


def test_a_gpu_s_identity_holds_what_does_not_jitter():
    calm, hot = (device.fingerprint("cuda", 4, Nvml("NVIDIA H100 80GB HBM3", clock=clock)) for clock in (1980, 345))
    assert {name: value for name, value in calm.identity.items() if name.startswith("gpu")} == {
        "gpu": "NVIDIA H100 80GB HBM3",
        "gpu_compute_capability": "9.0",
        "gpu_memory_gib": 80,
        "gpu_mig": "disabled",
        "gpu_power_limit_w": 700,
    }
    assert calm.key == hot.key
    assert (calm.volatile["sm_clock_mhz"], hot.volatile["sm_clock_mhz"]) == (1980, 345)
    assert (calm.volatile["gpu_other_processes"], calm.volatile["gpu_power_w"]) == (1, None)
    assert calm.stack["driver"] == "580.65.06"


def test_a_mig_slice_is_another_machine():
    whole, part = (device.fingerprint("cuda", 4, Nvml("NVIDIA A100-SXM4-40GB", mig=mig)) for mig in (0, 1))
    assert part.identity["gpu_mig"] == "1g.5gb"
    assert whole.key != part.key
    assert gpu.gpu_name(Nvml("NVIDIA A100-SXM4-40GB", mig=1)) == "a100-mig-1g.5gb"
